//! Bounds on the memory and the answer of a request whose signature is not verified yet.

use super::*;

/// The longest head that is read.
const HEAD_BYTES: usize = 64 << 10;

/// A link by a key that exists, with such a list of signed headers and a wrong signature.
fn link(list: &str, rest: &str) -> Parts {
    let uri = format!(
        "/k?X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential={KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-Signature=0\
         &X-Amz-SignedHeaders={list}{rest}"
    );
    request("GET", &uri, &[("a", &"x".repeat(8000))])
}

/// The bytes of everything that an error shows.
fn shown_bytes(error: &S3Error) -> usize {
    let elements = [
        "AWSAccessKeyId",
        "StringToSign",
        "StringToSignBytes",
        "SignatureProvided",
        "CanonicalRequest",
        "CanonicalRequestBytes",
    ];
    let lengths = elements.map(|name| error.element(name).map_or(0, str::len));
    lengths.iter().sum::<usize>() + error.text().len()
}

#[test]
fn a_60_a_header_is_not_hashed_as_often_as_a_list_repeats_it() {
    for list in [
        format!("host;{}", "a;".repeat(27_800)),
        format!("host{}", ";a".repeat(27_800)),
        format!("a{};host", ";a".repeat(27_000)),
        ";".repeat(50_000),
    ] {
        let error = check(&link(&list, "")).unwrap_err();
        assert_eq!(error.code(), Code::AuthorizationQueryParametersError);
        assert!(shown_bytes(&error) < 1 << 10, "{}", shown_bytes(&error));
    }
    let mut by_header = signed("GET", "/k", &[]);
    let text = by_header.headers["authorization"].to_str().unwrap();
    let text = text.replace("SignedHeaders=host", "SignedHeaders=host;host");
    set(&mut by_header, "authorization", &text);
    assert_eq!(code(&by_header), Code::AuthorizationHeaderMalformed);
}

#[test]
fn a_60_a_canonical_request_is_no_longer_than_its_request_can_make_it() {
    // Each escaped byte comes out as three.
    let names: Vec<String> = (0..1000).map(|at| format!("b{at:04}")).collect();
    let rest = format!("&x={}", "+".repeat(50_000));
    let parts = link(&format!("a;{};host", names.join(";")), &rest);
    let error = check(&parts).unwrap_err();
    assert_eq!(error.code(), Code::SignatureDoesNotMatch);
    let shown = shown_bytes(&error);
    assert!(shown <= 4 * (8 << 10) + (1 << 10), "{shown}");
    let shown = error.element("CanonicalRequest").unwrap();
    assert!(shown.starts_with("GET\n/k\n"), "{shown}");

    let query = Query::parse(parts.uri.query().unwrap());
    let list = query.get("X-Amz-SignedHeaders").unwrap();
    let canonical = CanonicalRequest {
        message: Message::to_send(&parts, &query),
        signed_headers: &SignedHeaders::parse(list).unwrap(),
        payload_hash: "UNSIGNED-PAYLOAD",
    };
    let whole = canonical.beginning(usize::MAX);
    assert!(whole.len() < 3 * HEAD_BYTES + (16 << 10), "{}", whole.len());
    let digest: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&whole).into();
    assert_eq!(canonical.digest(), digest);
}
