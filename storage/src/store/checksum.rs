//! The checksums of objects: streaming, combined from parts, and the ETag of parts.
//!
//! Pure arithmetic over bytes in memory. Values are big-endian, as they are sent. The front end
//! decides which checksums a client may ask for, and in which header.

use std::fmt;
use std::str::FromStr;

use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use xxhash_rust::xxh3::Xxh3Default;
use xxhash_rust::xxh64::Xxh64;

use crate::types::{Checksum, ChecksumAlgorithm, ChecksumType, ETag, UploadedPart};

impl ChecksumAlgorithm {
    pub const ALL: [ChecksumAlgorithm; 10] = [
        ChecksumAlgorithm::Crc32,
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Crc64Nvme,
        ChecksumAlgorithm::Sha1,
        ChecksumAlgorithm::Sha256,
        ChecksumAlgorithm::Md5,
        ChecksumAlgorithm::Sha512,
        ChecksumAlgorithm::XxHash3,
        ChecksumAlgorithm::XxHash64,
        ChecksumAlgorithm::XxHash128,
    ];

    /// Returns the name that S3 uses in documents and headers.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumAlgorithm::Crc32 => "CRC32",
            ChecksumAlgorithm::Crc32c => "CRC32C",
            ChecksumAlgorithm::Crc64Nvme => "CRC64NVME",
            ChecksumAlgorithm::Sha1 => "SHA1",
            ChecksumAlgorithm::Sha256 => "SHA256",
            ChecksumAlgorithm::Md5 => "MD5",
            ChecksumAlgorithm::Sha512 => "SHA512",
            ChecksumAlgorithm::XxHash3 => "XXHASH3",
            ChecksumAlgorithm::XxHash64 => "XXHASH64",
            ChecksumAlgorithm::XxHash128 => "XXHASH128",
        }
    }

    /// Returns the number of bytes of a value.
    pub fn value_len(self) -> usize {
        match self {
            ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c => 4,
            ChecksumAlgorithm::Crc64Nvme
            | ChecksumAlgorithm::XxHash3
            | ChecksumAlgorithm::XxHash64 => 8,
            ChecksumAlgorithm::Md5 | ChecksumAlgorithm::XxHash128 => 16,
            ChecksumAlgorithm::Sha1 => 20,
            ChecksumAlgorithm::Sha256 => 32,
            ChecksumAlgorithm::Sha512 => 64,
        }
    }

    /// Returns the type of a multipart object's checksum if the client that creates the upload
    /// names none.
    pub fn default_type(self) -> ChecksumType {
        match self {
            ChecksumAlgorithm::Crc64Nvme => ChecksumType::FullObject,
            _ => ChecksumType::Composite,
        }
    }

    /// Returns whether a multipart object can have a checksum of this type. A full-object hash
    /// cannot be computed from the values of its parts, and S3 has no composite CRC64NVME.
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
            _ => None,
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

    /// Parses a name without regard to letter case, as S3 does.
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
    /// Returns the name that S3 uses in documents and headers.
    pub fn name(self) -> &'static str {
        match self {
            ChecksumType::FullObject => "FULL_OBJECT",
            ChecksumType::Composite => "COMPOSITE",
        }
    }
}

/// The checksum of an object whose client asked for none.
pub const DEFAULT: (ChecksumAlgorithm, ChecksumType) =
    (ChecksumAlgorithm::Crc64Nvme, ChecksumType::FullObject);

/// Computes a checksum piece by piece.
pub struct Hasher {
    algorithm: ChecksumAlgorithm,
    state: State,
}

enum State {
    Crc(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
    Md5(Md5),
    Sha512(Sha512),
    /// One state gives both lengths of XXH3.
    XxHash3(Box<Xxh3Default>),
    XxHash64(Xxh64),
}

impl Hasher {
    pub fn new(algorithm: ChecksumAlgorithm) -> Hasher {
        use ChecksumAlgorithm as A;
        let state = match algorithm {
            A::Crc32 => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            A::Crc32c => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            A::Crc64Nvme => State::Crc(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            A::Sha1 => State::Sha1(Sha1::new()),
            A::Sha256 => State::Sha256(Sha256::new()),
            A::Md5 => State::Md5(Md5::new()),
            A::Sha512 => State::Sha512(Sha512::new()),
            A::XxHash3 | A::XxHash128 => State::XxHash3(Box::new(Xxh3Default::new())),
            A::XxHash64 => State::XxHash64(Xxh64::new(0)),
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
            State::Md5(md5) => md5.update(bytes),
            State::Sha512(sha) => sha.update(bytes),
            State::XxHash3(hash) => hash.update(bytes),
            State::XxHash64(hash) => hash.update(bytes),
        }
    }

    /// Returns the checksum of all bytes so far.
    pub fn finish(self) -> Checksum {
        let value = match self.state {
            State::Crc(crc) => crc_value(self.algorithm, crc.finalize()),
            State::Sha1(sha) => sha.finalize().to_vec(),
            State::Sha256(sha) => sha.finalize().to_vec(),
            State::Md5(md5) => md5.finalize().to_vec(),
            State::Sha512(sha) => sha.finalize().to_vec(),
            State::XxHash3(hash) if self.algorithm == ChecksumAlgorithm::XxHash3 => {
                hash.digest().to_be_bytes().to_vec()
            }
            State::XxHash3(hash) => hash.digest128().to_be_bytes().to_vec(),
            State::XxHash64(hash) => hash.digest().to_be_bytes().to_vec(),
        };
        Checksum {
            algorithm: self.algorithm,
            kind: ChecksumType::FullObject,
            value,
        }
    }
}

/// CRC64NVME, piece by piece: the checksum of what a shard holds, whatever its name.
#[derive(Clone, Debug)]
pub struct Crc64(crc_fast::Digest);

impl Crc64 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all bytes so far.
    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

impl Default for Crc64 {
    fn default() -> Crc64 {
        Crc64(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme))
    }
}

/// Returns the checksum of `bytes`.
pub fn checksum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// A part in the computation of its object's checksum: the part's value and its size in bytes.
#[derive(Clone, Copy, Debug)]
pub struct PartValue<'a> {
    pub value: &'a [u8],
    pub size: u64,
}

