//! An operation with both its ends: the request and its outcome.

use crate::history::{Event, Phase};
use crate::linear::NEVER;

/// One operation as it was recorded, with both ends.
pub struct Whole<'a> {
    pub asked: &'a Event,
    pub phase: Phase,
    pub call: u64,
    pub end: u64,
    pub answer: &'a Event,
}

pub fn show(whole: &Whole<'_>) -> String {
    let Whole { asked, answer, .. } = whole;
    format!(
        "op {} client {} {:?} {}/{} {:?} status {:?} etag {:?} version {:?} at {}..{}",
        asked.op,
        asked.client,
        asked.kind,
        asked.bucket,
        asked.key,
        whole.phase,
        answer.status,
        answer.etag.as_ref().or(asked.writes.as_ref()),
        answer.version.as_ref().or(asked.version_in.as_ref()),
        whole.call / 1000,
        if whole.end == NEVER {
            0
        } else {
            whole.end / 1000
        },
    )
}
