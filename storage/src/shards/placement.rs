//! Placement: the choice of disks for the shards of a write. Pure functions.
//!
//! It is rendezvous hashing, keyed by the write id and weighted by the free space above the
//! reserve, so disks of any size fill up alike. The `data` row names the disks, so reads never
//! compute the placement, and it may change between versions.

use xxhash_rust::xxh3::xxh3_64;

use drystone_store::types::{DiskId, WriteId};

/// A disk that has room for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub disk: DiskId,
    /// Free bytes above the reserve. 0 counts as 1.
    pub weight: u64,
}

/// Returns all candidates, each once, in the order in which this write prefers them. The first ones
/// get its shards by rank, the rest are spare disks.
pub fn order(write_id: WriteId, candidates: &[Candidate]) -> Vec<DiskId> {
    let mut scored: Vec<(f64, DiskId)> = candidates
        .iter()
        .map(|candidate| (score(write_id, candidate), candidate.disk))
        .collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    scored.dedup_by_key(|(_, disk)| *disk);
    scored.into_iter().map(|(_, disk)| disk).collect()
}

/// Returns a number that is exponentially distributed with the weight as its rate. The probability
/// that a disk has the least score is in proportion to its weight.
fn score(write_id: WriteId, candidate: &Candidate) -> f64 {
    let mut name = [0; 32];
    name[..16].copy_from_slice(&write_id.0);
    name[16..].copy_from_slice(&candidate.disk.0);
    // 53 bits, and never zero, as the logarithm of zero is not finite.
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
        fn the_others_keep_their_order_without_one_disk(
            id in any::<[u8; 16]>(), weights in prop::collection::vec(1u64..1000, 2..12)
        ) {
            let all = candidates(&weights);
            let missing = all[0].disk;
            let mut before = order(WriteId(id), &all);
            before.retain(|disk| *disk != missing);
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
