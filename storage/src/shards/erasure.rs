//! Stripes, chunks and shards as arithmetic: pure, without async, I/O or clock.
//!
//! An object's bytes are cut into stripes of `k × chunk size` bytes. A stripe is k data chunks, one
//! after the other, and m parity chunks of the same length. Any k of them give the others. The last
//! stripe shrinks: for `rest` bytes a chunk has `ceil(rest / k)` bytes, and the data chunks are
//! filled up with zeros to that length. All chunks of one rank, one after the other, are a shard,
//! so all shards of a write have the same length.
//!
//! The code works byte by byte, so the same span of all shards (one block of each is a *row*) can
//! be rebuilt from that span of any k of them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use reed_solomon_erasure::galois_8::ReedSolomon;

use drystone_store::lock::Mutex;
use drystone_store::types::ByteRange;

/// The bytes of a chunk in every stripe but the last, for new writes.
pub const CHUNK_SIZE_BYTES: u32 = 128 << 10;
/// The largest chunk size that a row may have.
const CHUNK_SIZE_MAX_BYTES: u32 = 4 << 20;
/// The most data and parity shards together. The code's field would allow 256.
pub const SHARDS_MAX: usize = 32;

/// The default geometries: (least number of disks, data shards, parity shards).
const DEFAULT_GEOMETRIES: [(usize, u8, u8); 9] = [
    (1, 1, 0),
    (2, 1, 1),
    (3, 2, 1),
    (4, 2, 2),
    (5, 3, 2),
    (6, 4, 2),
    (8, 5, 3),
    (12, 8, 4),
    (16, 12, 4),
];

/// The number of data and parity shards of a write: k + m.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    data: u8,
    parity: u8,
}

impl Geometry {
    /// Returns `None` unless there is a data shard and there are at most [`SHARDS_MAX`] shards.
    pub fn new(data: u8, parity: u8) -> Option<Geometry> {
        let total = usize::from(data) + usize::from(parity);
        (data > 0 && total <= SHARDS_MAX).then_some(Geometry { data, parity })
    }

    /// Returns the geometry for this number of disks if the configuration names none.
    pub fn default_for(disks: usize) -> Geometry {
        let row = DEFAULT_GEOMETRIES.iter().rev().find(|row| row.0 <= disks);
        let (_, data, parity) = *row.unwrap_or(&DEFAULT_GEOMETRIES[0]);
        Geometry { data, parity }
    }

    /// Returns this geometry, or the one with the most shards that `up` disks can hold. Parity is
    /// kept up to half of the disks. Returns `None` if a class with parity would get a single disk.
    pub fn fit(self, up: usize) -> Option<Geometry> {
        if up >= self.total() {
            return Some(self);
        }
        if up == 0 || (up < 2 && self.parity > 0) {
            return None;
        }
        let parity = usize::from(self.parity).min(up / 2);
        Geometry::new((up - parity) as u8, parity as u8)
    }

    pub fn data(self) -> usize {
        usize::from(self.data)
    }

    pub fn parity(self) -> usize {
        usize::from(self.parity)
    }

    pub fn total(self) -> usize {
        self.data() + self.parity()
    }
}

/// The places of the bytes of one write in its shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    geometry: Geometry,
    chunk_size: u32,
    size: u64,
}

/// A run of an object's bytes that lies in one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub rank: usize,
    /// Offsets in the shard's payload.
    pub span: Range<u64>,
}

