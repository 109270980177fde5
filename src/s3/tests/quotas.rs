#![allow(clippy::unwrap_used)]
//! Quotas as clients meet them.

use drystone_store::types::QuotaChange;

use drystone_world::World;

async fn limited(bytes: Option<u64>, objects: Option<u64>) -> World {
    let world = World::with_bucket().await;
    let change = QuotaChange {
        hard_bytes: Some(bytes),
        hard_objects: Some(objects),
        ..QuotaChange::default()
    };
    let bucket = world.store.bucket("bkt").await.unwrap().id;
    world.store.set_quota(bucket, change).await.unwrap();
    world
}

#[tokio::test]
async fn s_06_the_error_says_the_numbers() {
    let world = limited(Some(10), None).await;
    world.call("PUT /bkt/a").body("123456").ok().await;
    let answer = world.call("PUT /bkt/b").body("12345").send().await;
    assert_eq!(answer.status.as_u16(), 403);
    let error = answer.xml("Error");
    for (element, text) in [
        ("Code", "QuotaExceeded"),
        ("BucketName", "bkt"),
        ("QuotaType", "Bytes"),
        ("Quota", "10"),
        ("CurrentUsage", "6"),
        ("ProposedUsage", "11"),
    ] {
        assert_eq!(error.child_text(element), Some(text), "{element}");
    }
    // What replaces as much goes on; so does what is deleted.
    world.call("PUT /bkt/a").body("1234567890").ok().await;
    world.call("DELETE /bkt/a").ok().await;
    world.call("PUT /bkt/b").body("1234567890").ok().await;
}

#[tokio::test]
async fn s_06_every_way_to_write_is_held_to_the_quota() {
    let world = limited(Some(10), None).await;
    world.call("PUT /bkt/a").body("123456").ok().await;
    let refused = (403, "QuotaExceeded".to_owned());
    let copy = |line| world.call(line).header("x-amz-copy-source", "bkt/a");
    assert_eq!(copy("PUT /bkt/b").error().await, refused, "by a link");
    let by_bytes = copy("PUT /bkt/b").header("x-amz-checksum-algorithm", "SHA256");
    assert_eq!(by_bytes.error().await, refused, "by bytes");
    let begun = world.call("POST /bkt/m?uploads").ok().await;
    let begun = begun.xml("InitiateMultipartUploadResult");
    let id = begun.child_text("UploadId").unwrap();
    let part = format!("PUT /bkt/m?partNumber=1&uploadId={id}");
    assert_eq!(world.call(&part).body("12345").error().await, refused);
    assert_eq!(copy(&part).error().await, refused);
    world.call(&part).body("1234").ok().await;
}

#[tokio::test]
async fn s_06_a_full_bucket_is_told_before_the_body_is_read() {
    use axum::body::{Body, Bytes};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let world = limited(Some(10), None).await;
    let was_read = Arc::new(AtomicBool::new(false));
    let seen = was_read.clone();
    let body = futures_util::stream::once(async move {
        seen.store(true, Ordering::SeqCst);
        Ok::<_, std::io::Error>(Bytes::from_static(b"12345678901"))
    });
    let call = world.call("PUT /bkt/b").header("content-length", "11");
    let answer = call.send_unsigned(Body::from_stream(body)).await;
    assert_eq!(answer.status.as_u16(), 403);
    assert!(!was_read.load(Ordering::SeqCst));
    // Without a place for one more object no upload is begun; to replace one it may be.
    let world = limited(None, Some(1)).await;
    world.call("PUT /bkt/a").body("1").ok().await;
    let full = world.call("POST /bkt/b?uploads").error().await;
    assert_eq!(full, (403, "QuotaExceeded".to_owned()));
    world.call("POST /bkt/a?uploads").ok().await;
}
