//! Damages the files of the metadata's databases in every way on as many disks as parity allows:
//! nothing acknowledged is missing or has other bytes, damaged databases are rebuilt until a check
//! from outside finds the store whole, and then the same happens on other disks.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::damage::{is_whole_form, pairs};
use crate::s3::Answer;
use crate::server::{PATIENCE, Server, command};

const LANES: usize = 4;
/// The short form tries one of this many cases: each kind and each change is among them.
const SOME: usize = 5;
const SEED: u64 = 43;
/// Sizes of objects that lie in rows, in blob files and in shards.
const SIZES: [usize; 4] = [200, 3_000, 7_000, 60_000];
/// A database fails, or its damage is found, only when it is read; each life reads all.
const LIVES_MAX: usize = 20;
/// The number of replicas of the metadata, two of which may be lost.
const VOTERS_MAX: usize = 5;
/// How long a pass of scrub over a few objects may take on a busy machine.
const PASS_MAX: Duration = Duration::from_secs(10);

/// A name and a predicate for files of a kind in a disk's `meta`.
type Kind = (&'static str, fn(&str) -> bool);

const KINDS: [Kind; 6] = [
    ("logs", |name| name.ends_with(".log")),
    ("tables", |name| name.ends_with(".sst")),
    ("blob files", |name| name.ends_with(".blob")),
    ("manifests", |name| name.starts_with("MANIFEST")),
    ("current files", |name| name == "CURRENT"),
    ("bounds of what is synced", |name| name == "synced"),
];

fn files(disk: &Path, kind: Kind) -> Vec<PathBuf> {
    let folders = [disk.join("meta"), disk.join("meta/rocksdb")];
    let entries = folders.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && kind.1(path.file_name().unwrap().to_str().unwrap()))
        .collect();
    files.sort();
    files
}

/// Returns the length without the preallocated space at the end of a log.
fn used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Returns `None` if a running server has removed the file since it was found.
pub fn unless_removed<T>(done: io::Result<T>) -> Option<T> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        done => Some(done.unwrap()),
    }
}

/// Overwrites a file and creates none.
pub fn overwrite(file: &Path, bytes: &[u8]) {
    let opened = OpenOptions::new().write(true).truncate(true).open(file);
    if let Some(mut file) = unless_removed(opened) {
        file.write_all(bytes).unwrap();
    }
}

fn each(files: &[PathBuf], mut change: impl FnMut(&mut Vec<u8>)) {
    for file in files {
        if let Some(mut bytes) = unless_removed(fs::read(file)) {
            change(&mut bytes);
            overwrite(file, &bytes);
        }
    }
}

fn trade(one: &Path, other: &Path) {
    let contents = [one, other].map(|file| unless_removed(fs::read(file)));
    if let [Some(first), Some(second)] = contents {
        overwrite(one, &second);
        overwrite(other, &first);
    }
}

/// A way to damage the files of one kind on each of some disks.
type Change = fn(&[Vec<PathBuf>], &mut StdRng);

const CHANGES: [(&str, Change); 6] = [
    ("one bit flipped", |disks, random| {
        for files in disks {
            each(files, |bytes| {
                if let 1.. = used(bytes) {
                    let at = random.random_range(0..used(bytes));
                    bytes[at] ^= 1 << random.random_range(0..8);
                }
            });
        }
    }),
    ("cut short", |disks, _| {
        for files in disks {
            each(files, |bytes| bytes.truncate(used(bytes) / 2));
        }
    }),
    ("emptied", |disks, _| {
        disks.iter().for_each(|files| each(files, Vec::clear));
    }),
    ("removed", |disks, _| {
        for file in disks.iter().flatten() {
            unless_removed(fs::remove_file(file));
        }
    }),
    ("swapped within their disk", |disks, _| {
        for pair in disks.iter().flat_map(|files| files.chunks_exact(2)) {
            trade(&pair[0], &pair[1]);
        }
    }),
    ("swapped between the disks", |disks, _| {
        for (one, other) in disks[0].iter().zip(&disks[1]) {
            trade(one, other);
        }
    }),
];

struct Store {
    server: Server,
    kept: BTreeMap<String, u64>,
}

fn body(seed: u64) -> Vec<u8> {
    let mut body = vec![0; SIZES[seed as usize % SIZES.len()] + seed as usize];
    StdRng::seed_from_u64(seed).fill_bytes(&mut body);
    body
}

impl Store {
    /// Creates a store, fills every kind of file, and stops it.
    fn new(disks: usize) -> Store {
        let mut store = Store {
            server: Server::fresh(disks),
            kept: BTreeMap::new(),
        };
        store.server.client().put("/kept", b"").unwrap().expect(200);
        for _ in 0..4 {
            store.write();
            // A start writes the contents of the log into tables.
            store.server.kill();
            store.server.start_again();
        }
        store.write();
        store.server.kill();
        store
    }

    fn write(&mut self) {
        for _ in SIZES {
            let seed = self.kept.len() as u64;
            let path = format!("/kept/{seed}");
            let put = self.server.client().put(&path, &body(seed));
            put.unwrap().expect(200);
            self.kept.insert(path, seed);
        }
    }

