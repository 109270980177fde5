//! A request's body on its way into storage: unframed, measured, hashed and verified in one pass.
//!
//! [`VerifiedBody`] checks all that a request says about its body: length, `Content-MD5`,
//! `x-amz-content-sha256`, chunk and trailer signatures, and a checksum in header or trailer. The
//! bytes are passed on as they come; what is wrong shows as an error, at the latest in place of
//! the end, and storage lets nothing become visible before the end. [`HashingBody`] takes the same
//! digests of bytes that come from storage itself.

use async_trait::async_trait;
use axum::body::Body as Source;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use drystone_store::body::{Body, BodyReader};
use drystone_store::error::{Error, Result as StorageResult};
use drystone_store::types::{ChecksumAlgorithm, Digest};
use drystone_store::uploads::PART_SIZE_MAX_BYTES;
use http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use crate::digest::{Digester, Digests, Wanted};
use crate::values::checksum::{self, Declared};
use drystone_auth::identity::Payload;
use drystone_auth::v4::chunks::{Decoder, Event, SignatureChain, Trailer};
use drystone_protocol::error::{Code, S3Error};

/// A body being received. Dropping it before its end leaves nothing but the unread rest of the
/// connection; a `next` that was not driven to its end makes the body unusable.
pub struct VerifiedBody {
    source: Source,
    framing: Framing,
    /// Decoded, as declared.
    length: Option<u64>,
    received: u64,
    expected: Expected,
    state: State,
}

enum Framing {
    Raw,
    Chunked(Decoder),
}

/// Why no more bytes come: what the server says, as of a client that is too slow; otherwise the
/// client went away or the connection's framing is broken.
fn broken(error: axum::Error) -> S3Error {
    // Each layer of a body wraps the error again.
    let mut inner = error.into_inner();
    loop {
        match inner.downcast::<axum::Error>() {
            Ok(wrapped) => inner = wrapped.into_inner(),
            Err(cause) => {
                return cause
                    .downcast::<S3Error>()
                    .map_or_else(|_| S3Error::new(Code::IncompleteBody), |own| *own);
            }
        }
    }
}

/// The next bytes of a request's body as the client sent them; `None` at the end.
pub async fn next_data(source: &mut Source) -> Result<Option<Bytes>, S3Error> {
    loop {
        match source.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // HTTP's own trailers mean nothing to S3.
                _ => {}
            },
        }
    }
}

/// The values that the digests are compared with.
struct Expected {
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    checksum: Option<Declared>,
    trailer: Option<Trailer>,
}

enum State {
    Reading(Digester),
    Done(Digest),
    Failed,
}

impl VerifiedBody {
    /// The body of a PUT or of a part, of at most 5 GiB. Its length must be known, unless it comes
    /// in HTTP's own chunks, which say where it ends. `algorithm` is the checksum to take, the one
    /// declared if one is; see `checksum::for_part`.
    pub fn for_object(
        headers: &HeaderMap,
        payload: Payload,
        algorithm: ChecksumAlgorithm,
        source: Source,
    ) -> Result<VerifiedBody, S3Error> {
        let body = VerifiedBody::new(headers, payload, Some(algorithm), source)?;
        match body.length {
            None if headers.contains_key(header::TRANSFER_ENCODING) => Ok(body),
            None => Err(S3Error::new(Code::MissingContentLength)),
            Some(length) if length > PART_SIZE_MAX_BYTES => Err(too_large(length)),
            Some(_) => Ok(body),
        }
    }

    /// Also computes the CRC64NVME, from which that of a whole object is combined, whichever
    /// algorithm its part was sent with. To be called before the first byte is read.
    #[must_use]
    pub fn with_crc64nvme(mut self) -> VerifiedBody {
        if let State::Reading(digester) = &mut self.state {
            digester.take_crc64nvme();
        }
        self
    }

