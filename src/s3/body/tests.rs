//! Bodies as clients frame them, whole, damaged and in pieces of any size.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use drystone_storage::checksum as compute;
use drystone_storage::types::{Account, AccountId, Timestamp};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::*;
use crate::auth::authenticate::authenticate;
use crate::auth::credentials::{AccessKey, Credentials, Principal, Secret};
use crate::auth::sign::Signer;

const NOW: Timestamp = Timestamp(1_369_353_600_000);
const CRC32: HeaderName = HeaderName::from_static("x-amz-checksum-crc32");

/// A request with its body as it goes over the wire.
#[derive(Clone)]
struct Sent {
    parts: Parts,
    wire: Vec<u8>,
}

fn signer() -> Signer {
    Signer::new("AK", &Secret::new("secret"), "us-east-1", NOW).unwrap()
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
            secret: Secret::new("secret"),
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
        let credentials = Credentials::new([key]).unwrap();
        authenticate(&self.parts, &credentials, NOW)
            .unwrap()
            .payload
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
async fn w_01_w_02_unsigned_chunks_with_a_trailer() {
    let data = noise(200_000);
    let sent = unsigned_chunks(&data, 65536, &crc32(&data));
    for piece_len in [1, 7, 8192, usize::MAX] {
        let (received, digest) = sent.receive(piece_len).await.unwrap();
        assert!(received == data);
        let algorithm = digest.checksum.unwrap().algorithm;
        assert_eq!(algorithm, ChecksumAlgorithm::Crc32);
    }
    let empty = unsigned_chunks(b"", 65536, &crc32(b""));
    assert_eq!(empty.receive(1).await.unwrap().0, b"");
}

#[tokio::test]
async fn w_05_signed_chunks_across_small_reads() {
    let data = noise(150_000);
    for with_trailer in [false, true] {
        let sent = signed_chunks(&data, 65536, with_trailer);
        for piece_len in [1, 3, 100, usize::MAX] {
            assert!(sent.receive(piece_len).await.unwrap().0 == data);
        }
        let empty = signed_chunks(b"", 65536, with_trailer);
        assert_eq!(empty.receive(1).await.unwrap().0, b"");
    }
}

#[tokio::test]
async fn b_09_the_size_is_the_decoded_length() {
    let data = noise(70_000);
    for sent in [
        signed_chunks(&data, 65536, true),
        unsigned_chunks(&data, 65536, &crc32(&data)),
    ] {
        let mut sent = sent;
        let wire_len = sent.wire.len();
        assert!(wire_len > data.len());
        sent.parts
            .headers
            .insert("content-length", HeaderValue::from(wire_len));
        let body = sent.body(usize::MAX).unwrap();
        assert_eq!(body.size_hint(), Some(70_000));
    }
}

#[tokio::test]
async fn a_05_chunks_tampered_with() {
    let data = [vec![b'a'; 1000], vec![b'b'; 1000], vec![b'c'; 500]].concat();
    let good = signed_chunks(&data, 1000, false);
    let text = String::from_utf8(good.wire.clone()).unwrap();
    let chunk = |n: usize| {
        let start = text.match_indices("3e8;").nth(n).unwrap().0;
        let end = text[start..].find("\r\n").unwrap() + start + 2 + 1000 + 2;
        text[start..end].to_owned()
    };
    let with = |wire: String| Sent {
        wire: wire.into_bytes(),
        ..good.clone()
    };
    // (a) a signature flipped, of data and of the final chunk; a byte of data changed
    let signature = &text[20..84];
    let flipped = with(text.replace(signature, &signature.replace(['0', '1'], "2")));
    assert_eq!(flipped.code().await, Code::SignatureDoesNotMatch);
    assert_eq!(
        good.edit("aaaa\r\n", "aaab\r\n").code().await,
        Code::SignatureDoesNotMatch
    );
    let last = text.rfind("\r\n0;chunk-signature=").unwrap() + 20;
    let mut wire = good.wire.clone();
    wire[last] = if wire[last] == b'0' { b'1' } else { b'0' };
    let final_flipped = Sent {
        wire,
        ..good.clone()
    };
    assert_eq!(final_flipped.code().await, Code::SignatureDoesNotMatch);
    // (b) cut within a chunk, (c) the final chunk missing
    assert_eq!(
        with(text[..1500].to_owned()).code().await,
        Code::IncompleteBody
    );
    assert_eq!(
        with(text[..last - 18].to_owned()).code().await,
        Code::IncompleteBody
    );
    // (d) chunks in another order
    let (first, second) = (chunk(0), chunk(1));
    let swapped = text.replacen(&format!("{first}{second}"), &format!("{second}{first}"), 1);
    assert_ne!(swapped, text);
    assert_eq!(with(swapped).code().await, Code::SignatureDoesNotMatch);
    // a chunk left out, with a length that allows for it
    assert_eq!(
        with(text.replacen(&second, "", 1)).code().await,
        Code::IncompleteBody
    );
    // (f) data after the final chunk
    for more in ["x", "0\r\n\r\n", "\r\n\r\n\r\n", &first] {
        assert_eq!(
            with(format!("{text}{more}")).code().await,
            Code::InvalidRequest
        );
    }
}

#[tokio::test]
async fn a_05_e_another_decoded_length() {
    let data = noise(3000);
    for declared in ["2999", "3001", "0"] {
        let mut parts = put(&[]);
        let wire = signer().sign_chunks(&mut parts, &data, 1000, None).unwrap();
        // Signed anew, so that only the length is wrong.
        set(&mut parts, "x-amz-decoded-content-length", declared);
        signer()
            .sign(&mut parts, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
            .unwrap();
        let code = Sent { parts, wire }.code().await;
        let refused = [Code::IncompleteBody, Code::SignatureDoesNotMatch];
        assert!(refused.contains(&code), "{declared}: {code:?}");

        let mut sent = unsigned_chunks(&data, 1000, &crc32(&data));
        set(&mut sent.parts, "x-amz-decoded-content-length", declared);
        signer()
            .sign(&mut sent.parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .unwrap();
        assert_eq!(sent.code().await, Code::IncompleteBody);
    }
}

#[tokio::test]
async fn a_06_trailers_that_are_wrong_missing_or_extra() {
    let data = noise(3000);
    let value = crc32(&data);
    let line = format!("x-amz-checksum-crc32:{value}\r\n");
    let wrong = unsigned_chunks(&data, 1000, "AAAAAA==");
    assert_eq!(wrong.code().await, Code::BadDigest);
    let invalid = unsigned_chunks(&data, 1000, "AAAA");
    assert_eq!(invalid.code().await, Code::InvalidRequest);
    let good = unsigned_chunks(&data, 1000, &value);
    for other in [
        "",
        "x-amz-checksum-sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n",
        "x-amz-checksum-crc32\r\n",
        ":\r\n",
        &format!("{line}{line}"),
        &format!("{line}x-amz-meta-a:b\r\n"),
        &format!("x-amz-acl:public-read\r\n{line}"),
        &"a:b\r\n".repeat(1000),
    ] {
        let code = good.edit(&line, other).code().await;
        assert_eq!(code, Code::MalformedTrailerError, "{other}");
    }

    let signed = signed_chunks(&data, 1000, true);
    let text = String::from_utf8_lossy(&signed.wire).into_owned();
    let at = text.find("x-amz-trailer-signature:").unwrap();
    let signature = text[at..].trim_end().to_owned();
    let forged = format!("x-amz-trailer-signature:{}", "0".repeat(64));
    assert_eq!(
        signed.edit(&signature, &forged).code().await,
        Code::SignatureDoesNotMatch
    );
    assert_eq!(
        signed.edit(&format!("{signature}\r\n"), "").code().await,
        Code::MalformedTrailerError
    );
    assert_eq!(
        signed.edit(&value, "AAAAAA==").code().await,
        Code::SignatureDoesNotMatch
    );
    // A trailer where the payload has none.
    let bare = signed_chunks(&data, 1000, false);
    let mut wire = bare.wire.clone();
    wire.truncate(wire.len() - 2);
    wire.extend_from_slice(format!("{line}\r\n").as_bytes());
    let extra = Sent { wire, ..bare };
    assert_eq!(extra.code().await, Code::MalformedTrailerError);
}

#[tokio::test]
async fn w_05_trailer_line_ends_of_real_clients() {
    let data = noise(3000);
    let line = format!("x-amz-checksum-crc32:{}", crc32(&data));
    let unsigned = unsigned_chunks(&data, 1000, &crc32(&data));
    let signed = signed_chunks(&data, 1000, true);
    for sent in [
        unsigned.edit(&format!("{line}\r\n\r\n"), &format!("{line}\r\n")),
        unsigned.edit(&format!("{line}\r\n\r\n"), &format!("{line}\n\r\n\r\n")),
        unsigned.edit(&line, &line.replace(':', ": ").replace("x-amz", "X-Amz")),
        signed.edit(&format!("{line}\r\n"), &format!("{line}\n\r\n")),
        signed.edit(&format!("\r\n{line}"), &format!("\r\n\r\n{line}")),
    ] {
        for piece_len in [1, usize::MAX] {
            assert!(sent.receive(piece_len).await.unwrap().0 == data);
        }
    }
}

#[tokio::test]
async fn a_07_chunk_sizes() {
    let long = format!("1;{}\r\n", "x".repeat(1 << 20));
    for head in [
        "\r\n",
        ";\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x10\r\n",
        " 10\r\n",
        "10 \r\n",
        "1_0\r\n",
        "g\r\n",
        "00000000000000001\r\n",
        "fffffffffffffffff\r\n",
        "ffffffffffffffff\r\n",
        "1\n",
        "\u{661}\r\n",
        "1;\0\n",
        &long,
    ] {
        let mut sent = unsigned_chunks(b"x", 10, &crc32(b"x"));
        sent.wire = [head.as_bytes(), &sent.wire].concat();
        let code = sent.code().await;
        let refused = [Code::InvalidRequest, Code::IncompleteBody];
        assert!(refused.contains(&code), "{head}: {code:?}");
    }
    // Data that runs on past its chunk.
    let sent = unsigned_chunks(b"xy", 2, &crc32(b"xy")).edit("xy\r\n", "xyz\r\n");
    assert_eq!(sent.code().await, Code::InvalidRequest);
    // Signed chunks without a signature.
    let sent = signed_chunks(b"x", 10, false).edit("1;chunk-signature=", "1;signature=");
    assert_eq!(sent.code().await, Code::InvalidRequest);
}

#[tokio::test]
async fn a_07_lengths_that_are_missing_or_too_large() {
    let refused = |sent: &Sent| sent.body(1).err().unwrap();
    let mut sent = plain(b"x", &[]);
    sent.parts.headers.remove("content-length");
    signer().sign_body(&mut sent.parts, b"x").unwrap();
    assert_eq!(refused(&sent).code(), Code::MissingContentLength);

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
async fn s_10_a_client_that_goes_away() {
    let sent = plain(&noise(1000), &[]);
    let pieces = [
        Ok(Bytes::copy_from_slice(&sent.wire[..500])),
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
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
    assert_eq!(error.code(), Code::IncompleteBody);
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

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// The wire cut at these places.
fn cut(wire: &[u8], mut places: Vec<prop::sample::Index>) -> Source {
    let len = wire.len();
    let mut ends: Vec<usize> = places.drain(..).map(|place| place.index(len + 1)).collect();
    ends.push(len);
    ends.sort_unstable();
    let mut start = 0;
    let mut pieces = Vec::new();
    for end in ends {
        pieces.push(Ok::<_, std::io::Error>(Bytes::copy_from_slice(
            &wire[start..end],
        )));
        start = end;
    }
    Source::from_stream(futures_util::stream::iter(pieces))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the bytes arrive, what comes out is what was framed; one bit changed anywhere in
    /// what is signed is found.
    #[test]
    fn w_05_signed_chunks_under_random_splits(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        chunk_len in 1..2000_usize,
        with_trailer: bool,
        places in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        flip: Option<(prop::sample::Index, u8)>,
    ) {
        let mut sent = signed_chunks(&data, chunk_len, with_trailer);
        let good = sent.wire.clone();
        if let Some((at, bit)) = flip {
            let at = at.index(sent.wire.len());
            sent.wire[at] ^= 1 << (bit % 8);
        }
        let outcome = runtime().block_on(async {
            let mut body = VerifiedBody::for_object(
                &sent.parts.headers,
                sent.payload(),
                ChecksumAlgorithm::Crc32,
                cut(&sent.wire, places),
            )?;
            let mut out = Vec::new();
            while let Some(piece) = body.next_piece().await? {
                assert!(!piece.is_empty());
                out.extend_from_slice(&piece);
            }
            Ok::<_, S3Error>(out)
        });
        match outcome {
            Ok(out) => prop_assert_eq!(out, data),
            Err(_) => prop_assert_ne!(sent.wire, good),
        }
    }

    /// No bytes make the decoder panic or give more than was declared.
    #[test]
    fn a_64_any_bytes_at_all(
        wire in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(&b"0123;:\r\n\r\nab"[..])],
            0..300,
        ),
        signed: bool,
        trailing: bool,
    ) {
        let mut decoder = Decoder::new(signed, trailing, 20);
        let mut given = 0;
        for piece in wire.chunks(7) {
            decoder.push(Bytes::copy_from_slice(piece));
            loop {
                match decoder.next() {
                    Ok(Some(Event::Data(data))) => given += data.len(),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return Ok(()),
                }
            }
        }
        prop_assert!(given <= 20);
        let _ = decoder.finish();
    }
}
