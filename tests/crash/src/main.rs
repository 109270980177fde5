//! The command line of the examiner.
//!
//! Exit codes: 0 the server kept its promises; 1 it did not, or the run has shown nothing; 2 the
//! command line is wrong; 77 the examination is impossible here, and the reason is printed.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use drystone_examiner::checker::{Checker, Report};
use drystone_examiner::exam::{self, Exam, Plan};
use drystone_examiner::history::Event;
use drystone_examiner::rig::enter_namespace;
use drystone_examiner::workload::VERSIONED;

const USAGE: &str = "usage: examiner NEMESIS [--rounds N] [--seed N] [--load MILLISECONDS] \
    [--disks N] [--binary FILE] [--folder DIR]
  NEMESIS: kill, power, point, emptied, rot, swap, full or clock
       examiner check HISTORY: judges what an earlier run recorded";
const EXIT_SKIPPED: u8 = 77;
/// At most this many violations are shown.
const SHOWN_LEN_MAX: usize = 10;

fn plan() -> Result<Plan, String> {
    let mut arguments = std::env::args().skip(1);
    let nemesis = arguments.next().ok_or("no nemesis is given")?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let built = own.parent().ok_or("no folder")?.to_owned();
    let mut plan = Plan {
        nemesis: nemesis.parse()?,
        binary: built.join("drystone"),
        root: built.join("examiner-runs"),
        rounds: 4,
        seed: rand::random_range(0..1_000_000),
        load: Duration::from_secs(2),
        disks: 4,
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or(format!("{name} has no value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{name}: no number"))
        };
        match name.as_str() {
            "--rounds" => plan.rounds = number()?,
            "--seed" => plan.seed = number()?,
            "--load" => plan.load = Duration::from_millis(number()?),
            "--disks" => plan.disks = number()? as usize,
            "--binary" => plan.binary = PathBuf::from(value),
            "--folder" => plan.root = PathBuf::from(value),
            _ => return Err(format!("{name} is not understood")),
        }
    }
    Ok(plan)
}

fn skipped(what: &str) -> ExitCode {
    println!("skipped: {what}");
    ExitCode::from(EXIT_SKIPPED)
}

/// Judges a recorded history, which must be complete from its run's beginning.
fn check(path: &str) -> ExitCode {
    let text = std::fs::read_to_string(path).unwrap();
    let events: Vec<Event> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    show(&Checker::new(&[VERSIONED]).windows(&events))
}

/// Prints the violations and returns the exit code.
fn show(report: &Report) -> ExitCode {
    for violation in report.violations.iter().take(SHOWN_LEN_MAX) {
        println!("WRONG: {violation}");
    }
    match report.violations.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some("check"), Some(path)) = (arguments.next().as_deref(), arguments.next()) {
        return check(&path);
    }
    let plan = match plan() {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if plan.nemesis.needs_file_systems()
        && let Err(why) = enter_namespace()
    {
        return skipped(&format!("{}: {why}", plan.nemesis));
    }
    let rig = match exam::rig(&plan) {
        Ok(rig) => rig,
        Err(why) => return skipped(&format!("{}: {why}", plan.nemesis)),
    };
    let (nemesis, seed, rounds) = (plan.nemesis, plan.seed, plan.rounds);
    println!("examining {nemesis}, {rounds} rounds, seed {seed}");
    let report = Exam::new(plan, rig).run();
    println!(
        "{nemesis}, seed {seed}: {rounds} rounds, {} operations ({} ok, {} refused, {} without an \
         answer), {} reads, {} overlaps, {} faults, {} wrong",
        report.ops,
        report.ok,
        report.fail,
        report.info,
        report.reads,
        report.overlaps,
        report.faults,
        report.violations.len()
    );
    show(&report)
}
