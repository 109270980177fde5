//! Checks over all rows: invariants 3 and 4 of ARCHITECTURE.md, and that no row is left over.

use std::collections::{BTreeMap, BTreeSet};

use super::{B, TestReplica};
use crate::db::Family;
use crate::meta::keys::{self, KeyRange};
use crate::meta::record::{
    CurrentRow, DataKind, DataRow, GarbageShard, OffsetRow, OrderRow, PartRow, Record, UploadAt,
    UploadPartRow, UploadRow, UsageRow, VersionRow,
};
use crate::meta::txn::{Row, RowReads};
use crate::meta::view::View;
use drystone_store::types::{Epoch, Order, UploadId, VersionId, WriteId};

fn all(view: &View<'_>, first: Vec<u8>, last: Vec<u8>) -> Vec<Row> {
    let range = KeyRange {
        from: first,
        to: keys::successor(&last),
    };
    view.scan(&range, usize::MAX).unwrap()
}

fn decode<R: Record>(value: &[u8]) -> R {
    R::decode(value).unwrap()
}

const LEAST: WriteId = WriteId([0; 16]);
const MOST: WriteId = WriteId([0xff; 16]);

impl TestReplica {
    pub fn check(&self) {
        let view = self.state.view();
        self.check_versions(&view);
        self.check_references(&view);
    }

    fn check_versions(&self, view: &View<'_>) {
        let rows = view.keys();
        let mut newest: BTreeMap<String, (Order, VersionRow)> = BTreeMap::new();
        let mut nulls = BTreeMap::new();
        let mut usage = UsageRow::default();
        for (key, value) in view.scan(&rows.versions(B, ""), usize::MAX).unwrap() {
            let (key, order) = keys::parse_version(&key).unwrap();
            let version: VersionRow = decode(&value);
            if version.id == VersionId::Null {
                let other = nulls.insert(rows.null_id(B, &key), order);
                assert_eq!(other, None, "two null versions of {key:?}");
            }
            match &version.object {
                Some(object) => {
                    usage.objects += 1;
                    usage.bytes += object.size;
                }
                None => usage.markers += 1,
            }
            newest.entry(key).or_insert((order, version));
        }
        let expected: Vec<_> = newest
            .into_iter()
            .filter_map(|(key, (order, row))| Some((key, CurrentRow::of(order, &row)?)))
            .collect();
        let current: Vec<_> = view
            .scan(&rows.currents(B, ""), usize::MAX)
            .unwrap()
            .iter()
            .map(|(key, value)| (keys::parse_current(key).unwrap().to_owned(), decode(value)))
            .collect();
        assert_eq!(current, expected, "current is not the newest version");

        let first = rows.null_id(B, "");
        let ids: BTreeMap<_, _> = all(view, first[..17].to_vec(), first[..17].to_vec())
            .into_iter()
            .map(|(key, value)| (key, decode::<OrderRow>(&value).0))
            .collect();
        assert_eq!(ids, nulls);

        let uploads = view.scan(&rows.uploads(B, ""), usize::MAX).unwrap();
        usage.uploads = uploads.len() as u64;
        let ids = all(
            view,
            rows.upload_id(UploadId(LEAST)),
            rows.upload_id(UploadId(MOST)),
        );
        assert_eq!(ids.len(), uploads.len());
        for (key, value) in uploads {
            let (key, order) = keys::parse_upload(&key).unwrap();
            let upload: UploadRow = decode(&value);
            let at: Option<UploadAt> = view.row(&rows.upload_id(upload.id)).unwrap();
            assert_eq!(
                at,
                Some(UploadAt {
                    bucket: B,
                    key,
                    order
                })
            );
        }
        let parts = all(
            view,
            rows.upload_part(UploadId(LEAST), 0),
            rows.upload_part(UploadId(MOST), u16::MAX),
        );
        let sizes = parts
            .iter()
            .map(|(_, value)| decode::<UploadPartRow>(value).size);
        usage.part_bytes = sizes.sum();
        let counted: Option<UsageRow> = view.row(&rows.usage(B)).unwrap();
        assert_eq!(counted.unwrap_or_default(), usage);
        // A bucket that is being deleted has no quota any more.
        let Ok(bucket) = view.bucket(B) else {
            return;
        };
        let quota = bucket.quota;
        let is_reported = !view.over_quotas(9).unwrap().is_empty();
        assert_eq!(
            is_reported,
            quota.is_passed_softly(&usage.into()),
            "{quota:?} {usage:?}"
        );
    }

