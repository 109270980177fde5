//! The examples on AWS's pages, as known answers to the client's side and to the server's.

use super::*;

#[test]
fn s_40_aws_examples_of_header_signatures() {
    let put = [
        ("date", "Fri, 24 May 2013 00:00:00 GMT"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ];
    let examples: [(Parts, &[u8], &str); 4] = [
        (
            request("GET", "/test.txt", &[("range", "bytes=0-9")]),
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            request("PUT", "/test$file.text", &put),
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            request("GET", "/?lifecycle", &[]),
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            request("GET", "/?max-keys=2&prefix=J", &[]),
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ];
    for (mut parts, body, expected) in examples {
        assert_eq!(signer().sign_body(&mut parts, body).unwrap(), expected);
        let authenticated = check(&parts).unwrap();
        assert_eq!(authenticated.identity.principal().unwrap().user, "alice");
        assert!(matches!(authenticated.payload, Payload::Sha256(_)));
    }
}

#[test]
fn s_40_aws_example_of_signed_chunks() {
    let headers = [
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("content-length", "66824"),
    ];
    let mut parts = request("PUT", "/examplebucket/chunkObject.txt", &headers);
    let body = vec![b'a'; 66560];
    let sent = signer()
        .sign_chunks(&mut parts, &body, 64 << 10, None)
        .unwrap();
    assert_eq!(sent.len(), 66824);
    let sent = String::from_utf8(sent).unwrap();
    let authorization = parts.headers["authorization"].to_str().unwrap();
    assert!(
        authorization.ends_with(
            "Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        )
    );
    for head in [
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ] {
        assert!(sent.contains(head), "{head}");
    }
    let payload = check(&parts).unwrap().payload;
    assert!(matches!(
        payload,
        Payload::SignedChunks { trailer: false, .. }
    ));
}

#[test]
fn s_40_aws_example_of_a_signed_trailer() {
    let headers = [("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    let mut parts = request("PUT", "/examplebucket/chunkObject.txt", &headers);
    let body = vec![b'a'; 66560];
    let trailer = HeaderName::from_static("x-amz-checksum-crc32c");
    let sent = signer()
        .sign_chunks(
            &mut parts,
            &body,
            64 << 10,
            Some((trailer, "sOO8/Q==".into())),
        )
        .unwrap();
    let sent = String::from_utf8(sent).unwrap();
    let authorization = parts.headers["authorization"].to_str().unwrap();
    assert!(
        authorization.ends_with(
            "Signature=106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        )
    );
    assert!(sent.ends_with(
        "0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n\
         x-amz-checksum-crc32c:sOO8/Q==\r\n\
         x-amz-trailer-signature:\
         d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    ));
    let payload = check(&parts).unwrap().payload;
    assert!(matches!(
        payload,
        Payload::SignedChunks { trailer: true, .. }
    ));
}

#[test]
fn s_40_aws_example_of_a_presigned_url() {
    let parts = presigned("GET", "/test.txt", &[]);
    let query = parts.uri.query().unwrap();
    assert_eq!(
        query,
        "X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
         &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
    assert!(matches!(check(&parts).unwrap().payload, Payload::Unsigned));
}

#[test]
fn s_40_a_date_header_will_do() {
    let date = AmzDate::at(now()).unwrap();
    let scope = Scope::parse(
        &format!("{KEY}/20130524/us-east-1/s3/aws4_request"),
        ServiceName::S3,
    )
    .unwrap();
    let signed_headers = "date;host;x-amz-content-sha256";
    let mut parts = request("GET", "/k", &[("x-amz-content-sha256", EMPTY_SHA256)]);
    let mut sign_and_check = |value: &str| {
        set(&mut parts, "date", value);
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let message = Message::to_send(&parts, &query);
        let canonical = CanonicalRequest {
            message,
            signed_headers: &SignedHeaders::parse(signed_headers).unwrap(),
            payload_hash: EMPTY_SHA256,
        };
        let digest = canonical.digest();
        let signature = SigningKey::derive(&Secret::from(SECRET), &scope)
            .sign(&canonical::string_to_sign(&date, &scope, &digest));
        let text = format!(
            "AWS4-HMAC-SHA256 Credential={KEY}/{scope},SignedHeaders={signed_headers},\
             Signature={signature}"
        );
        set(&mut parts, "authorization", &text);
        check(&parts).map_err(|error| error.code())
    };
    sign_and_check("Fri, 24 May 2013 00:00:00 GMT").unwrap();
    sign_and_check("20130524T000000Z").unwrap();
    assert_eq!(sign_and_check("yesterday").unwrap_err(), Code::AccessDenied);
    parts.headers.remove("date");
    assert_eq!(code(&parts), Code::AccessDenied);
}
