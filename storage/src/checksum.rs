//! The checksums that objects carry: streaming, combined from parts, and the ETag of parts.
//!
//! Pure arithmetic over bytes in memory. Values are big-endian, as they are sent. What a client
//! may ask for, and in which header, is the front end's.

use std::fmt;
use std::str::FromStr;

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::types::{Checksum, ChecksumAlgorithm, ChecksumType, ETag};

impl ChecksumAlgorithm {
    pub const ALL: [ChecksumAlgorithm; 5] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
    ];

    /// As S3 writes it in documents and headers.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumAlgorithm::Crc32 => "CRC32",
            ChecksumAlgorithm::Crc32c => "CRC32C",
            ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
            ChecksumAlgorithm::Sha1 => "SHA1",
            ChecksumAlgorithm::Sha256 => "SHA256",
        }
    }

    /// How many bytes a value has.
    pub fn value_len(self) -> usize {
        match self {
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
            ChecksumAlgorithm::Crc64Nvme => 8,
            ChecksumAlgorithm::Sha1 => 20,
            ChecksumAlgorithm::Sha256 => 32,
        }
    }

    /// Of what a multipart object's checksum is taken when its creator doesn't say.
    pub fn default_type(self) -> ChecksumType {
        match self {
            ChecksumAlgorithm::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }

    /// Whether a multipart object can have such a checksum: a hash's value can't be had from its
    /// parts' values, and S3 has no composite CRC64NVME.
    pub fn supports(self, kind: ChecksumType) -> bool {
        match kind {
            ChecksumType::FullObject => self.crc().is_some(),
            ChecksumType::Composite => self != ChecksumAlgorithm::Crc64Nvme,
        }
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
        }
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChecksumAlgorithm {
    type Err = UnknownAlgorithm;

    /// Letter case doesn't matter, as it doesn't to S3.
    fn from_str(s: &str) -> Result<ChecksumAlgorithm, UnknownAlgorithm> {
        ChecksumAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(s))
            .ok_or(UnknownAlgorithm)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checksum algorithm")]
pub struct UnknownAlgorithm;

impl ChecksumType {
    /// As S3 writes it in documents and headers.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::FullObject => "FULL_OBJECT",
            ChecksumType::Composite => "COMPOSITE",
        }
    }
}

/// A checksum being taken.
pub struct Hasher {
    algorithm: ChecksumAlgorithm,
    state: State,
}

enum State {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub fn new(algorithm: ChecksumAlgorithm) -> Hasher {
        let state = match (algorithm, algorithm.crc()) {
            (_, Some(crc)) => State::Crc(crc_fast::Digest::new(crc)),
            (ChecksumAlgorithm::Sha1, _) => State::Sha1(Sha1::new()),
            (_, None) => State::Sha256(Sha256::new()),
        };
        Hasher { algorithm, state }
    }

    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(crc) => crc.update(bytes),
            State::Sha1(sha) => sha.update(bytes),
            State::Sha256(sha) => sha.update(bytes),
        }
    }

    /// The checksum of all bytes given.
    pub fn finish(self) -> Checksum {
        let value = match self.state {
            State::Crc(crc) => crc_value(self.algorithm, crc.finalize()),
            State::Sha1(sha) => sha.finalize().to_vec(),
            State::Sha256(sha) => sha.finalize().to_vec(),
        };
        Checksum {
            algorithm: self.algorithm,
            kind: ChecksumType::FullObject,
            value,
        }
    }
}

/// The checksum of `bytes`.
pub fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// A part as its object's checksum sees it: the part's value and how many bytes it has.
#[derive(Clone, Copy, Debug)]
pub struct PartValue<'a> {
    pub value: &'a [u8],
    pub size: u64,
}

