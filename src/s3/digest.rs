//! The digests of a body, taken while it streams by, off the threads that serve connections.
//!
//! MD5 is the slowest thing that happens to a body (0.65 GB/s), so it must not wait for disks nor
//! they for it. Pieces are gathered into batches; one batch is hashed on a blocking thread while
//! the next one arrives and the last one is written. A thread is held only while it computes: a
//! client that sends slowly holds none. At most two batches of a body are in memory here.

use bytes::Bytes;
use drystone_store::checksum::Hasher;
use drystone_store::types::{Checksum, ChecksumAlgorithm, ChecksumType, Digest};
use md5::Md5;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use crate::values::checksum::DEFAULT_ALGORITHM;
use drystone_auth::v4::chunks::SignatureChain;
use drystone_protocol::error::{Code, S3Error};

/// Handed to a blocking thread once this much is there.
const BATCH_BYTES: usize = 256 << 10;
/// The end of a body is hashed in place if it is no longer than this: 0.1 ms.
const INLINE_BYTES: usize = 64 << 10;
/// The cost of an item beyond its bytes, so that a batch of empty ones has an end.
const ITEM_COST_BYTES: usize = 128;

/// The digests to compute of a body.
#[derive(Debug, Default)]
pub struct Wanted {
    pub sha256: bool,
    pub checksum: Option<ChecksumAlgorithm>,
    /// Signatures of chunks to verify along the way.
    pub chain: Option<SignatureChain>,
}

/// The digests of a body.
#[derive(Debug)]
pub struct Digests {
    pub md5: [u8; 16],
    pub sha256: Option<[u8; 32]>,
    pub checksum: Option<Checksum>,
    pub crc64nvme: Option<u64>,
    /// Stands after the last chunk: at the trailer's signature.
    pub chain: Option<SignatureChain>,
}

impl Digests {
    /// Returns the digests that storage keeps.
    pub fn kept(&self) -> Digest {
        Digest {
            md5: self.md5,
            checksum: self.checksum.clone(),
            crc64nvme: self.crc64nvme,
        }
    }
}

pub struct Digester {
    /// Absent while a blocking thread has them.
    hashes: Option<Box<Hashes>>,
    running: Option<JoinHandle<Box<Hashes>>>,
    batch: Vec<Item>,
    batch_bytes: usize,
}

enum Item {
    Data(Bytes),
    /// With the signature that the chunk bears.
    ChunkEnd(String),
}

struct Hashes {
    md5: Md5,
    sha256: Option<Sha256>,
    checksum: Option<Hasher>,
    /// Its value is in `md5` or `sha256`.
    shared: Option<ChecksumAlgorithm>,
    crc64nvme: Option<Hasher>,
    chain: Option<(SignatureChain, Sha256)>,
    failed: Option<S3Error>,
}

