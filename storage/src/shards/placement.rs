//! Which disks take the shards of a write: pure.
//!
//! Rendezvous hashing, keyed by the write id and weighted by the free space above the reserve, so
//! disks of any size fill up alike. The `data` row names the disks, so this need not be stable: a
//! read never asks it.

use xxhash_rust::xxh3::xxh3_64;

use drystone_store::types::{DiskId, WriteId};

/// A disk that can take a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub disk: DiskId,
    /// Free bytes above the reserve; none is taken as one.
    pub weight: u64,
}

/// All candidates, each once, in the order in which this write prefers them: the first take its
/// shards by rank, the rest stand in for one that fails.
pub fn order(write_id: WriteId, candidates: &[Candidate]) -> Vec<DiskId> {
    let mut scored: Vec<(f64, DiskId)> = candidates
        .iter()
        .map(|candidate| (score(write_id, candidate), candidate.disk))
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.dedup_by_key(|(_, disk)| *disk);
    scored.into_iter().map(|(_, disk)| disk).collect()
}

/// Exponentially distributed with the weight as its rate: the least of several is a disk's with a
/// probability in proportion to its weight.
fn score(write_id: WriteId, candidate: &Candidate) -> f64 {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&write_id.0);
    name[16..].copy_from_slice(&candidate.disk.0);
    // 53 bits, and never zero, whose logarithm is not finite.
    let uniform = ((xxh3_64(&name) >> 11) + 1) as f64 / (1u64 << 53) as f64;
    -uniform.ln() / candidate.weight.max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn candidates(weights: &[u64]) -> Vec<Candidate> {
        let disk = |(i, weight): (usize, &u64)| Candidate {
            disk: DiskId([i as u8; 16]),
            weight: *weight,
        };
        weights.iter().enumerate().map(disk).collect()
    }

    proptest! {
        #[test]
        fn every_disk_stands_once(
            id in any::<[u8; 16]>(), weights in prop::collection::vec(any::<u64>(), 0..20)
        ) {
            let order = order(WriteId(id), &candidates(&weights));
            let distinct: HashSet<DiskId> = order.iter().copied().collect();
            prop_assert_eq!(order.len(), weights.len());
            prop_assert_eq!(distinct.len(), weights.len());
        }

        #[test]
        fn the_others_keep_their_order_when_one_disk_leaves(
            id in any::<[u8; 16]>(), weights in prop::collection::vec(1u64..1000, 2..12)
        ) {
            let all = candidates(&weights);
            let gone = all[0].disk;
            let mut before = order(WriteId(id), &all);
            before.retain(|disk| *disk != gone);
            prop_assert_eq!(before, order(WriteId(id), &all[1..]));
        }
    }

    #[test]
    fn first_places_go_by_weight() {
        let all = candidates(&[1 << 40, 3 << 40]);
        let writes = 4000u64;
        let second = (0..writes)
            .filter(|i| {
                let id = (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) as u128;
                order(WriteId((id << 64 | id).to_be_bytes()), &all)[0] == all[1].disk
            })
            .count() as f64;
        let share = second / writes as f64;
        assert!((0.70..0.80).contains(&share), "{share}");
    }
}
