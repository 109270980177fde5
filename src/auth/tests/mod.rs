//! Requests that a signature lets through, and requests that must not pass.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use drystone_store::types::{Account, AccountId, Timestamp};
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Uri};

use super::authenticate::{Leniency, Verifier};
use super::credentials::{AccessKey, Principal, Secret};
use super::identity::{Authenticated, Identity, Payload};
use super::keys::FixedKeys;
use super::message::Message;
use super::sign::Signer;
use super::v4;
use super::v4::canonical::{
    self, AmzDate, CanonicalRequest, EMPTY_SHA256, Scope, ServiceName, SigningKey,
};
use super::v4::signed_headers::SignedHeaders;
use drystone_http::exchange::Exchange;
use drystone_http::request::Head;
use drystone_http::scheme::Scheme;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::query::Query;

mod examples;
mod hosts;
mod keys;
mod link;
mod post_form;
mod sizes;
mod v2;

// The example key that AWS's documentation signs with.
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn now() -> Timestamp {
    AmzDate::parse("20130524T000000Z").unwrap().time()
}

fn later(seconds: i64) -> Timestamp {
    Timestamp(now().0 + seconds * 1000)
}

fn signer() -> Signer {
    Signer::new(KEY, &Secret::from(SECRET), "us-east-1", now()).unwrap()
}

fn keys() -> FixedKeys {
    let principal = Principal {
        user: "alice".into(),
        account: Account {
            id: AccountId("000000000001".into()),
            canonical_id: "0".repeat(64),
            display_name: "one".into(),
        },
        is_operator: false,
    };
    FixedKeys::new([AccessKey {
        id: KEY.into(),
        secret: Secret::from(SECRET),
        principal: Arc::new(principal),
    }])
    .unwrap()
}

fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let host = match uri.starts_with("/examplebucket/") {
        true => "s3.amazonaws.com",
        false => "examplebucket.s3.amazonaws.com",
    };
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in [("host", host)].iter().chain(headers) {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn set(parts: &mut Parts, name: &str, value: &str) {
    let name: HeaderName = name.parse().unwrap();
    parts
        .headers
        .insert(name, HeaderValue::from_str(value).unwrap());
}

/// The request as a server gets it.
fn received(parts: &Parts, domains: &[String], scheme: Scheme) -> Head {
    let (method, path) = (parts.method.clone(), parts.uri.path());
    let exchange = Exchange::begin(String::new(), None, scheme, method, path);
    Head::read(parts.clone(), "", domains, Arc::new(exchange))
}

/// Adds the headers of a link as a server does.
fn take_headers_from_link(parts: &mut Parts) {
    let mut head = received(parts, &domains(), Scheme::Http);
    v4::link::take_headers_from_link(&mut head);
    parts.headers = head.headers;
}

fn domains() -> Vec<String> {
    vec!["s3.amazonaws.com".to_owned()]
}

fn verifier(leniency: Leniency) -> Verifier {
    Verifier {
        keys: Arc::new(keys()),
        service: ServiceName::S3,
        leniency,
    }
}

/// Verifies with keys that are found at once.
fn verify(verifier: &Verifier, head: &Head, now: Timestamp) -> Result<Authenticated, S3Error> {
    let authenticated = verifier.authenticate(head, now).now_or_never();
    authenticated.unwrap()
}

fn authenticate(parts: &Parts, now: Timestamp) -> Result<Authenticated, S3Error> {
    let verifier = verifier(Leniency {
        signature_v2: true,
        portless_host: true,
    });
    verify(&verifier, &received(parts, &domains(), Scheme::Http), now)
}

fn check(parts: &Parts) -> Result<Authenticated, S3Error> {
    authenticate(parts, now())
}

fn code(parts: &Parts) -> Code {
    check(parts).unwrap_err().code()
}

fn signed(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = request(method, uri, headers);
    signer().sign(&mut parts, EMPTY_SHA256).unwrap();
    parts
}

fn presigned(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = request(method, uri, headers);
    signer().presign(&mut parts, 86400).unwrap();
    parts
}

/// Replaces text in the URI.
fn edit(parts: &Parts, from: &str, to: &str) -> Parts {
    let text = parts.uri.to_string();
    assert!(text.contains(from), "{from} is not in {text}");
    let mut parts = parts.clone();
    parts.uri = text.replacen(from, to, 1).parse::<Uri>().unwrap();
    parts
}

#[test]
fn a_01_any_bit_flipped_is_refused() {
    let headers = [("range", "bytes=0-9"), ("x-amz-meta-a", "value")];
    let good = signed("PUT", "/dir/test.txt?partNumber=1&x-id=PutObject", &headers);
    check(&good).unwrap();

    let mut flipped = Vec::new();
    for (from, to) in [
        ("/dir/test", "/dir/tess"),
        ("/dir/", "/dir//"),
        ("partNumber=1", "partNumber=0"),
        ("x-id=PutObject", "x-id=PutObjecu"),
    ] {
        flipped.push(edit(&good, from, to));
    }
    for (name, value) in [
        ("host", "examplebucket.s3.amazonaws.col"),
        ("range", "bytes=0-8"),
        ("x-amz-meta-a", "valud"),
        ("x-amz-date", "20130524T000001Z"),
        ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
    ] {
        let mut parts = good.clone();
        set(&mut parts, name, value);
        flipped.push(parts);
    }
    let authorization = good.headers["authorization"].to_str().unwrap().to_owned();
    let signature_at = authorization.len() - 64;
    let mut edits = vec![authorization.replace("us-east-1", "us-east-0")];
    for at in [signature_at, signature_at + 30, authorization.len() - 1] {
        let mut bytes = authorization.clone().into_bytes();
        bytes[at] ^= 1;
        edits.push(String::from_utf8(bytes).unwrap());
    }
    for text in edits {
        let mut parts = good.clone();
        set(&mut parts, "authorization", &text);
        flipped.push(parts);
    }
    let mut other_method = good.clone();
    other_method.method = http::Method::DELETE;
    flipped.push(other_method);
    for parts in flipped {
        assert_eq!(code(&parts), Code::SignatureDoesNotMatch, "{parts:?}");
    }
}

#[test]
fn a_01_the_error_tells_what_was_computed_but_not_the_signature() {
    let mut parts = signed("GET", "/test.txt", &[]);
    let text = parts.headers["authorization"].to_str().unwrap().to_owned();
    let (head, signature) = text.split_at(text.len() - 64);
    set(
        &mut parts,
        "authorization",
        &format!("{head}{}", "0".repeat(64)),
    );
    let error = check(&parts).unwrap_err();
    assert_eq!(error.element("AWSAccessKeyId"), Some(KEY));
    assert_eq!(error.element("SignatureProvided"), Some(&*"0".repeat(64)));
    let canonical = error.element("CanonicalRequest").unwrap();
    assert!(canonical.starts_with("GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\n"));
    assert!(
        error
            .element("CanonicalRequestBytes")
            .unwrap()
            .starts_with("47 45 54 0a 2f")
    );
    assert!(
        error
            .element("StringToSign")
            .unwrap()
            .starts_with("AWS4-HMAC-SHA256\n20130524T")
    );
    assert!(!format!("{error:?}").contains(signature));
}

#[test]
fn a_02_unsigned_trailer_with_garbage_signature() {
    for uri in [
        "/k",
        "/k?partNumber=1&uploadId=u",
        "/k?x-minio-extract=true",
    ] {
        let mut parts = request("PUT", uri, &[("x-amz-trailer", "x-amz-checksum-crc32")]);
        signer()
            .sign(&mut parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            .unwrap();
        assert!(matches!(
            check(&parts).unwrap().payload,
            Payload::UnsignedChunks
        ));
        let text = parts.headers["authorization"].to_str().unwrap().to_owned();
        for garbage in ["0".repeat(64), "garbage".into(), "0".repeat(63)] {
            let forged = format!("{}{garbage}", &text[..text.len() - 64]);
            set(&mut parts, "authorization", &forged);
            assert_eq!(code(&parts), Code::SignatureDoesNotMatch);
        }
    }
}

#[test]
fn a_04_two_mechanisms_at_once() {
    let mut parts = presigned("GET", "/k", &[]);
    let header = signed("GET", "/k", &[]).headers["authorization"].clone();
    parts.headers.insert("authorization", header);
    let error = check(&parts).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.element("ArgumentName"), Some("Authorization"));
    for query in [
        "X-Amz-Credential=x",
        "X-Amz-Signature=x",
        "AWSAccessKeyId=x&Signature=y",
    ] {
        let parts = edit(&signed("GET", "/k?a", &[]), "?a", &format!("?{query}"));
        assert_eq!(code(&parts), Code::InvalidArgument);
    }
}

#[test]
fn a_08_a_09_no_header_can_be_added_to_a_signed_request() {
    for name in [
        "x-amz-copy-source",
        "x-amz-acl",
        "x-amz-tagging",
        "x-amz-meta-a",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-legal-hold",
        "x-amz-website-redirect-location",
        "x-amz-grant-full-control",
        "x-amz-decoded-content-length",
        "x-amz-trailer",
        "x-amz-checksum-crc32",
    ] {
        for mut parts in [presigned("PUT", "/x", &[]), signed("PUT", "/x", &[])] {
            set(&mut parts, name, "/secret/k");
            let error = check(&parts).unwrap_err();
            assert_eq!(error.code(), Code::AccessDenied);
            assert_eq!(error.element("HeadersNotSigned"), Some(name));
            assert_eq!(
                error.text(),
                "There were headers present in the request which were not signed"
            );
        }
        check(&presigned("PUT", "/x", &[(name, "v")])).unwrap();
    }
}

#[test]
fn a_09_a_second_value_of_a_signed_header_is_refused() {
    let mut parts = signed("PUT", "/x", &[("x-amz-acl", "private")]);
    parts
        .headers
        .append("x-amz-acl", HeaderValue::from_static("public-read"));
    assert_eq!(code(&parts), Code::SignatureDoesNotMatch);
}

#[test]
fn a_11_a_clock_sixteen_minutes_off() {
    let parts = signed("GET", "/k", &[]);
    for minutes in [-15, 15] {
        authenticate(&parts, later(minutes * 60)).unwrap();
    }
    for minutes in [-16, 16] {
        let error = authenticate(&parts, later(minutes * 60)).unwrap_err();
        assert_eq!(error.code(), Code::RequestTimeTooSkewed);
        assert_eq!(error.element("RequestTime"), Some("20130524T000000Z"));
        assert_eq!(error.element("MaxAllowedSkewMilliseconds"), Some("900000"));
        assert!(error.element("ServerTime").is_some());
    }
}

#[test]
fn a_17_odd_authorization_headers() {
    let scope = "20130524/us-east-1/s3/aws4_request";
    let v4 = |credential: &str| {
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={}",
            "0".repeat(64)
        )
    };
    for (text, expected) in [
        ("AWS AKID:c2ln".to_owned(), Code::InvalidAccessKeyId),
        ("Bearer x".to_owned(), Code::InvalidArgument),
        ("AWS4-HMAC-SHA256".to_owned(), Code::InvalidArgument),
        (
            "AWS4-HMAC-SHA1 Credential=x".to_owned(),
            Code::InvalidArgument,
        ),
        (
            "AWS4-ECDSA-P256-SHA256 Credential=x".to_owned(),
            Code::NotImplemented,
        ),
        (
            "AWS4-HMAC-SHA256 Credential".to_owned(),
            Code::AuthorizationHeaderMalformed,
        ),
        (
            "AWS4-HMAC-SHA256 ,,,".to_owned(),
            Code::AuthorizationHeaderMalformed,
        ),
        (
            "AWS4-HMAC-SHA256 Signature=x".to_owned(),
            Code::AuthorizationHeaderMalformed,
        ),
        (v4(&format!("/{scope}")), Code::AuthorizationHeaderMalformed),
        (
            v4("AKID/20130524/us-east-1/s3"),
            Code::AuthorizationHeaderMalformed,
        ),
        (
            v4("AKID/20130525/us-east-1/s3/aws4_request"),
            Code::AuthorizationHeaderMalformed,
        ),
        (v4(&format!("%*(/{scope}")), Code::InvalidAccessKeyId),
        (
            v4(&format!("{}/{scope}", "x".repeat(10_000))),
            Code::InvalidAccessKeyId,
        ),
    ] {
        let mut parts = signed("GET", "/k", &[]);
        parts.headers.remove("x-amz-security-token");
        set(&mut parts, "authorization", &text);
        assert_eq!(code(&parts), expected, "{text}");
    }
    let empty = request("GET", "/k", &[("authorization", "")]);
    assert_eq!(check(&empty).unwrap().identity, Identity::Anonymous);
}

