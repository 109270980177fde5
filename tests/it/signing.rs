//! Sends signatures as clients make them, and as no client library would, over a plain socket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use drystone_auth::credentials::Secret;
use drystone_auth::sign::{Signer, SignerV2};
use drystone_protocol::response::http_date;
use drystone_store::env::{Env as _, SystemEnv};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request};

use crate::server::{ACCESS_KEY, Disks, SECRET_KEY, Server, eventually};

const TIMEOUT: Duration = Duration::from_secs(60);

fn signer() -> Signer {
    let secret = Secret::from(SECRET_KEY);
    Signer::new(ACCESS_KEY, &secret, "eu-north-1", SystemEnv.now()).unwrap()
}

fn request(method: &str, target: &str, host: &str) -> Parts {
    let builder = Request::builder().method(method).uri(target);
    builder
        .header("host", host)
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn set(parts: &mut Parts, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).unwrap();
    parts.headers.insert(name, value);
}

/// Returns the request as it is sent, up to its body.
fn head(parts: &Parts, len: usize) -> String {
    let lines = |headers: &HeaderMap| -> String {
        let line = |(name, value): (&http::HeaderName, &HeaderValue)| {
            format!("{name}: {}\r\n", value.to_str().unwrap())
        };
        headers.iter().map(line).collect()
    };
    format!(
        "{} {} HTTP/1.1\r\n{}Connection: close\r\nContent-Length: {len}\r\n\r\n",
        parts.method,
        parts.uri,
        lines(&parts.headers)
    )
}

/// Sends a request and returns everything that comes back. If the body is shorter than declared,
/// the client disconnects after it.
fn exchange(server: &Server, parts: &Parts, len: usize, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(head(parts, len).as_bytes()).unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    if body.len() == len {
        let _ = stream.read_to_end(&mut answer);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(server: &Server, parts: &Parts) -> u16 {
    let answer = exchange(server, parts, 0, b"");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer}"))
}

fn host_of(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port)
}

#[test]
fn w_07_version_2_in_the_header_where_it_is_switched_on() {
    let ask = |server: &Server, method: &str, target: &str| {
        let mut parts = request(method, target, &host_of(server));
        set(&mut parts, "date", &http_date(SystemEnv.now()));
        let signer = SignerV2::new(ACCESS_KEY, &Secret::from(SECRET_KEY));
        signer.sign(&mut parts, None).unwrap();
        status(server, &parts)
    };
    let server = Server::fresh(1);
    assert_eq!(ask(&server, "PUT", "/bkt"), 200);
    assert_eq!(ask(&server, "GET", "/bkt?prefix=a"), 200);
    assert_eq!(ask(&server, "GET", "/bkt/none"), 404);
    let variables = [("DRYSTONE_SIGNATURE_V2", "false")];
    let server = Server::configured(Disks::fresh(1), &variables);
    assert_eq!(ask(&server, "PUT", "/bkt"), 400);
}

#[test]
fn w_08_a_host_signed_without_its_port_where_that_is_switched_on() {
    let ask = |server: &Server| {
        let mut parts = request("GET", "/", "127.0.0.1");
        signer().sign_body(&mut parts, b"").unwrap();
        set(&mut parts, "host", &host_of(server));
        status(server, &parts)
    };
    let server = Server::configured(Disks::fresh(1), &[("DRYSTONE_LOG", "debug")]);
    assert_eq!(ask(&server), 200);
    assert!(
        server
            .log()
            .contains("the client signed its host without the port")
    );
    let variables = [("DRYSTONE_PORTLESS_HOST", "false")];
    let server = Server::configured(Disks::fresh(1), &variables);
    assert_eq!(ask(&server), 403);
}

/// Found by reading: a line at `info`, as long as the client liked, for each request that was
/// signed with the secret that stands in for that of an unknown key, and for each unsigned one to
/// the admin API.
#[test]
fn strangers_cannot_fill_the_log() {
    const EACH: usize = 50;
    let server = Server::fresh(1);
    let host = host_of(&server);
    let lines = || server.log().lines().count();
    let before = lines();
    let decoy = Secret::from("0".repeat(40));
    let key = format!("STRANGER{}", "X".repeat(4_000));
    let signed = |key: &str, secret: &Secret| {
        let mut parts = request("GET", "/stranger", "127.0.0.1");
        let signer = Signer::new(key, secret, "eu-north-1", SystemEnv.now()).unwrap();
        signer.sign_body(&mut parts, b"").unwrap();
        set(&mut parts, "host", &host);
        parts
    };
    for _ in 0..EACH {
        for parts in [
            request("GET", "/_admin/v1/stranger", &host),
            request("POST", "/_admin/v1/settings?stranger", &host),
            request("GET", "/minio/admin/v3/stranger", &host),
            request("GET", "/stranger", &host),
            signed(&key, &decoy),
            signed(ACCESS_KEY, &decoy),
        ] {
            let status = status(&server, &parts);
            assert!((400..502).contains(&status), "{status} {}", parts.uri);
        }
    }
    let log = server.log().to_lowercase();
    assert!(!log.contains("stranger"), "{log}");
    // What upkeep has to say, and no line for each request.
    assert!(lines() - before < EACH, "{log}");
}

