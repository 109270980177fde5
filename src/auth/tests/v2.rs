//! Signature Version 2: AWS's published examples, and what must not pass.

use http::Method;
use http::header::CONTENT_ENCODING;

use super::*;
use crate::sign::SignerV2;

/// Method, target, headers, the published time and the published signature.
type Example = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    &'static str,
);

/// From the page on signing REST requests. The host is the bucket's, or none where the path says
/// the bucket.
const EXAMPLES: [Example; 8] = [
    (
        "GET",
        "/photos/puppy.jpg",
        &[("date", "Tue, 27 Mar 2007 19:36:42 +0000")],
        "20070327T193642Z",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
    ),
    (
        "PUT",
        "/photos/puppy.jpg",
        &[
            ("content-type", "image/jpeg"),
            ("content-length", "94328"),
            ("date", "Tue, 27 Mar 2007 21:15:45 +0000"),
        ],
        "20070327T211545Z",
        "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
    ),
    (
        "GET",
        "/?prefix=photos&max-keys=50&marker=puppy",
        &[("date", "Tue, 27 Mar 2007 19:42:41 +0000")],
        "20070327T194241Z",
        "htDYFYduRNen8P9ZfE/s9SuKy0U=",
    ),
    (
        "GET",
        "/?acl",
        &[("date", "Tue, 27 Mar 2007 19:44:46 +0000")],
        "20070327T194446Z",
        "c2WLPFtWHVgbEmeEG93a4cG37dM=",
    ),
    (
        "DELETE",
        "//s3/johnsmith/photos/puppy.jpg",
        &[
            ("date", "Tue, 27 Mar 2007 21:20:27 +0000"),
            ("x-amz-date", "Tue, 27 Mar 2007 21:20:26 +0000"),
        ],
        "20070327T212026Z",
        "R4dJ53KECjStyBO5iTBJZ4XVOaI=",
    ),
    (
        "PUT",
        "//s3/static.johnsmith.net/db-backup.dat.gz",
        &[
            ("date", "Tue, 27 Mar 2007 21:06:08 +0000"),
            ("x-amz-acl", "public-read"),
            ("content-type", "application/x-download"),
            ("content-md5", "4gJE4saaMU4BqNR0kLY+lw=="),
            ("X-Amz-Meta-ReviewedBy", "joe@johnsmith.net"),
            ("X-Amz-Meta-ReviewedBy", "jane@johnsmith.net"),
            ("X-Amz-Meta-FileChecksum", "0x02661779"),
            ("X-Amz-Meta-ChecksumAlgorithm", "crc32"),
            ("content-disposition", "attachment; filename=database.dat"),
            ("content-encoding", "gzip"),
        ],
        "20070327T210608Z",
        "ilyl83RwaSoYIEdixDQcA4OnAnc=",
    ),
    (
        "GET",
        "//s3/",
        &[("date", "Wed, 28 Mar 2007 01:29:59 +0000")],
        "20070328T012959Z",
        "qGdzdERIC03wnaRNKh6OqZehG9s=",
    ),
    (
        "GET",
        "//s3/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
        &[("date", "Wed, 28 Mar 2007 01:49:49 +0000")],
        "20070328T014949Z",
        "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    ),
];

const DATE: (&str, &str) = ("date", "Fri, 24 May 2013 00:00:00 GMT");
const HALF_PAST: i64 = 1_369_355_400;

/// A target that begins with `//s3/` is asked of the service's host, another of johnsmith's.
fn plain(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let (host, uri) = match target.strip_prefix("//s3") {
        Some(uri) => ("s3.amazonaws.com", uri),
        None => ("johnsmith.s3.amazonaws.com:8080", target),
    };
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in [("host", host)].iter().chain(headers) {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap().into_parts().0
}

fn signer() -> SignerV2 {
    SignerV2::new(KEY, &Secret::from(SECRET))
}

fn signed(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = plain(method, uri, &[&[DATE], headers].concat());
    signer().sign(&mut parts, Some("johnsmith")).unwrap();
    parts
}

fn link(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut parts = plain(method, uri, headers);
    signer()
        .presign(&mut parts, Some("johnsmith"), HALF_PAST)
        .unwrap();
    parts
}

fn refusal(parts: &Parts) -> (Code, String) {
    let error = check(parts).unwrap_err();
    (error.code(), error.text().to_owned())
}

#[test]
fn s_40_published_examples() {
    for (method, target, headers, time, signature) in EXAMPLES {
        let mut parts = plain(method, target, headers);
        let authorization = format!("AWS {KEY}:{signature}");
        set(&mut parts, "authorization", &authorization);
        let now = AmzDate::parse(time).unwrap().time();
        let authenticated = authenticate(&parts, now).unwrap();
        assert_eq!(authenticated.identity.principal().unwrap().user, "alice");
        assert!(matches!(authenticated.payload, Payload::Unsigned));

        let bucket = (!target.starts_with("//s3")).then_some("johnsmith");
        let mut parts = plain(method, target, headers);
        signer().sign(&mut parts, bucket).unwrap();
        assert_eq!(parts.headers["authorization"], authorization);
    }
}

#[test]
fn s_40_w_06_the_published_link() {
    let uri = format!(
        "/photos/puppy.jpg?AWSAccessKeyId={KEY}\
         &Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
    );
    let parts = plain("GET", &uri, &[]);
    let at = |seconds: i64| authenticate(&parts, Timestamp(seconds * 1000));
    at(1_175_139_619).unwrap();
    let expired = at(1_175_139_620).unwrap_err();
    assert_eq!(expired.code(), Code::AccessDenied);
    assert_eq!(expired.text(), "Request has expired");
    assert_eq!(expired.element("Expires"), Some("2007-03-29T03:40:20Z"));
    assert_eq!(expired.element("ServerTime"), Some("2007-03-29T03:40:20Z"));
}

#[test]
fn a_01_any_bit_that_is_signed_and_flipped_is_refused() {
    let headers = [
        ("content-type", "a/b"),
        ("content-md5", "4gJE4saaMU4BqNR0kLY+lw=="),
        ("x-amz-meta-a", "value"),
    ];
    let good = signed(
        "PUT",
        "/k?partNumber=1&uploadId=u%2B&x-id=UploadPart",
        &headers,
    );
    check(&good).unwrap();
    // The rest of the query is nobody's business here.
    check(&edit(&good, "UploadPart", "Other")).unwrap();
    let mut flipped = vec![
        edit(&good, "/k", "/l"),
        edit(&good, "/k", "//k"),
        edit(&good, "partNumber=1", "partNumber=0"),
        edit(&good, "uploadId=u%2B", "uploadId=u%2C"),
        edit(&good, "x-id=UploadPart", "tagging"),
    ];
    for (name, value) in [
        ("host", "johnsmiti.s3.amazonaws.com"),
        ("content-type", "a/c"),
        ("content-md5", "5gJE4saaMU4BqNR0kLY+lw=="),
        ("x-amz-meta-a", "valud"),
        ("date", "Fri, 24 May 2013 00:00:01 GMT"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-copy-source", "/other/key"),
        ("x-amz-acl", "public-read"),
    ] {
        let mut parts = good.clone();
        set(&mut parts, name, value);
        flipped.push(parts);
    }
    let mut method = good.clone();
    method.method = Method::DELETE;
    flipped.push(method);
    for parts in flipped {
        assert_eq!(code(&parts), Code::SignatureDoesNotMatch, "{parts:?}");
    }
}

/// minio-go, and with it `mc --api S3v2`, signs `?location` and sends `?location=`.
#[test]
fn s_40_an_empty_value_may_be_signed_without_its_sign() {
    let named = signed("GET", "/?location", &[]);
    check(&named).unwrap();
    check(&edit(&named, "?location", "?location=")).unwrap();
    let with_sign = signed("GET", "/?location=", &[]);
    check(&with_sign).unwrap();
    assert_eq!(
        code(&edit(&with_sign, "=", "=x")),
        Code::SignatureDoesNotMatch
    );
    assert_eq!(
        code(&edit(&named, "?location", "?location=x")),
        Code::SignatureDoesNotMatch
    );
    assert_eq!(
        code(&edit(&named, "?location", "?acl=")),
        Code::SignatureDoesNotMatch
    );
}

#[test]
fn s_40_a_bucket_alone_may_be_signed_with_a_slash() {
    let sign = |target: &str, sent: &str| {
        let mut parts = plain("PUT", target, &[DATE]);
        signer().sign(&mut parts, None).unwrap();
        parts.uri = sent.parse().unwrap();
        check(&parts).map(drop).map_err(|error| error.code())
    };
    assert_eq!(sign("//s3/b/", "/b"), Ok(()));
    assert_eq!(sign("//s3/b/?acl", "/b?acl"), Ok(()));
    assert_eq!(sign("//s3/b", "/b"), Ok(()));
    for (signed, sent) in [
        ("//s3/b/k/", "/b/k"),
        ("//s3/b", "/b/"),
        ("//s3/b/?acl", "/b"),
    ] {
        assert_eq!(sign(signed, sent), Err(Code::SignatureDoesNotMatch));
    }
}

#[test]
fn a_09_a_second_value_of_a_header_is_covered_too() {
    let headers = [
        ("content-type", "a/b"),
        ("content-md5", "4gJE4saaMU4BqNR0kLY+lw=="),
    ];
    let good = signed("PUT", "/k", &headers);
    check(&good).unwrap();
    for (name, _) in headers {
        let mut more = good.clone();
        more.headers.append(name, "text/html".parse().unwrap());
        assert_eq!(code(&more), Code::SignatureDoesNotMatch, "{name}");
    }
}

#[test]
fn a_01_the_error_tells_what_was_signed() {
    let mut parts = signed("GET", "/k?acl", &[]);
    set(&mut parts, "authorization", &format!("AWS {KEY}:bm8="));
    let error = check(&parts).unwrap_err();
    let expected = "GET\n\n\nFri, 24 May 2013 00:00:00 GMT\n/johnsmith/k?acl";
    assert_eq!(error.element("StringToSign"), Some(expected));
    assert_eq!(error.element("SignatureProvided"), Some("bm8="));
    assert_eq!(error.element("AWSAccessKeyId"), Some(KEY));
    let bytes = error.element("StringToSignBytes").unwrap();
    assert!(bytes.starts_with("47 45 54 0a 0a"), "{bytes}");
}

#[test]
fn a_11_a_date_must_be_there_and_near() {
    let no_date = "AWS authentication requires a valid Date or x-amz-date header";
    for (name, value, expected) in [
        ("x-amz-date", "", Code::AccessDenied),
        ("x-amz-date", "Bad Date", Code::AccessDenied),
        (
            "x-amz-date",
            "Tue, 07 Jul 1950 21:53:04 GMT",
            Code::AccessDenied,
        ),
        ("date", "never", Code::AccessDenied),
        (
            "x-amz-date",
            "Tue, 07 Jul 2010 21:53:04 GMT",
            Code::RequestTimeTooSkewed,
        ),
        (
            "x-amz-date",
            "Tue, 07 Jul 9999 21:53:04 GMT",
            Code::RequestTimeTooSkewed,
        ),
        (
            "date",
            "Fri, 24 May 2013 00:15:01 GMT",
            Code::RequestTimeTooSkewed,
        ),
    ] {
        let mut parts = plain("GET", "/k", &[DATE]);
        set(&mut parts, name, value);
        signer().sign(&mut parts, Some("johnsmith")).unwrap();
        let error = check(&parts).unwrap_err();
        assert_eq!(error.code(), expected, "{name}: {value}");
        match expected {
            Code::AccessDenied => assert_eq!(error.text(), no_date),
            _ => assert_eq!(error.element("RequestTime"), Some(value)),
        }
    }
    let mut parts = plain("GET", "/k", &[]);
    signer().sign(&mut parts, Some("johnsmith")).unwrap();
    assert_eq!(refusal(&parts), (Code::AccessDenied, no_date.to_owned()));
}

#[test]
fn a_17_odd_credentials() {
    let long = "x".repeat(10_000);
    for key in ["AK", "%", "*", "(", "a:b", "ключ", &long] {
        let mut parts = plain("GET", "/k", &[DATE]);
        SignerV2::new(key, &Secret::from(SECRET))
            .sign(&mut parts, Some("johnsmith"))
            .ok();
        let expected = match key.is_ascii() {
            true => Code::InvalidAccessKeyId,
            false => Code::InvalidArgument,
        };
        assert_eq!(code(&parts), expected, "{key}");
        let mut parts = plain("GET", "/k", &[]);
        SignerV2::new(key, &Secret::from(SECRET))
            .presign(&mut parts, Some("johnsmith"), HALF_PAST)
            .unwrap();
        assert_eq!(code(&parts), Code::InvalidAccessKeyId, "{key}");
    }
    let malformed = "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature";
    for text in ["AWS HAHAHA", "AWS :", "AWS k:", "AWS :c2ln"] {
        let mut parts = plain("GET", "/k", &[DATE]);
        set(&mut parts, "authorization", text);
        let error = check(&parts).unwrap_err();
        assert_eq!(
            (error.code(), error.text()),
            (Code::InvalidArgument, malformed)
        );
        assert_eq!(error.element("ArgumentValue"), Some(text));
    }
    for text in ["AWS", "AWS:k:s", "AWS2 k:s", "aws k:s"] {
        let mut parts = plain("GET", "/k", &[DATE]);
        set(&mut parts, "authorization", text);
        assert_eq!(code(&parts), Code::InvalidArgument, "{text}");
    }
}

#[test]
fn a_17_switched_off_it_is_no_mechanism() {
    let verifier = verifier(Leniency {
        signature_v2: false,
        portless_host: false,
    });
    let half = plain("GET", "/k?AWSAccessKeyId=x", &[]);
    for parts in [signed("GET", "/k", &[]), link("GET", "/k", &[]), half] {
        let head = received(&parts, &[], Scheme::Http);
        let error = verify(&verifier, &head, now()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest);
        assert!(error.text().ends_with("Please use AWS4-HMAC-SHA256."));
    }
}

#[test]
fn a_10_links_lack_nothing_and_say_nothing_twice() {
    let good = link("GET", "/k?response-content-type=text/plain%3B+a", &[]);
    check(&good).unwrap();
    for (from, to) in [
        ("AWSAccessKeyId", "aWSAccessKeyId"),
        ("Signature", "signature"),
        ("Expires", "expires"),
        ("Expires=1369355400", "Expires="),
        ("Expires", "Expires=2&Expires"),
        ("Signature", "Signature=x&Signature"),
        ("AWSAccessKeyId", "AWSAccessKeyId=x&AWSAccessKeyId"),
    ] {
        let (code, text) = refusal(&edit(&good, from, to));
        assert_eq!(code, Code::AccessDenied, "{from} {to}");
        assert!(
            text.starts_with("Query-string authentication requires"),
            "{text}"
        );
    }
    for expires in ["x", "-1", "1e9", "%2B1369355400", "99999999999999999999"] {
        let (code, text) = refusal(&edit(&good, "1369355400", expires));
        assert_eq!(code, Code::AccessDenied, "{expires}");
        assert!(text.starts_with("Invalid date"), "{text}");
    }
    for (from, to) in [
        ("1369355400", "1369355401"),
        ("text/plain", "text/html"),
        ("/k", "/l"),
        ("?", "?versionId=null&"),
    ] {
        let parts = edit(&good, from, to);
        assert_eq!(code(&parts), Code::SignatureDoesNotMatch, "{from}");
    }
    let both = edit(&good, "?", "?X-Amz-Signature=x&");
    assert_eq!(code(&both), Code::InvalidArgument);
}

#[test]
fn a_10_a_link_cannot_be_turned_to_another_operation() {
    let good = link("PUT", "/k", &[]);
    check(&good).unwrap();
    for name in ["retention", "legal-hold", "encryption", "renameObject"] {
        let (code, text) = refusal(&edit(&good, "?", &format!("?{name}&")));
        assert_eq!(code, Code::AccessDenied, "{name}");
        assert!(text.contains(name), "{text}");
    }
    for name in ["tagging", "acl", "uploads", "partNumber=1", "object-lock"] {
        let parts = edit(&good, "?", &format!("?{name}&"));
        assert_eq!(code(&parts), Code::SignatureDoesNotMatch, "{name}");
    }
}

#[test]
fn a_08_w_06_a_link_carries_headers_in_its_query() {
    let made = link(
        "PUT",
        "/k",
        &[("x-amz-acl", "private"), ("x-amz-meta-a", "a b")],
    );
    let hoisted = edit(&made, "?", "?x-amz-acl=private&x-amz-meta-a=a%20b&");
    let take = |parts: &Parts, sent: &[(&str, &str)]| {
        let mut sending = plain("PUT", &parts.uri.to_string(), sent);
        take_headers_from_link(&mut sending);
        sending
    };
    let parts = take(&hoisted, &[]);
    check(&parts).unwrap();
    assert_eq!(parts.headers["x-amz-meta-a"], "a b");
    check(&take(&hoisted, &[("x-amz-acl", "private")])).unwrap();
    for sent in [("x-amz-acl", "public-read"), ("x-amz-copy-source", "/b/k")] {
        let parts = take(&hoisted, &[sent]);
        assert_eq!(code(&parts), Code::SignatureDoesNotMatch);
    }
    let added = edit(&hoisted, "?", "?x-amz-tagging=a&");
    assert_eq!(code(&take(&added, &[])), Code::SignatureDoesNotMatch);
}

#[test]
fn a_02_chunks_are_refused_and_a_declared_hash_holds() {
    let coded = signed(
        "PUT",
        "/k",
        &[(CONTENT_ENCODING.as_str(), "gzip,aws-chunked")],
    );
    assert_eq!(code(&coded), Code::NotImplemented);
    for payload in [
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    ] {
        let parts = signed("PUT", "/k", &[("x-amz-content-sha256", payload)]);
        assert_eq!(code(&parts), Code::NotImplemented);
    }
    let parts = signed("PUT", "/k", &[("x-amz-content-sha256", EMPTY_SHA256)]);
    assert!(matches!(check(&parts).unwrap().payload, Payload::Sha256(_)));
    let parts = signed("GET", "/k", &[("x-amz-security-token", "t")]);
    assert_eq!(code(&parts), Code::InvalidToken);
}
