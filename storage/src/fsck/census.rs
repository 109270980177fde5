//! The census: compares every shard that the metadata name with every file that is there.
//!
//! It goes folder by folder, so that only one of 256 parts is in memory at a time. The disks work
//! side by side.

use std::collections::{HashMap, HashSet};

use super::disk::StoppedDisk;
use super::keys;
use super::report::{DataState, FileCounts, Report, ShardCounts, StateCounts};
use super::rules::{Problems, Rows};
use super::scan::{Scan, decode, key, table};
use super::shard::{ExpectedShard, Fault, verify};
use super::spill::Spill;
use crate::db::Family;
use crate::disk::ShardName;
use crate::meta::record::{
    DataKind, DataRow, GarbageRow, GarbageShard, HealRow, PartRow, RemovedDisksRow, UndersizedRow,
};
use crate::raft::inspect::Replica;
use drystone_store::error::Result;
use drystone_store::shard_set::ShardSet;
use drystone_store::types::{DiskId, WriteId};

/// The rows that name the bytes of one write id.
#[derive(Clone, Copy, Debug, Default)]
struct References {
    count: u64,
    /// The size that all of them give.
    size: u64,
}

/// The rows of a multipart object's part list.
#[derive(Clone, Copy, Debug, Default)]
struct PartList {
    count: u64,
    size: u64,
}

/// The state of a write that is not whole, and the reasons.
#[derive(Clone, Debug)]
pub struct Damage {
    pub state: DataState,
    pub reasons: Vec<String>,
}

impl Damage {
    fn lost(reason: &str) -> Damage {
        Damage {
            state: DataState::Lost,
            reasons: vec![reason.to_owned()],
        }
    }
}

/// A shard to be read, and its row in the current folder.
struct ShardCheck {
    row: usize,
    expected: ExpectedShard,
}

/// A data row with shards, and what was found of each shard.
struct CheckedWrite {
    write_id: WriteId,
    size: u64,
    shards: ShardSet,
    /// One for each shard, by rank.
    found: Vec<ShardFinding>,
}

#[derive(Clone, Debug)]
enum ShardFinding {
    Whole,
    Fault(Fault),
    /// The disk was not given, was removed, or its folder cannot be read.
    Offline,
    /// The row says that the shard was never written.
    Unwritten,
}

pub struct Census<'a> {
    disks: &'a [StoppedDisk],
    replica: &'a Replica,
    problems: &'a mut Problems,
    /// The shards that are garbage, in the current folder.
    garbage: HashSet<(DiskId, ShardName)>,
    all_garbage: Spill,
    /// The part lists that are garbage, in the current folder.
    old_lists: HashSet<WriteId>,
    all_old_lists: Spill,
    /// The rows that name the writes of the current folder.
    named: HashMap<WriteId, References>,
    /// The part lists of the current folder.
    lists: HashMap<WriteId, PartList>,
    /// Disks that were removed from the store: heal rebuilds their shards.
    removed: RemovedDisksRow,
    rows: &'a mut Rows,
    writes: StateCounts,
    shards: ShardCounts,
    files: FileCounts,
    geometries: std::collections::BTreeMap<String, u64>,
    damaged: HashMap<WriteId, Damage>,
}

/// Takes the census and writes it into `report`. Returns the writes that are not whole.
pub fn take(
    disks: &[StoppedDisk],
    replica: &Replica,
    rows: &mut Rows,
    problems: &mut Problems,
    report: &mut Report,
) -> Result<HashMap<WriteId, Damage>> {
    let removed = key(replica.state(), table::REMOVED_DISKS, &[]);
    let (all_garbage, all_old_lists) = garbage(replica, problems)?;
    let mut census = Census {
        garbage: HashSet::new(),
        all_garbage,
        old_lists: HashSet::new(),
        all_old_lists,
        named: HashMap::new(),
        lists: HashMap::new(),
        removed: problems.get(replica.db(), &removed)?.unwrap_or_default(),
        disks,
        replica,
        problems,
        rows,
        writes: StateCounts::default(),
        shards: ShardCounts::default(),
        files: FileCounts::default(),
        geometries: Default::default(),
        damaged: HashMap::new(),
    };
    for first in 0..=u8::MAX {
        census.folder(first)?;
        census.without_data();
    }
    report.writes = census.writes;
    report.shards = census.shards;
    report.files = census.files;
    report.geometries = census.geometries;
    Ok(census.damaged)
}

fn names(write_id: WriteId, set: &ShardSet) -> impl Iterator<Item = (DiskId, ShardName)> {
    set.shards
        .iter()
        .zip(0..=u8::MAX)
        .map(move |(place, rank)| {
            let generation = place.generation;
            let name = ShardName {
                write_id,
                rank,
                generation,
            };
            (place.disk, name)
        })
}

