//! The rows of the model: buckets, versions, uploads and parts, and the stamp of each change.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::objects::{WriteCondition, Written};
use crate::types::{
    AccountId, Attributes, Bucket, Checksum, ETag, ObjectPart, Order, Timestamp, Upload, UploadId,
    UploadedPart, VersionId, WriteId,
};

/// The inputs of a change from outside, as a command of the engine carries them.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub order: Order,
    pub nonce: u64,
    pub now: Timestamp,
}

pub(super) struct BucketState {
    pub info: Bucket,
    /// By key, newest first; never an empty list.
    pub versions: BTreeMap<String, Vec<Row>>,
    /// By key and the order they were started in.
    pub uploads: BTreeMap<(String, Order), UploadState>,
    /// The answers to completed uploads, for clients that repeat the completion.
    pub completed: BTreeMap<UploadId, Completion>,
}

/// A version or a delete marker.
pub(super) struct Row {
    pub order: Order,
    pub id: VersionId,
    pub modified: Timestamp,
    pub owner: AccountId,
    /// `None` for a delete marker.
    pub object: Option<Object>,
}

#[derive(Clone)]
pub(super) struct Object {
    pub attributes: Attributes,
    pub content: Arc<Content>,
}

/// The content that versions linked to each other share.
#[derive(Clone)]
pub(super) struct Content {
    pub write_id: WriteId,
    pub size: u64,
    pub etag: ETag,
    pub checksum: Option<Checksum>,
    /// The CRC64NVME of all bytes, if they were uploaded in parts that all have one.
    pub crc64nvme: Option<u64>,
    pub data: Vec<Bytes>,
    /// Empty for an object written in one request.
    pub parts: Vec<ObjectPart>,
}

pub(super) struct NewVersion {
    pub key: String,
    pub attributes: Attributes,
    pub condition: WriteCondition,
    pub content: Arc<Content>,
}

pub(super) struct UploadState {
    pub info: Upload,
    pub parts: BTreeMap<u16, Part>,
}

pub(super) struct Part {
    pub info: UploadedPart,
    pub data: Vec<Bytes>,
}

/// An upload that became an object.
pub(super) struct Completion {
    pub key: String,
    /// The parts it was completed with, by number and ETag.
    pub parts: Vec<(u16, ETag)>,
    pub answer: Written,
}

pub(super) fn total_len(pieces: &[Bytes]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}
