//! Every input is answered: no panic, no 500, no body longer than it said, no answer and no text to
//! sign that is longer than the input can account for.
//!
//! Each target edits well-formed inputs at random, as bytes from nowhere rarely get past the first
//! check. Here a target runs a few hundred times; `tests/fuzz.sh` gives each a minute.

use std::panic::AssertUnwindSafe;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::runtime::{Builder, Runtime};

use super::forms::{ALL, upload};
use drystone_auth::message::Message;
use drystone_auth::v4::canonical::CanonicalRequest;
use drystone_auth::v4::chunks::{Decoder, Event};
use drystone_auth::v4::signed_headers::SignedHeaders;
use drystone_protocol::query::Query;
use drystone_protocol::xml;
use drystone_s3::form::policy::Policy;
use drystone_s3::values::copy_source::CopySource;
use drystone_s3::values::range::{self, Wanted};
use drystone_world::{Call, World};

/// How often a target runs where nothing else is asked for.
const RUNS: usize = 300;
const EDITS_MAX: usize = 8;
/// An edit repeats nothing beyond this: no head is longer.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// The most bytes of an answer to any of these inputs.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Which seed, and at each edit where, what and by what.
type Edits = (u8, Vec<(u16, u8, u8)>);

/// A seed changed as `edits` say. `words` are what tends to matter.
fn edited(seeds: &[&[u8]], words: &[&str], (seed, edits): &Edits) -> Vec<u8> {
    let mut bytes = seeds[usize::from(*seed) % seeds.len()].to_vec();
    for (at, kind, value) in edits.iter().take(EDITS_MAX) {
        let at = usize::from(*at) % (bytes.len() + 1);
        let end = (at + usize::from(*value)).min(bytes.len());
        match kind % 9 {
            0 | 1 => bytes.insert(at, *value),
            2 if at < bytes.len() => bytes[at] = *value,
            3 => drop(bytes.drain(at..(at + usize::from(value % 16)).min(end))),
            4 | 5 => {
                let word = words[usize::from(*value) % words.len()];
                bytes.splice(at..at, word.bytes());
            }
            6 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(end..end, again);
            }
            7 if value % 8 == 0 => bytes.truncate(at),
            8 if bytes.len() < INPUT_BYTES_MAX => {
                let again = bytes[at..end].repeat(usize::from(*value));
                bytes.splice(end..end, again);
                bytes.truncate(INPUT_BYTES_MAX);
            }
            _ => {}
        }
    }
    bytes
}

/// A server with a bucket and an object, and what drives it.
struct Answering {
    runtime: Runtime,
    world: World,
}

fn answering() -> AssertUnwindSafe<Answering> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let world = World::with_bucket().await;
        world.call("PUT /bkt/k").body("content").ok().await;
        world
    });
    AssertUnwindSafe(Answering { runtime, world })
}

impl Answering {
    /// The status, which is never 500. The answer is never long.
    fn status(&self, call: Call<'_>) -> u16 {
        let answer = self.runtime.block_on(call.send());
        let status = answer.status.as_u16();
        assert_ne!(status, 500, "{answer:?}");
        let bytes = answer.body.as_ref().map_or(0, Bytes::len);
        assert!(bytes <= ANSWER_BYTES_MAX, "an answer of {bytes} bytes");
        status
    }
}

