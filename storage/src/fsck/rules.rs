//! The rules that the rows of the metadata must keep between each other, and which rows name which
//! writes.

use std::collections::{HashMap, HashSet};

use super::keys;
use super::report::Report;
use super::scan::{Row, Scan, decode, get, key, table};
use crate::meta::record::{
    BucketRow, CurrentRow, DataKind, DataRow, HealRow, NameRow, OffsetRow, OrderRow, OverQuotaRow,
    PartRow, UndersizedRow, UploadAt, UploadPartRow, UploadRow, UsageRow, VersionRow,
};
use crate::raft::inspect::Replica;
use drystone_store::error::Result;
use drystone_store::types::{UploadId, VersionId, WriteId};

/// The rows that name the bytes of one write id.
#[derive(Clone, Copy, Debug, Default)]
pub struct References {
    pub count: u64,
    /// The size that all of them give.
    pub size: u64,
}

/// The rows of a multipart object's part list.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartList {
    pub count: u64,
    pub size: u64,
}

/// The facts about rows that the rest of a check needs.
#[derive(Default)]
pub struct Rows {
    pub buckets: HashMap<u64, BucketRow>,
    pub named: HashMap<WriteId, References>,
    pub lists: HashMap<WriteId, PartList>,
}

/// Checks the rows of the objects' group.
pub fn check<'a>(replica: &'a Replica, problems: &'a mut Problems) -> Result<Rows> {
    let mut rules = Rules {
        replica,
        problems,
        rows: Rows::default(),
        usage: HashMap::new(),
    };
    rules.buckets()?;
    rules.versions()?;
    rules.nulls()?;
    let uploads = rules.uploads()?;
    rules.upload_parts(&uploads)?;
    rules.part_lists()?;
    rules.usage()?;
    Ok(rules.rows)
}

