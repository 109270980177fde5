//! The rules that the rows of the metadata must keep between each other, and which rows name which
//! writes.

use std::collections::{HashMap, HashSet};

use super::keys;
use super::report::Report;
use super::scan::{Scan, decode, get, key, table};
use super::spill::Spill;
use crate::db::Db;
use crate::meta::record::{
    BucketRow, CountersRow, CurrentRow, DataKind, DataRow, EpochsRow, FinishedRow, HealRow,
    NameRow, NameState, OffsetRow, OrderRow, OverQuotaRow, PartRow, Record, UndersizedRow,
    UploadAt, UploadPartRow, UploadRow, UsageRow, VersionRow,
};
use crate::raft::inspect::Replica;
use drystone_store::error::{Error, Result};
use drystone_store::types::{UploadId, VersionId, WriteId};

/// The length of what is kept of a row that names a write: the size that it gives.
const NAMED_BYTES: usize = 8;

/// The facts about rows that the rest of a check needs.
pub struct Rows {
    pub buckets: HashMap<u64, BucketRow>,
    /// The write ids that rows name, each with the size that the row gives.
    pub named: Spill,
}

/// Checks the rows of the objects' group.
pub fn check<'a>(replica: &'a Replica, problems: &'a mut Problems) -> Result<Rows> {
    let env = replica.db().env().clone();
    let mut rules = Rules {
        replica,
        problems,
        rows: Rows {
            buckets: HashMap::new(),
            named: Spill::new(env, NAMED_BYTES)?,
        },
        usage: HashMap::new(),
    };
    check_epochs(replica, rules.problems)?;
    rules.buckets()?;
    rules.versions()?;
    rules.nulls()?;
    let uploads = rules.uploads()?;
    rules.upload_parts(&uploads)?;
    rules.part_lists()?;
    rules.finished()?;
    rules.usage()?;
    Ok(rules.rows)
}

/// Checks that a group's floor and its answers' limit lie at or below its epoch.
fn check_epochs(replica: &Replica, problems: &mut Problems) -> Result<()> {
    let row = key(replica.state(), table::EPOCHS, &[]);
    let row: Option<EpochsRow> = problems.get(replica.db(), &row)?;
    if let Some(row) = row.filter(|row| row.floor.max(row.answers) > row.epoch) {
        let group = replica.group();
        problems.add(|| format!("group {group}: {row:?} has a limit above its epoch"));
    }
    Ok(())
}

/// Checks that the system's group leads from each bucket's name to the bucket, that each active
/// name leads to a bucket, and that the next bucket's id is a new one.
pub fn check_names(system: &Replica, rows: &Rows, problems: &mut Problems) -> Result<()> {
    check_epochs(system, problems)?;
    let mut newest = rows.buckets.keys().max().copied();
    for (id, bucket) in rows.buckets.iter().filter(|(_, bucket)| !bucket.sealed) {
        let name = key(system.state(), table::NAMES, bucket.name.as_bytes());
        let row: Option<NameRow> = problems.get(system.db(), &name)?;
        if row.is_none_or(|row| row.id.0 != *id) {
            problems.add(|| {
                format!(
                    "bucket {id}: its name {:?} does not lead to it",
                    bucket.name
                )
            });
        }
    }
    let mut names = Scan::of_table(system.db(), system.state(), table::NAMES, &[]);
    while let Some((name, value)) = names.next()? {
        let Some(row): Option<NameRow> = problems.isolate(decode(&name, &value))? else {
            continue;
        };
        newest = newest.max(Some(row.id.0));
        if row.state == NameState::Active && !rows.buckets.contains_key(&row.id.0) {
            let name = String::from_utf8_lossy(&name).into_owned();
            problems.add(|| {
                format!(
                    "name {name:?} leads to bucket {}, which is not there",
                    row.id.0
                )
            });
        }
    }
    let counters = key(system.state(), table::COUNTERS, &[]);
    let counters: Option<CountersRow> = problems.get(system.db(), &counters)?;
    let next = counters.map_or(1, |counters| counters.next_bucket.0);
    if let Some(newest) = newest.filter(|newest| *newest >= next) {
        problems
            .add(|| format!("the next bucket gets the id {next}, and there is a bucket {newest}"));
    }
    Ok(())
}

