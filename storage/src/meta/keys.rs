//! The keys of every table.
//!
//! The key of a row in the family `state` is `[state id u64][table u8][key…]`, with big-endian
//! integers, so that the rows of one state, of one table and of one bucket lie together, in the
//! order in which they are read. If something follows an object's key, the key is escaped: NUL
//! becomes `00 FF` and the end is `00 00`, which keeps the order of the plain bytes ("a" < "a\0b" <
//! "ab"). FORMAT.md has the list.

use crate::db::StateId;
use drystone_store::error::{Error, Result};
use drystone_store::types::{
    AccountId, BucketId, BucketSetting, DiskId, Epoch, Order, Timestamp, UploadId, VersionId,
    WriteId,
};

/// The tables. A number is never used for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Table {
    Applied = 0x01,
    Epochs = 0x02,
    Answers = 0x03,
    Changes = 0x04,
    Counters = 0x08,
    Names = 0x09,
    Accounts = 0x0a,
    Disks = 0x0b,
    Upkeep = 0x0c,
    Buckets = 0x10,
    Settings = 0x11,
    Usage = 0x12,
    OverQuota = 0x13,
    Versions = 0x18,
    Current = 0x19,
    Ids = 0x1a,
    Data = 0x20,
    Parts = 0x21,
    PartNumbers = 0x22,
    Uploads = 0x28,
    UploadIds = 0x29,
    UploadParts = 0x2a,
    Finished = 0x2b,
    FinishedTimes = 0x2c,
    Garbage = 0x30,
    Heal = 0x31,
    RemovedDisks = 0x32,
    Scrub = 0x33,
    Undersized = 0x34,
}

/// The keys from `from` on, up to but not including `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl KeyRange {
    /// Returns the range of all keys that begin with `prefix`.
    pub fn of_prefix(prefix: Vec<u8>) -> KeyRange {
        let to = successor(&prefix);
        KeyRange { from: prefix, to }
    }

    /// Returns the part of this range from `from` on.
    pub fn starting_at(mut self, from: Vec<u8>) -> KeyRange {
        if from > self.from {
            self.from = from;
        }
        self
    }
}

/// Returns the least key above all keys that begin with `prefix`.
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.pop() {
        if last < 0xff {
            key.push(last + 1);
            return key;
        }
    }
    unreachable!("a table's number is below 0xff")
}

/// Encodes a time so that its bytes sort as times do.
fn sortable(at: Timestamp) -> [u8; 8] {
    (at.0 as u64 ^ 1 << 63).to_be_bytes()
}

const NUL: u8 = 0;
const ESCAPED: u8 = 0xff;
const ID_NULL: u8 = 0;

fn escape(into: &mut Vec<u8>, key: &[u8]) {
    for &byte in key {
        into.push(byte);
        if byte == NUL {
            into.push(ESCAPED);
        }
    }
}

/// The length of a state's id, with which all its keys begin.
pub const STATE_ID_LEN: usize = 8;

/// Makes the keys of one state.
#[derive(Clone, Copy, Debug)]
pub struct Keys(pub StateId);

impl Keys {
    fn key(self, table: Table, parts: &[&[u8]]) -> Vec<u8> {
        let len = HEAD_LEN + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut key = Vec::with_capacity(len);
        key.extend_from_slice(&self.0.0.to_be_bytes());
        key.push(table as u8);
        parts.iter().for_each(|part| key.extend_from_slice(part));
        key
    }

    /// Returns `[bucket][escaped key, unterminated]`: the beginning of all keys with this prefix.
    fn escaped(self, table: Table, bucket: BucketId, prefix: &str) -> Vec<u8> {
        let mut key = Vec::with_capacity(HEAD_LEN + 8 + prefix.len() + 2 + 8);
        key.extend_from_slice(&self.0.0.to_be_bytes());
        key.push(table as u8);
        key.extend_from_slice(&bucket.0.to_be_bytes());
        escape(&mut key, prefix.as_bytes());
        key
    }

    fn terminated(self, table: Table, bucket: BucketId, object: &str) -> Vec<u8> {
        let mut key = self.escaped(table, bucket, object);
        key.extend_from_slice(&[NUL, NUL]);
        key
    }

    /// Returns the range of all rows of this state, in either family.
    pub fn state(self) -> KeyRange {
        KeyRange::of_prefix(self.0.0.to_be_bytes().to_vec())
    }

    /// Returns the key of a row in the family `values`.
    pub fn value(self, id: WriteId) -> Vec<u8> {
        [&self.0.0.to_be_bytes()[..], &id.0].concat()
    }

    pub fn applied(self) -> Vec<u8> {
        self.key(Table::Applied, &[])
    }

