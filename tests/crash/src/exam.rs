//! The examination: load, a fault, a restart, the audit, the judgement; as many rounds as
//! requested.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::audit::audit;
use crate::checker::{Checker, Report};
use crate::history::{History, Phase};
use crate::nemesis::Nemesis;
use crate::rig::{Disks, Rig};
use crate::subject::Remote;
use crate::workload::{Known, PLAIN, Run, VERSIONED, Worker};

pub const CLIENTS: u64 = 8;
/// The number of keys of earlier rounds that a round's audit reads whole; lists and versions are
/// read of all.
const OLDER_READ: usize = 30;
/// The number of operations before a fault. A slow machine does fewer: those that fit into the
/// limit of time.
const LOAD_OPS_MIN: u64 = 120;
const SLOW_MAX: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);
/// The number of operations of the one client before a calm power cut.
const CALM_OPS: u32 = 12;

/// The plan of a run, as the command line gives it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub binary: PathBuf,
    pub root: PathBuf,
    pub nemesis: Nemesis,
    pub rounds: u64,
    pub seed: u64,
    pub load: Duration,
    pub disks: usize,
}

pub struct Exam {
    plan: Plan,
    rig: Rig,
    rng: StdRng,
    history: History,
    known: Known,
    checker: Checker,
}

impl Exam {
    pub fn new(plan: Plan, mut rig: Rig) -> Exam {
        let history = plan
            .root
            .join(format!("history-{}-{}.jsonl", plan.nemesis, plan.seed));
        rig.start().unwrap();
        Exam {
            rig,
            rng: StdRng::seed_from_u64(plan.seed),
            history: History::create(&history).unwrap(),
            known: Known::default(),
            checker: Checker::new(&[VERSIONED]),
            plan,
        }
    }

    /// Runs all rounds; the report has the violations.
    pub fn run(mut self) -> Report {
        self.prepare();
        let mut total = Report::default();
        for round in 1..=self.plan.rounds {
            let began = Instant::now();
            let report = self.round(round);
            println!(
                "round {round} of {}, seed {}: {} operations, {} without an answer, {} wrong, \
                 {:.1} s",
                self.plan.nemesis,
                self.plan.seed,
                report.ops,
                report.info,
                report.violations.len(),
                began.elapsed().as_secs_f32()
            );
            let bad = !report.violations.is_empty();
            total.add(report);
            if bad {
                println!("{}", self.rig.log_tail());
                break;
            }
        }
        if total.violations.is_empty() {
            total.add(self.read_everything());
            total.violations.extend(self.census());
        }
        let rounds = self.plan.rounds as usize;
        let loaded = rounds - self.calm_rounds();
        total.demand(20 * rounds + 60 * loaded, 20 * rounds, 10 * loaded, rounds);
        total
    }

    fn calm_rounds(&self) -> usize {
        match self.plan.nemesis {
            Nemesis::Power => self.plan.rounds as usize / 2,
            // These rounds end at their point, even if the first request passes it.
            Nemesis::Point => self.plan.rounds as usize,
            _ => 0,
        }
    }

    fn prepare(&mut self) {
        let client = self.rig.client();
        for bucket in [PLAIN, VERSIONED] {
            client.put(&format!("/{bucket}"), b"").unwrap().expect(200);
        }
        let document =
            b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let query = [("versioning", String::new())];
        let path = format!("/{VERSIONED}");
        client
            .send("PUT", &path, &query, document)
            .unwrap()
            .expect(200);
        let remote = Remote(client);
        let run = self.run_of();
        assert!(Worker::new(&run, &remote, 0, 0).put_source(), "no source");
    }