/// The length of what is kept of a shard that is garbage: disk, rank and generation.
const GARBAGE_BYTES: usize = 16 + 1 + 4;

/// Returns the shards and the part lists that are garbage.
fn garbage(replica: &Replica, problems: &mut Problems) -> Result<(Spill, Spill)> {
    let env = replica.db().env();
    let mut garbage = Spill::new(env.clone(), GARBAGE_BYTES)?;
    let mut lists = Spill::new(env.clone(), 0)?;
    let mut rows = Scan::of_table(replica.db(), replica.state(), table::GARBAGE, &[]);
    while let Some((row, value)) = rows.next()? {
        let noted = note_garbage(&mut garbage, &mut lists, &row, &value);
        problems.isolate(noted)?;
    }
    Ok((garbage, lists))
}

fn note_garbage(garbage: &mut Spill, lists: &mut Spill, row: &[u8], value: &[u8]) -> Result<()> {
    let (_, rest) = keys::number(row)?;
    let (write_id, _) = keys::write_id(rest)?;
    let row: GarbageRow = decode(row, value)?;
    if row.is_part_list {
        lists.add(write_id, &[])?;
    }
    for GarbageShard { rank, at } in row.shards {
        let generation = at.generation.to_be_bytes();
        let note = [&at.disk.0[..], &[rank], &generation].concat();
        garbage.add(write_id, &note)?;
    }
    Ok(())
}

fn garbage_shard(write_id: WriteId, note: &[u8]) -> (DiskId, ShardName) {
    let (disk, rest) = note.split_at(16);
    let (rank, generation) = rest.split_at(1);
    let name = ShardName {
        write_id,
        rank: rank[0],
        generation: u32::from_be_bytes(generation.try_into().expect("four bytes are left")),
    };
    (DiskId(disk.try_into().expect("16 bytes")), name)
}