    /// Returns the key of the checksum of all changes.
    pub fn changes(self) -> Vec<u8> {
        self.key(Table::Changes, &[])
    }

    pub fn epochs(self) -> Vec<u8> {
        self.key(Table::Epochs, &[])
    }

    /// Returns the key of the answer to a command that was issued in `epoch`.
    pub fn answer(self, epoch: Epoch, request: WriteId) -> Vec<u8> {
        self.key(Table::Answers, &[&epoch.0.to_be_bytes(), &request.0])
    }

    /// Returns the answers to commands that were issued below `epoch`.
    pub fn answers_below(self, epoch: Epoch) -> KeyRange {
        KeyRange {
            from: self.key(Table::Answers, &[]),
            to: self.key(Table::Answers, &[&epoch.0.to_be_bytes()]),
        }
    }

    pub fn counters(self) -> Vec<u8> {
        self.key(Table::Counters, &[])
    }

    pub fn name(self, name: &str) -> Vec<u8> {
        self.key(Table::Names, &[name.as_bytes()])
    }

    pub fn names(self, prefix: &str) -> KeyRange {
        KeyRange::of_prefix(self.name(prefix))
    }

    pub fn account(self, id: &AccountId) -> Vec<u8> {
        self.key(Table::Accounts, &[id.0.as_bytes()])
    }

    pub fn disk(self, id: DiskId) -> Vec<u8> {
        self.key(Table::Disks, &[&id.0])
    }

    pub fn disks(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Disks, &[]))
    }

    pub fn upkeep(self) -> Vec<u8> {
        self.key(Table::Upkeep, &[])
    }

    pub fn bucket(self, id: BucketId) -> Vec<u8> {
        self.key(Table::Buckets, &[&id.0.to_be_bytes()])
    }

    pub fn buckets(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Buckets, &[]))
    }

    pub fn setting(self, bucket: BucketId, setting: BucketSetting) -> Vec<u8> {
        self.key(
            Table::Settings,
            &[&bucket.0.to_be_bytes(), &[setting_code(setting)]],
        )
    }

    pub fn usage(self, bucket: BucketId) -> Vec<u8> {
        self.key(Table::Usage, &[&bucket.0.to_be_bytes()])
    }

    pub fn over_quota(self, bucket: BucketId) -> Vec<u8> {
        self.key(Table::OverQuota, &[&bucket.0.to_be_bytes()])
    }

    pub fn over_quotas(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::OverQuota, &[]))
    }

    pub fn version(self, bucket: BucketId, key: &str, order: Order) -> Vec<u8> {
        let mut row = self.terminated(Table::Versions, bucket, key);
        row.extend_from_slice(&(!order.0).to_be_bytes());
        row
    }

    /// Returns the versions of one key, newest first.
    pub fn versions_of(self, bucket: BucketId, key: &str) -> KeyRange {
        KeyRange::of_prefix(self.terminated(Table::Versions, bucket, key))
    }

    /// Returns the versions of all keys with this prefix.
    pub fn versions(self, bucket: BucketId, prefix: &str) -> KeyRange {
        KeyRange::of_prefix(self.escaped(Table::Versions, bucket, prefix))
    }

    pub fn current(self, bucket: BucketId, key: &str) -> Vec<u8> {
        self.key(Table::Current, &[&bucket.0.to_be_bytes(), key.as_bytes()])
    }

    /// Returns the current rows of all keys with this prefix.
    pub fn currents(self, bucket: BucketId, prefix: &str) -> KeyRange {
        KeyRange::of_prefix(self.current(bucket, prefix))
    }

    /// Returns the key of the row with the order of the `null` version, whose id does not have it.
    pub fn null_id(self, bucket: BucketId, key: &str) -> Vec<u8> {
        let mut row = self.terminated(Table::Ids, bucket, key);
        row.push(ID_NULL);
        row
    }

    pub fn data(self, id: WriteId) -> Vec<u8> {
        self.key(Table::Data, &[&id.0])
    }

    pub fn all_data(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Data, &[]))
    }

    pub fn part(self, list: WriteId, offset: u64, number: u16) -> Vec<u8> {
        self.key(
            Table::Parts,
            &[&list.0, &offset.to_be_bytes(), &number.to_be_bytes()],
        )
    }

    pub fn parts(self, list: WriteId) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Parts, &[&list.0]))
    }

    pub fn part_number(self, list: WriteId, number: u16) -> Vec<u8> {
        self.key(Table::PartNumbers, &[&list.0, &number.to_be_bytes()])
    }

    pub fn part_numbers(self, list: WriteId) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::PartNumbers, &[&list.0]))
    }

    pub fn upload(self, bucket: BucketId, key: &str, order: Order) -> Vec<u8> {
        let mut row = self.terminated(Table::Uploads, bucket, key);
        row.extend_from_slice(&order.0.to_be_bytes());
        row
    }

    /// Returns the uploads of one key, oldest first.
    pub fn uploads_of(self, bucket: BucketId, key: &str) -> KeyRange {
        KeyRange::of_prefix(self.terminated(Table::Uploads, bucket, key))
    }

    pub fn uploads(self, bucket: BucketId, prefix: &str) -> KeyRange {
        KeyRange::of_prefix(self.escaped(Table::Uploads, bucket, prefix))
    }

    pub fn upload_id(self, id: UploadId) -> Vec<u8> {
        self.key(Table::UploadIds, &[&id.0.0])
    }

    pub fn upload_part(self, id: UploadId, number: u16) -> Vec<u8> {
        self.key(Table::UploadParts, &[&id.0.0, &number.to_be_bytes()])
    }

    pub fn upload_parts(self, id: UploadId) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::UploadParts, &[&id.0.0]))
    }

    pub fn finished(self, id: UploadId) -> Vec<u8> {
        self.key(Table::Finished, &[&id.0.0])
    }

    /// Returns the key of the row that says when an upload was finished.
    pub fn finished_at(self, at: Timestamp, id: UploadId) -> Vec<u8> {
        self.key(Table::FinishedTimes, &[&sortable(at), &id.0.0])
    }

    /// Returns the uploads that were finished before `at`, oldest first.
    pub fn finished_before(self, at: Timestamp) -> KeyRange {
        KeyRange {
            from: self.key(Table::FinishedTimes, &[]),
            to: self.key(Table::FinishedTimes, &[&sortable(at)]),
        }
    }

    pub fn garbage(self, epoch: Epoch, id: WriteId) -> Vec<u8> {
        self.key(Table::Garbage, &[&epoch.0.to_be_bytes(), &id.0])
    }

    pub fn garbage_below(self, epoch: Epoch) -> KeyRange {
        KeyRange {
            from: self.key(Table::Garbage, &[]),
            to: self.key(Table::Garbage, &[&epoch.0.to_be_bytes()]),
        }
    }

    pub fn heal(self, id: WriteId, rank: u8) -> Vec<u8> {
        self.key(Table::Heal, &[&id.0, &[rank]])
    }

    /// Returns the heal rows of one write id.
    pub fn heals_of(self, id: WriteId) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Heal, &[&id.0]))
    }

    pub fn heals(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Heal, &[]))
    }

    pub fn undersized(self, id: WriteId) -> Vec<u8> {
        self.key(Table::Undersized, &[&id.0])
    }

    pub fn all_undersized(self) -> KeyRange {
        KeyRange::of_prefix(self.key(Table::Undersized, &[]))
    }

    pub fn scrub(self) -> Vec<u8> {
        self.key(Table::Scrub, &[])
    }

    pub fn removed_disks(self) -> Vec<u8> {
        self.key(Table::RemovedDisks, &[])
    }
}