#[test]
fn w_15_a_bucket_made_again_is_ones_own_already() {
    let server = Server::fresh(1);
    server.client().put("/bkt", b"").unwrap().expect(200);
    let again = server.client().put("/bkt", b"").unwrap().expect(409);
    assert_eq!(again.all("Code"), ["BucketAlreadyOwnedByYou"]);
    assert_eq!(again.all("BucketName"), ["bkt"]);
}

/// A link made for the public name works through any proxy that passes that name on.
#[test]
fn w_19_a_link_for_the_public_name_works_under_it() {
    let server = Server::fresh(1);
    server.client().put("/bkt", b"").unwrap().expect(200);
    server
        .client()
        .put("/bkt/layer", b"bytes")
        .unwrap()
        .expect(200);
    for public in ["registry.example.org", "registry.example.org:8443"] {
        let mut parts = request("GET", "/bkt/layer", public);
        signer().presign(&mut parts, 60).unwrap();
        let answer = exchange(&server, &parts, 0, b"");
        assert!(answer.ends_with("\r\n\r\nbytes"), "{answer}");
        set(&mut parts, "host", "other.example.org");
        assert_eq!(status(&server, &parts), 403);
    }
}

#[test]
fn w_20_a_bucket_in_front_of_the_domain() {
    let variables = [("DRYSTONE_DOMAIN", "s3.example.org")];
    let server = Server::configured(Disks::fresh(1), &variables);
    let ask = |method: &str, target: &str, host: &str| {
        let mut parts = request(method, target, host);
        signer().sign_body(&mut parts, b"").unwrap();
        status(&server, &parts)
    };
    assert_eq!(ask("PUT", "/", "bkt.s3.example.org:9000"), 200);
    assert_eq!(ask("PUT", "/a/b", "BKT.S3.example.org"), 200);
    assert_eq!(ask("GET", "/bkt/a/b", "s3.example.org"), 200);
    assert_eq!(ask("GET", "/bkt/a/b", &host_of(&server)), 200);
    assert_eq!(ask("GET", "/bkt/a/b", "bkt.s3.example.org"), 404);
}

/// A request routed by one host and signed for another must be rejected.
#[test]
fn a_19_an_absolute_target_and_the_host_header_agree() {
    let variables = [("DRYSTONE_DOMAIN", "s3.example.org")];
    let server = Server::configured(Disks::fresh(1), &variables);
    let ask = |authority: &str, host: &str, signed: &str| {
        let mut parts = request("GET", &format!("http://{authority}/"), signed);
        signer().sign_body(&mut parts, b"").unwrap();
        set(&mut parts, "host", host);
        status(&server, &parts)
    };
    let (service, bucket) = ("s3.example.org", "bkt.s3.example.org");
    assert_eq!(ask(service, service, service), 200);
    assert_eq!(ask(bucket, bucket, bucket), 404);
    assert_eq!(ask(service, bucket, bucket), 400);
    assert_eq!(ask(bucket, service, service), 400);
    assert_eq!(ask(bucket, bucket, service), 403);
}

/// An upload in signed chunks that ends in any other way than it should leaves nothing: no object
/// and no shard.
#[test]
fn a_05_a_broken_upload_in_chunks_leaves_nothing() {
    let server = Server::fresh(1);
    server.client().put("/bkt", b"").unwrap().expect(200);
    let content = vec![7; 3 << 20];
    let sign = || {
        let mut parts = request("PUT", "/bkt/k", &host_of(&server));
        let body = signer()
            .sign_chunks(&mut parts, &content, 64 << 10, None)
            .unwrap();
        (parts, body)
    };
    let code = |parts: &Parts, len: usize, body: &[u8]| {
        let answer = exchange(&server, parts, len, body);
        let (_, rest) = answer.split_once("<Code>").unwrap_or_default();
        rest.split('<').next().unwrap_or_default().to_owned()
    };
    // One changed byte in the last chunk's data, signatures in another order, and an early end.
    let (parts, mut flipped) = sign();
    let at = flipped.len() - 5000;
    flipped[at] ^= 1;
    assert_eq!(
        code(&parts, flipped.len(), &flipped),
        "SignatureDoesNotMatch"
    );
    let (parts, body) = sign();
    let first = body.iter().position(|byte| *byte == b'\n').unwrap() + 1 + (64 << 10) + 2;
    let swapped = [&body[first..2 * first], &body[..first], &body[2 * first..]].concat();
    assert_eq!(
        code(&parts, swapped.len(), &swapped),
        "SignatureDoesNotMatch"
    );
    let (parts, body) = sign();
    let cut = &body[..body.len() / 2];
    assert_eq!(code(&parts, cut.len(), cut), "IncompleteBody");
    // The client disconnects in the middle.
    exchange(&server, &parts, body.len(), cut);
    assert_eq!(server.client().list("bkt"), [""; 0]);
    eventually("no shard is left", || {
        server.disks.shard_files(1).is_empty()
    });
    let (parts, body) = sign();
    let answer = exchange(&server, &parts, body.len(), &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!server.disks.shard_files(1).is_empty());
}
