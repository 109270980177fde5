//! Agreement of a group's replicas: they compare their changes at the same entries of the log.
//!
//! Each state has a checksum of all changes that its commands have made, which each command
//! continues. Replicas that applied the same entries have the same one, unless a row was damaged in
//! a way that the disk did not notice, memory was, or the state machine decided differently. Every
//! [`EVERY`] entries a replica notes it. One that differs from most of the others is lost like one
//! whose disk has failed, and is rebuilt from the others.
//!
//! A damaged row that no command reads is not found here, but by scrub and `fsck`.

use std::collections::{BTreeMap, BTreeSet};

use super::types::ReplicaId;
use drystone_store::lock::Mutex;

/// A replica notes its changes at each entry whose index is a multiple of this.
const EVERY: u64 = 256;
/// The number of notes that are kept: replicas are compared although some lag.
const KEPT: usize = 64;

/// The changes of one replica's state at some entries: log index and checksum.
#[derive(Default)]
pub struct Checkpoints(Mutex<BTreeMap<u64, u64>>);

impl Checkpoints {
    pub fn is_due(index: u64) -> bool {
        index.is_multiple_of(EVERY)
    }

    pub fn add(&self, index: u64, changes: u64) {
        let mut noted = self.0.lock();
        noted.insert(index, changes);
        if noted.len() > KEPT {
            noted.pop_first();
        }
    }

    pub fn all(&self) -> BTreeMap<u64, u64> {
        self.0.lock().clone()
    }
}

/// Replicas whose changes differ at an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    pub index: u64,
    /// The replicas that differ from more than half of those that noted the entry. Empty if there
    /// is no such half: then nobody knows which of them are right.
    pub wrong: Vec<ReplicaId>,
}

/// Compares replicas at the newest entry at which any two differ.
pub fn compare(replicas: &[(ReplicaId, BTreeMap<u64, u64>)]) -> Option<Disagreement> {
    let indices: BTreeSet<u64> = replicas
        .iter()
        .flat_map(|(_, noted)| noted.keys())
        .copied()
        .collect();
    indices.into_iter().rev().find_map(|index| {
        let noted = replicas
            .iter()
            .filter_map(|(id, noted)| Some((*id, *noted.get(&index)?)));
        let noted: Vec<(ReplicaId, u64)> = noted.collect();
        let count = |changes: u64| noted.iter().filter(|(_, own)| *own == changes).count();
        if noted.iter().all(|(_, own)| count(*own) == noted.len()) {
            return None;
        }
        let right = noted.iter().find(|(_, own)| 2 * count(*own) > noted.len());
        let differs = |(id, own): &(ReplicaId, u64)| match right {
            Some((_, right)) if own != right => Some(*id),
            _ => None,
        };
        let wrong = noted.iter().filter_map(differs).collect();
        Some(Disagreement { index, wrong })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(noted: &[&[(u64, u64)]]) -> Vec<(ReplicaId, BTreeMap<u64, u64>)> {
        let noted = noted.iter().map(|noted| noted.iter().copied().collect());
        (1..).map(ReplicaId).zip(noted).collect()
    }

    #[test]
    fn b_62_most_replicas_are_right() {
        let differ = |noted: &[&[(u64, u64)]]| compare(&replicas(noted));
        assert_eq!(differ(&[]), None);
        assert_eq!(differ(&[&[(256, 7)], &[(256, 7)], &[(512, 8)]]), None);
        // The others lag, or have noted nothing yet.
        assert_eq!(differ(&[&[(256, 7), (512, 8)], &[(256, 7)], &[]]), None);
        let wrong = |index, wrong: &[u64]| {
            let wrong = wrong.iter().copied().map(ReplicaId).collect();
            Some(Disagreement { index, wrong })
        };
        assert_eq!(
            differ(&[&[(256, 7)], &[(256, 9)], &[(256, 7)]]),
            wrong(256, &[2])
        );
        assert_eq!(differ(&[&[(256, 7)], &[(256, 9)]]), wrong(256, &[]));
        assert_eq!(
            differ(&[&[(256, 7)], &[(256, 7)], &[(256, 9)], &[(256, 9)]]),
            wrong(256, &[])
        );
        // At a later entry only two can be compared.
        assert_eq!(
            differ(&[&[(256, 7), (512, 1)], &[(256, 7), (512, 1)], &[(256, 9)]]),
            wrong(256, &[3])
        );
    }

    #[test]
    fn old_notes_are_dropped() {
        let noted = Checkpoints::default();
        for n in 0..100 {
            noted.add(n * EVERY, n);
        }
        let all = noted.all();
        assert_eq!(
            (all.len(), all.first_key_value()),
            (KEPT, Some((&(36 * EVERY), &36)))
        );
    }
}