/// Combines the checksums of parts, in their order, to that of the object. No bytes are read.
///
/// Returns `None` if the algorithm has no checksum of this kind, or a value has the wrong length.
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

/// Returns the checksum of an object made of these parts, with the algorithm and type that were
/// chosen when its upload was created, or the default ones. Returns `None` unless each part has a
/// value for it.
pub fn of_parts<'a>(
    wanted: Option<(ChecksumAlgorithm, ChecksumType)>,
    parts: impl IntoIterator<Item = &'a UploadedPart>,
) -> Option<Checksum> {
    let (algorithm, kind) = wanted.unwrap_or(DEFAULT);
    let own = parts.into_iter().map(|part| {
        let own = in_object(wanted, part.checksum.as_ref(), part.crc64nvme)?;
        (own.algorithm == algorithm).then_some((own.value, part.size))
    });
    let own: Vec<(Vec<u8>, u64)> = own.collect::<Option<_>>()?;
    let values: Vec<PartValue<'_>> = own
        .iter()
        .map(|(value, size)| PartValue { value, size: *size })
        .collect();
    combine(algorithm, kind, &values)
}

/// Returns a part's checksum for the finished object, by the algorithm of the object's own
/// checksum.
pub fn in_object(
    wanted: Option<(ChecksumAlgorithm, ChecksumType)>,
    checksum: Option<&Checksum>,
    crc64nvme: Option<u64>,
) -> Option<Checksum> {
    match (wanted, crc64nvme) {
        (None, Some(crc)) => Some(Checksum {
            algorithm: DEFAULT.0,
            kind: ChecksumType::FullObject,
            value: crc.to_be_bytes().to_vec(),
        }),
        _ => checksum.cloned(),
    }
}

/// Returns a part's CRC64NVME, whether it is its own checksum or was taken besides.
pub fn part_crc64nvme(checksum: Option<&Checksum>, besides: Option<u64>) -> Option<u64> {
    let own = checksum.filter(|own| own.algorithm == ChecksumAlgorithm::Crc64Nvme);
    own.map(|own| big_endian(&own.value)).or(besides)
}

/// Combines the CRC64NVME of parts and their sizes in bytes to that of the object. Returns `None`
/// unless each part has one.
pub fn whole_crc64nvme(parts: impl IntoIterator<Item = (Option<u64>, u64)>) -> Option<u64> {
    let crc = CrcAlgorithm::Crc64Nvme;
    let none = crc_fast::Digest::new(crc).finalize();
    parts.into_iter().try_fold(none, |sum, (part, size)| {
        Some(crc_fast::checksum_combine(crc, sum, part?, size))
    })
}

/// Returns the checksum of an object that shares another's bytes: a checksum of all bytes. A copy
/// is no upload, so the checksums of parts say nothing of it. Where `source` has no other, and the
/// CRC64NVME of all bytes is not known, its own stays.
pub fn of_copy(source: Option<Checksum>, crc64nvme: Option<u64>) -> Option<Checksum> {
    let is_whole = |own: &Checksum| own.kind == ChecksumType::FullObject;
    match crc64nvme {
        Some(crc) if !source.as_ref().is_some_and(is_whole) => Some(Checksum {
            algorithm: ChecksumAlgorithm::Crc64Nvme,
            kind: ChecksumType::FullObject,
            value: crc.to_be_bytes().to_vec(),
        }),
        _ => source,
    }
}

/// Returns the ETag of an object made of parts with these MD5s.
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
            "25f9e794323b453885f5181f1b624d0b",
            "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a\
             d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
            "72dcb18b67a17dff",
            "8cb841db40e6ae83",
            "33119477ede5dcd5e9716427681d5860",
        ];
        let of_nothing = [
            "00000000",
            "00000000",
            "0000000000000000",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "d41d8cd98f00b204e9800998ecf8427e",
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            "2d06800538d394c2",
            "ef46db3751d8e999",
            "99aa06d3014798d86001c324468d497f",
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
        for wrong in ["", "CRC", "CRC64", "MD-5", "SHA-256", " SHA1", "XXH3"] {
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
