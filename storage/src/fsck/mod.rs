//! The check of a stopped store from outside, for `drystone fsck`.
//!
//! It holds the locks of the disks and changes nothing on them. It opens each database as a copy,
//! which shares the files that never change. Entries that the log has beyond the state are applied
//! to the copy, as a start would do. Then it reads every row, and every shard block by block, and
//! compares them with FORMAT.md. Shards are read and keys are taken apart by code of its own, so
//! that an error in the store's readers does not hide itself. Records are decoded by the store's
//! code.

mod census;
mod damage;
mod disk;
mod group;
mod keys;
pub mod report;
mod rules;
mod scan;
mod shard;
mod spill;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use self::disk::StoppedDisk;
use self::group::CheckedGroup;
use self::report::{DiskReport, Report, Verdict};
use self::rules::Problems;
use crate::db::{DbError, DbShared, Resources};
use crate::disk::identity::{self, IdentityError};
use crate::raft::recovery::roster::{self, Trust};
use drystone_store::env::Env;
use drystone_store::error;
use drystone_store::types::DiskId;

/// The groups by their numbers in FORMAT.md.
const SYSTEM_GROUP: u64 = 0;
const OBJECT_GROUP: u64 = 1;

/// The reason why a store could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Directories(#[from] IdentityError),
    #[error("no disk of a store is among the directories: {0}")]
    NoDisk(String),
    #[error("no disk has metadata that can be read: {0}")]
    NoMetadata(String),
    #[error("{0}")]
    Rows(#[from] error::Error),
    #[error("{0}")]
    Database(#[from] DbError),
    #[error("temporary files: {0}")]
    Scratch(#[from] io::Error),
}

/// Checks the store on `directories`. Names at most `limit` damaged keys and as many
/// contradictions.
pub fn check(env: Arc<dyn Env>, directories: &[PathBuf], limit: usize) -> Result<Report, Error> {
    let (settled, unusable) = identity::lock_only(directories, env.as_ref())?;
    if settled.is_empty() {
        let unusable: Vec<String> = unusable.iter().map(ToString::to_string).collect();
        return Err(Error::NoDisk(unusable.join("; ")));
    }
    let shared = DbShared::new(env, Resources::SMALL)?;
    let disks = settled
        .into_iter()
        .map(|settled| StoppedDisk::open(settled, &shared))
        .collect::<io::Result<Vec<StoppedDisk>>>()?;
    let distrusted = distrusted(&disks);
    let reports = disk_reports(&disks, &distrusted, &unusable);
    let groups = (
        group::check(&disks, &distrusted, SYSTEM_GROUP)?,
        group::check(&disks, &distrusted, OBJECT_GROUP)?,
    );
    let (Some(system), Some(objects)) = groups else {
        let problems = reports.iter().filter_map(|disk| disk.problem.clone());
        return Err(Error::NoMetadata(problems.collect::<Vec<_>>().join("; ")));
    };
    Ok(check_store(&disks, reports, system, objects, limit)?)
}

/// Returns the disks whose metadata a start would not use, with the reason.
fn distrusted(disks: &[StoppedDisk]) -> HashMap<DiskId, &'static str> {
    let rosters = disks.iter().filter_map(|disk| {
        let database = disk.database.as_ref().ok()?;
        Some((disk.id(), database.roster.clone()))
    });
    let judged = roster::judge(&rosters.collect()).into_iter();
    let reason = |(disk, trust): (DiskId, Trust)| {
        let why = match trust {
            Trust::Full | Trust::LastResort => return None,
            Trust::Stale => "it is an older copy of itself; its metadata are not used",
            Trust::None => "the other disks have marked its database as damaged; it is not used",
        };
        Some((disk, why))
    };
    judged.filter_map(reason).collect()
}

fn disk_reports(
    disks: &[StoppedDisk],
    distrusted: &HashMap<DiskId, &'static str>,
    unusable: &[IdentityError],
) -> Vec<DiskReport> {
    let known = disks.iter().map(|disk| {
        let unread = disk.database.as_ref().err().map(ToString::to_string);
        let why = distrusted.get(&disk.id()).map(ToString::to_string);
        DiskReport {
            directory: disk.directory(),
            id: Some(disk.id().to_string()),
            problem: unread.or(why),
        }
    });
    let others = unusable.iter().map(|problem| DiskReport {
        directory: problem.dir().display().to_string(),
        id: None,
        problem: Some(problem.to_string()),
    });
    known.chain(others).collect()
}

fn check_store(
    disks: &[StoppedDisk],
    reports: Vec<DiskReport>,
    system: CheckedGroup,
    objects: CheckedGroup,
    limit: usize,
) -> error::Result<Report> {
    let mut problems = Problems::new(limit);
    for difference in system.differences.iter().chain(&objects.differences) {
        problems.add(|| difference.clone());
    }
    let replica = &objects.reference;
    let mut rows = rules::check(replica, &mut problems)?;
    rules::check_names(&system.reference, &rows, &mut problems)?;
    let mut report = Report {
        verdict: Verdict::Whole,
        disks: reports,
        groups: vec![system.report, objects.report],
        buckets: rows.buckets.len() as u64,
        objects: Default::default(),
        versions: Default::default(),
        delete_markers: 0,
        uploads: 0,
        parts: Default::default(),
        writes: Default::default(),
        geometries: Default::default(),
        shards: Default::default(),
        files: Default::default(),
        heal_queue: rules::check_heals(replica, &mut problems)?,
        undersized: rules::check_undersized(replica, &mut problems)?,
        damaged: Vec::new(),
        damaged_count: 0,
        problems: Vec::new(),
        problem_count: 0,
    };
    let damaged = census::take(disks, replica, &mut rows, &mut problems, &mut report)?;
    damage::name(replica, &rows, damaged, limit, &mut report)?;
    problems.hand_over(&mut report);
    report.verdict = report.judge();
    Ok(report)
}
#[cfg(test)]
mod tests;
