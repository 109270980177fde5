//! Which host is signed.

use super::*;

#[test]
fn w_08_a_host_signed_without_its_port_passes_where_that_is_on() {
    let sent_to = |host: &str| {
        let mut parts = request("GET", "/examplebucket/k", &[]);
        set(&mut parts, "host", "s3.amazonaws.com");
        signer().sign_body(&mut parts, b"").unwrap();
        set(&mut parts, "host", host);
        parts
    };
    let verdict = |parts: &Parts, portless_host| {
        let verifier = verifier(Leniency {
            signature_v2: false,
            portless_host,
        });
        verify(&verifier, &received(parts, &domains(), Scheme::Http), now())
            .map(drop)
            .map_err(|error| error.code())
    };
    let mismatch = Err(Code::SignatureDoesNotMatch);
    let parts = sent_to("s3.amazonaws.com:9000");
    assert_eq!(verdict(&parts, true), Ok(()));
    assert_eq!(verdict(&parts, false), mismatch);
    for host in [
        "other:9000",
        "s3.amazonaws.com:",
        "s3.amazonaws.com:9000:1",
        "a.s3.amazonaws.com",
    ] {
        assert_eq!(verdict(&sent_to(host), true), mismatch, "{host}");
    }
    // The other way round nothing is forgiven.
    let mut with_port = request("GET", "/examplebucket/k", &[]);
    set(&mut with_port, "host", "s3.amazonaws.com:9000");
    signer().sign_body(&mut with_port, b"").unwrap();
    assert_eq!(verdict(&with_port, false), Ok(()));
    set(&mut with_port, "host", "s3.amazonaws.com");
    assert_eq!(verdict(&with_port, true), mismatch);
}

/// The host is the same with and without it, so nothing is forgiven.
#[test]
fn w_08_the_schemes_own_port_may_always_be_left_out() {
    let verdict = |sent: &str, scheme: Scheme| {
        let mut parts = request("GET", "/examplebucket/k", &[]);
        set(&mut parts, "host", "s3.amazonaws.com");
        signer().sign_body(&mut parts, b"").unwrap();
        set(&mut parts, "host", sent);
        let verifier = verifier(Leniency {
            signature_v2: false,
            portless_host: false,
        });
        verify(&verifier, &received(&parts, &[], scheme), now()).is_ok()
    };
    assert!(verdict("s3.amazonaws.com:443", Scheme::Https));
    assert!(verdict("s3.amazonaws.com:80", Scheme::Http));
    assert!(!verdict("s3.amazonaws.com:80", Scheme::Https));
    assert!(!verdict("s3.amazonaws.com:443", Scheme::Http));
    assert!(!verdict("s3.amazonaws.com:9000", Scheme::Https));
}

/// In the absolute form, as a proxy's client or HTTP/2 names it, the target has a host of its own.
#[test]
fn a_19_the_host_that_is_routed_by_is_the_one_that_is_signed() {
    let absolute = |authority: &str, host: Option<&str>| {
        let mut parts = request("GET", &format!("http://{authority}/k"), &[]);
        parts.headers.remove("host");
        if let Some(host) = host {
            set(&mut parts, "host", host);
        }
        parts
    };
    let bucket = |parts: &Parts| {
        let head = received(parts, &domains(), Scheme::Http);
        head.address.host_bucket
    };
    // A name is the same in any case, and it is routed by as it is signed.
    for host in [None, Some("a.s3.amazonaws.com"), Some("A.S3.amazonaws.com")] {
        let parts = absolute("a.s3.amazonaws.com", host);
        assert_eq!(bucket(&parts).unwrap().as_deref(), Some("a"));
    }
    // Signed for one host and sent to another: by the header or by the target.
    let mut moved = absolute("a.s3.amazonaws.com", Some("a.s3.amazonaws.com"));
    signer().sign_body(&mut moved, b"").unwrap();
    check(&moved).unwrap();
    set(&mut moved, "host", "b.s3.amazonaws.com");
    assert_eq!(code(&moved), Code::SignatureDoesNotMatch);
    assert_eq!(bucket(&moved).unwrap_err().code(), Code::BadRequest);
    let mut alone = absolute("a.s3.amazonaws.com", None);
    let signed = presign_host(&alone);
    alone.uri = signed.clone();
    check(&alone).unwrap();
    alone.uri = signed.to_string().replace("//a.", "//b.").parse().unwrap();
    assert_eq!(code(&alone), Code::SignatureDoesNotMatch);
}

/// A link for the host that stands in the target alone.
fn presign_host(parts: &Parts) -> Uri {
    let mut named = parts.clone();
    let authority = parts.uri.authority().unwrap().as_str();
    set(&mut named, "host", authority);
    signer().presign(&mut named, 600).unwrap();
    named.uri
}
