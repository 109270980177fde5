//! Bodies as clients frame them, whole, damaged and in pieces of any size.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use drystone_store::checksum as compute;
use drystone_store::types::{Account, AccountId, Timestamp};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::*;
use drystone_auth::authenticate::{Leniency, Verifier};
use drystone_auth::credentials::{AccessKey, Principal, Secret};
use drystone_auth::keys::FixedKeys;
use drystone_auth::sign::Signer;
use drystone_auth::v4::canonical::ServiceName;
use drystone_http::exchange::Exchange;
use drystone_http::request::Head;
use drystone_http::scheme::Scheme;

mod chunked;

const NOW: Timestamp = Timestamp(1_369_353_600_000);
const CRC32: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");

/// A request with its body as it goes over the wire.
#[derive(Clone)]
struct Sent {
    parts: Parts,
    wire: Vec<u8>,
}

fn signer() -> Signer {
    Signer::new("AK", &Secret::from("secret"), "us-east-1", NOW).unwrap()
}

fn put(headers: &[(&str, &str)]) -> Parts {
    let mut builder = Request::builder().method("PUT").uri("/b/k");
    for (name, value) in [("host", "localhost:9000")].iter().chain(headers) {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn crc32(data: &[u8]) -> String {
    BASE64.encode(compute::checksum(ChecksumAlgorithm::Crc32, data).value)
}

fn plain(data: &[u8], headers: &[(&str, &str)]) -> Sent {
    let mut parts = put(headers);
    if !parts.headers.contains_key("content-length") {
        set(&mut parts, "content-length", &data.len().to_string());
    }
    signer().sign_body(&mut parts, data).unwrap();
    Sent {
        parts,
        wire: data.to_vec(),
    }
}

fn signed_chunks(data: &[u8], chunk_len: usize, with_trailer: bool) -> Sent {
    let mut parts = put(&[]);
    let trailer = with_trailer.then(|| (CRC32, crc32(data)));
    let wire = signer()
        .sign_chunks(&mut parts, data, chunk_len, trailer)
        .unwrap();
    Sent { parts, wire }
}

fn unsigned_chunks(data: &[u8], chunk_len: usize, value: &str) -> Sent {
    let mut parts = put(&[]);
    let wire = signer()
        .sign_unsigned_chunks(&mut parts, data, chunk_len, (CRC32, value.to_owned()))
        .unwrap();
    Sent { parts, wire }
}

fn set(parts: &mut Parts, name: &str, value: &str) {
    let name: HeaderName = name.parse().unwrap();
    parts
        .headers
        .insert(name, HeaderValue::from_str(value).unwrap());
}

impl Sent {
    fn edit(&self, from: &str, to: &str) -> Sent {
        let at = self
            .wire
            .windows(from.len())
            .position(|window| window == from.as_bytes())
            .unwrap();
        let mut wire = self.wire[..at].to_vec();
        wire.extend_from_slice(to.as_bytes());
        wire.extend_from_slice(&self.wire[at + from.len()..]);
        Sent {
            wire,
            ..self.clone()
        }
    }

    fn payload(&self) -> Payload {
        let key = AccessKey {
            id: "AK".into(),
            secret: Secret::from("secret"),
            principal: Arc::new(Principal {
                user: "u".into(),
                account: Account {
                    id: AccountId::default(),
                    canonical_id: String::new(),
                    display_name: String::new(),
                },
                is_operator: false,
            }),
        };
        let verifier = Verifier {
            keys: Arc::new(FixedKeys::new([key]).unwrap()),
            service: ServiceName::S3,
            leniency: Leniency {
                signature_v2: false,
                portless_host: false,
            },
        };
        let (method, path) = (self.parts.method.clone(), self.parts.uri.path());
        let exchange = Exchange::begin(String::new(), None, Scheme::Http, method, path);
        let head = Head::read(self.parts.clone(), "", &[], Arc::new(exchange));
        let authenticated = verifier.authenticate(&head, NOW).now_or_never();
        authenticated.unwrap().unwrap().payload
    }

    fn body(&self, piece_len: usize) -> Result<VerifiedBody, S3Error> {
        VerifiedBody::for_object(
            &self.parts.headers,
            self.payload(),
            checksum::DEFAULT_ALGORITHM,
            source(&self.wire, piece_len),
        )
    }

    async fn receive(&self, piece_len: usize) -> Result<(Vec<u8>, Digest), S3Error> {
        let mut body = self.body(piece_len)?;
        let mut data = Vec::new();
        loop {
            match body.next().await {
                Ok(Some(piece)) => data.extend_from_slice(&piece),
                Ok(None) => return Ok((data, body.digest())),
                Err(error) => {
                    assert!(body.next().await.is_err(), "an error is the end");
                    return Err(error.into());
                }
            }
        }
    }

    async fn code(&self) -> Code {
        let whole = self.receive(usize::MAX).await.unwrap_err();
        let bytewise = self.receive(1).await.unwrap_err();
        assert_eq!(whole.code(), bytewise.code());
        whole.code()
    }
}

fn source(wire: &[u8], piece_len: usize) -> Source {
    let pieces: Vec<_> = wire
        .chunks(piece_len.min(wire.len().max(1)))
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    Source::from_stream(futures_util::stream::iter(pieces))
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8)
        .collect()
}

#[tokio::test]
async fn s_10_a_plain_body_and_its_digests() {
    for len in [0, 1, 4096, 1 << 20] {
        let data = noise(len);
        let (received, digest) = plain(&data, &[]).receive(10_000).await.unwrap();
        assert!(received == data);
        assert_eq!(digest.md5, <[u8; 16]>::from(md5::Md5::digest(&data)));
        let crc = compute::checksum(ChecksumAlgorithm::Crc64Nvme, &data);
        assert_eq!(digest.checksum, Some(crc));
    }
}

#[tokio::test]
async fn w_03_every_algorithm_by_header() {
    let data = noise(100_000);
    for algorithm in ChecksumAlgorithm::ALL {
        let right = compute::checksum(algorithm, &data);
        let name = checksum::header_name(algorithm);
        let value = BASE64.encode(&right.value);
        let sent = plain(&data, &[(name.as_str(), &value)]);
        let (_, digest) = sent.receive(5000).await.unwrap();
        assert_eq!(digest.checksum, Some(right));

        let wrong = BASE64.encode(vec![7; algorithm.value_len()]);
        let sent = plain(&data, &[(name.as_str(), &wrong)]);
        let error = sent.receive(5000).await.unwrap_err();
        assert_eq!(error.code(), Code::BadDigest);
        let text = format!("The {algorithm} you specified did not match the calculated checksum.");
        assert_eq!(error.text(), text);
    }
}

#[tokio::test]
async fn a_07_lengths_that_are_missing_or_too_large() {
    let refused = |sent: &Sent| sent.body(1).err().unwrap();
    let mut sent = plain(b"x", &[]);
    sent.parts.headers.remove("content-length");
    signer().sign_body(&mut sent.parts, b"x").unwrap();
    assert_eq!(refused(&sent).code(), Code::MissingContentLength);
    sent.parts
        .headers
        .insert("transfer-encoding", HeaderValue::from_static("chunked"));
    // HTTP's own chunks say where it ends.
    assert_eq!(sent.receive(1).await.unwrap().0, b"x");
    let mut body = sent.body(1).unwrap();
    body.received = PART_SIZE_MAX_BYTES;
    let error = body.next_piece().await.unwrap_err();
    assert_eq!(error.code(), Code::EntityTooLarge);

    let mut sent = unsigned_chunks(b"x", 10, &crc32(b"x"));
    sent.parts.headers.remove("x-amz-decoded-content-length");
    signer()
        .sign(&mut sent.parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .unwrap();
    assert_eq!(refused(&sent).code(), Code::MissingContentLength);

    let over = ((5_u64 << 30) + 1).to_string();
    let error = refused(&plain(b"x", &[("content-length", &over)]));
    assert_eq!(error.code(), Code::EntityTooLarge);
    assert_eq!(error.element("MaxSizeAllowed"), Some("5368709120"));
    for odd in ["", "+1", "-1", "1e3", "18446744073709551616"] {
        let sent = plain(b"x", &[("content-length", odd)]);
        assert_eq!(refused(&sent).code(), Code::InvalidArgument);
    }
    for (declared, data) in [("3", b"xx"), ("1", b"xx")] {
        let sent = plain(data, &[("content-length", declared)]);
        assert_eq!(sent.code().await, Code::IncompleteBody);
    }
}

#[tokio::test]
async fn a_12_another_body_than_the_hash_says() {
    let mut sent = plain(b"good", &[]);
    sent.wire = b"evil".to_vec();
    let error = sent.receive(1).await.unwrap_err();
    assert_eq!(error.code(), Code::XAmzContentSHA256Mismatch);
    let computed = hex::encode(Sha256::digest(b"evil"));
    assert_eq!(error.element("S3ComputedContentSHA256"), Some(&*computed));
    let declared = hex::encode(Sha256::digest(b"good"));
    assert_eq!(
        error.element("ClientComputedContentSHA256"),
        Some(&*declared)
    );
    // The same where SHA-256 is the checksum as well, and is taken once.
    let value = BASE64.encode(Sha256::digest(b"evil"));
    let mut sent = plain(b"good", &[("x-amz-checksum-sha256", &value)]);
    sent.wire = b"evil".to_vec();
    assert_eq!(sent.code().await, Code::XAmzContentSHA256Mismatch);
}

#[tokio::test]
async fn a_13_content_md5() {
    let right = BASE64.encode(md5::Md5::digest(b"data"));
    plain(b"data", &[("content-md5", &right)])
        .receive(1)
        .await
        .unwrap();
    let wrong = BASE64.encode([7; 16]);
    let error = plain(b"data", &[("content-md5", &wrong)])
        .receive(1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::BadDigest);
    assert_eq!(error.element("CalculatedDigest"), Some(&*right));
    for invalid in ["", "x", "AAAA", "éé", &right[1..]] {
        let sent = plain(b"data", &[]);
        let mut headers = sent.parts.headers.clone();
        headers.insert(
            "content-md5",
            HeaderValue::from_bytes(invalid.as_bytes()).unwrap(),
        );
        let made = VerifiedBody::for_object(
            &headers,
            Payload::Unsigned,
            ChecksumAlgorithm::Crc32,
            source(b"data", 4),
        );
        assert_eq!(made.err().unwrap().code(), Code::InvalidDigest);
    }
}

#[tokio::test]
async fn s_10_a_client_that_goes_away_or_stalls() {
    let gone = || Box::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let slow = || Box::from(S3Error::new(Code::RequestTimeout));
    let errors: [(axum::BoxError, Code); 2] = [
        (gone(), Code::IncompleteBody),
        (slow(), Code::RequestTimeout),
    ];
    for (error, expected) in errors {
        let sent = plain(&noise(1000), &[]);
        let pieces = [
            Ok(Bytes::copy_from_slice(&sent.wire[..500])),
            Err::<Bytes, axum::BoxError>(error),
        ];
        let mut body = VerifiedBody::for_object(
            &sent.parts.headers,
            sent.payload(),
            ChecksumAlgorithm::Crc32,
            Source::from_stream(futures_util::stream::iter(pieces)),
        )
        .unwrap();
        assert_eq!(body.next().await.unwrap().unwrap().len(), 500);
        let error: S3Error = body.next().await.unwrap_err().into();
        assert_eq!(error.code(), expected);
    }
}

#[tokio::test]
async fn s_13_small_bodies() {
    let small = async |headers: &[(&str, &str)], max| {
        let sent = plain(b"<Delete/>", headers);
        let payload = sent.payload();
        collect_small(&sent.parts.headers, payload, source(&sent.wire, 2), max).await
    };
    let plain_body = small(&[], 100).await.unwrap();
    assert_eq!(&plain_body.bytes[..], b"<Delete/>");
    assert!(!plain_body.has_digest);
    let crc = crc32(b"<Delete/>");
    let checked = small(&[("x-amz-checksum-crc32", &crc)], 100).await.unwrap();
    assert!(checked.has_digest);
    let md5 = BASE64.encode(md5::Md5::digest(b"<Delete/>"));
    let checked = small(&[("content-md5", &md5)], 9).await.unwrap();
    assert!(checked.has_digest);
    let wrong = small(&[("x-amz-checksum-crc32", "AAAAAA==")], 100).await;
    assert_eq!(wrong.unwrap_err().code(), Code::BadDigest);
    let long = small(&[], 8).await.unwrap_err();
    assert_eq!(long.code(), Code::MaxMessageLengthExceeded);

    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("xx")));
    let body = Source::from_stream(endless);
    let long = collect_small(&HeaderMap::new(), Payload::Unsigned, body, 100).await;
    assert_eq!(long.unwrap_err().code(), Code::MaxMessageLengthExceeded);
}

