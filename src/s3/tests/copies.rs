//! CopyObject and GetObjectAttributes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use drystone_store::buckets::CreateBucket;
use drystone_store::checksum::checksum;
use drystone_store::types::{AccountId, ChecksumAlgorithm};

use drystone_world::{Answer, World};

/// Alice's bucket with an object in it.
async fn world() -> World {
    let world = World::with_bucket().await;
    world
        .call("PUT /bkt/src")
        .header("content-type", "text/plain")
        .header("x-amz-meta-a", "1")
        .header("x-amz-tagging", "t=1")
        .header("x-amz-website-redirect-location", "/r")
        .body("hello")
        .ok()
        .await;
    world
}

async fn other_bucket(world: &World, name: &str, owner: u32) {
    let create = CreateBucket {
        name: name.to_owned(),
        owner: AccountId(format!("{owner:012}")),
        location: String::new(),
        settings: Vec::new(),
    };
    world.store.create_bucket(create).await.unwrap();
}

fn etag(answer: &Answer) -> String {
    answer
        .xml("CopyObjectResult")
        .child_text("ETag")
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn s_12_copies_take_bytes_metadata_and_tags() {
    let world = world().await;
    other_bucket(&world, "other", 2).await;
    for target in ["/bkt/dst", "/other/dst"] {
        let copy = world
            .call(&format!("PUT {target}"))
            .header("x-amz-copy-source", "/bkt/src");
        let copy = copy.ok().await;
        assert_eq!(etag(&copy), "\"5d41402abc4b2a76b9719d911017c592\"");
        let got = world.call(&format!("GET {target}")).ok().await;
        assert_eq!(got.bytes(), b"hello");
        for (name, value) in [
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "1"),
            ("x-amz-tagging-count", "1"),
            ("x-amz-website-redirect-location", ""),
        ] {
            assert_eq!(got.header(name), value, "{target} {name}");
        }
    }
}

#[tokio::test]
async fn s_12_metadata_and_tags_are_replaced_apart() {
    let world = world().await;
    let copy = world
        .call("PUT /bkt/dst")
        .header("x-amz-copy-source", "bkt/src")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-b", "2")
        .header("x-amz-storage-class", "STANDARD_IA");
    copy.ok().await;
    let got = world.call("GET /bkt/dst").ok().await;
    for (name, value) in [
        ("content-type", "binary/octet-stream"),
        ("x-amz-meta-a", ""),
        ("x-amz-meta-b", "2"),
        ("x-amz-tagging-count", "1"),
        ("x-amz-storage-class", "STANDARD_IA"),
    ] {
        assert_eq!(got.header(name), value, "{name}");
    }
    let copy = world
        .call("PUT /bkt/dst")
        .header("x-amz-copy-source", "bkt/src")
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "x=1&y=2");
    copy.ok().await;
    let got = world.call("GET /bkt/dst").ok().await;
    assert_eq!(
        (
            got.header("x-amz-meta-a"),
            got.header("x-amz-tagging-count")
        ),
        ("1", "2")
    );
    assert_eq!(got.header("x-amz-storage-class"), "");
    let unknown = world
        .call("PUT /bkt/dst")
        .header("x-amz-copy-source", "bkt/src");
    let unknown = unknown.header("x-amz-metadata-directive", "MOVE");
    assert_eq!(unknown.error().await, (400, "InvalidArgument".to_owned()));
}

#[tokio::test]
async fn s_12_a_copy_onto_itself_must_change_something() {
    let world = world().await;
    let itself = || {
        world
            .call("PUT /bkt/src")
            .header("x-amz-copy-source", "bkt/src")
    };
    assert_eq!(itself().error().await, (400, "InvalidRequest".to_owned()));
    itself()
        .header("x-amz-metadata-directive", "REPLACE")
        .header("x-amz-meta-z", "1")
        .ok()
        .await;
    assert_eq!(
        world.call("GET /bkt/src").ok().await.header("x-amz-meta-z"),
        "1"
    );
    itself()
        .header("x-amz-storage-class", "ONEZONE_IA")
        .ok()
        .await;
    let got = world.call("GET /bkt/src").ok().await;
    assert_eq!(
        (got.bytes(), got.header("x-amz-storage-class")),
        (b"hello" as &[u8], "ONEZONE_IA")
    );
}

#[tokio::test]
async fn w_12_s_12_conditions_on_both_sides() {
    let world = world().await;
    let copy = || {
        world
            .call("PUT /bkt/dst")
            .header("x-amz-copy-source", "bkt/src")
    };
    let tag = "5d41402abc4b2a76b9719d911017c592";
    let failed = (412, "PreconditionFailed".to_owned());
    let past = "Sun, 06 Nov 1994 08:49:37 GMT";
    let name = |name: &str| format!("x-amz-copy-source-if-{name}");
    for (condition, value) in [
        ("match", "x"),
        ("none-match", tag),
        ("none-match", "*"),
        ("unmodified-since", past),
    ] {
        assert_eq!(
            copy().header(&name(condition), value).error().await,
            failed,
            "{condition}"
        );
    }
    copy()
        .header(&name("match"), tag)
        .header("if-none-match", "*")
        .ok()
        .await;
    assert_eq!(copy().header("if-none-match", "*").error().await, failed);
    copy()
        .header("if-match", tag)
        .header(&name("modified-since"), past)
        .ok()
        .await;
}