impl Layout {
    /// Returns `None` for a chunk size that no writer uses: zero or too large.
    pub fn new(geometry: Geometry, chunk_size: u32, size: u64) -> Option<Layout> {
        let valid = (1..=CHUNK_SIZE_MAX_BYTES).contains(&chunk_size);
        valid.then_some(Layout {
            geometry,
            chunk_size,
            size,
        })
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The object's bytes in every stripe but the last.
    pub fn stripe_size(&self) -> u64 {
        u64::from(self.chunk_size) * self.geometry.data() as u64
    }

    /// The bytes of each chunk of this stripe.
    fn chunk_len(&self, stripe: u64) -> u64 {
        let rest = self.size - (stripe * self.stripe_size()).min(self.size);
        rest.div_ceil(self.geometry.data() as u64)
            .min(u64::from(self.chunk_size))
    }

    /// The payload bytes of each shard.
    pub fn shard_len(&self) -> u64 {
        let full = self.size / self.stripe_size();
        full * u64::from(self.chunk_size) + self.chunk_len(full)
    }

    /// Returns the pieces of a range, in the order of the object's bytes. The pieces of one rank
    /// are adjacent in its shard: only the first can begin and only the last can end within a
    /// chunk.
    pub fn pieces(&self, range: ByteRange) -> Vec<Piece> {
        assert!(range.end <= self.size, "a range ends within its object");
        let mut pieces = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let stripe = at / self.stripe_size();
            let chunk_len = self.chunk_len(stripe);
            let within = at % self.stripe_size();
            let (rank, offset) = (within / chunk_len, within % chunk_len);
            let len = (chunk_len - offset).min(range.end - at);
            let start = stripe * u64::from(self.chunk_size) + offset;
            pieces.push(Piece {
                rank: rank as usize,
                span: start..start + len,
            });
            at += len;
        }
        pieces
    }

    /// Splits the next read off a range. It has about `target` bytes and ends at a stripe if
    /// stripes are smaller than the target, else at a chunk, so that no block is read twice.
    pub fn window(&self, range: ByteRange, target: u64) -> ByteRange {
        let stripe = self.stripe_size();
        let unit = if stripe <= target {
            stripe
        } else {
            u64::from(self.chunk_size)
        };
        let step = (target / unit).max(1) * unit;
        let end = (range.start / step + 1) * step;
        ByteRange {
            start: range.start,
            end: end.min(range.end),
        }
    }
}

/// The error of a code that has fewer chunks than it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("fewer chunks are left than data shards")]
pub struct TooFewChunks;

/// The Reed-Solomon code of one geometry.
pub struct Codec {
    geometry: Geometry,
    /// `None` without parity, when there is nothing to compute.
    code: Option<ReedSolomon>,
}

impl Codec {
    pub fn new(geometry: Geometry) -> Codec {
        let code = (geometry.parity > 0).then(|| {
            ReedSolomon::new(geometry.data(), geometry.parity())
                .expect("a geometry has between 1 and 256 shards")
        });
        Codec { geometry, code }
    }

    /// Fills in the parity of a stripe, which is `k + m` chunks of `chunk_len` bytes, one after the
    /// other.
    pub fn encode(&self, stripe: &mut [u8], chunk_len: usize) {
        assert_eq!(stripe.len(), chunk_len * self.geometry.total());
        let Some(code) = &self.code else { return };
        if chunk_len == 0 {
            return;
        }
        let (data, parity) = stripe.split_at_mut(chunk_len * self.geometry.data());
        let data: Vec<&[u8]> = data.chunks_exact(chunk_len).collect();
        let mut parity: Vec<&mut [u8]> = parity.chunks_exact_mut(chunk_len).collect();
        code.encode_sep(&data, &mut parity)
            .expect("all chunks of a stripe have one length");
    }

    /// Returns whether the parity of a row is the code of its data. All must have the same length.
    pub fn is_coded<B: AsRef<[u8]>>(&self, row: &[B]) -> bool {
        let is_empty = row.first().is_none_or(|first| first.as_ref().is_empty());
        let code = self.code.as_ref().filter(|_| !is_empty);
        code.is_none_or(|code| code.verify(row).unwrap_or(false))
    }

