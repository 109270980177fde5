#![allow(clippy::unwrap_used)]
//! A server behind a proxy that serves it below a path.

use axum::body::Body;
use drystone_store::env::{Env as _, SystemEnv};
use http::Request;

use drystone_auth::sign::{Signer, SignerV2};
use drystone_http::prefix::with_path;
use drystone_world::{REGION, World, secret};

const PREFIX: &str = "/s3";

async fn world() -> World {
    World::with_bucket().await.below(PREFIX)
}

#[tokio::test]
async fn s_05_with_the_prefix_without_it_and_when_a_proxy_takes_it_off() {
    let world = world().await;
    world
        .call("PUT /s3/bkt/a?x-id=PutObject")
        .body("left on")
        .ok()
        .await;
    let call = world.call("PUT /s3/bkt/b%20c").body("taken off");
    assert_eq!(call.send_stripped(PREFIX).await.status.as_u16(), 200);
    world.call("PUT /bkt/d").body("straight").ok().await;
    for (key, body) in [("a", "left on"), ("b%20c", "taken off"), ("d", "straight")] {
        for path in [format!("GET /bkt/{key}"), format!("GET /s3/bkt/{key}")] {
            assert_eq!(
                world.call(&path).ok().await.bytes(),
                body.as_bytes(),
                "{path}"
            );
        }
    }
    let listed = world
        .call("GET /s3/bkt?list-type=2")
        .send_stripped(PREFIX)
        .await;
    assert_eq!(
        listed.xml("ListBucketResult").children("Contents").count(),
        3
    );
    world.call("GET /s3").ok().await;
    world.call("GET /s3/").ok().await;
    let mut by_host = world.call("GET /s3/a");
    by_host.set_host("bkt.s3.test:9000");
    assert_eq!(by_host.ok().await.bytes(), b"left on");
}

#[tokio::test]
async fn s_05_a_04_a_signature_over_another_path_is_none() {
    let world = world().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for (signed, sent) in [
        ("/other/bkt/k", "/bkt/k"),
        ("/s3/s3/bkt/k", "/bkt/k"),
        ("/bkt/k", "/s3/bkt/k"),
        ("/s3/bkt/l", "/bkt/k"),
        ("/bkt/k", "/%733/bkt/k"),
    ] {
        let request = Request::builder()
            .uri(signed)
            .header("host", "s3.test:9000");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let signer = Signer::new("alice", &secret("alice"), REGION, SystemEnv.now()).unwrap();
        signer.sign_body(&mut parts, b"").unwrap();
        parts.uri = with_path(&parts.uri, sent).unwrap();
        let request = Request::from_parts(parts, Body::empty());
        let answer = world.answer(request).await;
        assert_eq!(answer.status().as_u16(), 403, "{signed} sent as {sent}");
    }
}

#[tokio::test]
async fn s_05_links_and_version_2_are_signed_over_the_prefix_too() {
    let world = world().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for version in [2, 4] {
        let request = Request::builder()
            .uri("/s3/bkt/k")
            .header("host", "s3.test:9000");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if version == 4 {
            let now = SystemEnv.now();
            let signer = Signer::new("alice", &secret("alice"), REGION, now).unwrap();
            signer.presign(&mut parts, 60).unwrap();
        } else {
            let now = response_date();
            parts.headers.insert("date", now.parse().unwrap());
            let signer = SignerV2::new("alice", &secret("alice"));
            signer.sign(&mut parts, None).unwrap();
        }
        for path in ["/s3/bkt/k", "/bkt/k"] {
            let mut sent = parts.clone();
            sent.uri = with_path(&sent.uri, path).unwrap();
            let request = Request::from_parts(sent, Body::empty());
            let answer = world.answer(request).await;
            assert_eq!(answer.status().as_u16(), 200, "version {version}: {path}");
        }
    }
}

/// The prefix is compared as it is signed.
#[tokio::test]
async fn s_05_a_01_an_encoded_prefix_leads_to_no_other_object() {
    let world = World::with_bucket().await.below("/bkt");
    let reserved = (400, "InvalidBucketName".to_owned());
    // Made before the prefix was set.
    assert_eq!(world.call("PUT /bkt/bkt").error().await, reserved);
    world.call("PUT /photos").ok().await;
    let request = Request::builder().method("PUT").uri("/bkt/photos/k");
    let request = request.header("host", "s3.test:9000").body(());
    let (mut parts, ()) = request.unwrap().into_parts();
    let signer = Signer::new("alice", &secret("alice"), REGION, SystemEnv.now()).unwrap();
    signer.presign(&mut parts, 60).unwrap();
    for path in ["/%62kt/photos/k", "/bkt%2fphotos/k"] {
        let mut sent = parts.clone();
        sent.uri = with_path(&sent.uri, path).unwrap();
        let length = path.len().into();
        sent.headers.insert("content-length", length);
        let body = Body::from(path.to_owned());
        let answer = world.answer(Request::from_parts(sent, body)).await;
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        let stored = world.call("GET /bkt/photos/k").ok().await;
        assert_eq!(stored.bytes(), path.as_bytes());
    }
    let other = world.call("GET /bkt/bkt/photos/k").error().await;
    assert_eq!(other, (404, "NoSuchKey".to_owned()));
}

fn response_date() -> String {
    drystone_protocol::response::http_date(SystemEnv.now())
}

#[tokio::test]
async fn s_05_locations_are_where_the_client_finds_it() {
    let world = world().await;
    let made = world.call("PUT /s3/made").send_stripped(PREFIX).await;
    assert_eq!(made.header("location"), "/s3/made");
    let begun = world.call("POST /s3/bkt/m?uploads").ok().await;
    let begun = begun.xml("InitiateMultipartUploadResult");
    let id = begun.child_text("UploadId").unwrap();
    let part = world.call(&format!("PUT /s3/bkt/m?partNumber=1&uploadId={id}"));
    let part = part.body("x").ok().await;
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    let complete = world
        .call(&format!("POST /s3/bkt/m?uploadId={id}"))
        .body(parts);
    let done = complete.send_stripped(PREFIX).await;
    let done = done.xml("CompleteMultipartUploadResult");
    let location = done.child_text("Location").unwrap();
    assert_eq!(location, "http://s3.test:9000/s3/bkt/m");
    let path = location.strip_prefix("http://s3.test:9000").unwrap();
    world.call(&format!("GET {path}")).ok().await;
}
