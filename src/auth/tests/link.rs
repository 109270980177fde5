//! Credentials in the query.

use super::*;

#[test]
fn a_03_a_credential_in_the_query_alone_is_none() {
    let credential = format!("{KEY}%2F20130524%2Fus-east-1%2Fs3%2Faws4_request");
    for query in [
        format!("X-Amz-Credential={credential}"),
        format!(
            "X-Amz-Credential={credential}&X-Amz-Signature={}",
            "0".repeat(64)
        ),
    ] {
        let parts = request(
            "PUT",
            &format!("/k?{query}"),
            &[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")],
        );
        assert_eq!(code(&parts), Code::AccessDenied);
    }
    let forged = presigned("PUT", "/k", &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]);
    let mut forged = edit(&forged, "X-Amz-Signature=", "X-Amz-Signature=0");
    set(
        &mut forged,
        "x-amz-content-sha256",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    );
    assert_eq!(code(&forged), Code::SignatureDoesNotMatch);
}

#[test]
fn a_10_presigned_limits() {
    let good = presigned("GET", "/k", &[]);
    let at = |parts: &Parts, now| authenticate(parts, now);
    at(&good, later(86399)).unwrap();
    at(&good, later(-15 * 60)).unwrap();
    let expired = at(&good, later(86400)).unwrap_err();
    assert_eq!(
        (expired.code(), expired.text()),
        (Code::AccessDenied, "Request has expired")
    );
    assert_eq!(expired.element("X-Amz-Expires"), Some("86400"));
    assert_eq!(expired.element("Expires"), Some("2013-05-25T00:00:00Z"));
    assert_eq!(expired.element("ServerTime"), Some("2013-05-25T00:00:00Z"));
    let early = at(&good, later(-15 * 60 - 1)).unwrap_err();
    assert_eq!(early.text(), "Request is not valid yet");

    for (value, text) in [
        ("-1", "X-Amz-Expires must be non-negative"),
        ("1e9", "X-Amz-Expires should be a number"),
        ("604801", ""),
        ("99999999999999999999999", ""),
        ("", ""),
    ] {
        let parts = edit(&good, "Expires=86400", &format!("Expires={value}"));
        let error = check(&parts).unwrap_err();
        assert_eq!(error.code(), Code::AuthorizationQueryParametersError);
        assert!(text.is_empty() || error.text() == text, "{}", error.text());
    }
    let mut never = request("GET", "/k", &[]);
    signer().presign(&mut never, 0).unwrap();
    assert_eq!(code(&never), Code::AccessDenied);

    let mut other_method = good.clone();
    other_method.method = http::Method::PUT;
    assert_eq!(code(&other_method), Code::SignatureDoesNotMatch);
    let hostless = edit(&good, "SignedHeaders=host", "SignedHeaders=range");
    assert_eq!(
        check(&hostless).unwrap_err().element("HeadersNotSigned"),
        Some("host")
    );
    for name in [
        "Algorithm=AWS4-HMAC-SHA256",
        "Expires=86400",
        "Date=20130524T000000Z",
    ] {
        let twice = format!("X-Amz-{name}&X-Amz-{name}");
        let parts = edit(&good, &format!("X-Amz-{name}"), &twice);
        assert_eq!(code(&parts), Code::AuthorizationQueryParametersError);
        let without = edit(&good, &format!("X-Amz-{name}"), "a=b");
        assert!(check(&without).is_err());
    }
}

#[test]
fn s_40_query_errors_say_what_aws_says() {
    let good = presigned("GET", "/k", &[]);
    for (from, to, text) in [
        (
            "AWS4-HMAC-SHA256",
            "AWS4-HMAC-SHA1",
            "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"",
        ),
        (
            "%2Fs3%2F",
            "%2Fec2%2F",
            "Error parsing the X-Amz-Credential parameter; incorrect service \"ec2\". This \
             endpoint belongs to \"s3\".",
        ),
        (
            "aws4_request",
            "aws5_request",
            "Error parsing the X-Amz-Credential parameter; incorrect terminal \"aws5_request\". \
             This endpoint uses \"aws4_request\".",
        ),
        (
            "%2F20130524%2F",
            "%2F2013-5-24%2F",
            "Error parsing the X-Amz-Credential parameter; incorrect date format \"2013-5-24\". \
             This date in the credential must be in the format \"yyyyMMdd\".",
        ),
        (
            "%2F20130524%2F",
            "%2F20130525%2F",
            "Invalid credential date \"20130525\". This date is not the same as X-Amz-Date: \
             \"20130524\".",
        ),
        (
            "20130524T000000Z",
            "2013-05-24",
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"",
        ),
    ] {
        let error = check(&edit(&good, from, to)).unwrap_err();
        assert_eq!(error.code(), Code::AuthorizationQueryParametersError);
        assert_eq!(error.text(), text);
    }
}

#[test]
fn a_08_a_09_a_link_carries_headers_in_its_query() {
    let made = presigned(
        "PUT",
        "/k?x-amz-acl=private&X-Amz-Meta-A=a%20b&x-amz-storage-class=STANDARD",
        &[],
    );
    let take = |sent: &[(&str, &str)]| {
        let mut parts = made.clone();
        sent.iter()
            .for_each(|(name, value)| set(&mut parts, name, value));
        take_headers_from_link(&mut parts);
        parts
    };
    let parts = take(&[]);
    check(&parts).unwrap();
    assert_eq!(parts.headers["x-amz-acl"], "private");
    assert_eq!(parts.headers["x-amz-meta-a"], "a b");
    // Sent once more it is the same; changed or added it is not signed.
    check(&take(&[("x-amz-acl", "private")])).unwrap();
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-meta-a", "a c"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-copy-source", "/b/k"),
    ] {
        let error = check(&take(&[(name, value)])).unwrap_err();
        assert_eq!(error.code(), Code::AccessDenied);
        assert_eq!(error.element("HeadersNotSigned"), Some(name));
    }
    let mut added = edit(&made, "?", "?x-amz-tagging=a&");
    take_headers_from_link(&mut added);
    assert_eq!(code(&added), Code::SignatureDoesNotMatch);
    // In a request that is no link such parameters are none of our business.
    let mut plain = request("PUT", "/k?x-amz-acl=private", &[]);
    take_headers_from_link(&mut plain);
    assert!(!plain.headers.contains_key("x-amz-acl"));
    signer().sign_body(&mut plain, b"").unwrap();
    set(&mut plain, "x-amz-acl", "private");
    assert_eq!(code(&plain), Code::AccessDenied);
}

#[test]
fn s_40_an_empty_authorization_header_beside_a_link_is_none() {
    let mut parts = presigned("PUT", "/k?x-amz-acl=private", &[]);
    take_headers_from_link(&mut parts);
    check(&parts).unwrap();
    set(&mut parts, "authorization", "");
    check(&parts).unwrap();
}

#[test]
fn w_01_a_link_with_the_checksum_of_nothing_takes_anything() {
    let link = |sum: &str| {
        let query = format!("/k?x-amz-checksum-crc32={sum}&x-amz-sdk-checksum-algorithm=CRC32");
        let mut parts = presigned("PUT", &query, &[]);
        take_headers_from_link(&mut parts);
        check(&parts).unwrap();
        parts.headers
    };
    // As the JavaScript SDK makes them by default.
    let of_nothing = link("AAAAAA%3D%3D");
    assert!(
        !of_nothing
            .keys()
            .any(|name| name.as_str().contains("checksum"))
    );
    assert_eq!(link("AAAAAQ%3D%3D")["x-amz-checksum-crc32"], "AAAAAQ==");
}