#[tokio::test]
async fn s_12_versions_are_copied_by_id() {
    let world = world().await;
    world.set_versioning("Enabled").await;
    let new = world.call("PUT /bkt/src").body("new").ok().await;
    let copy = world
        .call("PUT /bkt/src")
        .header("x-amz-copy-source", "bkt/src?versionId=null");
    let copy = copy.ok().await;
    assert_eq!(copy.header("x-amz-copy-source-version-id"), "");
    assert_eq!(copy.header("x-amz-version-id").len(), 32);
    assert_ne!(
        copy.header("x-amz-version-id"),
        new.header("x-amz-version-id")
    );
    assert_eq!(world.call("GET /bkt/src").ok().await.bytes(), b"hello");
    let marker = world
        .call("DELETE /bkt/src")
        .ok()
        .await
        .header("x-amz-version-id")
        .to_owned();
    let of_marker = world
        .call("PUT /bkt/x")
        .header("x-amz-copy-source", "bkt/src")
        .error()
        .await;
    assert_eq!(of_marker, (404, "NoSuchKey".to_owned()));
    let source = format!("bkt/src?versionId={marker}");
    let by_id = world
        .call("PUT /bkt/x")
        .header("x-amz-copy-source", source)
        .error()
        .await;
    assert_eq!(by_id, (400, "InvalidRequest".to_owned()));
}

#[tokio::test]
async fn a_34_a_source_that_one_may_not_read_is_not_copied() {
    let world = world().await;
    other_bucket(&world, "bobs", 3).await;
    world
        .call("PUT /bobs/k")
        .by("bob")
        .body("secret")
        .ok()
        .await;
    let steal = world
        .call("PUT /bkt/k")
        .header("x-amz-copy-source", "bobs/k")
        .error()
        .await;
    assert_eq!(steal, (403, "AccessDenied".to_owned()));
    let give = world
        .call("PUT /bobs/k")
        .header("x-amz-copy-source", "bkt/src")
        .error()
        .await;
    assert_eq!(give, (403, "AccessDenied".to_owned()));
    let none = world
        .call("PUT /bkt/k")
        .header("x-amz-copy-source", "none/k")
        .send()
        .await;
    assert_eq!(none.xml("Error").child_text("BucketName"), Some("none"));
    assert_eq!(world.call("HEAD /bkt/k").error().await.0, 404);
}

#[tokio::test]
async fn s_18_a_copy_may_ask_for_another_checksum() {
    let world = world().await;
    let copy = world
        .call("PUT /bkt/dst")
        .header("x-amz-copy-source", "bkt/src");
    let copy = copy.header("x-amz-checksum-algorithm", "SHA256").ok().await;
    let result = copy.xml("CopyObjectResult");
    let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    assert_eq!(result.child_text("ChecksumSHA256"), Some(sha256));
    let head = world
        .call("HEAD /bkt/dst")
        .header("x-amz-checksum-mode", "ENABLED")
        .ok()
        .await;
    assert_eq!(head.header("x-amz-checksum-sha256"), sha256);
}

/// As minio-go expects it: a copy shows a checksum of the whole object, whatever its source has.
#[tokio::test]
async fn s_18_a_copy_of_an_upload_shows_a_checksum_of_all_bytes() {
    let world = world().await;
    let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
    let whole = checksum(ChecksumAlgorithm::Crc64Nvme, b"hello");
    let whole = BASE64.encode(whole.value);
    for is_copied in [false, true] {
        let create = world
            .call("POST /bkt/up?uploads")
            .header("x-amz-checksum-algorithm", "SHA256");
        let create = create.ok().await.xml("InitiateMultipartUploadResult");
        let upload = create.child_text("UploadId").unwrap();
        let part = world.call(&format!("PUT /bkt/up?partNumber=1&uploadId={upload}"));
        let part = match is_copied {
            true => part.header("x-amz-copy-source", "bkt/src"),
            false => part.header("x-amz-checksum-sha256", sha256).body("hello"),
        };
        part.ok().await;
        let named = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>\
             <ETag>5d41402abc4b2a76b9719d911017c592</ETag>\
             <ChecksumSHA256>{sha256}</ChecksumSHA256></Part></CompleteMultipartUpload>"
        );
        let complete = world.call(&format!("POST /bkt/up?uploadId={upload}"));
        let done = complete.body(named).ok().await;
        let done = done.xml("CompleteMultipartUploadResult");
        assert_eq!(done.child_text("ChecksumType"), Some("COMPOSITE"));
        let copy = world
            .call("PUT /bkt/dst")
            .header("x-amz-copy-source", "bkt/up");
        let copy = copy.ok().await.xml("CopyObjectResult");
        assert_eq!(copy.child_text("ChecksumCRC64NVME"), Some(&*whole));
        assert_eq!(copy.child_text("ChecksumType"), Some("FULL_OBJECT"));
        let head = world
            .call("HEAD /bkt/dst")
            .header("x-amz-checksum-mode", "ENABLED")
            .ok()
            .await;
        assert_eq!(head.header("x-amz-checksum-crc64nvme"), whole);
        assert_eq!(head.header("x-amz-checksum-type"), "FULL_OBJECT");
        assert_eq!(head.header("x-amz-checksum-sha256"), "");
    }
}