/// All settings of buckets.
pub const SETTINGS: [BucketSetting; 1] = [BucketSetting::Tagging];

fn setting_code(setting: BucketSetting) -> u8 {
    match setting {
        BucketSetting::Tagging => 1,
    }
}

/// The number of bytes before a table's own key: the state id and the table's number.
const HEAD_LEN: usize = STATE_ID_LEN + 1;

fn malformed(key: &[u8]) -> Error {
    Error::BadRow(format!("malformed key {}", hex(key)))
}

/// Formats bytes for messages.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn array<const N: usize>(row: &[u8], at: usize) -> Result<[u8; N]> {
    row.get(at..at + N)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| malformed(row))
}

/// Returns the object key of a `current` row.
pub fn parse_current(row: &[u8]) -> Result<&str> {
    let key = row.get(HEAD_LEN + 8..).ok_or_else(|| malformed(row))?;
    std::str::from_utf8(key).map_err(|_| malformed(row))
}

/// Returns the name of a `names` row.
pub fn parse_name(row: &[u8]) -> Result<&str> {
    let name = row.get(HEAD_LEN..).ok_or_else(|| malformed(row))?;
    std::str::from_utf8(name).map_err(|_| malformed(row))
}

pub fn parse_bucket(row: &[u8]) -> Result<BucketId> {
    Ok(BucketId(u64::from_be_bytes(array(row, HEAD_LEN)?)))
}

