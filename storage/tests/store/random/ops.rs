//! Random operations on a store.

use drystone_store::types::{ChecksumAlgorithm, ChecksumType};
use proptest::prelude::*;

use crate::multipart::MIN;
use crate::objects::BOUNDARIES;

/// The maximum number of operations of one case.
const OPS_MAX: usize = 50;

/// Keys; most operations use the first ones.
const KEYS: [&str; 9] = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "/x",
    "..",
    "é",
    "\0",
    "a\u{10ffff}",
];

#[derive(Clone, Debug)]
pub enum Op {
    Put {
        key: &'static str,
        len: usize,
        seed: u64,
        checksum: Option<ChecksumAlgorithm>,
        tagged: bool,
        condition: Condition,
        interrupted: bool,
    },
    Get {
        key: &'static str,
        version: Pick,
        /// Start and length, in 256ths of the size.
        range: (u8, u8),
    },
    Link {
        from: &'static str,
        version: Pick,
        to: &'static str,
        tagged: bool,
        condition: Condition,
        /// Whether the source is removed between its opening and the link.
        late: bool,
    },
    Tags {
        key: &'static str,
        version: Pick,
    },
    Delete(Vec<(&'static str, Pick, Condition)>),
    SetVersioning(bool),
    /// Bytes and objects that the quota allows beyond the present ones; `None` for no quota.
    SetQuota(Option<u64>, Option<u64>),
    RenewBucket,
    List(Listing, Pages),
    CreateUpload {
        key: &'static str,
        checksum: Option<(ChecksumAlgorithm, ChecksumType)>,
    },
    PutPart {
        upload: usize,
        number: u16,
        len: usize,
        seed: u64,
        interrupted: bool,
    },
    ListParts {
        upload: usize,
        max: usize,
    },
    Complete {
        upload: usize,
        /// Selects the parts that the completion names.
        mask: u8,
        wrong_etag: bool,
        wrong_size: bool,
        condition: Condition,
    },
    CompleteAgain(usize),
    Abort(usize),
    Restart,
}

#[derive(Clone, Copy, Debug)]
pub enum Listing {
    Objects,
    Versions,
    Uploads,
}

/// The pages of a listing, all of one length.
#[derive(Clone, Debug)]
pub struct Pages {
    pub prefix: &'static str,
    pub delimiter: &'static str,
    pub after: &'static str,
    pub marker: Option<usize>,
    pub max: usize,
}

#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Latest,
    Null,
    /// The `n`th id returned so far, whether or not it is this key's or still exists.
    Nth(usize),
}

/// A condition. A number stands for one of the ETags returned so far.
#[derive(Clone, Debug)]
pub enum Condition {
    No,
    Match(Option<usize>),
    NoneMatch(Option<usize>),
    Size(u64),
}

fn key() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => Just(KEYS[0]),
        2 => prop::sample::select(&KEYS[1..3]),
        2 => prop::sample::select(&KEYS[..]),
    ]
}

fn len() -> impl Strategy<Value = usize> {
    let near = (prop::sample::select(&BOUNDARIES[..]), 0..3usize);
    prop_oneof![
        4 => 0..100usize,
        2 => near.prop_map(|(at, off)| (at + off).saturating_sub(1)),
        1 => 0..600_000usize,
    ]
}

fn part_len() -> impl Strategy<Value = usize> {
    prop_oneof![8 => len(), 1 => Just(MIN - 1), 2 => MIN..MIN + 3]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        3 => Just(Pick::Latest),
        1 => Just(Pick::Null),
        2 => any::<usize>().prop_map(Pick::Nth),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        6 => Just(Condition::No),
        1 => any::<Option<usize>>().prop_map(Condition::Match),
        1 => any::<Option<usize>>().prop_map(Condition::NoneMatch),
        1 => (0..3u64).prop_map(Condition::Size),
    ]
}