#[test]
fn a_64_fuzz_requests() {
    const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"];
    const TARGETS: [&[u8]; 6] = [
        b"/bkt/k?partNumber=1&versionId=null&response-expires=x",
        b"/bkt?list-type=2&prefix=a%20b&delimiter=%2F&max-keys=5&continuation-token=AAAA",
        b"/bkt?versions&key-marker=a&version-id-marker=null&encoding-type=url",
        b"/bkt?uploads&key-marker=a&upload-id-marker=x&max-uploads=2",
        b"/bkt/k?uploadId=00000000000000000000000000000000&partNumber=1&max-parts=3",
        b"/bkt/%C3%A9/../x+y?tagging&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Expires=1",
    ];
    const HEADERS: [(&str, &[u8]); 12] = [
        ("range", b"bytes=0-5"),
        ("if-match", b"\"0123456789abcdef0123456789abcdef-2\", *"),
        ("if-modified-since", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ("x-amz-tagging", b"a=b&c=%20"),
        ("x-amz-checksum-crc32", b"AAAAAA=="),
        ("content-md5", b"1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-acl", b"private"),
        ("x-amz-copy-source", b"/bkt/k?versionId=null"),
        ("x-amz-meta-a", b"=?UTF-8?Q?=C3=A4?="),
        ("expires", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ("x-amz-storage-class", b"STANDARD"),
        ("x-amz-trailer", b"x-amz-checksum-sha256"),
    ];
    let words = [
        "%00",
        "%",
        "&",
        "=",
        "?acl",
        "..",
        "//",
        "-1",
        "99999999999999999999",
        "\u{fffe}",
    ];
    let answering = answering();
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(u8, Edits, u8, Edits)>()
        .for_each(|(method, target, header, value)| {
            let target = edited(&TARGETS, &words, target);
            let method = METHODS[usize::from(*method) % METHODS.len()];
            let Ok(request) = Request::builder()
                .method(method)
                .uri(&target[..])
                .body(Bytes::new())
            else {
                return;
            };
            let (name, seed) = HEADERS[usize::from(*header) % HEADERS.len()];
            let value = edited(&[seed], &words, value);
            let Ok(value) = HeaderValue::from_bytes(&value) else {
                return;
            };
            answering.status(
                answering
                    .world
                    .request(request)
                    .header(name, value.as_bytes()),
            );
        });
}

#[test]
fn a_64_fuzz_canonical_requests() {
    const CREDENTIALS: [&[u8]; 3] = [
        b"AWS4-HMAC-SHA256 Credential=alice/20130524/us-east-1/s3/aws4_request, \
          SignedHeaders=host;x-amz-date, Signature=00",
        b"AWS alice:c2lnbmF0dXJl",
        b"?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=alice%2F20130524%2Fus-east-1%2Fs3%2F\
          aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&\
          X-Amz-Signature=00&AWSAccessKeyId=alice&Signature=x&Expires=9999999999",
    ];
    let words = [
        ",",
        ";",
        "/",
        "=",
        "host",
        "%2F",
        "%",
        "20130524T000000Z",
        "\t",
        "é",
    ];
    let answering = answering();
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Edits, Edits)>()
        .for_each(|(credentials, date)| {
            let credentials = edited(&CREDENTIALS, &words, credentials);
            let query = credentials.strip_prefix(b"?").unwrap_or_default();
            let target = [b"/bkt/k?", query].concat();
            let Ok(request) = Request::builder().uri(&target[..]).body(Bytes::new()) else {
                return;
            };
            let dates: [&[u8]; 2] = [b"20130524T000000Z", b"Fri, 24 May 2013 00:00:00 GMT"];
            let mut call = answering.world.request(request).by("");
            let headers = [
                ("authorization", &credentials),
                ("x-amz-date", &edited(&dates, &words, date)),
            ];
            for (name, value) in headers {
                if query.is_empty() && HeaderValue::from_bytes(value).is_ok() {
                    call = call.header(name, value);
                }
            }
            // Nobody forges a signature by chance.
            assert!(answering.status(call) >= 400);
        });
}

#[test]
fn a_64_fuzz_signed_headers() {
    const LISTS: [&[u8]; 2] = [b"host;x-amz-date", b"a;b;c;host"];
    const TARGETS: [&[u8]; 2] = [b"/bkt/k?a=b%20c&d", b"/+?+=+"];
    let words = [";", "host", "a", "x-amz-", "A", "%20"];
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Edits, Edits, u16)>()
        .for_each(|(list, target, value)| {
            let list = edited(&LISTS, &words, list);
            let target = edited(&TARGETS, &["+", "%", "/", "&"], target);
            let value = "v".repeat(usize::from(*value) % (8 << 10));
            let request = Request::builder().uri(&target[..]).header("a", &value);
            let Ok(request) = request.header("host", "h").body(()) else {
                return;
            };
            let Ok(signed_headers) = SignedHeaders::parse(&String::from_utf8_lossy(&list)) else {
                return;
            };
            let (parts, ()) = request.into_parts();
            let query = Query::parse(parts.uri.query().unwrap_or_default());
            let canonical = CanonicalRequest {
                message: Message::to_send(&parts, &query),
                signed_headers: &signed_headers,
                payload_hash: "UNSIGNED-PAYLOAD",
            };
            let canonical = canonical.beginning(usize::MAX).len();
            // Encoded, a byte is three. The list comes twice, with a colon and a line break.
            let sent = 3 * target.len() + value.len() + 9 * list.len() + 64;
            assert!(canonical <= sent, "{canonical} bytes of {sent}");
        });
}