/// The checksum of an object from those of its parts, in their order, without a byte read.
///
/// `None` when the algorithm has no checksum of this kind, or a value has the wrong length.
pub fn combine(
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
    parts: &[PartValue<'_>],
) -> Option<Checksum> {
    let well_formed = parts
        .iter()
        .all(|part| part.value.len() == algorithm.value_len());
    if !algorithm.supports(kind) || !well_formed {
        return None;
    }
    let value = match kind {
        ChecksumType::Composite => {
            let mut hasher = Hasher::new(algorithm);
            parts.iter().for_each(|part| hasher.update(part.value));
            hasher.finish().value
        }
        ChecksumType::FullObject => {
            let crc = algorithm.crc()?;
            let whole = parts
                .iter()
                .fold(crc_fast::Digest::new(crc).finalize(), |sum, part| {
                    crc_fast::checksum_combine(crc, sum, big_endian(part.value), part.size)
                });
            crc_value(algorithm, whole)
        }
    };
    Some(Checksum {
        algorithm,
        kind,
        value,
    })
}

/// The ETag of an object made of parts with these MD5s.
pub fn multipart_etag(parts: impl IntoIterator<Item = [u8; 16]>) -> ETag {
    let mut hasher = Md5::new();
    let mut count = 0;
    for md5 in parts {
        hasher.update(md5);
        count += 1;
    }
    ETag {
        md5: hasher.finalize().into(),
        parts: count,
    }
}

fn crc_value(algorithm: ChecksumAlgorithm, crc: u64) -> Vec<u8> {
    crc.to_be_bytes()[8 - algorithm.value_len()..].to_vec()
}

fn big_endian(value: &[u8]) -> u64 {
    value
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const CRCS: [ChecksumAlgorithm; 3] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
    ];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn s_18_known_answers() {
        let of_nine = [
            "cbf43926",
            "e3069283",
            "ae8b14860a799888",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ];
        let of_nothing = [
            "00000000",
            "00000000",
            "0000000000000000",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ];
        for (i, algorithm) in ChecksumAlgorithm::ALL.into_iter().enumerate() {
            let nine = checksum(algorithm, b"123456789");
            assert_eq!(hex(&nine.value), of_nine[i], "{algorithm}");
            assert_eq!(nine.value.len(), algorithm.value_len());
            let nothing = checksum(algorithm, b"");
            assert_eq!(hex(&nothing.value), of_nothing[i], "{algorithm}");
        }
    }

    #[test]
    fn s_18_names_read_back() {
        for algorithm in ChecksumAlgorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(algorithm.name().to_lowercase().parse(), Ok(algorithm));
        }
        for wrong in ["", "CRC", "CRC64", "MD5", "SHA-256", " SHA1"] {
            assert_eq!(wrong.parse::<ChecksumAlgorithm>(), Err(UnknownAlgorithm));
        }
    }

    #[test]
    fn s_18_composite_hashes_the_values_of_the_parts() {
        for algorithm in ChecksumAlgorithm::ALL {
            let (a, b) = (checksum(algorithm, b"1234"), checksum(algorithm, b"56789"));
            let parts = [(&a, 4), (&b, 5)].map(|(part, size)| PartValue {
                value: &part.value,
                size,
            });
            let composite = combine(algorithm, ChecksumType::Composite, &parts);
            if algorithm == ChecksumAlgorithm::Crc64Nvme {
                assert_eq!(composite, None);
                continue;
            }
            let expected = checksum(algorithm, &[a.value.clone(), b.value.clone()].concat());
            assert_eq!(composite.unwrap().value, expected.value);
            let full = combine(algorithm, ChecksumType::FullObject, &parts);
            assert_eq!(full.is_some(), CRCS.contains(&algorithm));
        }
    }

    #[test]
    fn s_18_a_value_of_another_length_combines_to_nothing() {
        let part = PartValue {
            value: &[1, 2, 3],
            size: 3,
        };
        for kind in [ChecksumType::Composite, ChecksumType::FullObject] {
            assert_eq!(combine(ChecksumAlgorithm::Crc32, kind, &[part]), None);
        }
    }

    #[test]
    fn s_20_etag_of_parts() {
        // printf 'a' | md5sum and 'b' likewise; then the MD5 of both values, one after the other.
        let md5 = |bytes: &[u8]| <[u8; 16]>::from(Md5::digest(bytes));
        let etag = multipart_etag([md5(b"a"), md5(b"b")]);
        assert_eq!(etag.to_string(), "96e024ba2074fe77e8e965ba43a704be-2");
    }

    proptest! {
        #[test]
        fn s_18_full_object_crc_is_that_of_all_bytes(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
        ) {
            for algorithm in CRCS {
                let sums: Vec<Checksum> =
                    parts.iter().map(|part| checksum(algorithm, part)).collect();
                let values: Vec<PartValue<'_>> = sums
                    .iter()
                    .zip(&parts)
                    .map(|(sum, part)| PartValue { value: &sum.value, size: part.len() as u64 })
                    .collect();
                let combined = combine(algorithm, ChecksumType::FullObject, &values);
                prop_assert_eq!(combined, Some(checksum(algorithm, &parts.concat())));
            }
        }

        #[test]
        fn s_18_pieces_do_not_matter(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            cut in any::<prop::sample::Index>(),
        ) {
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            for algorithm in ChecksumAlgorithm::ALL {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(a);
                hasher.update(b);
                prop_assert_eq!(hasher.finish(), checksum(algorithm, &bytes));
            }
        }
    }
}