    /// Rebuilds the data chunks (or blocks) that are `None`, by rank, from any k others. All must
    /// have the same length, which must not be zero.
    pub fn reconstruct_data(&self, row: &mut [Option<Vec<u8>>]) -> Result<(), TooFewChunks> {
        assert_eq!(row.len(), self.geometry.total());
        let data = self.geometry.data();
        if row[..data].iter().all(Option::is_some) {
            return Ok(());
        }
        let Some(code) = &self.code else {
            return Err(TooFewChunks);
        };
        code.reconstruct_data(row).map_err(|_| TooFewChunks)
    }
}

impl Codec {
    /// Rebuilds the chunk (or block) of one rank, data or parity, from any k others.
    pub fn reconstruct_rank(
        &self,
        mut row: Vec<Option<Vec<u8>>>,
        rank: usize,
    ) -> Result<Vec<u8>, TooFewChunks> {
        assert_eq!(row.len(), self.geometry.total());
        if row[rank].is_none() {
            let code = self.code.as_ref().ok_or(TooFewChunks)?;
            let rebuilt = match rank < self.geometry.data() {
                true => code.reconstruct_data(&mut row),
                false => code.reconstruct(&mut row),
            };
            rebuilt.map_err(|_| TooFewChunks)?;
        }
        row[rank].take().ok_or(TooFewChunks)
    }
}

/// The codes of the geometries in use. Each is made once.
#[derive(Default)]
pub struct Codecs {
    by_geometry: Mutex<HashMap<Geometry, Arc<Codec>>>,
}