#[test]
fn a_64_fuzz_chunks() {
    const BODIES: [&[u8]; 2] = [
        b"5;chunk-signature=0000000000000000000000000000000000000000000000000000000000000000\r\n\
          hello\r\n0;chunk-signature=\
          0000000000000000000000000000000000000000000000000000000000000000\r\n\r\n",
        b"5\r\nhello\r\n3\r\nyou\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\
          x-amz-trailer-signature:00\r\n\r\n",
    ];
    let words = [
        "\r\n",
        "\n",
        "0\r\n",
        ";chunk-signature=",
        "ffffffffffffffff",
        "-1",
        "0x5",
        ":",
    ];
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Edits, bool, bool, u8, u8)>()
        .for_each(|(body, signed, trailing, length, piece)| {
            let body = Bytes::from(edited(&BODIES, &words, body));
            let length = u64::from(length % 16);
            let decode = |piece: usize| {
                let mut decoder = Decoder::new(*signed, *trailing, length);
                let mut data = Vec::new();
                for piece in body.chunks(piece.max(1)) {
                    decoder.push(Bytes::copy_from_slice(piece));
                    while let Some(event) = decoder.next_event()? {
                        if let Event::Data(some) = event {
                            data.extend_from_slice(&some);
                        }
                    }
                }
                decoder.finish()?;
                Ok(data)
            };
            let whole = decode(body.len());
            let pieces = decode(usize::from(*piece));
            let code = |error: drystone_protocol::error::S3Error| error.code();
            let (whole, pieces) = (whole.map_err(code), pieces.map_err(code));
            assert_eq!(whole, pieces);
            assert!(whole.is_err() || whole.is_ok_and(|data| data.len() as u64 <= length));
        });
}

#[test]
fn a_64_fuzz_xml() {
    const DOCUMENTS: [(&str, &[u8]); 7] = [
        (
            "POST /bkt?delete",
            b"<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet><Object>\
              <Key>a</Key><VersionId>null</VersionId><ETag>\"x\"</ETag><Size>1</Size></Object>\
              </Delete>",
        ),
        (
            "PUT /bkt/k?tagging",
            b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
        ),
        (
            "PUT /bkt?versioning",
            b"<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>\
              </VersioningConfiguration>",
        ),
        (
            "POST /bkt/k?uploadId=00000000000000000000000000000000",
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag>\
              <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>",
        ),
        (
            "PUT /new",
            b"<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint>\
              </CreateBucketConfiguration>",
        ),
        (
            "PUT /bkt?acl",
            b"<AccessControlPolicy><Owner><ID>x</ID></Owner><AccessControlList><Grant><Grantee \
              xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
              <ID>x</ID></Grantee><Permission>READ</Permission></Grant></AccessControlList>\
              </AccessControlPolicy>",
        ),
        (
            "PUT /bkt?tagging",
            b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
        ),
    ];
    let words = [
        "<",
        ">",
        "</",
        "<!DOCTYPE a>",
        "&#x0;",
        "&amp;",
        "<![CDATA[",
        "]]>",
        "<?",
        "<!--",
    ];
    let answering = answering();
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(u8, Edits)>()
        .for_each(|(which, edits)| {
            let (line, seed) = DOCUMENTS[usize::from(*which) % DOCUMENTS.len()];
            let document = edited(&[seed], &words, edits);
            let _ = xml::read::parse(&document, "Delete");
            let md5 = <md5::Md5 as md5::Digest>::digest(&document);
            let call = answering.world.call(line);
            answering.status(
                call.header("content-md5", BASE64.encode(md5))
                    .body(document),
            );
        });
}

