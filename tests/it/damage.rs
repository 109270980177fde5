//! Damages shards in every way on as many disks as parity allows, under a running server: reads are
//! byte-exact, heal restores every shard, then the same happens on other disks. Damage beyond
//! parity gives errors and never other bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::damaged_metadata::{overwrite, unless_removed};
use crate::replaced_disks::{admin, told};
use crate::s3::Client;
use crate::server::{Server, command, eventually};

/// `all` runs every way on every combination of disks, in both geometries.
const FORM_VARIABLE: &str = "DRYSTONE_TEST_DAMAGE";
/// Two objects of each size, so that files of one size can be swapped; from one stripe to many.
const SIZES: [usize; 8] = [
    9_000,
    9_000,
    300_001,
    300_001,
    1 << 20,
    1 << 20,
    2_500_000,
    2_500_000,
];
const SEED: u64 = 41;
/// The number of stores over which the whole form is spread.
const STORES: usize = 4;

/// Returns the files of a disk's shards, in the same order at each call.
fn shards(server: &Server, disk: usize) -> Vec<PathBuf> {
    let mut files = server.disks.shard_files(disk);
    files.sort();
    files
}

/// A way to damage the files of one disk.
type Way = fn(&[PathBuf], &mut StdRng);

fn each(files: &[PathBuf], mut change: impl FnMut(&mut Vec<u8>)) {
    for file in files {
        if let Some(mut bytes) = unless_removed(fs::read(file)) {
            change(&mut bytes);
            overwrite(file, &bytes);
        }
    }
}

fn remove(files: &[PathBuf]) {
    for file in files {
        unless_removed(fs::remove_file(file));
    }
}

/// Swaps the contents of pairs of files of one size.
fn trade(files: &[PathBuf], one_way: bool) {
    let mut by_size: BTreeMap<u64, Vec<&PathBuf>> = BTreeMap::new();
    for file in files {
        if let Some(metadata) = unless_removed(fs::metadata(file)) {
            by_size.entry(metadata.len()).or_default().push(file);
        }
    }
    for pair in by_size.values().flat_map(|files| files.chunks_exact(2)) {
        let contents = [0, 1].map(|one| unless_removed(fs::read(pair[one])));
        if let [Some(first), Some(second)] = contents {
            overwrite(pair[0], &second);
            if !one_way {
                overwrite(pair[1], &first);
            }
        }
    }
}

/// F-03, F-04, F-07.
const WAYS: &[(&str, Way)] = &[
    ("removed", |files, _| remove(files)),
    ("one bit of each", |files, random| {
        each(files, |bytes| {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        });
    }),
    ("swapped with another of the same size", |files, _| {
        trade(files, false)
    }),
    ("emptied", |files, _| each(files, Vec::clear)),
    ("cut short", |files, random| {
        each(files, |bytes| {
            let lost = random.random_range(512..4096);
            bytes.truncate(bytes.len().saturating_sub(lost));
        });
    }),
    ("zeroed in a sector", |files, random| {
        each(files, |bytes| {
            let from = random.random_range(0..bytes.len()) / 512 * 512;
            let to = (from + 512).min(bytes.len());
            bytes[from..to].fill(0);
            // Zeroing a sector that was zero already is no damage.
            bytes[from] ^= 1;
        });
    }),
    ("one bit of each header", |files, random| {
        each(files, |bytes| bytes[random.random_range(0..64)] ^= 4);
    }),
    ("one bit of each block's checksum", |files, random| {
        each(files, |bytes| bytes[64 + random.random_range(0..8)] ^= 4);
    }),
    ("another object's in its place", |files, _| {
        trade(files, true)
    }),
];

struct Store {
    server: Server,
    written: BTreeMap<String, Vec<u8>>,
}

impl Store {
    fn new(disks: usize) -> Store {
        let server = Server::fresh(disks);
        let client = server.client();
        client.put("/kept", b"").unwrap().expect(200);
        let mut written = BTreeMap::new();
        for (at, size) in SIZES.into_iter().enumerate() {
            let mut body = vec![0; size];
            StdRng::seed_from_u64(at as u64).fill(&mut body[..]);
            client
                .put(&format!("/kept/{at}"), &body)
                .unwrap()
                .expect(200);
            written.insert(at.to_string(), body);
        }
        // Scrub runs pass after pass: parity that no read touches is found by nothing else.
        let scrub = admin(&server, &["scrub", "period", "1"]);
        assert!(scrub.status.success(), "{scrub:?}");
        Store { server, written }
    }

    fn client(&self) -> Client {
        self.server.client()
    }

    #[track_caller]
    fn check(&self, what: &str) {
        for (key, body) in &self.written {
            let answer = self.client().get(&format!("/kept/{key}")).unwrap();
            assert_eq!(answer.status, 200, "{what}: {key}: {}", answer.text());
            assert!(answer.body == *body, "{what}: {key} differs");
        }
    }

    /// Damages all shards on these disks.
    fn harm(&self, disks: &[usize], way: Way, random: &mut StdRng) {
        for disk in disks {
            way(&shards(&self.server, *disk), random);
        }
    }

