//! Kills the server with SIGKILL during parallel uploads: everything acknowledged is there, and
//! nothing else but whole objects.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::s3::Client;
use crate::server::{Server, eventually};

const WRITERS: usize = 6;
/// Names how often the server is killed; `tests/run.sh` keeps the default, which is few.
const ROUNDS_VARIABLE: &str = "DRYSTONE_TEST_KILLS";
const ROUNDS: usize = 3;
/// More rounds are run until one kill has left shards that only gc removes.
const ROUNDS_MAX: usize = 40;
/// The log line by which the server reports such shards.
const ORPHANS: &str = "removing orphaned shards count=";
const SIZES: [usize; 6] = [10, 3_000, 20_000, 300_000, 1_500_000, 6_000_000];

/// No multiple of a file system block or a stripe, so repeated pieces never align with either.
const PIECE_LEN: usize = 4093;

/// Returns a body that proves by itself whether it is whole: its seed, then pieces made from the
/// seed.
fn body(seed: u64) -> Vec<u8> {
    let mut generator = StdRng::seed_from_u64(seed);
    let size = SIZES[generator.random_range(0..SIZES.len())];
    let mut piece = vec![0; PIECE_LEN];
    generator.fill_bytes(&mut piece);
    let mut body = seed.to_be_bytes().to_vec();
    body.extend_from_slice(&piece.repeat(size.div_ceil(PIECE_LEN))[..size]);
    body
}

/// The answers that writers got. An answer to a write that was under way when the server died is in
/// neither map.
#[derive(Default)]
struct Answers {
    /// Keys and the seed of their last acknowledged body.
    acknowledged: BTreeMap<String, u64>,
    /// Seeds of bodies sent without an answer, by key.
    unanswered: BTreeMap<String, Vec<u64>>,
}

/// Writes until the server has died. Each writer has keys of its own, so the order of its writes is
/// known; every third write overwrites an earlier key.
fn write_until_killed(
    client: &Client,
    writer: usize,
    round: usize,
    answers: &Mutex<Answers>,
    acks: Sender<()>,
) {
    for n in 0_u64.. {
        let key = match n % 3 {
            2 => format!("writer{writer}/again"),
            _ => format!("writer{writer}/{round}/{n}"),
        };
        let seed = (round as u64) << 40 | (writer as u64) << 32 | n;
        let answer = client.put(&format!("/kept/{key}"), &body(seed));
        let mut answers = answers.lock().unwrap();
        match answer {
            Ok(answer) if answer.status == 200 => {
                answers.unanswered.remove(&key);
                answers.acknowledged.insert(key, seed);
                // Once the server is killed, nobody counts any more.
                let _ = acks.send(());
            }
            _ => {
                answers.unanswered.entry(key).or_default().push(seed);
                return;
            }
        }
    }
}

/// Checks that every acknowledged key is listed, and that the keys that `which` chooses have a
/// whole body.
fn check(client: &Client, answers: &Answers, which: impl Fn(&str) -> bool) {
    let listed = client.list("kept");
    for key in answers.acknowledged.keys() {
        assert!(
            listed.binary_search(key).is_ok(),
            "{key} was acknowledged and is not listed"
        );
    }
    for key in listed.iter().filter(|key| which(key)) {
        let answer = client.get(&format!("/kept/{key}")).unwrap().expect(200);
        let seed = u64::from_be_bytes(answer.body[..8].try_into().unwrap());
        assert!(answer.body == body(seed), "{key} is not whole");
        let acknowledged = answers.acknowledged.get(key) == Some(&seed);
        let unanswered = answers
            .unanswered
            .get(key)
            .is_some_and(|seeds| seeds.contains(&seed));
        assert!(
            acknowledged || unanswered,
            "{key} has a body that nobody wrote last"
        );
    }
}

#[test]
fn f_01_kill_during_parallel_uploads_loses_nothing_acknowledged() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |text| text.parse().unwrap());
    let mut server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    let answers = Mutex::new(Answers::default());
    for round in 0..rounds.max(ROUNDS_MAX) {
        if round >= rounds && server.log().contains(ORPHANS) {
            break;
        }
        let (sender, acks) = mpsc::channel();
        let client = server.client();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (client, answers, sender) = (&client, &answers, sender.clone());
                scope.spawn(move || write_until_killed(client, writer, round, answers, sender));
            }
            drop(sender);
            // Kills during the uploads: after a number of answers that differs in each round.
            let acknowledged = acks.iter().take(20 + 7 * round).count();
            assert_eq!(
                acknowledged,
                20 + 7 * round,
                "all writers failed before the kill"
            );
            server.kill();
        });
        server.start_again();
        let this_round = format!("/{round}/");
        let fresh = |key: &str| key.contains(&this_round) || key.ends_with("/again");
        check(&server.client(), &answers.lock().unwrap(), fresh);
    }
    check(&server.client(), &answers.lock().unwrap(), |_| true);
    nothing_is_left(&mut server);
}

/// Deletes every object and starts the server, which then removes their shards and those of all
/// interrupted uploads. A shard that is left after this would be left forever.
fn nothing_is_left(server: &mut Server) {
    let client = server.client();
    for key in client.list("kept") {
        let path = format!("/kept/{key}");
        client.send("DELETE", &path, &[], b"").unwrap().expect(204);
    }
    server.kill();
    server.start_again();
    let shards = || (1..=4).map(|disk| server.disks.shard_files(disk).len());
    eventually("no shard is left", || shards().sum::<usize>() == 0);
    assert!(server.log().contains(ORPHANS), "the kills left none?");
}