impl Census<'_> {
    /// Reads what other rows say of the writes of one folder.
    fn begin(&mut self, first: u8) -> Result<()> {
        let garbage = self.all_garbage.take(first)?.into_iter();
        self.garbage = garbage.map(|(id, note)| garbage_shard(id, &note)).collect();
        let lists = self.all_old_lists.take(first)?.into_iter();
        self.old_lists = lists.map(|(id, _)| id).collect();
        for (write_id, size) in self.rows.named.take(first)? {
            let size = u64::from_be_bytes(size[..].try_into().expect("a size"));
            let named = self.named.entry(write_id);
            let named = named.or_insert(References { count: 0, size });
            named.count += 1;
            if named.size != size {
                let other = named.size;
                self.problems
                    .add(|| format!("rows give {write_id} sizes {size} and {other}"));
            }
        }
        let (db, state) = (self.replica.db(), self.replica.state());
        let mut parts = Scan::of_table(db, state, table::PARTS, &[first]);
        while let Some((row, value)) = parts.next()? {
            // The rules have reported those that do not decode.
            let (Ok((list, _)), Ok(part)) = (keys::write_id(&row), decode::<PartRow>(&row, &value))
            else {
                continue;
            };
            let so_far = self.lists.entry(list).or_default();
            so_far.count += 1;
            so_far.size += part.size;
        }
        Ok(())
    }

    fn folder(&mut self, first: u8) -> Result<()> {
        self.begin(first)?;
        let mut files: Vec<Option<HashSet<ShardName>>> = Vec::new();
        for disk in self.disks {
            if self.removed.has(disk.id()) {
                files.push(None);
                continue;
            }
            let listed = disk.folder(first);
            if let Ok((_, others)) = &listed {
                self.files.unknown += others;
            }
            files.push(listed.ok().map(|(shards, _)| shards));
        }
        let mut sets = Vec::new();
        let mut tasks: Vec<Vec<ShardCheck>> = self.disks.iter().map(|_| Vec::new()).collect();
        let (db, state) = (self.replica.db(), self.replica.state());
        let mut rows = Scan::of_table(db, state, table::DATA, &[first]);
        while let Some((row, value)) = rows.next()? {
            let Some((write_id, _)) = self.problems.isolate(keys::write_id(&row))? else {
                continue;
            };
            let Some(data) = self.problems.isolate(decode::<DataRow>(&row, &value))? else {
                self.named.remove(&write_id);
                self.lists.remove(&write_id);
                self.lose(write_id, "its data row does not decode");
                continue;
            };
            self.row(write_id, &data)?;
            if let DataKind::Shards(shards) = data.kind {
                let set = CheckedWrite {
                    write_id,
                    size: data.size,
                    found: vec![ShardFinding::Offline; shards.shards.len()],
                    shards,
                };
                sets.push(self.plan(set, sets.len(), data.bucket.0, &mut files, &mut tasks)?);
            }
        }
        self.verify(&mut sets, tasks);
        sets.into_iter().for_each(|set| self.judge(set));
        self.left_over(&files);
        Ok(())
    }

    /// Checks a data row against the rows that name it, and the bytes that lie in the metadata.
    fn row(&mut self, write_id: WriteId, data: &DataRow) -> Result<()> {
        let named = self.named.remove(&write_id).unwrap_or_default();
        if named.count != data.refs {
            let (refs, count) = (data.refs, named.count);
            self.problems
                .add(|| format!("{write_id}: counts {refs} references, has {count}"));
        }
        if named.count > 0 && named.size != data.size {
            self.problems
                .add(|| format!("{write_id}: its rows give different sizes"));
        }
        match &data.kind {
            DataKind::Shards(_) => {}
            DataKind::Inline => {
                let state = self.replica.state().0.to_be_bytes();
                let mut values = Scan::new(
                    self.replica.db(),
                    Family::Values,
                    &[&state[..], &write_id.0].concat(),
                );
                let found = values.next()?.map(|(_, value)| value.len() as u64);
                match found == Some(data.size) {
                    true => self.writes.whole += 1,
                    false => self.lose(write_id, "its inline bytes are missing"),
                }
            }
            DataKind::Parts { count, .. } => {
                let list = self.lists.remove(&write_id).unwrap_or_default();
                if (list.count, list.size) != (u64::from(*count), data.size) {
                    self.lose(write_id, "its part list is incomplete");
                }
            }
        }
        Ok(())
    }

    fn lose(&mut self, write_id: WriteId, reason: &str) {
        self.problems.add(|| format!("{write_id}: {reason}"));
        self.writes.lost += 1;
        self.damaged.insert(write_id, Damage::lost(reason));
    }

    /// Plans which disk reads which shard, and removes each planned file from the files of its
    /// disk, so that those that no row names remain.
    fn plan(
        &mut self,
        mut set: CheckedWrite,
        row: usize,
        bucket: u64,
        files: &mut [Option<HashSet<ShardName>>],
        tasks: &mut [Vec<ShardCheck>],
    ) -> Result<CheckedWrite> {
        if set.shards.undersized {
            self.check_undersized(set.write_id)?;
        }
        let mut used = HashSet::new();
        let names: Vec<_> = names(set.write_id, &set.shards).collect();
        for (rank, (disk, name)) in names.into_iter().enumerate() {
            let place = &set.shards.shards[rank];
            let expected = ExpectedShard {
                name,
                bucket,
                data_shards: set.shards.data_shards,
                parity_shards: set.shards.parity_shards,
                chunk_size: set.shards.chunk_size,
                object_size: set.size,
                checksum: place.checksum,
                payload_checksum: place.payload_checksum,
            };
            if !used.insert(disk) || !expected.is_sound() {
                self.problems
                    .add(|| format!("{}: rank {rank} has no valid place", set.write_id));
            }
            if place.missing {
                set.found[rank] = ShardFinding::Unwritten;
                self.check_unwritten(set.write_id, rank)?;
                continue;
            }
            if self.garbage.contains(&(disk, name)) {
                self.problems
                    .add(|| format!("{}: rank {rank} is also garbage", set.write_id));
            }
            let at = self.disks.iter().position(|other| other.id() == disk);
            let Some((at, listed)) = at.and_then(|at| Some((at, files[at].as_mut()?))) else {
                continue;
            };
            listed.remove(&name);
            if expected.is_sound() {
                tasks[at].push(ShardCheck { row, expected });
            }
        }
        Ok(set)
    }

    /// Checks that an undersized write is queued for re-encoding.
    fn check_undersized(&mut self, write_id: WriteId) -> Result<()> {
        let row = key(self.replica.state(), table::UNDERSIZED, &write_id.0);
        let queued: Option<UndersizedRow> = self.problems.get(self.replica.db(), &row)?;
        if queued.is_none() {
            self.problems
                .add(|| format!("{write_id}: is undersized and not queued"));
        }
        Ok(())
    }

    /// Checks that a shard that was never written is in the heal queue.
    fn check_unwritten(&mut self, write_id: WriteId, rank: usize) -> Result<()> {
        let row = [&write_id.0[..], &[rank as u8]].concat();
        let row = key(self.replica.state(), table::HEAL, &row);
        let queued: Option<HealRow> = self.problems.get(self.replica.db(), &row)?;
        if queued.is_none() {
            self.problems
                .add(|| format!("{write_id}: rank {rank} was never written and is not queued"));
        }
        Ok(())
    }

    fn verify(&self, sets: &mut [CheckedWrite], tasks: Vec<Vec<ShardCheck>>) {
        let Some(StoppedDisk { env, .. }) = self.disks.first() else {
            return;
        };
        let work =
            |(disk, tasks): (&'_ StoppedDisk, Vec<ShardCheck>)| -> Vec<(usize, u8, ShardFinding)> {
                let verify = |task: ShardCheck| {
                    let path = disk.shard_path(&task.expected.name);
                    let found = match verify(env.files(), &path, &task.expected) {
                        Ok(()) => ShardFinding::Whole,
                        Err(fault) => ShardFinding::Fault(fault),
                    };
                    (task.row, task.expected.name.rank, found)
                };
                tasks.into_iter().map(verify).collect()
            };
        let busy = self
            .disks
            .iter()
            .zip(tasks)
            .filter(|(_, tasks)| !tasks.is_empty());
        let jobs = busy.map(|task| move || work(task)).collect();
        let answers = env.run_side_by_side(jobs);
        for (row, rank, found) in answers.into_iter().flatten() {
            sets[row].found[usize::from(rank)] = found;
        }
    }

    fn judge(&mut self, set: CheckedWrite) {
        let (data, parity) = (set.shards.data_shards, set.shards.parity_shards);
        *self
            .geometries
            .entry(format!("{data}+{parity}"))
            .or_default() += 1;
        for found in &set.found {
            match found {
                ShardFinding::Whole => self.shards.whole += 1,
                ShardFinding::Fault(Fault::Missing) => self.shards.missing += 1,
                ShardFinding::Fault(_) => self.shards.damaged += 1,
                ShardFinding::Offline => self.shards.offline += 1,
                ShardFinding::Unwritten => self.shards.unwritten += 1,
            }
        }
        let state = state_of(&set);
        self.writes.add(state);
        if state != DataState::Whole {
            let reasons = reasons(&set);
            self.damaged.insert(set.write_id, Damage { state, reasons });
        }
    }

    fn left_over(&mut self, files: &[Option<HashSet<ShardName>>]) {
        for (disk, listed) in self.disks.iter().zip(files) {
            for name in listed.iter().flatten() {
                let database = disk.database.as_ref();
                if self.garbage.contains(&(disk.id(), *name)) {
                    self.files.garbage += 1;
                } else if database.is_ok_and(|database| database.is_unconfirmed(name)) {
                    self.files.unconfirmed += 1;
                } else {
                    self.files.unknown += 1;
                }
            }
        }
    }

    /// Reports writes and part lists that rows name and that have no data row.
    fn without_data(&mut self) {
        let named: Vec<WriteId> = self.named.drain().map(|(id, _)| id).collect();
        named
            .into_iter()
            .for_each(|id| self.lose(id, "no data row says where its bytes are"));
        let lists: Vec<WriteId> = self.lists.drain().map(|(id, _)| id).collect();
        for list in lists.into_iter().filter(|id| !self.old_lists.contains(id)) {
            self.problems
                .add(|| format!("part list {list} has no data row"));
        }
    }
}