    /// Waits until a check from outside finds every shard where and as it should be.
    #[track_caller]
    fn heal(&mut self, what: &str) {
        eventually(&format!("healed: {what}"), || {
            // The server heals while it runs; only a check of the stopped store shows the progress.
            std::thread::sleep(std::time::Duration::from_millis(500));
            self.server.stop();
            let mut fsck = command();
            fsck.arg("fsck").arg(self.server.disks.argument());
            let whole = fsck.stdout(Stdio::null()).status().unwrap().success();
            self.server.start_again();
            whole
        });
    }
}

pub fn pairs(disks: usize) -> Vec<[usize; 2]> {
    let all = (1..=disks).flat_map(|one| (one + 1..=disks).map(move |other| [one, other]));
    all.collect()
}

/// Damages and heals any two disks, then any other two, in each way.
fn damaged_and_healed(disks: usize, ways: &[(&str, Way)], all_pairs: bool) {
    let pairs = pairs(disks);
    let mut cases = Vec::new();
    for (n, (name, way)) in ways.iter().enumerate() {
        let some = [
            pairs[n % pairs.len()],
            pairs[pairs.len() - 1 - n % pairs.len()],
        ];
        let tried = if all_pairs { &pairs[..] } else { &some[..] };
        cases.extend(tried.iter().map(|pair| (*name, *way, *pair)));
    }
    let cases = &cases;
    let stores = if all_pairs { STORES } else { 1 };
    std::thread::scope(|scope| {
        for number in 0..stores {
            scope.spawn(move || {
                let mut store = Store::new(disks);
                let mut random = StdRng::seed_from_u64(SEED + number as u64);
                for (name, way, pair) in cases.iter().skip(number).step_by(stores) {
                    let what = format!("{name} on disks {pair:?} of {disks}");
                    store.harm(pair, *way, &mut random);
                    store.check(&what);
                    store.heal(&what);
                    store.check(&what);
                }
            });
        }
    });
}

pub fn is_whole_form() -> bool {
    std::env::var(FORM_VARIABLE).is_ok_and(|form| form == "all")
}

#[test]
fn f_04_f_07_shards_of_any_two_of_four_disks_damaged_and_healed() {
    let whole = is_whole_form();
    let ways = if whole { WAYS } else { &WAYS[..3] };
    damaged_and_healed(4, ways, whole);
}

#[test]
fn f_04_f_07_shards_of_any_two_of_six_disks_damaged_and_healed() {
    let whole = is_whole_form();
    let ways = if whole { WAYS } else { &WAYS[1..2] };
    damaged_and_healed(6, ways, whole);
}

#[test]
fn f_07_an_older_generation_in_the_place_of_a_healed_shard_is_not_served() {
    let mut store = Store::new(4);
    let saved: Vec<(PathBuf, Vec<u8>)> = shards(&store.server, 1)
        .into_iter()
        .map(|shard| (shard.clone(), fs::read(shard).unwrap()))
        .collect();
    store.harm(
        &[1],
        |files, _| remove(files),
        &mut StdRng::seed_from_u64(SEED),
    );
    store.check("removed");
    store.heal("removed");
    let mut replaced = 0;
    for (shard, bytes) in &saved {
        let entries = fs::read_dir(shard.parent().unwrap()).unwrap();
        let others = entries.map(|entry| entry.unwrap().path());
        let is_newer = |other: &PathBuf| other.file_stem() == shard.file_stem() && other != shard;
        for newer in others.filter(is_newer) {
            fs::write(newer, bytes).unwrap();
            replaced += 1;
        }
    }
    assert!(
        replaced > 0,
        "nothing was healed onto the disk it was lost from"
    );
    store.check("an older generation");
    store.heal("an older generation");
    store.check("healed again");
}

/// Checks that the answer is complete, an error, or visibly interrupted: never other bytes, never
/// fewer with a clean end.
fn refused_or_exact(client: &Client, key: &str, body: &[u8]) -> bool {
    match client.get(&format!("/kept/{key}")) {
        Err(_) => true,
        Ok(answer) if answer.status == 200 => {
            assert!(answer.body == body, "{key}: other bytes");
            false
        }
        Ok(answer) => {
            assert_eq!(answer.status / 100, 5, "{}", answer.text());
            true
        }
    }
}

#[test]
fn b_42_f_04_damage_beyond_parity_is_an_error_and_never_other_bytes() {
    let store = Store::new(4);
    // Otherwise scrub has the first one rebuilt before the third is damaged.
    told(&admin(&store.server, &["heal", "pause"]));
    let mut random = StdRng::seed_from_u64(SEED);
    for disk in [1, 2, 3] {
        let files = store.server.disks.shard_files(disk);
        // Damages the last block of each, so that long answers have begun before they reach it.
        let way: Way = |files, _| {
            each(files, |bytes| {
                let at = bytes.len() - 50;
                bytes[at] ^= 1;
            });
        };
        way(&files, &mut random);
    }
    let client = store.client();
    let refused = |(key, body): (&String, &Vec<u8>)| refused_or_exact(&client, key, body);
    assert!(store.written.iter().all(refused));
    // The server keeps working.
    client
        .put("/kept/after", &[7; 100_000])
        .unwrap()
        .expect(200);
    assert_eq!(
        client.get("/kept/after").unwrap().expect(200).body,
        [7; 100_000]
    );
}