#[test]
fn a_18_a_wrong_signature_is_answered_alike_wherever_it_differs() {
    let answer = |at: usize| {
        let mut parts = signed("GET", "/k", &[]);
        let mut text = parts.headers["authorization"]
            .to_str()
            .unwrap()
            .to_owned()
            .into_bytes();
        let at = text.len() - 64 + at;
        text[at] ^= 1;
        set(
            &mut parts,
            "authorization",
            std::str::from_utf8(&text).unwrap(),
        );
        let error = check(&parts).unwrap_err();
        (
            error.code(),
            error.text().to_owned(),
            error.element("StringToSign").map(str::to_owned),
        )
    };
    assert_eq!(answer(0), answer(63));
}

#[test]
fn a_20_keys_are_signed_as_received() {
    for path in [
        "/../x",
        "/a/../../b/x",
        "/%2e%2e%2f",
        "/..%5c",
        "/a//b",
        "//x",
        "/.",
        "/..",
        "/a/./b",
        "/a/",
        "/a.",
        "/a%20",
        "/a+b",
        "/%41%zz%",
        "/%C3%A9",
        "/~-._!$&'()*,;=:@",
    ] {
        check(&signed("GET", path, &[])).unwrap();
    }
    let parts = signed("GET", "/a//b/../c", &[]);
    for other in ["/a/b/../c", "/a//c", "/a/c"] {
        assert_eq!(
            code(&edit(&parts, "/a//b/../c", other)),
            Code::SignatureDoesNotMatch
        );
    }
    // An escape decoded once is not decoded again.
    let once = signed("GET", "/%252e", &[]);
    assert_eq!(
        code(&edit(&once, "/%252e", "/%2e")),
        Code::SignatureDoesNotMatch
    );
}