    #[track_caller]
    fn check(&self, what: &str) {
        for (path, seed) in &self.kept {
            assert!(
                self.get(what, path) == body(*seed),
                "{what}: {path} differs"
            );
        }
        let listed = self.ask(what, "/kept", &[("list-type", "2".into())]);
        assert_eq!(listed.all("Key").len(), self.kept.len(), "{what}");
    }

    #[track_caller]
    fn get(&self, what: &str, path: &str) -> Vec<u8> {
        self.ask(what, path, &[]).body
    }

    /// Sends a request. Damage that it meets may end the majority: it is then refused until the
    /// metadata is recovered, and is repeated.
    #[track_caller]
    fn ask(&self, what: &str, path: &str, query: &[(&str, String)]) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.server.client().send("GET", path, query, b"").unwrap();
            match answer.status {
                200 => return answer,
                503 if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(50)),
                status => panic!("{what}: {path} is {status}: {}", answer.text()),
            }
        }
    }

    fn status(&self) -> Option<Value> {
        let answer = self.server.client().get("/_admin/v1/status").unwrap();
        let told = (answer.status == 200).then_some(answer.body)?;
        Some(serde_json::from_slice(&told).unwrap())
    }

    /// Reads everything on the disks; what is found is healed as far as possible.
    fn scrub(&self) {
        let empty = json!({}).to_string();
        let client = self.server.client();
        let _ = client.send("POST", "/_admin/v1/scrub/start", &[], empty.as_bytes());
        let begun = Instant::now();
        let voters = self.server.disks.count().min(VOTERS_MAX);
        let is_done = |status: Value| {
            status["scrub"]["finished_ms"].is_number()
                && status["heal"]["queued_shards"] == 0
                && status["heal"]["queueing"] == false
                && status["metadata_voters_alive"] == voters
        };
        // A database that fails meanwhile may only return to service at the next start.
        while !self.status().is_some_and(is_done) && begun.elapsed() < PASS_MAX {
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Damages the files. A disk without a replica, or with one that was just created, may lack
    /// tables and blob files.
    fn damage(&self, disks: &[usize], kind: Kind, change: Change, random: &mut StdRng) {
        let path = |disk: &usize| files(&self.server.disks.path(*disk), kind);
        let files: Vec<_> = disks.iter().map(path).collect();
        change(&files, random);
    }

    fn census(&self) -> Value {
        let mut fsck = command();
        fsck.args(["fsck", "--json"])
            .arg(self.server.disks.argument());
        let told = fsck.output().unwrap().stdout;
        serde_json::from_slice(&told).unwrap_or_default()
    }

    /// Runs the server until the store is whole and stops it, with entries left in its logs.
    #[track_caller]
    fn heal(&mut self, what: &str) {
        for _ in 0..LIVES_MAX {
            self.server.start_again();
            self.check(what);
            self.scrub();
            self.check(what);
            self.write();
            self.server.kill();
            if self.census()["verdict"] == "whole" {
                return;
            }
        }
        panic!("{what}: not whole: {:#}", self.census());
    }
}

struct Case {
    disks: [usize; 2],
    kind: Kind,
    change: (&'static str, Change),
    /// Whether the damage is done under the running server or before it starts.
    running: bool,
}

/// Lists each change of each kind, on all pairs of disks or each on another pair.
fn cases(disks: usize, whole: bool) -> Vec<Case> {
    let pairs = pairs(disks);
    let mut cases = Vec::new();
    for kind in KINDS {
        for change in CHANGES {
            let one = [pairs[cases.len() % pairs.len()]];
            for disks in if whole { &pairs[..] } else { &one } {
                cases.push(Case {
                    disks: *disks,
                    kind,
                    change,
                    // Files of the other kinds are open, or are read at a start only.
                    running: (kind.0 == "tables" || kind.0 == "blob files") && cases.len() % 2 == 1,
                });
            }
        }
    }
    cases
}

fn damaged_and_rebuilt(disks: usize, cases: &[Case]) {
    thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                let mut store = Store::new(disks);
                let mut random = StdRng::seed_from_u64(SEED + lane as u64);
                for case in cases.iter().skip(lane).step_by(LANES) {
                    let Case { kind, change, .. } = case;
                    let what = format!("{} {} on {:?}", kind.0, change.0, case.disks);
                    let begun = Instant::now();
                    if case.running {
                        store.server.start_again();
                        store.damage(&case.disks, *kind, change.1, &mut random);
                        store.check(&what);
                        store.scrub();
                        store.check(&what);
                        store.server.kill();
                    } else {
                        store.damage(&case.disks, *kind, change.1, &mut random);
                    }
                    store.heal(&what);
                    println!("lane {lane}: {what} in {:?}", begun.elapsed());
                }
            });
        }
    });
}

#[test]
fn f_05_f_06_metadata_files_of_any_two_of_four_disks_damaged_and_healed() {
    let whole = is_whole_form();
    let mut cases = cases(4, whole);
    if !whole {
        cases = cases.into_iter().step_by(SOME).collect();
    }
    damaged_and_rebuilt(4, &cases);
}

#[test]
fn f_05_f_06_metadata_files_of_any_two_of_six_disks_damaged_and_healed() {
    let whole = is_whole_form();
    let mut cases = cases(6, whole);
    if !whole {
        cases = cases.into_iter().skip(2).step_by(SOME).collect();
    }
    damaged_and_rebuilt(6, &cases);
}