    fn check_references(&self, view: &View<'_>) {
        let rows = view.keys();
        let mut refs: BTreeMap<WriteId, u64> = BTreeMap::new();
        for (_, value) in view.scan(&rows.versions(B, ""), usize::MAX).unwrap() {
            if let Some(object) = decode::<VersionRow>(&value).object {
                *refs.entry(object.write_id).or_default() += 1;
            }
        }
        for (_, value) in all(
            view,
            rows.upload_part(UploadId(LEAST), 0),
            rows.upload_part(UploadId(MOST), u16::MAX),
        ) {
            *refs
                .entry(decode::<UploadPartRow>(&value).write_id)
                .or_default() += 1;
        }
        let parts = all(
            view,
            rows.part(LEAST, 0, 0),
            rows.part(MOST, u64::MAX, u16::MAX),
        );
        let mut numbers = BTreeMap::new();
        let mut lists: BTreeMap<WriteId, u32> = BTreeMap::new();
        for (key, value) in parts {
            *refs.entry(decode::<PartRow>(&value).write_id).or_default() += 1;
            let (offset, number) = keys::parse_part(&key).unwrap();
            let list = WriteId(key[9..25].try_into().unwrap());
            *lists.entry(list).or_default() += 1;
            numbers.insert(rows.part_number(list, number), offset);
        }
        let by_number: BTreeMap<_, _> = all(
            view,
            rows.part_number(LEAST, 0),
            rows.part_number(MOST, u16::MAX),
        )
        .into_iter()
        .map(|(key, value)| (key, decode::<OffsetRow>(&value).0))
        .collect();
        assert_eq!(by_number, numbers);

        let mut inline = BTreeSet::new();
        let mut counted = BTreeMap::new();
        let (mut undersized, mut named) = (Vec::new(), BTreeSet::new());
        for (key, value) in all(view, rows.data(LEAST), rows.data(MOST)) {
            let write_id = WriteId(key[9..25].try_into().unwrap());
            let data: DataRow = decode(&value);
            counted.insert(write_id, data.refs);
            match data.kind {
                DataKind::Inline => assert!(inline.insert(rows.value(write_id))),
                DataKind::Parts { count, .. } => assert_eq!(lists.remove(&write_id), Some(count)),
                DataKind::Shards(set) => {
                    undersized.extend(set.undersized.then_some(write_id));
                    let of_set = (0u8..).zip(set.places());
                    named.extend(of_set.map(|(rank, at)| (write_id, rank, at.disk, at.generation)));
                }
            }
        }
        assert_eq!(counted, refs, "references counted, and those there are");
        let queue = view.undersized_writes(None, usize::MAX).unwrap();
        assert_eq!(queue, undersized);
        let garbage = view.garbage(None, Epoch(u64::MAX), usize::MAX).unwrap();
        for row in garbage.rows {
            let is_data = counted.contains_key(&row.write_id);
            assert!(
                !row.is_part_list || !is_data,
                "a list has a name and is garbage"
            );
            lists.remove(&row.write_id);
            for GarbageShard { rank, at } in row.shards {
                let shard = (row.write_id, rank, at.disk, at.generation);
                assert!(
                    !named.contains(&shard),
                    "a shard that has a name is garbage"
                );
            }
        }
        assert!(
            lists.is_empty(),
            "part lists that nothing names and nobody removes"
        );
        for entry in view.heals(None, usize::MAX).unwrap() {
            assert!(counted.contains_key(&entry.write_id), "heal row of no data");
        }

        let range = rows.state();
        let mut values = self.db.rocks().raw_iterator_cf_opt(
            self.db.family(Family::Values),
            crate::meta::txn::bounded(&range),
        );
        values.seek_to_first();
        let mut stored = BTreeSet::new();
        while let Some(key) = values.key() {
            stored.insert(key.to_vec());
            values.next();
        }
        assert_eq!(stored, inline, "inline values, and the rows that name them");
    }
}