#[test]
fn w_04_w_11_headers_of_the_connection_may_be_signed() {
    let headers = [
        ("transfer-encoding", "chunked"),
        ("content-type", "a  b ;\tc"),
    ];
    check(&signed("PUT", "/k", &headers)).unwrap();
    let mut parts = signed("PUT", "/k", &headers);
    parts.headers.remove("transfer-encoding");
    assert_eq!(code(&parts), Code::SignatureDoesNotMatch);
    // Not signed by this client, so that a proxy may answer it.
    let mut parts = signed("PUT", "/k", &[("expect", "100-continue")]);
    parts.headers.remove("expect");
    check(&parts).unwrap();
}

#[test]
fn w_14_unknown_parameters_are_part_of_the_signature() {
    let parts = signed(
        "GET",
        "/k?x-id=GetObject&withUpdatedAt=true&empty&a=+%2B",
        &[],
    );
    check(&parts).unwrap();
    assert_eq!(
        code(&edit(&parts, "x-id=GetObject", "x-id=Other")),
        Code::SignatureDoesNotMatch
    );
    // The order they come in does not matter, and `empty` is `empty=`.
    check(&edit(
        &parts,
        "x-id=GetObject&withUpdatedAt=true",
        "withUpdatedAt=true&x-id=GetObject",
    ))
    .unwrap();
    check(&edit(&parts, "&empty&", "&empty=&")).unwrap();
}