#[tokio::test]
async fn s_22_late_answers_tell_their_outcome_in_the_document() {
    let world = world().await.kept_alive_from_the_start();
    let create = world.call("POST /bkt/dst?uploads").ok().await;
    let create = create.xml("InitiateMultipartUploadResult");
    let upload = create.child_text("UploadId").unwrap();
    let part = format!("PUT /bkt/dst?partNumber=1&uploadId={upload}");
    let complete = format!("POST /bkt/dst?uploadId={upload}");
    let named = |etag: &str| {
        let part = format!("<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>");
        format!("<CompleteMultipartUpload>{part}</CompleteMultipartUpload>")
    };
    let etag = "5d41402abc4b2a76b9719d911017c592";
    for (line, source, document, root) in [
        ("PUT /bkt/dst", "bkt/src", String::new(), "CopyObjectResult"),
        ("PUT /bkt/dst", "bkt/none", String::new(), "NoSuchKey"),
        (part.as_str(), "bkt/none", String::new(), "NoSuchKey"),
        (part.as_str(), "bkt/src", String::new(), "CopyPartResult"),
        (complete.as_str(), "", named(&"f".repeat(32)), "InvalidPart"),
        (
            complete.as_str(),
            "",
            named(etag),
            "CompleteMultipartUploadResult",
        ),
    ] {
        let call = world.call(line).body(document);
        let answer = match source {
            "" => call.ok().await,
            source => call.header("x-amz-copy-source", source).ok().await,
        };
        assert_eq!(answer.header("content-type"), "application/xml");
        assert_eq!(answer.header("x-amz-request-id").len(), 16);
        if root.ends_with("Result") {
            assert!(answer.xml(root).child_text("ETag").is_some());
            continue;
        }
        let error = answer.xml("Error");
        assert_eq!(error.child_text("Code"), Some(root));
        assert_eq!(error.child_text("Resource"), Some("/bkt/dst"));
        let id = answer.header("x-amz-request-id");
        assert_eq!(error.child_text("RequestId"), Some(id));
    }
    // What is wrong with the document itself is said by the status: the clock starts behind it.
    let malformed = world.call(&complete).body("<No/>").error().await;
    assert_eq!(malformed, (400, "MalformedXML".to_owned()));
    assert_eq!(world.call("GET /bkt/dst").ok().await.bytes(), b"hello");
}

#[tokio::test]
async fn s_16_attributes_by_choice() {
    let world = world().await;
    let ask = |names: &'static str| {
        world
            .call("GET /bkt/src?attributes")
            .header("x-amz-object-attributes", names)
    };
    let all = ask("ETag,Checksum,ObjectParts, StorageClass,ObjectSize")
        .ok()
        .await;
    let all = all.xml("GetObjectAttributesResponse");
    let names: Vec<_> = all
        .children
        .iter()
        .map(|child| child.name.as_str())
        .collect();
    assert_eq!(names, ["ETag", "Checksum", "StorageClass", "ObjectSize"]);
    assert_eq!(
        all.child_text("ETag"),
        Some("5d41402abc4b2a76b9719d911017c592")
    );
    assert_eq!(all.child_text("ObjectSize"), Some("5"));
    let unknown = ask("ETag,Size").send().await.xml("Error");
    assert_eq!(unknown.child_text("Code"), Some("InvalidArgument"));
    assert_eq!(
        unknown.child_text("ArgumentName"),
        Some("x-amz-object-attributes")
    );
    assert_eq!(unknown.child_text("ArgumentValue"), Some("ETag,Size"));
    let etag = "\"5d41402abc4b2a76b9719d911017c592\"";
    let same = ask("ETag").header("if-none-match", etag).send().await;
    assert_eq!((same.status.as_u16(), same.header("etag")), (304, etag));
    assert!(same.bytes().is_empty());
    let other = ask("ETag").header("if-match", "\"x\"").error().await;
    assert_eq!(other, (412, "PreconditionFailed".to_owned()));
    let none = world.call("GET /bkt/src?attributes").error().await;
    assert_eq!(none, (400, "InvalidRequest".to_owned()));
}
