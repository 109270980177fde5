//! Tests of the replicated log, from one log to whole groups.

#![allow(clippy::unwrap_used)]

mod log;
mod members;
mod recover;
mod voters;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rocksdb::WriteBatch;

use super::group::Group;
use crate::db::{Db, DbShared, Family, StateId};
use crate::meta::command::{Change, Command};
use crate::raft::disk::OpenDisk;
use crate::raft::recovery::decision::StartError;
use crate::raft::recovery::start::{GroupStart, Groups, start_groups};
use drystone_store::types::{Account, AccountId, DiskId, Epoch, Timestamp, WriteId};

pub fn put(id: &str, name: &str) -> Command {
    Command {
        request: WriteId(rand::random()),
        epoch: Epoch(0),
        issued: Epoch(0),
        time: Timestamp(0),
        change: Change::PutAccount(Account {
            id: AccountId(id.into()),
            canonical_id: String::new(),
            display_name: name.into(),
        }),
    }
}

pub async fn name(groups: &Groups, id: &str) -> Option<String> {
    let id = id.to_owned();
    groups
        .objects
        .read(move |view| {
            Ok(view
                .account(&AccountId(id.clone()))?
                .map(|a| a.display_name))
        })
        .await
        .unwrap()
}

pub fn open_disks(dir: &Path, numbers: &[u8], create: bool) -> Vec<OpenDisk> {
    let shared = DbShared::system();
    let open = if create { Db::create } else { Db::open };
    std::thread::scope(|scope| {
        let opening: Vec<_> = numbers
            .iter()
            .map(|n| {
                let shared = shared.clone();
                scope.spawn(move || OpenDisk {
                    id: DiskId([*n; 16]),
                    db: loop {
                        // The last handle is dropped before RocksDB releases its lock.
                        match open(&dir.join(n.to_string()), &shared) {
                            Err(e) if e.to_string().contains("lock hold") => {
                                std::thread::sleep(Duration::from_millis(20));
                            }
                            opened => break opened.unwrap(),
                        }
                    },
                })
            })
            .collect();
        opening
            .into_iter()
            .map(|disk| disk.join().unwrap())
            .collect()
    })
}

pub async fn birth(disks: &[OpenDisk], losses: usize) -> Groups {
    let started = start_groups(disks, Vec::new(), GroupStart::Birth, losses).await;
    started.map_err(|e| e.to_string()).unwrap().groups
}

/// Starts the groups from a majority, and admits the leftovers.
pub async fn again(disks: &[OpenDisk], losses: usize) -> Groups {
    start(disks, losses, false).await.unwrap()
}

pub async fn start(
    disks: &[OpenDisk],
    losses: usize,
    may_recover: bool,
) -> Result<Groups, StartError> {
    let restart = GroupStart::Restart { may_recover };
    let mut started = start_groups(disks, Vec::new(), restart, losses).await?;
    started.groups.system.ready().await?;
    started.groups.objects.ready().await?;
    started.admit_leftovers().await?;
    Ok(started.groups)
}

pub async fn newborn(dir: &Path, count: u8) -> (Vec<OpenDisk>, Groups) {
    let disks = open_disks(dir, &(0..count).collect::<Vec<_>>(), true);
    let losses = usize::from(count) / 2;
    let groups = birth(&disks, losses).await;
    (disks, groups)
}

pub async fn end(disks: Vec<OpenDisk>, groups: Groups) {
    groups.system.shutdown().await;
    groups.objects.shutdown().await;
    drop(groups);
    close(disks).await;
}

/// Returns when the databases are closed.
pub async fn close(disks: Vec<OpenDisk>) {
    // The sender is dropped after RocksDB has released its files; openraft's tasks end a little
    // later.
    let open: Vec<_> = disks.iter().map(|disk| disk.db.failure()).collect();
    drop(disks);
    let closing = async {
        for mut database in open {
            while database.changed().await.is_ok() {}
        }
    };
    let closed = tokio::time::timeout(PATIENCE, closing);
    closed.await.expect("a database stays open");
}

/// Waits until all voters have the newest entry.
pub async fn settle(groups: &Groups) {
    let is_even = |group: &Group| {
        let mut ends = group.members().alive().into_iter().map(|m| m.last_log_id());
        let first = ends.next();
        ends.all(|end| Some(end) == first)
    };
    eventually(|| is_even(&groups.system) && is_even(&groups.objects)).await;
}

/// Waits until both groups have `count` voters, all of them alive. Counts the committed membership:
/// if disks are lost while a change of voters is in progress, too few of the rest may know of it.
pub async fn until_voters(groups: &Groups, count: usize) {
    let has = async |group: &Group| {
        let voters = group.voters().await;
        voters.is_ok_and(|voters| (voters.alive, voters.all) == (count, count))
    };
    let waiting = async {
        while !(has(&groups.system).await && has(&groups.objects).await) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let reached = tokio::time::timeout(PATIENCE, waiting).await;
    reached.expect("the groups never got that many voters");
}

/// The time after which a wait counts as hanging.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polls a condition until it is true, for at most [`PATIENCE`].
pub async fn eventually(mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("the condition never became true");
}