impl Codecs {
    pub fn get(&self, geometry: Geometry) -> Arc<Codec> {
        let mut codecs = self.by_geometry.lock();
        let codec = codecs
            .entry(geometry)
            .or_insert_with(|| Arc::new(Codec::new(geometry)));
        Arc::clone(codec)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// The unit that disks verify, which has edge cases of its own.
    const BLOCK_SIZE_BYTES: u32 = 32 << 10;

    fn geometry(k: u8, m: u8) -> Geometry {
        Geometry::new(k, m).unwrap()
    }

    /// Returns the payloads of all shards of an object, as a writer makes them.
    fn shards(layout: &Layout, object: &[u8]) -> Vec<Vec<u8>> {
        let (codec, total) = (Codec::new(layout.geometry), layout.geometry.total());
        let mut shards = vec![Vec::new(); total];
        for bytes in object.chunks(layout.stripe_size() as usize) {
            let chunk = bytes.len().div_ceil(layout.geometry.data());
            let mut stripe = bytes.to_vec();
            stripe.resize(chunk * total, 0);
            codec.encode(&mut stripe, chunk);
            for (shard, piece) in shards.iter_mut().zip(stripe.chunks(chunk)) {
                shard.extend_from_slice(piece);
            }
        }
        shards
    }

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    /// Sizes at which layouts were wrong in other stores.
    fn edge_sizes(layout: impl Fn(u64) -> Layout) -> Vec<u64> {
        let (block, stripe) = (u64::from(BLOCK_SIZE_BYTES), layout(0).stripe_size());
        let k = stripe / u64::from(layout(0).chunk_size);
        let mut sizes = vec![0, 1];
        for edge in [block, k * block, stripe, 2 * stripe] {
            sizes.extend([edge - 1, edge, edge + 1]);
        }
        sizes
    }

    #[test]
    fn default_geometries_are_the_table_and_the_next_lower_row_between() {
        let expected = [
            (1, (1, 0)),
            (2, (1, 1)),
            (3, (2, 1)),
            (4, (2, 2)),
            (5, (3, 2)),
            (6, (4, 2)),
            (7, (4, 2)),
            (8, (5, 3)),
            (11, (5, 3)),
            (12, (8, 4)),
            (16, (12, 4)),
            (40, (12, 4)),
        ];
        for (disks, (k, m)) in expected {
            assert_eq!(Geometry::default_for(disks), geometry(k, m), "{disks}");
        }
    }

    #[test]
    fn geometry_shrinks_to_the_disks_that_are_up() {
        assert_eq!(geometry(2, 2).fit(4), Some(geometry(2, 2)));
        assert_eq!(geometry(2, 2).fit(3), Some(geometry(2, 1)));
        assert_eq!(geometry(2, 2).fit(2), Some(geometry(1, 1)));
        assert_eq!(geometry(2, 2).fit(1), None);
        assert_eq!(geometry(12, 4).fit(9), Some(geometry(5, 4)));
        assert_eq!(geometry(1, 0).fit(1), Some(geometry(1, 0)));
        assert_eq!(geometry(4, 0).fit(1), Some(geometry(1, 0)));
        assert_eq!(geometry(1, 0).fit(0), None);
    }

    #[test]
    fn b_24_f_35_every_subrange_at_boundaries_maps_to_its_bytes() {
        for (k, m) in [(1, 0), (2, 1), (2, 2), (3, 2), (5, 3)] {
            let layout = |size| Layout::new(geometry(k, m), BLOCK_SIZE_BYTES * 2, size).unwrap();
            for size in edge_sizes(layout) {
                let (layout, object) = (layout(size), bytes(size));
                let shards = shards(&layout, &object);
                for shard in &shards {
                    assert_eq!(shard.len() as u64, layout.shard_len());
                }
                let cuts: Vec<u64> = edge_sizes(|s| Layout { size: s, ..layout })
                    .into_iter()
                    .chain([size, size.saturating_sub(1)])
                    .filter(|cut| *cut <= size)
                    .collect();
                for &start in &cuts {
                    for &end in cuts.iter().filter(|end| **end > start) {
                        let mut at = start;
                        for piece in layout.pieces(ByteRange { start, end }) {
                            assert!(piece.rank < usize::from(k));
                            let span = piece.span.start as usize..piece.span.end as usize;
                            let expected = &object[at as usize..][..span.len()];
                            assert_eq!(&shards[piece.rank][span], expected, "{size} {start}");
                            at += piece.span.end - piece.span.start;
                        }
                        assert_eq!(at, end);
                    }
                }
            }
        }
    }

    #[test]
    fn windows_cover_a_range_and_end_at_stripes() {
        for k in [1, 2, 12] {
            let size = 5 * u64::from(CHUNK_SIZE_BYTES) * u64::from(k) + 17;
            let layout = Layout::new(geometry(k, 0), CHUNK_SIZE_BYTES, size).unwrap();
            let mut rest = ByteRange {
                start: 7,
                end: size,
            };
            while !rest.is_empty() {
                let window = layout.window(rest, 1 << 20);
                assert!(!window.is_empty() && window.len() <= (1 << 20).max(layout.stripe_size()));
                assert!(window.end == size || window.end.is_multiple_of(CHUNK_SIZE_BYTES.into()));
                rest.start = window.end;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_k_of_k_plus_m_rebuild(
            k in 1u8..13, m in 0u8..5, size in 1u64..2000,
            seed in prop::collection::vec(any::<u16>(), 17),
        ) {
            let layout = Layout::new(geometry(k, m), BLOCK_SIZE_BYTES, size).unwrap();
            let shards = shards(&layout, &bytes(size));
            let mut ranks: Vec<usize> = (0..layout.geometry.total()).collect();
            ranks.sort_by_key(|rank| seed[*rank]);
            let mut row: Vec<Option<Vec<u8>>> = shards.iter().cloned().map(Some).collect();
            for rank in &ranks[..usize::from(m)] {
                row[*rank] = None;
            }
            let codec = Codec::new(layout.geometry);
            prop_assert_eq!(codec.reconstruct_data(&mut row), Ok(()));
            for rank in 0..usize::from(k) {
                prop_assert_eq!(row[rank].as_ref(), Some(&shards[rank]));
            }
            // One more lost chunk is too many, if a data chunk is among them.
            for rank in &ranks[..=usize::from(m).min(ranks.len() - 1)] {
                row[*rank] = None;
            }
            if row[..usize::from(k)].iter().any(Option::is_none) {
                prop_assert_eq!(codec.reconstruct_data(&mut row), Err(TooFewChunks));
            }
        }
    }
}
