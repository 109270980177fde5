//! Checks of one pass: they find most faults at once and say plainly what is wrong. A history that
//! passes them is not proved correct; the search does that.

use std::collections::BTreeSet;

use crate::history::{Kind, Phase};
use crate::linear::Op;
use crate::model::{Act, Condition, Name, Version};
use crate::whole::{Whole, show};

/// Finds values that nobody ever asked to write.
pub fn phantoms(wholes: &[Whole<'_>], written: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    for whole in wholes.iter().filter(|whole| whole.phase == Phase::Ok) {
        let listed = whole.answer.entries.iter().flatten();
        let tags = listed.filter_map(|entry| entry.etag.as_ref());
        for etag in tags.chain(&whole.answer.etag) {
            if !written.contains(etag) {
                found.push(format!("phantom {etag}: {}", show(whole)));
            }
        }
    }
    found
}

/// Finds listings that repeat a key or are out of order, and writes that were answered with another
/// tag than that of their bytes.
pub fn disorder(wholes: &[Whole<'_>]) -> Vec<String> {
    let mut found = Vec::new();
    for whole in wholes.iter().filter(|whole| whole.phase == Phase::Ok) {
        let entries = whole.answer.entries.as_deref().unwrap_or_default();
        let keys = entries.windows(2);
        let ordered = match whole.asked.kind {
            Kind::List => keys.into_iter().all(|pair| pair[0].key < pair[1].key),
            _ => keys.into_iter().all(|pair| pair[0].key <= pair[1].key),
        };
        if !ordered {
            found.push(format!("keys twice or out of order: {}", show(whole)));
        }
        let (asked, got) = (&whole.asked.writes, &whole.answer.etag);
        if asked.is_some() && got.is_some() && asked != got {
            found.push(format!("answered by another tag: {}", show(whole)));
        }
    }
    found
}

/// Counts operations that began before another one of the key had ended.
pub fn overlaps(ops: &[Op]) -> usize {
    let mut spans: Vec<(u64, u64)> = ops.iter().map(|op| (op.call, op.end)).collect();
    spans.sort_unstable();
    let mut latest = 0;
    let mut count = 0;
    for (call, end) in spans {
        count += usize::from(call < latest);
        latest = latest.max(end);
    }
    count
}

/// Finds contradictions in the operations on a key that began absent.
pub fn impossible(ops: &[Op], versioned: bool) -> impl Iterator<Item = String> {
    let mut found = winners(ops, versioned);
    for read in ops {
        match &read.act {
            Act::Read(Some(seen)) => found.extend(stale(ops, read, seen)),
            Act::Read(None) => found.extend(lost(ops, read)),
            _ => {}
        }
    }
    found.into_iter()
}

fn writes(ops: &[Op]) -> impl Iterator<Item = (&Op, &Version, Condition)> {
    ops.iter().filter_map(|op| match &op.act {
        Act::Write(version, condition) => Some((op, version, *condition)),
        _ => None,
    })
}

fn removes(op: &Op) -> bool {
    matches!(op.act, Act::Delete(..) | Act::DeleteVersion(_))
}

/// Finds a read of a version that was overwritten or deleted before the read began.
fn stale(ops: &[Op], read: &Op, seen: &Version) -> Option<String> {
    let mut own = writes(ops).filter(|(_, version, _)| version.etag == seen.etag);
    let (first, None) = (own.next()?.0, own.next()) else {
        // Equal bytes, written twice.
        return None;
    };
    // Deleting a version uncovers an older one.
    if ops.iter().any(|op| matches!(op.act, Act::DeleteVersion(_))) {
        return None;
    }
    let over = ops.iter().find(|op| {
        let changes = matches!(op.act, Act::Write(..) | Act::Delete(..));
        changes && !op.optional && op.call > first.end && op.end < read.call
    })?;
    Some(format!(
        "stale or resurrected: tag {:?}, read at {}, was replaced by {:?} at {}",
        seen.etag,
        read.call / 1000,
        over.act,
        over.end / 1000
    ))
}

/// Finds a read that saw nothing, though a write was acknowledged and nobody tried to delete it.
fn lost(ops: &[Op], read: &Op) -> Option<String> {
    let (write, version, _) = writes(ops).find(|(write, ..)| {
        let deleted = |op: &&Op| removes(op) && op.end > write.call && op.call < read.end;
        !write.optional && write.end < read.call && !ops.iter().any(|op| deleted(&op))
    })?;
    Some(format!(
        "lost: tag {:?}, acknowledged at {}, is not there at {}",
        version.etag,
        write.end / 1000,
        read.call / 1000
    ))
}

/// Finds two writers that were each answered as the first, or as the one that replaced the same
/// version.
fn winners(ops: &[Op], versioned: bool) -> Vec<String> {
    let sure: Vec<(&Op, &Version, Condition)> = writes(ops)
        .filter(|(op, _, condition)| !op.optional && *condition != Condition::None)
        .collect();
    let count = |etag: Name| {
        let own = writes(ops).filter(|(_, version, _)| version.etag == Some(etag));
        own.count()
    };
    let removed = ops.iter().any(removes);
    let mut found = Vec::new();
    for (at, (one, version, condition)) in sure.iter().enumerate() {
        for (other, another, same) in &sure[at + 1..] {
            let both = match condition {
                Condition::Absent => !removed,
                Condition::Match(etag) => {
                    count(*etag) == 1 && version.etag != Some(*etag) && !(versioned && removed)
                }
                Condition::None => false,
            };
            if both && condition == same && version != another {
                found.push(format!(
                    "two winners of {condition:?}: {:?} at {} and {:?} at {}",
                    one.act,
                    one.end / 1000,
                    other.act,
                    other.end / 1000
                ));
            }
        }
    }
    found
}