    /// The file of a form, whose length shows at its end. `headers`: the form's fields as such.
    pub fn for_file(
        headers: &HeaderMap,
        algorithm: ChecksumAlgorithm,
        source: Source,
    ) -> Result<VerifiedBody, S3Error> {
        VerifiedBody::new(headers, Payload::Unsigned, Some(algorithm), source)
    }

    fn new(
        headers: &HeaderMap,
        payload: Payload,
        algorithm: Option<ChecksumAlgorithm>,
        source: Source,
    ) -> Result<VerifiedBody, S3Error> {
        let declared = checksum::declared(headers)?;
        let trailing = matches!(declared, Some(Declared::Trailer { .. }));
        if trailing && !payload.may_have_trailer() {
            return Err(S3Error::new(Code::InvalidRequest)
                .message("The value specified in the x-amz-trailer header is not supported"));
        }
        let md5 = content_md5(headers)?;
        let length = declared_length(headers, &payload)?;
        let framing = framing(&payload, length);
        let (sha256, chain) = payload.into_expectations();
        let wanted = Wanted {
            sha256: sha256.is_some(),
            checksum: declared.as_ref().map(Declared::algorithm).or(algorithm),
            chain,
        };
        Ok(VerifiedBody {
            source,
            framing,
            length,
            received: 0,
            expected: Expected {
                md5,
                sha256,
                checksum: declared,
                trailer: None,
            },
            state: State::Reading(Digester::new(wanted)),
        })
    }