/// Returns the state of a write. It is readable if each row of blocks has at least as many good
/// blocks as there are data shards.
fn state_of(set: &CheckedWrite) -> DataState {
    let needed = usize::from(set.shards.data_shards);
    let whole = set
        .found
        .iter()
        .filter(|found| matches!(found, ShardFinding::Whole))
        .count();
    if whole == set.found.len() && whole > 0 {
        return DataState::Whole;
    }
    if whole >= needed {
        return DataState::Degraded;
    }
    let mut bad: HashMap<u64, usize> = HashMap::new();
    let mut usable = 0;
    for found in &set.found {
        match found {
            ShardFinding::Whole | ShardFinding::Fault(Fault::Frame(_)) => usable += 1,
            ShardFinding::Fault(Fault::Blocks(blocks)) => {
                usable += 1;
                blocks
                    .iter()
                    .for_each(|block| *bad.entry(*block).or_default() += 1);
            }
            ShardFinding::Fault(Fault::Missing | Fault::Useless(_))
            | ShardFinding::Offline
            | ShardFinding::Unwritten => {}
        }
    }
    let worst = bad.values().max().copied().unwrap_or(0);
    match usable >= needed + worst {
        true => DataState::Degraded,
        false => DataState::Lost,
    }
}

fn reasons(set: &CheckedWrite) -> Vec<String> {
    let places = set.shards.shards.iter().zip(&set.found).enumerate();
    let sentences = places.filter_map(|(rank, (place, found))| {
        let what = match found {
            ShardFinding::Whole => return None,
            ShardFinding::Fault(fault) => fault.to_string(),
            ShardFinding::Offline => "its disk is offline".to_owned(),
            ShardFinding::Unwritten => "never written".to_owned(),
        };
        Some(format!(
            "{}, rank {rank} on disk {}: {what}",
            set.write_id, place.disk
        ))
    });
    sentences.collect()
}