#[test]
fn a_64_fuzz_ranges() {
    let words = [
        "bytes=",
        "-",
        "0",
        "18446744073709551616",
        "9223372036854775807",
        ",",
        " ",
    ];
    let seeds: [&[u8]; 3] = [b"bytes=0-5", b"bytes=-5", b"bytes=5-"];
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Edits, u64)>()
        .for_each(|(edits, size)| {
            let header = edited(&seeds, &words, edits);
            let header = String::from_utf8_lossy(&header);
            for size in [*size, size % 8, 0, u64::MAX] {
                if let Wanted::Part(range) = range::resolve(&header, size) {
                    assert!(
                        range.start < range.end && range.end <= size,
                        "{range:?} of {size}"
                    );
                }
            }
        });
}

#[test]
fn a_64_fuzz_copy_sources() {
    let words = [
        "?versionId=",
        "%3FversionId=",
        "%",
        "%2F",
        "/",
        "..",
        "+",
        "\0",
        "é",
        "null",
    ];
    let seeds: [&[u8]; 3] = [b"/bkt/k", b"bkt/k?versionId=null", b"bkt/a%20b+c"];
    let answering = answering();
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<Edits>()
        .for_each(|edits| {
            let source = edited(&seeds, &words, edits);
            let Ok(value) = HeaderValue::from_bytes(&source) else {
                return;
            };
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static("x-amz-copy-source"), value);
            if let Ok(source) = CopySource::read(&headers) {
                assert!(!source.bucket.is_empty() && !source.key.is_empty());
            }
            let call = answering.world.call("PUT /bkt/copy");
            answering.status(call.header("x-amz-copy-source", &source));
        });
}

#[test]
fn a_64_fuzz_forms() {
    let words = [
        "\r\n",
        "--x",
        "--x--",
        "\r\n--x\r\nContent-Disposition: form-data; name=\"",
        "filename=\"${filename}\"",
        "; filename*=UTF-8''%ff",
        "\"",
        "\\",
        "key",
        "policy",
    ];
    let policies = [
        "\"",
        "\\",
        "[",
        "{}",
        "null",
        "1e9",
        "[\"starts-with\", \"$key\", \"\"]",
        "content-length-range",
        "2015-12-29T01:00:00Z",
        "\u{1f600}",
    ];
    let answering = answering();
    let form = upload(&answering.world)
        .field("key", "up/${filename}")
        .signed(ALL)
        .body();
    let policy = "{\"expiration\": \"2099-12-29T01:00:00Z\", \"conditions\": [{\"bucket\": \"b\"}, \
                  [\"eq\", \"$key\", \"k\"], [\"content-length-range\", 0, 10]]}";
    bolero::check!()
        .with_iterations(RUNS)
        .with_type::<(Edits, Edits)>()
        .for_each(|(body, document)| {
            let body = edited(&[&form], &words, body);
            let call = answering.world.call("POST /bkt").by("");
            let call = call.header("content-type", "multipart/form-data; boundary=x");
            answering.status(call.body(body));
            let document = edited(&[policy.as_bytes()], &policies, document);
            if let Ok(policy) = Policy::parse(&BASE64.encode(document)) {
                let fields = drystone_protocol::form_fields::Fields::default();
                let now = drystone_store::types::Timestamp(0);
                // A form without a key is what no policy of ours allows, unless it forgot the key.
                let _ = policy.check(&fields, "b", now);
            }
        });
}