/// Sentences about rows that contradict each other. Beyond the limit they are only counted.
pub struct Problems {
    pub limit: usize,
    pub sentences: Vec<String>,
    pub count: u64,
}

impl Problems {
    pub fn new(limit: usize) -> Problems {
        Problems {
            limit,
            sentences: Vec::new(),
            count: 0,
        }
    }

    pub fn add(&mut self, sentence: impl FnOnce() -> String) {
        self.count += 1;
        if self.sentences.len() < self.limit {
            self.sentences.push(sentence());
        }
    }

    /// Reports a row that does not decode, and what depends on it, instead of failing.
    pub fn isolate<T>(&mut self, checked: Result<T>) -> Result<Option<T>> {
        match checked {
            Ok(checked) => Ok(Some(checked)),
            Err(Error::BadRow(what)) => {
                self.add(|| what);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the record of one row, if the row exists and decodes.
    pub fn get<R: Record>(&mut self, db: &Db, key: &[u8]) -> Result<Option<R>> {
        let row = get(db, key);
        Ok(self.isolate(row)?.flatten())
    }

    pub fn hand_over(self, report: &mut Report) {
        report.problems = self.sentences;
        report.problem_count = self.count;
    }
}

struct Rules<'a> {
    replica: &'a Replica,
    problems: &'a mut Problems,
    rows: Rows,
    usage: HashMap<u64, UsageRow>,
}

impl<'a> Rules<'a> {
    fn table(&self, table: u8) -> Scan<'a> {
        Scan::of_table(self.replica.db(), self.replica.state(), table, &[])
    }

    fn key(&self, table: u8, rest: &[&[u8]]) -> Vec<u8> {
        key(self.replica.state(), table, &rest.concat())
    }

    /// Checks each row of a table. A row that does not decode costs what depends on it.
    fn each(
        &mut self,
        table: u8,
        mut check: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut rows = self.table(table);
        while let Some((key, value)) = rows.next()? {
            let checked = check(self, &key, &value);
            self.problems.isolate(checked)?;
        }
        Ok(())
    }

    fn buckets(&mut self) -> Result<()> {
        self.each(table::BUCKETS, |rules, key, value| {
            let (id, _) = keys::number(key)?;
            rules.rows.buckets.insert(id, decode(key, value)?);
            Ok(())
        })
    }

    fn name(&mut self, write_id: WriteId, size: u64) -> Result<()> {
        self.rows.named.add(write_id, &size.to_be_bytes())
    }

    /// Checks that `current` has a row for a key exactly if the newest version is an object, and
    /// that the row shows that version. Both tables are sorted by key.
    fn versions(&mut self) -> Result<()> {
        let mut rows = self.table(table::VERSIONS);
        let mut currents = self.table(table::CURRENT);
        let mut current = self.next_current(&mut currents)?;
        let mut last = None;
        while let Some((row, value)) = rows.next()? {
            let place = keys::ended(&row).and_then(|(bucket, object, order)| {
                let (order, _) = keys::number(order)?;
                Ok(((bucket, object), order))
            });
            let Some((at, order)) = self.problems.isolate(place)? else {
                continue;
            };
            let version = self.problems.isolate(decode::<VersionRow>(&row, &value))?;
            if last.as_ref() != Some(&at) {
                while current.as_ref().is_some_and(|(key, _)| *key < at) {
                    self.excess_current(current.take().map(|(key, _)| key));
                    current = self.next_current(&mut currents)?;
                }
                let shown = match current.take_if(|(key, _)| *key == at) {
                    Some((_, shown)) => {
                        current = self.next_current(&mut currents)?;
                        shown
                    }
                    None => None,
                };
                if let Some(version) = &version
                    && !shows(shown.as_ref(), !order, version)
                {
                    self.problems
                        .add(|| format!("{at:?}: current is not the newest version"));
                }
            }
            if let Some(version) = version {
                let checked = self.version(&at, !order, version);
                self.problems.isolate(checked)?;
            }
            last = Some(at);
        }
        while let Some((key, _)) = current {
            self.excess_current(Some(key));
            current = self.next_current(&mut currents)?;
        }
        Ok(())
    }

    /// Returns the next key of `current`, with its record if that decodes.
    fn next_current(&mut self, rows: &mut Scan<'_>) -> Result<Option<Current>> {
        while let Some((key, value)) = rows.next()? {
            let Some(at) = self.problems.isolate(keys::bare(&key))? else {
                continue;
            };
            let record = self.problems.isolate(decode(&key, &value))?;
            return Ok(Some((at, record)));
        }
        Ok(None)
    }

    fn excess_current(&mut self, key: Option<(u64, String)>) {
        self.problems
            .add(|| format!("{key:?}: is in current and has no version"));
    }

    fn version(&mut self, at: &(u64, String), order: u64, version: VersionRow) -> Result<()> {
        let (bucket, object) = at;
        if !self.rows.buckets.contains_key(bucket) {
            self.problems
                .add(|| format!("{at:?}: its bucket does not exist"));
        }
        let usage = self.usage.entry(*bucket).or_default();
        match &version.object {
            Some(object) => {
                usage.objects += 1;
                usage.bytes += object.size;
            }
            None => usage.markers += 1,
        }
        if let Some(object) = &version.object {
            self.name(object.write_id, object.size)?;
        }
        let fits = match version.id {
            VersionId::Ordered { order: own, .. } => own.0 == order,
            VersionId::Null => {
                let bucket = bucket.to_be_bytes();
                let row = [&bucket[..], &escaped(object), &[0]].concat();
                let row: Option<OrderRow> = get(self.replica.db(), &self.key(table::IDS, &[&row]))?;
                row.is_some_and(|OrderRow(own)| own.0 == order)
            }
        };
        if !fits {
            self.problems
                .add(|| format!("{at:?}: version {} is not found by its id", version.id));
        }
        Ok(())
    }

    /// Checks that `ids` has rows for null versions only.
    fn nulls(&mut self) -> Result<()> {
        self.each(table::IDS, |rules, row, value| {
            let OrderRow(order) = decode(row, value)?;
            let Some((_, at)) = row.split_last() else {
                return Ok(());
            };
            let version = rules.key(table::VERSIONS, &[at, &(!order.0).to_be_bytes()]);
            let version: Option<VersionRow> = get(rules.replica.db(), &version)?;
            if version.is_none_or(|version| version.id != VersionId::Null) {
                let at = keys::ended(at)?;
                rules
                    .problems
                    .add(|| format!("{at:?}: no such null version"));
            }
            Ok(())
        })
    }

    /// Checks the uploads and returns their buckets.
    fn uploads(&mut self) -> Result<HashMap<UploadId, u64>> {
        let mut uploads = HashMap::new();
        self.each(table::UPLOADS, |rules, row, value| {
            let (bucket, object, order) = keys::ended(row)?;
            let (order, _) = keys::number(order)?;
            rules.usage.entry(bucket).or_default().uploads += 1;
            let upload: UploadRow = decode(row, value)?;
            uploads.insert(upload.id, bucket);
            let at = rules.key(table::UPLOAD_IDS, &[&upload.id.0.0]);
            let at: Option<UploadAt> = get(rules.replica.db(), &at)?;
            let own = |at: UploadAt| (at.bucket.0, at.key, at.order.0);
            if at.map(own) != Some((bucket, object, order)) {
                let id = upload.id.0;
                rules
                    .problems
                    .add(|| format!("upload {id} is not found by its id"));
            }
            Ok(())
        })?;
        self.each(table::UPLOAD_IDS, |rules, row, _| {
            let (id, _) = keys::upload_id(row)?;
            if !uploads.contains_key(&id) {
                rules
                    .problems
                    .add(|| format!("upload id {} leads nowhere", id.0));
            }
            Ok(())
        })?;
        Ok(uploads)
    }

    fn upload_parts(&mut self, uploads: &HashMap<UploadId, u64>) -> Result<()> {
        self.each(table::UPLOAD_PARTS, |rules, row, value| {
            let (id, _) = keys::upload_id(row)?;
            let part: UploadPartRow = decode(row, value)?;
            match uploads.get(&id) {
                Some(bucket) => rules.usage.entry(*bucket).or_default().part_bytes += part.size,
                None => rules
                    .problems
                    .add(|| format!("a part belongs to upload {}, which does not exist", id.0)),
            }
            rules.name(part.write_id, part.size)
        })
    }

    /// Checks that parts follow each other without a hole, under rising numbers, and that each is
    /// found by its number.
    fn part_lists(&mut self) -> Result<()> {
        let (mut parts, mut numbers) = (0u64, 0u64);
        let mut before: Option<(WriteId, u64, u16)> = None;
        self.each(table::PARTS, |rules, row, value| {
            parts += 1;
            let (list, rest) = keys::write_id(row)?;
            let (offset, number) = keys::number(rest)?;
            let number = keys::part_number(number)?;
            let so_far = before.filter(|(other, ..)| *other == list);
            let end = so_far.map_or(0, |(_, end, _)| end);
            if end != offset {
                rules
                    .problems
                    .add(|| format!("part list {list} has a hole at {offset}"));
            }
            if so_far.is_some_and(|(_, _, last)| last >= number) {
                rules
                    .problems
                    .add(|| format!("part list {list}: number {number} is out of order"));
            }
            let part: PartRow = decode(row, value)?;
            before = Some((list, offset + part.size, number));
            rules.name(part.write_id, part.size)?;
            let by_number = rules.key(table::PART_NUMBERS, &[&list.0, &number.to_be_bytes()]);
            let by_number: Option<OffsetRow> = get(rules.replica.db(), &by_number)?;
            if by_number.is_none_or(|OffsetRow(at)| at != offset) {
                rules
                    .problems
                    .add(|| format!("part list {list}: a part has no number"));
            }
            Ok(())
        })?;
        self.each(table::PART_NUMBERS, |_, _, _| {
            numbers += 1;
            Ok(())
        })?;
        if numbers != parts {
            self.problems
                .add(|| format!("{parts} parts have {numbers} numbers"));
        }
        Ok(())
    }

    /// Checks that each outcome of an upload will be dropped at its time, and no other.
    fn finished(&mut self) -> Result<()> {
        let (mut outcomes, mut times) = (0u64, 0u64);
        self.each(table::FINISHED, |_, row, value| {
            outcomes += 1;
            let _: FinishedRow = decode(row, value)?;
            Ok(())
        })?;
        self.each(table::FINISHED_TIMES, |rules, row, _| {
            times += 1;
            let (_, id) = keys::number(row)?;
            let (id, _) = keys::upload_id(id)?;
            let outcome = rules.key(table::FINISHED, &[&id.0.0]);
            let outcome: Option<FinishedRow> = get(rules.replica.db(), &outcome)?;
            if outcome.is_none() {
                let id = id.0;
                rules
                    .problems
                    .add(|| format!("upload {id} was finished and has no outcome"));
            }
            Ok(())
        })?;
        if outcomes != times {
            self.problems
                .add(|| format!("{outcomes} outcomes of uploads have {times} times"));
        }
        Ok(())
    }

    fn usage(&mut self) -> Result<()> {
        let mut counted = std::mem::take(&mut self.usage);
        self.each(table::USAGE, |rules, row, value| {
            let (bucket, _) = keys::number(row)?;
            let counted = counted.remove(&bucket).unwrap_or_default();
            let kept: UsageRow = decode(row, value)?;
            if kept != counted {
                let sentence = || format!("bucket {bucket}: counts {kept:?}, has {counted:?}");
                rules.problems.add(sentence);
            }
            Ok(())
        })?;
        for (bucket, usage) in counted {
            if !usage.is_empty() {
                self.problems
                    .add(|| format!("bucket {bucket}: has {usage:?}, counts nothing"));
            }
        }
        self.over_quota()
    }

    /// Checks that a bucket is in `over-quota` exactly if it exceeds its soft quota.
    fn over_quota(&mut self) -> Result<()> {
        let mut listed = HashSet::new();
        self.each(table::OVER_QUOTA, |_, row, value| {
            listed.insert(keys::number(row)?.0);
            let _: OverQuotaRow = decode(row, value)?;
            Ok(())
        })?;
        for (id, bucket) in &self.rows.buckets {
            let usage = self.key(table::USAGE, &[&id.to_be_bytes()]);
            let usage: Option<UsageRow> = self.problems.get(self.replica.db(), &usage)?;
            let is_over = bucket
                .quota
                .is_passed_softly(&usage.unwrap_or_default().into());
            if is_over != listed.remove(id) {
                self.problems.add(|| {
                    format!("bucket {id}: its soft quota and the table over-quota disagree")
                });
            }
        }
        for id in listed {
            self.problems
                .add(|| format!("bucket {id} is in the table over-quota and does not exist"));
        }
        Ok(())
    }
}

/// The bucket and key of a row of `current`, and its record if that decodes.
type Current = ((u64, String), Option<CurrentRow>);

fn shows(shown: Option<&CurrentRow>, order: u64, newest: &VersionRow) -> bool {
    match (shown, &newest.object) {
        (None, None) => true,
        (Some(shown), Some(object)) => {
            shown.order.0 == order
                && (shown.size, shown.etag) == (object.size, object.etag)
                && (shown.modified, &shown.owner) == (newest.modified, &newest.owner)
        }
        _ => false,
    }
}

fn escaped(key: &str) -> Vec<u8> {
    let bytes = key.bytes().flat_map(|byte| match byte {
        0 => vec![0, 0xff],
        byte => vec![byte],
    });
    bytes.chain([0, 0]).collect()
}

/// Counts the writes that are queued for re-encoding, and checks that each exists and is
/// undersized.
pub fn check_undersized(replica: &Replica, problems: &mut Problems) -> Result<u64> {
    let mut queue = 0;
    let mut rows = Scan::of_table(replica.db(), replica.state(), table::UNDERSIZED, &[]);
    while let Some((row, value)) = rows.next()? {
        queue += 1;
        let checked = check_queued(replica, &row, |data| match &data.kind {
            DataKind::Shards(set) => set.undersized,
            DataKind::Inline | DataKind::Parts { .. } => false,
        });
        if let Some((write_id, false)) = problems.isolate(checked)? {
            problems.add(|| format!("{write_id} is queued for re-encoding and is not undersized"));
        }
        problems.isolate(decode::<UndersizedRow>(&row, &value))?;
    }
    Ok(queue)
}

/// Counts the heal queue and checks that each of its rows names a shard of a write that exists.
pub fn check_heals(replica: &Replica, problems: &mut Problems) -> Result<u64> {
    let mut queue = 0;
    let mut rows = Scan::of_table(replica.db(), replica.state(), table::HEAL, &[]);
    while let Some((row, value)) = rows.next()? {
        queue += 1;
        let rank = row.get(16).copied().map(usize::from);
        let checked = check_queued(replica, &row, |data| match &data.kind {
            DataKind::Shards(set) => rank.is_some_and(|rank| rank < set.shards.len()),
            DataKind::Inline | DataKind::Parts { .. } => false,
        });
        if let Some((write_id, false)) = problems.isolate(checked)? {
            problems.add(|| format!("a shard of {write_id} is queued for heal and does not exist"));
        }
        problems.isolate(decode::<HealRow>(&row, &value))?;
    }
    Ok(queue)
}

/// Returns the write of a row of a queue, and whether its data row is as `expected`.
fn check_queued(
    replica: &Replica,
    row: &[u8],
    expected: impl FnOnce(&DataRow) -> bool,
) -> Result<(WriteId, bool)> {
    let (write_id, _) = keys::write_id(row)?;
    let data = key(replica.state(), table::DATA, &write_id.0);
    let data: Option<DataRow> = get(replica.db(), &data)?;
    Ok((write_id, data.as_ref().is_some_and(expected)))
}