impl Digester {
    pub fn new(wanted: Wanted) -> Digester {
        // An MD5 or SHA-256 that is also the checksum is taken once.
        let is_shared = |algorithm: &ChecksumAlgorithm| match algorithm {
            ChecksumAlgorithm::Md5 => true,
            ChecksumAlgorithm::Sha256 => wanted.sha256,
            _ => false,
        };
        let shared = wanted.checksum.filter(is_shared);
        let own = wanted.checksum.filter(|_| shared.is_none());
        Digester {
            hashes: Some(Box::new(Hashes {
                md5: Md5::new(),
                sha256: wanted.sha256.then(Sha256::new),
                checksum: own.map(Hasher::new),
                shared,
                crc64nvme: None,
                chain: wanted.chain.map(|chain| (chain, Sha256::new())),
                failed: None,
            })),
            running: None,
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    /// Takes CRC64NVME beside a checksum of another algorithm. Nothing may have been given yet.
    pub fn take_crc64nvme(&mut self) {
        let hashes = self.hashes.as_mut();
        let hashes = hashes.expect("no batch runs before the first piece");
        if hashes.checksum.as_ref().map(Hasher::algorithm) != Some(DEFAULT_ALGORITHM) {
            hashes.crc64nvme = Some(Hasher::new(DEFAULT_ALGORITHM));
        }
    }

    /// Takes the next piece. Waits while the batch before is still being hashed and this one is
    /// full; gives the error of an earlier batch.
    pub async fn data(&mut self, piece: Bytes) -> Result<(), S3Error> {
        self.push(piece.len(), Item::Data(piece)).await
    }

    pub async fn chunk_end(&mut self, signature: String) -> Result<(), S3Error> {
        self.push(signature.len(), Item::ChunkEnd(signature)).await
    }

    async fn push(&mut self, len: usize, item: Item) -> Result<(), S3Error> {
        self.batch.push(item);
        self.batch_bytes += len + ITEM_COST_BYTES;
        if self.batch_bytes >= BATCH_BYTES {
            self.dispatch().await?;
        }
        Ok(())
    }

    pub async fn finish(mut self) -> Result<Digests, S3Error> {
        if self.batch_bytes > INLINE_BYTES {
            self.dispatch().await?;
        }
        let mut hashes = self.settle().await?;
        hashes.apply(std::mem::take(&mut self.batch));
        hashes.finish()
    }

    /// Starts hashing what is gathered.
    async fn dispatch(&mut self) -> Result<(), S3Error> {
        let mut hashes = self.settle().await?;
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        self.running = Some(tokio::task::spawn_blocking(move || {
            hashes.apply(batch);
            hashes
        }));
        Ok(())
    }

    /// Waits for the batch that is being hashed.
    async fn settle(&mut self) -> Result<Box<Hashes>, S3Error> {
        let hashes = match (self.hashes.take(), self.running.take()) {
            (Some(hashes), _) => hashes,
            (None, Some(task)) => match task.await {
                Ok(hashes) => hashes,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is shutting down.
                Err(_) => return Err(S3Error::new(Code::ServiceUnavailable)),
            },
            // An error was given before.
            (None, None) => return Err(S3Error::new(Code::InternalError)),
        };
        match hashes.failed {
            Some(error) => Err(error),
            None => Ok(hashes),
        }
    }
}

impl Hashes {
    fn apply(&mut self, batch: Vec<Item>) {
        for item in batch {
            match item {
                Item::Data(piece) => self.update(&piece),
                Item::ChunkEnd(signature) => self.end_chunk(&signature),
            }
        }
    }

    fn update(&mut self, piece: &[u8]) {
        self.md5.update(piece);
        if let Some(sha256) = &mut self.sha256 {
            sha256.update(piece);
        }
        if let Some(checksum) = &mut self.checksum {
            checksum.update(piece);
        }
        if let Some(crc) = &mut self.crc64nvme {
            crc.update(piece);
        }
        if let Some((_, chunk)) = &mut self.chain {
            chunk.update(piece);
        }
    }

    fn end_chunk(&mut self, signature: &str) {
        if let Some((chain, chunk)) = &mut self.chain
            && self.failed.is_none()
        {
            let sha256 = chunk.finalize_reset().into();
            self.failed = chain.verify_chunk(&sha256, signature).err();
        }
    }

    fn finish(self) -> Result<Digests, S3Error> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let md5: [u8; 16] = self.md5.finalize().into();
        let sha256: Option<[u8; 32]> = self.sha256.map(|sha256| sha256.finalize().into());
        let shared = self.shared.map(|algorithm| Checksum {
            algorithm,
            kind: ChecksumType::FullObject,
            value: match sha256 {
                Some(sha256) if algorithm == ChecksumAlgorithm::Sha256 => sha256.to_vec(),
                _ => md5.to_vec(),
            },
        });
        let crc = self.crc64nvme.map(|crc| crc.finish().value);
        Ok(Digests {
            md5,
            sha256,
            checksum: self.checksum.map(Hasher::finish).or(shared),
            crc64nvme: crc.and_then(|crc| crc.try_into().ok().map(u64::from_be_bytes)),
            chain: self.chain.map(|(chain, _)| chain),
        })
    }
}