/// Returns the object key, and the number after it.
fn parse_escaped(row: &[u8]) -> Result<(String, u64)> {
    let mut rest = row.get(HEAD_LEN + 8..).ok_or_else(|| malformed(row))?;
    let mut key = Vec::with_capacity(rest.len());
    loop {
        match rest {
            [NUL, NUL, tail @ ..] => {
                let order = tail.try_into().map_err(|_| malformed(row))?;
                let key = String::from_utf8(key).map_err(|_| malformed(row))?;
                return Ok((key, u64::from_be_bytes(order)));
            }
            [NUL, ESCAPED, tail @ ..] => {
                key.push(NUL);
                rest = tail;
            }
            [NUL, ..] | [] => return Err(malformed(row)),
            [byte, tail @ ..] => {
                key.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Returns key and order of a `versions` row.
pub fn parse_version(row: &[u8]) -> Result<(String, Order)> {
    parse_escaped(row).map(|(key, order)| (key, Order(!order)))
}

/// Returns key and order of an `uploads` row.
pub fn parse_upload(row: &[u8]) -> Result<(String, Order)> {
    parse_escaped(row).map(|(key, order)| (key, Order(order)))
}

/// Returns offset and number of a `parts` row.
pub fn parse_part(row: &[u8]) -> Result<(u64, u16)> {
    let offset = u64::from_be_bytes(array(row, HEAD_LEN + 16)?);
    let number = u16::from_be_bytes(array(row, HEAD_LEN + 24)?);
    Ok((offset, number))
}

/// Returns the number of an `upload_parts` or `part_numbers` row.
pub fn parse_number(row: &[u8]) -> Result<u16> {
    Ok(u16::from_be_bytes(array(row, HEAD_LEN + 16)?))
}

/// Returns epoch and write id of a `garbage` row.
pub fn parse_garbage(row: &[u8]) -> Result<(Epoch, WriteId)> {
    let epoch = u64::from_be_bytes(array(row, HEAD_LEN)?);
    Ok((Epoch(epoch), WriteId(array(row, HEAD_LEN + 8)?)))
}

/// Returns the upload id of a `finished times` row.
pub fn parse_finished_time(row: &[u8]) -> Result<UploadId> {
    Ok(UploadId(WriteId(array(row, HEAD_LEN + 8)?)))
}

pub fn parse_disk(row: &[u8]) -> Result<DiskId> {
    Ok(DiskId(array(row, HEAD_LEN)?))
}

/// Returns the write id of a `data` or `undersized` row.
pub fn parse_data(row: &[u8]) -> Result<WriteId> {
    Ok(WriteId(array(row, HEAD_LEN)?))
}

/// Returns write id and rank of a `heal` row.
pub fn parse_heal(row: &[u8]) -> Result<(WriteId, u8)> {
    let [rank] = array(row, HEAD_LEN + 16)?;
    Ok((WriteId(array(row, HEAD_LEN)?), rank))
}

/// Returns the order that an id contains.
pub fn order_of(id: VersionId) -> Option<Order> {
    match id {
        VersionId::Null => None,
        VersionId::Ordered { order, .. } => Some(order),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::*;

    const KEYS: Keys = Keys(StateId(7));
    const B: BucketId = BucketId(3);

    #[test]
    fn keys_sort_as_bytes_whatever_nul_they_hold() {
        let sorted = [
            "", "\0", "\0\0", "\0a", "a", "a\0", "a\0\0", "a\0b", "a\u{1}", "ab", "b",
        ];
        let rows: Vec<_> = sorted
            .iter()
            .flat_map(|key| [9, 2].map(|order| KEYS.version(B, key, Order(order))))
            .collect();
        assert!(rows.is_sorted());
        assert!(sorted.map(|key| KEYS.current(B, key)).is_sorted());
    }

    #[test]
    fn a_successor_lies_above_its_prefix_alone() {
        assert_eq!(successor(b"a/"), b"a0");
        assert_eq!(successor(b"a\xff\xff"), b"b");
    }

    proptest! {
        #[test]
        fn version_keys_keep_order_and_parse_back(
            a in prop::collection::vec(prop::char::range('\0', '\u{3}'), 0..5),
            b in prop::collection::vec(prop::char::range('\0', '\u{3}'), 0..5),
            x in any::<u64>(),
            y in any::<u64>(),
        ) {
            let (a, b) = (String::from_iter(a), String::from_iter(b));
            let (left, right) = (KEYS.version(B, &a, Order(x)), KEYS.version(B, &b, Order(y)));
            prop_assert_eq!(left.cmp(&right), (&a, !x).cmp(&(&b, !y)));
            prop_assert_eq!(parse_version(&left).unwrap(), (a.clone(), Order(x)));
            let within = KEYS.versions(B, &b);
            prop_assert_eq!(a.starts_with(&b), within.from <= left && left < within.to);
            prop_assert!(parse_version(&left[..left.len() - 1]).is_err());
        }
    }
}
