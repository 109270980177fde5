//! The examiner examined: each planted fault is found, and a store without one passes.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicBool;
use std::thread;

use drystone_examiner::audit::audit;
use drystone_examiner::checker::{Checker, Report};
use drystone_examiner::history::{History, Phase};
use drystone_examiner::toy::{Fault, Toy};
use drystone_examiner::workload::{Known, Run, VERSIONED, Worker};

const CLIENTS: u64 = 8;
const STEPS: usize = 250;
const SEEDS: u64 = 20;
const SIZE_MAX: usize = 1200;

fn examine(fault: Option<Fault>, seed: u64) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let history = History::create(&folder.path().join("history")).unwrap();
    let (known, toy) = (Known::default(), Toy::new(fault));
    let run = Run {
        id: seed,
        seed,
        size_max: SIZE_MAX,
        history: &history,
        known: &known,
    };
    // Even this one may be lost.
    Worker::new(&run, &toy, 0, 0).put_source();
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (run, toy) = (&run, &toy);
            scope.spawn(move || {
                let mut worker = Worker::new(run, toy, 1, number);
                for _ in 0..STEPS {
                    worker.step();
                }
                worker.work(&AtomicBool::new(true));
            });
        }
    });
    history.nemesis(Phase::Installed, "planted");
    let mut report = Report::default();
    let mut checker = Checker::new(&[VERSIONED]);
    // The second pass finds what comes after everything was quiet.
    for _ in 0..2 {
        report
            .violations
            .extend(audit(&run, &toy, Vec::new(), 1).err());
        report.add(checker.window(&history.take()));
        toy.carry_out_late();
    }
    report.demand(CLIENTS as usize * STEPS, 200, 100, 1);
    report
}

#[test]
fn a_store_without_a_fault_passes() {
    for seed in 1..=3 {
        let report = examine(None, seed);
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
    }
}

#[test]
fn each_of_twelve_planted_faults_is_found() {
    for fault in Fault::ALL {
        // A race that is planted is not always run.
        let reports = (1..=SEEDS).map(|seed| examine(Some(fault), seed));
        let found = reports
            .into_iter()
            .find(|report| !report.violations.is_empty());
        let report = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        let first = &report.violations[0];
        println!("{fault:?}: {}", first.lines().next().unwrap());
    }
}

#[test]
fn a_run_that_tried_nothing_fails() {
    let mut report = Report::default();
    report.demand(10, 10, 10, 1);
    assert_eq!(report.violations.len(), 4);
}