struct Pieces(Vec<Bytes>);

#[async_trait]
impl BodyReader for Pieces {
    async fn next(&mut self) -> StorageResult<Option<Bytes>> {
        Ok(self.0.pop())
    }
}

#[tokio::test]
async fn s_12_a_copied_body_has_the_same_digests() {
    let data = noise(1 << 20);
    let pieces = data.chunks(100_000).rev().map(Bytes::copy_from_slice);
    let mut body = HashingBody::new(
        Box::new(Pieces(pieces.collect())),
        data.len() as u64,
        ChecksumAlgorithm::Sha256,
    );
    let mut copied = Vec::new();
    while let Some(piece) = body.next().await.unwrap() {
        copied.extend_from_slice(&piece);
    }
    assert!(copied == data);
    let digest = body.digest();
    assert_eq!(digest.md5, <[u8; 16]>::from(md5::Md5::digest(&data)));
    let sha256 = compute::checksum(ChecksumAlgorithm::Sha256, &data);
    assert_eq!(digest.checksum, Some(sha256));
}

#[tokio::test]
async fn b_42_a_copy_whose_source_ends_short_or_long_is_an_error() {
    for size in [5, 7] {
        let pieces = vec![Bytes::from("def"), Bytes::from("abc")];
        let reader = Box::new(Pieces(pieces));
        let mut body = HashingBody::new(reader, size, ChecksumAlgorithm::Sha256);
        body.next().await.unwrap();
        let rest = match body.next().await {
            Ok(Some(_)) => body.next().await,
            other => other,
        };
        assert!(matches!(rest, Err(Error::Corrupt(_))), "{size}");
    }
}