/// Checks that the system's group leads from each bucket's name to the bucket.
pub fn check_names(system: &Replica, rows: &Rows, problems: &mut Problems) -> Result<()> {
    for (id, bucket) in rows.buckets.iter().filter(|(_, bucket)| !bucket.sealed) {
        let name = key(system.state(), table::NAMES, bucket.name.as_bytes());
        let row: Option<NameRow> = get(system.db(), &name)?;
        if row.is_none_or(|row| row.id.0 != *id) {
            problems.add(|| {
                format!(
                    "bucket {id}: its name {:?} does not lead to it",
                    bucket.name
                )
            });
        }
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

    fn buckets(&mut self) -> Result<()> {
        let mut rows = self.table(table::BUCKETS);
        while let Some((key, value)) = rows.next()? {
            let (id, _) = keys::number(&key)?;
            self.rows.buckets.insert(id, decode(&key, &value)?);
        }
        Ok(())
    }

    fn name(&mut self, write_id: WriteId, size: u64) {
        let named = self
            .rows
            .named
            .entry(write_id)
            .or_insert(References { count: 0, size });
        named.count += 1;
        if named.size != size {
            let other = named.size;
            self.problems
                .add(|| format!("rows give {write_id} sizes {size} and {other}"));
        }
    }

    /// Checks that `current` has a row for a key exactly if the newest version is an object, and
    /// that the row shows that version. Both tables are sorted by key.
    fn versions(&mut self) -> Result<()> {
        let mut rows = self.table(table::VERSIONS);
        let mut currents = self.table(table::CURRENT);
        let mut current = next_current(&mut currents)?;
        let mut last = None;
        while let Some((row, value)) = rows.next()? {
            let (bucket, object, order) = keys::ended(&row)?;
            let (order, _) = keys::number(order)?;
            let version: VersionRow = decode(&row, &value)?;
            let at = (bucket, object);
            if last.as_ref() != Some(&at) {
                while current.as_ref().is_some_and(|(key, _)| *key < at) {
                    self.excess_current(current.take().map(|(key, _)| key));
                    current = next_current(&mut currents)?;
                }
                let shown = match current.take_if(|(key, _)| *key == at) {
                    Some((_, shown)) => {
                        current = next_current(&mut currents)?;
                        Some(shown)
                    }
                    None => None,
                };
                if !shows(shown.as_ref(), !order, &version) {
                    self.problems
                        .add(|| format!("{at:?}: current is not the newest version"));
                }
            }
            self.version(&at, !order, version)?;
            last = Some(at);
        }
        while let Some((key, _)) = current {
            self.excess_current(Some(key));
            current = next_current(&mut currents)?;
        }
        Ok(())
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
        if let Some(object) = version.object {
            self.name(object.write_id, object.size);
        }
        Ok(())
    }

    /// Checks that `ids` has rows for null versions only.
    fn nulls(&mut self) -> Result<()> {
        let mut rows = self.table(table::IDS);
        while let Some((row, value)) = rows.next()? {
            let OrderRow(order) = decode(&row, &value)?;
            let Some((_, at)) = row.split_last() else {
                continue;
            };
            let version = self.key(table::VERSIONS, &[at, &(!order.0).to_be_bytes()]);
            let version: Option<VersionRow> = get(self.replica.db(), &version)?;
            if version.is_none_or(|version| version.id != VersionId::Null) {
                self.problems
                    .add(|| format!("{:?}: no such null version", keys::ended(at)));
            }
        }
        Ok(())
    }

    /// Checks the uploads and returns their buckets.
    fn uploads(&mut self) -> Result<HashMap<UploadId, u64>> {
        let replica = self.replica;
        let mut uploads = HashMap::new();
        let mut rows = self.table(table::UPLOADS);
        while let Some((row, value)) = rows.next()? {
            let (bucket, object, order) = keys::ended(&row)?;
            let (order, _) = keys::number(order)?;
            let upload: UploadRow = decode(&row, &value)?;
            self.usage.entry(bucket).or_default().uploads += 1;
            let at = self.key(table::UPLOAD_IDS, &[&upload.id.0.0]);
            let at: Option<UploadAt> = get(replica.db(), &at)?;
            let own = |at: UploadAt| (at.bucket.0, at.key, at.order.0);
            if at.map(own) != Some((bucket, object, order)) {
                let id = upload.id.0;
                self.problems
                    .add(|| format!("upload {id} is not found by its id"));
            }
            uploads.insert(upload.id, bucket);
        }
        let mut ids = self.table(table::UPLOAD_IDS);
        while let Some((row, _)) = ids.next()? {
            let (id, _) = keys::upload_id(&row)?;
            if !uploads.contains_key(&id) {
                self.problems
                    .add(|| format!("upload id {} leads nowhere", id.0));
            }
        }
        Ok(uploads)
    }

    fn upload_parts(&mut self, uploads: &HashMap<UploadId, u64>) -> Result<()> {
        let mut rows = self.table(table::UPLOAD_PARTS);
        while let Some((row, value)) = rows.next()? {
            let (id, _) = keys::upload_id(&row)?;
            let part: UploadPartRow = decode(&row, &value)?;
            match uploads.get(&id) {
                Some(bucket) => self.usage.entry(*bucket).or_default().part_bytes += part.size,
                None => self
                    .problems
                    .add(|| format!("a part belongs to upload {}, which does not exist", id.0)),
            }
            self.name(part.write_id, part.size);
        }
        Ok(())
    }

    fn part_lists(&mut self) -> Result<()> {
        let replica = self.replica;
        let mut rows = self.table(table::PARTS);
        while let Some((row, value)) = rows.next()? {
            let (list, rest) = keys::write_id(&row)?;
            let (offset, number) = keys::number(rest)?;
            let part: PartRow = decode(&row, &value)?;
            let so_far = self.rows.lists.entry(list).or_default();
            if so_far.size != offset {
                self.problems
                    .add(|| format!("part list {list} has a hole at {offset}"));
            }
            so_far.count += 1;
            so_far.size = offset + part.size;
            let by_number = self.key(table::PART_NUMBERS, &[&list.0, number]);
            let by_number: Option<OffsetRow> = get(replica.db(), &by_number)?;
            if by_number.is_none_or(|OffsetRow(at)| at != offset) {
                self.problems
                    .add(|| format!("part list {list}: a part has no number"));
            }
            self.name(part.write_id, part.size);
        }
        let mut numbers = 0;
        let mut rows = self.table(table::PART_NUMBERS);
        while rows.next()?.is_some() {
            numbers += 1;
        }
        let parts: u64 = self.rows.lists.values().map(|list| list.count).sum();
        if numbers != parts {
            self.problems
                .add(|| format!("{parts} parts have {numbers} numbers"));
        }
        Ok(())
    }

    fn usage(&mut self) -> Result<()> {
        let mut counted = std::mem::take(&mut self.usage);
        let mut rows = self.table(table::USAGE);
        while let Some((row, value)) = rows.next()? {
            let (bucket, _) = keys::number(&row)?;
            let kept: UsageRow = decode(&row, &value)?;
            let counted = counted.remove(&bucket).unwrap_or_default();
            if kept != counted {
                let sentence = || format!("bucket {bucket}: counts {kept:?}, has {counted:?}");
                self.problems.add(sentence);
            }
        }
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
        let mut rows = self.table(table::OVER_QUOTA);
        while let Some((row, value)) = rows.next()? {
            let _: OverQuotaRow = decode(&row, &value)?;
            listed.insert(keys::number(&row)?.0);
        }
        for (id, bucket) in &self.rows.buckets {
            let usage = self.key(table::USAGE, &[&id.to_be_bytes()]);
            let usage: Option<UsageRow> = get(self.replica.db(), &usage)?;
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

fn next_current(rows: &mut Scan<'_>) -> Result<Option<((u64, String), CurrentRow)>> {
    let Some((key, value)): Option<Row> = rows.next()? else {
        return Ok(None);
    };
    Ok(Some((keys::bare(&key)?, decode(&key, &value)?)))
}

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
        let (write_id, _) = keys::write_id(&row)?;
        let _: UndersizedRow = decode(&row, &value)?;
        let data = key(replica.state(), table::DATA, &write_id.0);
        let data: Option<DataRow> = get(replica.db(), &data)?;
        let is_undersized = |data: DataRow| match data.kind {
            DataKind::Shards(set) => set.undersized,
            DataKind::Inline | DataKind::Parts { .. } => false,
        };
        if !data.is_some_and(is_undersized) {
            problems.add(|| format!("{write_id} is queued for re-encoding and is not undersized"));
        }
        queue += 1;
    }
    Ok(queue)
}

/// Counts the heal queue and checks that each of its rows names a write that exists.
pub fn check_heals(replica: &Replica, problems: &mut Problems) -> Result<u64> {
    let mut queue = 0;
    let mut rows = Scan::of_table(replica.db(), replica.state(), table::HEAL, &[]);
    while let Some((row, value)) = rows.next()? {
        let (write_id, _) = keys::write_id(&row)?;
        let _: HealRow = decode(&row, &value)?;
        let data = key(replica.state(), table::DATA, &write_id.0);
        if get::<DataRow>(replica.db(), &data)?.is_none() {
            problems.add(|| format!("{write_id} is queued for heal and does not exist"));
        }
        queue += 1;
    }
    Ok(queue)
}