    async fn advance(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let event = match &mut self.framing {
                Framing::Chunked(decoder) => decoder.next_event()?,
                Framing::Raw => None,
            };
            if let Some(event) = event {
                if let Some(piece) = self.take(event).await? {
                    return Ok(Some(piece));
                }
                continue;
            }
            let Some(input) = next_data(&mut self.source).await? else {
                let last = match &mut self.framing {
                    Framing::Chunked(decoder) => decoder.finish()?,
                    Framing::Raw => None,
                };
                if let Some(event) = last {
                    self.take(event).await?;
                }
                return self.conclude().await.map(|()| None);
            };
            match &mut self.framing {
                Framing::Chunked(decoder) => decoder.push(input),
                Framing::Raw => return self.take(Event::Data(input)).await,
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<Option<Bytes>, S3Error> {
        let State::Reading(digester) = &mut self.state else {
            return Err(S3Error::new(Code::InternalError));
        };
        match event {
            Event::Data(piece) => {
                self.received += piece.len() as u64;
                match self.length {
                    Some(length) if self.received > length => {
                        return Err(S3Error::new(Code::IncompleteBody));
                    }
                    None if self.received > PART_SIZE_MAX_BYTES => {
                        return Err(too_large(self.received));
                    }
                    _ => {}
                }
                digester.data(piece.clone()).await?;
                return Ok(Some(piece));
            }
            Event::ChunkEnd { signature } => digester.chunk_end(signature).await?,
            Event::End(trailer) => self.expected.trailer = Some(trailer),
        }
        Ok(None)
    }

    /// Every byte is here: compares it all.
    async fn conclude(&mut self) -> Result<(), S3Error> {
        if self.length.is_some_and(|length| self.received != length) {
            return Err(S3Error::new(Code::IncompleteBody));
        }
        let State::Reading(digester) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(S3Error::new(Code::InternalError));
        };
        let digests = digester.finish().await?;
        self.expected.verify(&digests)?;
        self.state = State::Done(digests.kept());
        Ok(())
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, S3Error> {
        match self.state {
            State::Reading(_) => {}
            State::Done(_) => return Ok(None),
            State::Failed => return Err(S3Error::new(Code::IncompleteBody)),
        }
        let outcome = self.advance().await;
        if outcome.is_err() {
            self.state = State::Failed;
        }
        outcome
    }
}

#[async_trait]
impl Body for VerifiedBody {
    async fn next(&mut self) -> StorageResult<Option<Bytes>> {
        self.next_piece()
            .await
            .map_err(|error| Error::Body(Box::new(error)))
    }

    fn digest(&mut self) -> Digest {
        match &self.state {
            State::Done(digest) => digest.clone(),
            _ => panic!("a body's digest was asked for before its end"),
        }
    }

    fn size_hint(&self) -> Option<u64> {
        self.length
    }
}

impl Expected {
    fn verify(&self, digests: &Digests) -> Result<(), S3Error> {
        let trailer = self.verify_trailer(digests.chain.as_ref())?;
        if let (Some(expected), Some(computed)) = (self.sha256, digests.sha256)
            && expected != computed
        {
            return Err(S3Error::new(Code::XAmzContentSHA256Mismatch)
                .with("ClientComputedContentSHA256", hex::encode(expected))
                .with("S3ComputedContentSHA256", hex::encode(computed)));
        }
        if let Some(expected) = self.md5
            && expected != digests.md5
        {
            return Err(S3Error::new(Code::BadDigest)
                .with("ExpectedDigest", hex::encode(expected))
                .with("CalculatedDigest", BASE64.encode(digests.md5)));
        }
        let value = match &self.checksum {
            Some(Declared::Value { value, .. }) => Some(value),
            _ => trailer.as_ref(),
        };
        match (value, &digests.checksum) {
            (Some(value), Some(computed)) => checksum::compare(computed, value),
            _ => Ok(()),
        }
    }

    /// The trailer holds the declared checksum and nothing else, and is signed if chunks are.
    /// Gives the value.
    fn verify_trailer(&self, chain: Option<&SignatureChain>) -> Result<Option<Vec<u8>>, S3Error> {
        let malformed = || S3Error::new(Code::MalformedTrailerError);
        let Some(trailer) = &self.trailer else {
            return Ok(None);
        };
        if let (Some(chain), Some(signature)) = (chain, &trailer.signature) {
            let sha256 = Sha256::digest(trailer.canonical()).into();
            chain.clone().verify_trailer(&sha256, signature)?;
        }
        let Some(Declared::Trailer { algorithm }) = &self.checksum else {
            return match trailer.headers.is_empty() {
                true => Ok(None),
                false => Err(malformed()),
            };
        };
        let name = checksum::header_name(*algorithm);
        let [(sent, value)] = trailer.headers.as_slice() else {
            return Err(malformed());
        };
        if name != sent.as_str() {
            return Err(malformed());
        }
        checksum::decode(*algorithm, value)
            .map(Some)
            .ok_or_else(|| {
                S3Error::new(Code::InvalidRequest)
                    .message(format!("Value for {name} trailing header is invalid."))
            })
    }
}

fn too_large(proposed: u64) -> S3Error {
    S3Error::new(Code::EntityTooLarge)
        .with("ProposedSize", proposed.to_string())
        .with("MaxSizeAllowed", PART_SIZE_MAX_BYTES.to_string())
}

fn framing(payload: &Payload, length: Option<u64>) -> Framing {
    if !payload.is_chunked() {
        return Framing::Raw;
    }
    let signed = matches!(payload, Payload::SignedChunks { .. });
    let length = length.unwrap_or_default();
    Framing::Chunked(Decoder::new(signed, payload.may_have_trailer(), length))
}

/// The length of the data: for `aws-chunked` what the client says it is once decoded, never the
/// length on the wire (B-09).
fn declared_length(headers: &HeaderMap, payload: &Payload) -> Result<Option<u64>, S3Error> {
    let read = |name: &str| {
        let value = headers.get(name)?;
        let text = value.to_str().unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        Some(text.parse().ok().filter(|_| digits).ok_or_else(|| {
            S3Error::new(Code::InvalidArgument)
                .message(format!("The value of {name} is not a length."))
        }))
    };
    if !payload.is_chunked() {
        return read(header::CONTENT_LENGTH.as_str()).transpose();
    }
    // What is no length is none, as of S3.
    match read("x-amz-decoded-content-length") {
        Some(Ok(length)) => Ok(Some(length)),
        Some(Err(_)) | None => Err(S3Error::new(Code::MissingContentLength)),
    }
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, S3Error> {
    let Some(value) = headers.get("content-md5") else {
        return Ok(None);
    };
    BASE64
        .decode(value.as_bytes())
        .ok()
        .and_then(|md5| md5.try_into().ok())
        .map(Some)
        .ok_or_else(|| {
            S3Error::new(Code::InvalidDigest)
                .with("Content-MD5", String::from_utf8_lossy(value.as_bytes()))
        })
}

/// A whole body in memory, verified.
#[derive(Debug)]
pub struct SmallBody {
    pub bytes: Bytes,
    /// The client sent a Content-MD5 or a checksum, and it was right.
    pub has_digest: bool,
}

/// Reads a body of at most `max` bytes: an XML document.
pub async fn collect_small(
    headers: &HeaderMap,
    payload: Payload,
    source: Source,
    max: usize,
) -> Result<SmallBody, S3Error> {
    let too_long = || {
        S3Error::new(Code::MaxMessageLengthExceeded).with("MaxMessageLengthBytes", max.to_string())
    };
    let mut body = VerifiedBody::new(headers, payload, None, source)?;
    if body.length.is_some_and(|length| length > max as u64) {
        return Err(too_long());
    }
    let has_digest = body.expected.md5.is_some() || body.expected.checksum.is_some();
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next_piece().await? {
        if bytes.len() + piece.len() > max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(SmallBody {
        bytes: bytes.freeze(),
        has_digest,
    })
}

/// Bytes of the store on their way back into it: a copy between buckets or classes.
pub struct HashingBody {
    reader: Box<dyn BodyReader>,
    size: u64,
    /// The bytes that have not come yet.
    left: u64,
    digester: Option<Digester>,
    digest: Option<Digest>,
}

impl HashingBody {
    /// `size`: of the range that `reader` gives.
    pub fn new(
        reader: Box<dyn BodyReader>,
        size: u64,
        algorithm: ChecksumAlgorithm,
    ) -> HashingBody {
        let wanted = Wanted {
            checksum: Some(algorithm),
            ..Wanted::default()
        };
        HashingBody {
            reader,
            size,
            left: size,
            digester: Some(Digester::new(wanted)),
            digest: None,
        }
    }

    /// Also computes the CRC64NVME, as [`VerifiedBody::with_crc64nvme`] does.
    #[must_use]
    pub fn with_crc64nvme(mut self) -> HashingBody {
        if let Some(digester) = &mut self.digester {
            digester.take_crc64nvme();
        }
        self
    }
}

#[async_trait]
impl Body for HashingBody {
    async fn next(&mut self) -> StorageResult<Option<Bytes>> {
        let body = |error: S3Error| Error::Body(Box::new(error));
        let piece = self.reader.next().await?;
        let len = piece.as_ref().map_or(0, Bytes::len) as u64;
        let left = self.left.checked_sub(len);
        // A copy that is shorter or longer than its source must never be acknowledged.
        self.left = left
            .filter(|left| *left == 0 || piece.is_some())
            .ok_or_else(|| Error::Corrupt("the source is not as long as it was".into()))?;
        match (&piece, self.digester.take()) {
            (Some(piece), Some(mut digester)) => {
                digester.data(piece.clone()).await.map_err(body)?;
                self.digester = Some(digester);
            }
            (None, Some(digester)) => {
                let digests = digester.finish().await.map_err(body)?;
                self.digest = Some(digests.kept());
            }
            (_, None) => {}
        }
        Ok(piece)
    }

    fn digest(&mut self) -> Digest {
        self.digest
            .clone()
            .expect("a body's digest is asked for after its end")
    }

    fn size_hint(&self) -> Option<u64> {
        Some(self.size)
    }
}

#[cfg(test)]
mod tests;