#[test]
fn s_40_any_region_is_taken() {
    for region in ["eu-west-1", "localhost", "garage"] {
        let signer = Signer::new(KEY, &Secret::from(SECRET), region, now()).unwrap();
        let mut parts = request("GET", "/k", &[]);
        signer.sign(&mut parts, EMPTY_SHA256).unwrap();
        check(&parts).unwrap();
    }
}

#[test]
fn s_40_content_sha256_must_be_there_and_be_one_of_its_words() {
    let mut parts = signed("GET", "/k", &[]);
    parts.headers.remove("x-amz-content-sha256");
    let error = check(&parts).unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert_eq!(
        error.text(),
        "Missing required header for this request: x-amz-content-sha256"
    );
    for (word, expected) in [
        (
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
            Code::NotImplemented,
        ),
        (
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER",
            Code::NotImplemented,
        ),
        ("STREAMING", Code::InvalidArgument),
        ("abcdef", Code::InvalidArgument),
        ("", Code::InvalidArgument),
    ] {
        let mut parts = request("PUT", "/k", &[]);
        signer().sign(&mut parts, word).unwrap();
        assert_eq!(code(&parts), expected, "{word}");
    }
}

#[test]
fn s_40_anonymous_bodies() {
    let kind = |value: &str| {
        let parts = request("PUT", "/k", &[("x-amz-content-sha256", value)]);
        check(&parts).map(|found| (found.identity, found.payload))
    };
    assert!(matches!(
        check(&request("GET", "/k", &[])).unwrap().payload,
        Payload::Unsigned
    ));
    assert!(matches!(
        kind("STREAMING-UNSIGNED-PAYLOAD-TRAILER").unwrap(),
        (Identity::Anonymous, Payload::UnsignedChunks)
    ));
    assert!(matches!(kind(EMPTY_SHA256).unwrap().1, Payload::Sha256(_)));
    let signed = kind("STREAMING-AWS4-HMAC-SHA256-PAYLOAD").unwrap_err();
    assert_eq!(signed.code(), Code::AccessDenied);
}

proptest::proptest! {
    /// No text in the header or in the query lets anybody in.
    #[test]
    fn a_64_any_credentials_at_all(
        header in "(AWS4-HMAC-SHA256 )?([ -~é]{0,20}|Credential=[ -~]{0,9}/20130524/[a-z]?/s3/\
                   aws4_request|SignedHeaders=[;a-z -]{0,9}|Signature=[0-9a-z]{0,5}|,){0,6}",
        query in "(&?X-Amz-(Algorithm|Credential|Date|Expires|Signature|SignedHeaders)=\
                  (AWS4-HMAC-SHA256|20130524T000000Z|-?[0-9]{0,30}|[%a-z0-9/;+]{0,9})){1,8}",
        date in "[0-9TZ]{15,17}|[ -~]{0,20}",
    ) {
        let mut parts = request("GET", "/k", &[("x-amz-content-sha256", EMPTY_SHA256)]);
        set(&mut parts, "x-amz-date", &date);
        let value = HeaderValue::from_bytes(header.as_bytes()).unwrap();
        parts.headers.insert("authorization", value);
        let nobody = |parts| {
            check(parts).map_or(true, |found| found.identity == Identity::Anonymous)
        };
        proptest::prop_assert!(nobody(&parts));
        let parts = request("GET", &format!("/k?{query}"), &[]);
        proptest::prop_assert!(nobody(&parts));
    }
}