    fn run_of(&self) -> Run<'_> {
        Run {
            id: self.plan.seed,
            seed: self.plan.seed,
            size_max: usize::MAX,
            history: &self.history,
            known: &self.known,
        }
    }

    fn round(&mut self, round: u64) -> Report {
        self.plan.nemesis.prepare(&mut self.rig, &mut self.rng);
        let calm = self.plan.nemesis == Nemesis::Power && round.is_multiple_of(2);
        if calm {
            self.work_calmly(round);
            self.strike(round);
        } else {
            self.work(round);
        }
        let mut violations = Vec::new();
        if let Err(problem) = self.plan.nemesis.recover(&mut self.rig) {
            violations.push(format!("round {round}: no start: {problem}"));
        } else {
            violations.extend(self.audit(round, OLDER_READ).err());
        }
        self.judge(violations)
    }

    /// Judges the events since the last judgement, and adds the other violations.
    fn judge(&mut self, violations: Vec<String>) -> Report {
        self.history.nemesis(Phase::WindowEnds, "");
        let events = self.history.take();
        let mut report = self.checker.window(&events);
        report.violations.extend(violations);
        report
    }

    /// Stops and starts the server as an operator does, and reads every key of all rounds.
    fn read_everything(&mut self) -> Report {
        self.rig.stop();
        let started = self.rig.start().map_err(|error| error.to_string());
        let read = started.and_then(|()| self.audit(self.plan.rounds, usize::MAX));
        self.judge(read.err().into_iter().collect())
    }

    fn strike(&mut self, round: u64) {
        let note = self
            .plan
            .nemesis
            .strike(&mut self.rig, round, &mut self.rng);
        self.history.nemesis(Phase::Installed, &note);
    }

    /// Runs many clients, with the fault in the middle.
    fn work(&mut self, round: u64) {
        let stop = AtomicBool::new(false);
        let remote = Remote(self.rig.client());
        let (plan, history, known) = (&self.plan, &self.history, &self.known);
        let run = Run {
            id: plan.seed,
            seed: plan.seed,
            size_max: usize::MAX,
            history,
            known,
        };
        let before = plan.load.mul_f64(self.rng.random_range(0.6..1.0));
        // The server may end at its point with the first operation.
        let least = match plan.nemesis {
            Nemesis::Point => 0,
            _ => LOAD_OPS_MIN,
        };
        let enough = history.ops() + least;
        let (rig, rng) = (&mut self.rig, &mut self.rng);
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (run, remote, stop) = (&run, &remote, &stop);
                scope.spawn(move || Worker::new(run, remote, round, number).work(stop));
            }
            // A fault in the middle of the load has no event to wait for.
            thread::sleep(before);
            let begun = Instant::now();
            while history.ops() < enough && begun.elapsed() < SLOW_MAX {
                thread::sleep(PAUSE);
            }
            let note = plan.nemesis.strike(rig, round, rng);
            history.nemesis(Phase::Installed, &note);
            if plan.nemesis.goes_on() {
                thread::sleep(plan.load);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    /// Runs one client; the fault comes as soon as its last answer has arrived.
    fn work_calmly(&mut self, round: u64) {
        let remote = Remote(self.rig.client());
        let ops = self.rng.random_range(3..=CALM_OPS);
        let run = self.run_of();
        let mut worker = Worker::new(&run, &remote, round, 0);
        for _ in 0..ops {
            worker.step();
        }
        // The last operation is a write: power fails right after its promise.
        let bucket = [PLAIN, VERSIONED][usize::from(ops % 2 == 0)];
        worker.put(bucket, &format!("r{round}/last"), None, false);
    }

    fn audit(&mut self, round: u64, older_read: usize) -> Result<(), String> {
        let remote = Remote(self.rig.client());
        let older: Vec<(String, String)> = self.checker.states.keys().cloned().collect();
        let older: Vec<_> = older.sample(&mut self.rng, older_read).cloned().collect();
        audit(&self.run_of(), &remote, older, round)
    }

    /// Stops the server and runs `fsck` on its disks.
    fn census(&mut self) -> Option<String> {
        self.rig.stop();
        let (status, text) = self.rig.fsck();
        println!("fsck: {}", text.lines().last().unwrap_or_default());
        let fine = status.success() || self.plan.nemesis.degrades() && status.code() == Some(1);
        (!fine).then(|| format!("fsck: {status}\n{text}"))
    }
}

/// Creates a rig for the plan, or says why none can exist here.
pub fn rig(plan: &Plan) -> Result<Rig, String> {
    fs::create_dir_all(&plan.root).map_err(|e| e.to_string())?;
    let kind = match plan.nemesis.needs_file_systems() {
        true => Disks::Xfs,
        false => Disks::Directories,
    };
    let rig = Rig::new(&plan.binary, &plan.root, kind, plan.disks);
    match plan.nemesis {
        Nemesis::Clock => rig
            .with_clock()
            .ok_or_else(|| "libfaketime is not installed".to_owned()),
        _ => Ok(rig),
    }
}
