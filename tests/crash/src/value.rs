//! Bytes that show by themselves who wrote them.
//!
//! A value is a name and a length. Its bytes are blocks of 64, each with the name, its place and
//! the output of a generator for both, so any two adjacent blocks identify their value and their
//! place: torn, shifted or mixed bytes are seen at once.

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};

const BLOCK_LEN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Value {
    pub run: u64,
    pub id: u64,
    pub len: usize,
}

impl Value {
    pub fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len.next_multiple_of(BLOCK_LEN));
        for place in 0..self.len.div_ceil(BLOCK_LEN) as u64 {
            let mut word = mix(self.run ^ mix(self.id ^ mix(place ^ mix(self.len as u64))));
            for own in [self.run, self.id, place, self.len as u64] {
                bytes.extend_from_slice(&own.to_le_bytes());
            }
            for _ in 0..4 {
                word = mix(word);
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        bytes.truncate(self.len);
        bytes
    }

    /// Returns the entity tag of an object written in one request.
    pub fn etag(self) -> String {
        hex::encode(Md5::digest(self.bytes()))
    }

    /// Describes whose bytes these are, as far as they show it.
    pub fn describe(bytes: &[u8]) -> String {
        let owner = |block: &[u8]| {
            let word = |at: usize| {
                let bytes = block.get(at * 8..at * 8 + 8)?;
                Some(u64::from_le_bytes(bytes.try_into().unwrap()))
            };
            Some((word(0)?, word(1)?, word(2)?))
        };
        let owners: Vec<String> = bytes
            .chunks(BLOCK_LEN)
            .filter_map(owner)
            .map(|(run, id, place)| format!("run {run:x} value {id} block {place}"))
            .collect();
        match owners.as_slice() {
            [] => format!("{} bytes", bytes.len()),
            [only] => format!("{} bytes: {only}", bytes.len()),
            [first, .., last] => format!("{} bytes: {first} to {last}", bytes.len()),
        }
    }
}

/// Returns the entity tag of an object made of these parts.
pub fn etag_of_parts(parts: &[Value]) -> String {
    let sums: Vec<u8> = parts
        .iter()
        .flat_map(|part| Md5::digest(part.bytes()))
        .collect();
    format!("{}-{}", hex::encode(Md5::digest(sums)), parts.len())
}

/// One step of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ_in_every_block() {
        let value = |id, len| Value { run: 1, id, len };
        let (one, two) = (value(1, 1000).bytes(), value(2, 1000).bytes());
        assert_eq!(one.len(), 1000);
        let pairs = one.chunks(BLOCK_LEN).zip(two.chunks(BLOCK_LEN));
        assert!(pairs.into_iter().all(|(one, two)| one != two));
        assert_ne!(one[..128], one[64..192]);
        assert!(Value::describe(&two[64..192]).contains("value 2 block 1 to"));
    }
}