fn algorithm() -> impl Strategy<Value = ChecksumAlgorithm> {
    prop::sample::select(&ChecksumAlgorithm::ALL[..])
}

fn upload_checksum() -> impl Strategy<Value = Option<(ChecksumAlgorithm, ChecksumType)>> {
    let kind = prop::sample::select(&[ChecksumType::Composite, ChecksumType::FullObject][..]);
    let valid = |sum: &Option<(ChecksumAlgorithm, ChecksumType)>| {
        sum.is_none_or(|(algorithm, kind)| algorithm.supports(kind))
    };
    prop::option::of((algorithm(), kind)).prop_filter("S3 has no such checksum", valid)
}

fn object_op() -> impl Strategy<Value = Op> {
    let put = (
        (key(), len(), 0..4u64),
        prop::option::weighted(0.3, algorithm()),
        any::<bool>(),
        condition(),
        prop::bool::weighted(0.05),
    );
    let link = (
        key(),
        pick(),
        key(),
        any::<bool>(),
        condition(),
        prop::bool::weighted(0.1),
    );
    prop_oneof![
        6 => put.prop_map(|((key, len, seed), checksum, tagged, condition, interrupted)| Op::Put {
            key, len, seed, checksum, tagged, condition, interrupted,
        }),
        2 => (key(), pick(), any::<(u8, u8)>()).prop_map(|(key, version, range)| Op::Get {
            key, version, range,
        }),
        2 => link.prop_map(|(from, version, to, tagged, condition, late)| Op::Link {
            from, version, to, tagged, condition, late,
        }),
        1 => (key(), pick()).prop_map(|(key, version)| Op::Tags { key, version }),
        4 => prop::collection::vec((key(), pick(), condition()), 1..4).prop_map(Op::Delete),
        1 => any::<bool>().prop_map(Op::SetVersioning),
        1 => (prop::option::of(0..300_000u64), prop::option::of(0..3u64))
            .prop_map(|(bytes, objects)| Op::SetQuota(bytes, objects)),
        1 => Just(Op::RenewBucket),
        1 => Just(Op::Restart),
    ]
}

fn listing_op() -> impl Strategy<Value = Op> {
    let what = [Listing::Objects, Listing::Versions, Listing::Uploads];
    let asked = (
        prop::sample::select(what.to_vec()),
        prop::sample::select(vec!["", "", "a", "a/", "b"]),
        prop::sample::select(vec!["", "/", "//", "a", "b"]),
        prop_oneof![2 => Just(""), 1 => key()],
        any::<Option<usize>>(),
        1..6usize,
    );
    asked.prop_map(|(what, prefix, delimiter, after, marker, max)| {
        let pages = Pages {
            prefix,
            delimiter,
            after,
            marker: marker.filter(|_| !after.is_empty()),
            max,
        };
        Op::List(what, pages)
    })
}

fn upload_op() -> impl Strategy<Value = Op> {
    let part = (
        0..4usize,
        1..6u16,
        part_len(),
        0..4u64,
        prop::bool::weighted(0.05),
    );
    let complete = (
        0..4usize,
        any::<u8>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        condition(),
    );
    prop_oneof![
        3 => (key(), upload_checksum())
            .prop_map(|(key, checksum)| Op::CreateUpload { key, checksum }),
        6 => part.prop_map(|(upload, number, len, seed, interrupted)| Op::PutPart {
            upload, number, len, seed, interrupted,
        }),
        1 => (0..4usize, 1..4usize).prop_map(|(upload, max)| Op::ListParts { upload, max }),
        3 => complete.prop_map(|(upload, mask, wrong_etag, wrong_size, condition)| Op::Complete {
            upload, mask, wrong_etag, wrong_size, condition,
        }),
        1 => (0..4usize).prop_map(Op::CompleteAgain),
        1 => (0..4usize).prop_map(Op::Abort),
    ]
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![5 => object_op(), 2 => listing_op(), 4 => upload_op()];
    prop::collection::vec(op, 1..OPS_MAX)
}
