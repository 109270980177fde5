//! `fsck`: checks a stopped store from outside and says what to do.
//!
//! Exit codes: 0 everything is whole; 1 nothing is lost, but something must be repaired; 2 bytes
//! are lost, the metadata contradict themselves, or the command line is wrong; 3 the store could
//! not be checked.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use drystone_storage::fsck::check;
use drystone_storage::fsck::report::{
    DamagedKey, DataState, ReplicaState, Report, StateCounts, Verdict,
};
use drystone_store::env::SystemEnv;

use super::say::say;
use crate::cli::exit::{EXIT_USAGE, fail};
use crate::config;

const EXIT_DEGRADED: u8 = 1;
const EXIT_LOST: u8 = 2;
const EXIT_NOT_CHECKED: u8 = 3;
/// The most damaged keys and contradictions that are named without `--all`.
const NAMED_LEN_MAX: usize = 100;

#[derive(Args)]
pub(super) struct Arguments {
    /// Print one JSON document instead of sentences
    #[arg(long)]
    json: bool,

    /// Name every damaged key, not only the first hundred
    #[arg(long)]
    all: bool,

    /// All disks of the store, as given to the server; `{1...4}` counts
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let directories = match config::directories(&arguments.directories) {
        Ok(directories) => directories,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let limit = if arguments.all {
        usize::MAX
    } else {
        NAMED_LEN_MAX
    };
    let report = match check(Arc::new(SystemEnv), &directories, limit) {
        Ok(report) => report,
        Err(error) => return fail(EXIT_NOT_CHECKED, &error),
    };
    match arguments.json {
        true => say!("{}", serde_json::json!(report)),
        false => show(&report),
    }
    match report.verdict {
        Verdict::Whole => ExitCode::SUCCESS,
        Verdict::Degraded => ExitCode::from(EXIT_DEGRADED),
        Verdict::Inconsistent | Verdict::Lost => ExitCode::from(EXIT_LOST),
    }
}

fn show(report: &Report) {
    for disk in &report.disks {
        let problem = disk.problem.as_deref().unwrap_or("readable");
        say!("disk {}: {problem}", disk.directory);
    }
    show_groups(report);
    say!("buckets: {}", report.buckets);
    show_counts("objects", report.objects);
    let versions = report.versions;
    if versions != report.objects || report.delete_markers > 0 {
        show_counts("versions", versions);
        say!("delete markers: {}", report.delete_markers);
    }
    if report.uploads > 0 {
        say!("unfinished uploads: {}", report.uploads);
        show_counts("their parts", report.parts);
    }
    let shards = report.shards;
    say!(
        "shards: {} whole, {} missing, {} damaged, {} on offline disks, {} never written",
        shards.whole,
        shards.missing,
        shards.damaged,
        shards.offline,
        shards.unwritten
    );
    for (geometry, count) in &report.geometries {
        say!("  in {geometry}: {count} writes");
    }
    let files = report.files;
    say!(
        "other files: {} unconfirmed and {} garbage, which gc removes; {} unknown",
        files.unconfirmed,
        files.garbage,
        files.unknown
    );
    say!("queued for heal: {} shards", report.heal_queue);
    if report.undersized > 0 {
        say!(
            "queued for re-encoding: {} undersized writes",
            report.undersized
        );
    }
    report.damaged.iter().for_each(show_damaged);
    show_omitted(report.damaged_count, report.damaged.len());
    for problem in &report.problems {
        say!("contradiction: {problem}");
    }
    show_omitted(report.problem_count, report.problems.len());
    say!("{}", sentence(report));
}

fn show_groups(report: &Report) {
    for group in &report.groups {
        let equal = group.replicas.iter();
        let equal = equal.filter(|replica| replica.state == ReplicaState::Equal);
        say!(
            "metadata group {}: {} of {} replicas are up to date, at log entry {}",
            group.group,
            equal.count(),
            group.voters,
            group.applied
        );
        for replica in &group.replicas {
            let what = match replica.state {
                ReplicaState::Equal => continue,
                ReplicaState::Behind => "behind; the others bring it up to date",
                ReplicaState::Differs => "differs from the others",
                ReplicaState::Unreadable => "unreadable",
                ReplicaState::Stale => "left over from an earlier membership",
            };
            let problem = replica.problem.as_deref().unwrap_or_default();
            say!("  {}: {what} {problem}", replica.disk);
        }
    }
}

fn show_counts(what: &str, counts: StateCounts) {
    let StateCounts {
        whole,
        degraded,
        lost,
    } = counts;
    say!("{what}: {whole} whole, {degraded} degraded, {lost} lost");
}

fn show_damaged(damaged: &DamagedKey) {
    let state = match damaged.state {
        DataState::Whole => "whole",
        DataState::Degraded => "degraded",
        DataState::Lost => "LOST",
    };
    let (bucket, key) = (&damaged.bucket, damaged.key.escape_debug());
    let mut line = format!("{state}: {bucket}/{key}");
    if let Some(version) = damaged
        .version
        .as_ref()
        .filter(|version| *version != "null")
    {
        line.push_str(&format!(" version {version}"));
    }
    if let (Some(upload), Some(part)) = (&damaged.upload, damaged.part) {
        line.push_str(&format!(" part {part} of upload {upload}"));
    }
    say!("{line} ({} bytes)", damaged.size);
    for reason in &damaged.reasons {
        say!("  {reason}");
    }
}

fn show_omitted(count: u64, shown: usize) {
    let omitted = count - shown as u64;
    if omitted > 0 {
        say!("and {omitted} more: --all names them");
    }
}

/// Says what the result is and what to do.
fn sentence(report: &Report) -> String {
    let incomplete = report.disks.iter().any(|disk| disk.problem.is_some());
    let what = match report.verdict {
        Verdict::Whole => "Everything is whole; there is nothing to do.",
        Verdict::Degraded if incomplete => {
            "Nothing is lost, but a disk cannot be used: bring it back, or start the server \
             without it."
        }
        Verdict::Degraded => {
            "Nothing is lost, but not everything has the shards it should have: start the server \
             and leave the disks in."
        }
        Verdict::Inconsistent => {
            "The metadata contradict themselves: keep a copy of all disks, and report this output."
        }
        Verdict::Lost if incomplete => {
            "Too many shards are on disks that cannot be used: bring the missing disk back \
             first, and restore from a backup only what stays lost."
        }
        Verdict::Lost => "The keys marked LOST can no longer be read: restore them from a backup.",
    };
    what.to_owned()
}
