//! Checksums of objects and uploads, from the request to what is shown of them.

use drystone_store::checksum::checksum;
use drystone_store::types::{ChecksumAlgorithm, ChecksumType};

use crate::multipart::{big, code, complete, part, start, started, texts};
use drystone_protocol::xml::read::Element;
use drystone_s3::values::checksum::{display, header_name};
use drystone_world::World;

#[tokio::test]
async fn s_20_checksums_of_parts_and_of_the_whole() {
    let world = World::with_bucket().await;
    for (headers, message) in [
        (
            vec![("algorithm", "NONE")],
            "Checksum algorithm provided is unsupported.",
        ),
        (
            vec![("type", "COMPOSITE")],
            "The x-amz-checksum-type header can only be used",
        ),
        (
            vec![("algorithm", "SHA256"), ("type", "FULL_OBJECT")],
            "The FULL_OBJECT checksum type",
        ),
        (
            vec![("algorithm", "CRC64NVME"), ("type", "COMPOSITE")],
            "The COMPOSITE checksum type",
        ),
    ] {
        let mut create = world.call("POST /bkt/k?uploads");
        for (name, value) in headers {
            create = create.header(&format!("x-amz-checksum-{name}"), value);
        }
        let error = create.send().await.xml("Error");
        assert_eq!(error.child_text("Code"), Some("InvalidRequest"));
        assert!(
            error.child_text("Message").unwrap().starts_with(message),
            "{error:?}"
        );
    }
    let create = world.call("POST /bkt/k?uploads");
    let create = create
        .header("x-amz-checksum-algorithm", "SHA256")
        .ok()
        .await;
    assert_eq!(create.header("x-amz-checksum-algorithm"), "SHA256");
    assert_eq!(create.header("x-amz-checksum-type"), "COMPOSITE");
    let root = create.xml("InitiateMultipartUploadResult");
    let upload = root.child_text("UploadId").unwrap();

    let body = || vec![b'A'; 1024];
    let sha256 = "arcu6553sHVAiX4MjW0j7I7vD4w6R+Gz9Ok0Q9lTa+0=";
    let send = |name: &str, value: &str| part(&world, upload, "1", body()).header(name, value);
    let refused = send("x-amz-checksum-crc32", "AAAAAA==").error().await;
    assert_eq!(refused, code(400, "InvalidRequest"));
    let wrong = sha256.replace("arcu", "brcu");
    let refused = send("x-amz-checksum-sha256", &wrong).error().await;
    assert_eq!(refused, code(400, "BadDigest"));
    let sent = send("x-amz-checksum-sha256", sha256).ok().await;
    assert_eq!(sent.header("x-amz-checksum-sha256"), sha256);
    let etag = sent.header("etag");

    let whole = "Ok6Cs5b96ux6+MWQkJO7UBT5sKPBeXBLwvj/hK89smg=";
    let finish = |part_sha256: &str, header: Option<String>| {
        let checksum = match part_sha256 {
            "" => String::new(),
            value => format!("<ChecksumSHA256>{value}</ChecksumSHA256>"),
        };
        let document = format!(
            "<CompleteMultipartUpload><Part><ETag>{etag}</ETag>{checksum}<PartNumber>1\
             </PartNumber></Part></CompleteMultipartUpload>"
        );
        let call = world
            .call(&format!("POST /bkt/k?uploadId={upload}"))
            .body(document);
        match header {
            Some(value) => call.header("x-amz-checksum-sha256", value),
            None => call,
        }
    };
    for (part_sha256, header, expected) in [
        ("", None, "InvalidRequest"),
        (wrong.as_str(), None, "InvalidPart"),
        ("bad", None, "InvalidArgument"),
        (sha256, Some("bad".to_owned()), "BadDigest"),
        ("", Some("bad".to_owned()), "BadDigest"),
        (sha256, Some(format!("{sha256}-1")), "BadDigest"),
        (sha256, Some(format!("{whole}-2")), "BadDigest"),
    ] {
        let refused = finish(part_sha256, header.clone()).error().await;
        assert_eq!(refused, code(400, expected), "{part_sha256} {header:?}");
    }
    for kind in ["FULL_OBJECT", "HALF"] {
        let other_type = finish(sha256, None).header("x-amz-checksum-type", kind);
        assert_eq!(other_type.error().await, code(400, "InvalidRequest"));
    }
    let other = finish(sha256, None).header("x-amz-checksum-crc32", "AAAAAA==");
    let other = other.send().await.xml("Error");
    assert_eq!(other.child_text("Code"), Some("BadDigest"));
    let message = "The sha256 you specified did not match the calculated checksum.";
    assert_eq!(other.child_text("Message"), Some(message));
    let done = finish(sha256, Some(format!("{whole}-1"))).ok().await;
    let root = done.xml("CompleteMultipartUploadResult");
    assert_eq!(
        root.child_text("ChecksumSHA256"),
        Some(format!("{whole}-1").as_str())
    );
    assert_eq!(root.child_text("ChecksumType"), Some("COMPOSITE"));
}

#[tokio::test]
async fn s_20_who_asks_for_no_checksum_may_send_parts_with_any() {
    let world = World::with_bucket().await;
    let upload = started(&world).await;
    let sent = part(&world, &upload, "1", b"123456789".to_vec());
    let sent = sent.header("x-amz-checksum-crc32", "y/Q5Jg==").ok().await;
    assert_eq!(sent.header("x-amz-checksum-crc32"), "y/Q5Jg==");
    let etag = sent.header("etag").to_owned();
    let crc64nvme = "rosUhgp5mIg=";
    for (name, value) in [
        ("x-amz-checksum-crc32", "y/Q5Jg=="),
        ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
        ("x-amz-checksum-type", "COMPOSITE"),
        ("x-amz-checksum-type", "FULL_OBJECT"),
    ] {
        let refused = complete(&world, &upload, &[("1", &etag)]).header(name, value);
        assert_eq!(refused.error().await.0, 400, "{name}: {value}");
    }
    let listed = world
        .call(&format!("GET /bkt/k?uploadId={upload}"))
        .ok()
        .await;
    let listed = listed.xml("ListPartsResult");
    let part = listed.child("Part").unwrap();
    assert!(
        part.children
            .iter()
            .all(|child| !child.name.starts_with("Checksum"))
    );
    let whole = complete(&world, &upload, &[("1", &etag)]);
    let done = whole
        .header("x-amz-checksum-crc64nvme", crc64nvme)
        .ok()
        .await;
    let root = done.xml("CompleteMultipartUploadResult");
    assert_eq!(root.child_text("ChecksumCRC64NVME"), Some(crc64nvme));
    assert_eq!(root.child_text("ChecksumType"), Some("FULL_OBJECT"));
    for target in ["HEAD /bkt/k", "HEAD /bkt/k?partNumber=1"] {
        let head = world
            .call(target)
            .header("x-amz-checksum-mode", "ENABLED")
            .ok()
            .await;
        assert_eq!(head.header("x-amz-checksum-crc64nvme"), crc64nvme);
        assert_eq!(head.header("x-amz-checksum-type"), "FULL_OBJECT");
    }
}

/// Uploads in two parts, each with its checksum, and gives what the completion shows of the whole.
async fn with_checksums(
    world: &World,
    algorithm: ChecksumAlgorithm,
    kind: ChecksumType,
) -> Element {
    let create = world
        .call("POST /bkt/k?uploads")
        .header("x-amz-checksum-algorithm", algorithm.name())
        .header("x-amz-checksum-type", kind.name());
    let upload = start(create).await;
    let name = header_name(algorithm);
    let mut document = "<CompleteMultipartUpload>".to_owned();
    for (number, body) in [("1", big(b'a')), ("2", b"end".to_vec())] {
        let value = display(&checksum(algorithm, &body), 0);
        let sent = part(world, &upload, number, body)
            .header(name.as_str(), &value)
            .ok()
            .await;
        assert_eq!(sent.header(name.as_str()), value);
        let etag = sent.header("etag");
        document += &format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag>\
             <Checksum{algorithm}>{value}</Checksum{algorithm}></Part>"
        );
    }
    document += "</CompleteMultipartUpload>";
    let listed = world
        .call(&format!("GET /bkt/k?uploadId={upload}"))
        .ok()
        .await;
    let listed = listed.xml("ListPartsResult");
    assert_eq!(
        listed.child_text("ChecksumAlgorithm"),
        Some(algorithm.name())
    );
    assert_eq!(listed.child_text("ChecksumType"), Some(kind.name()));
    let shown = texts(&listed, "Part", &format!("Checksum{algorithm}"));
    assert_eq!(shown.split(' ').count(), 2);
    let complete = world
        .call(&format!("POST /bkt/k?uploadId={upload}"))
        .body(document);
    complete.ok().await.xml("CompleteMultipartUploadResult")
}

#[tokio::test]
async fn s_18_every_algorithm_from_parts_to_attributes() {
    let world = World::with_bucket().await;
    let whole = [big(b'a'), b"end".to_vec()];
    for algorithm in ChecksumAlgorithm::ALL {
        for kind in [ChecksumType::Composite, ChecksumType::FullObject] {
            if !algorithm.supports(kind) {
                continue;
            }
            let element = format!("Checksum{algorithm}");
            let result = with_checksums(&world, algorithm, kind).await;
            let expected = match kind {
                ChecksumType::FullObject => display(&checksum(algorithm, &whole.concat()), 0),
                ChecksumType::Composite => {
                    let values = whole.each_ref().map(|part| checksum(algorithm, part).value);
                    display(&checksum(algorithm, &values.concat()), 0) + "-2"
                }
            };
            assert_eq!(result.child_text(&element), Some(expected.as_str()));
            assert_eq!(result.child_text("ChecksumType"), Some(kind.name()));

            let name = header_name(algorithm);
            let get = |target: &str| world.call(target).header("x-amz-checksum-mode", "ENABLED");
            let head = get("HEAD /bkt/k").ok().await;
            assert_eq!(head.header(name.as_str()), expected);
            assert_eq!(head.header("x-amz-checksum-type"), kind.name());
            let second = get("GET /bkt/k?partNumber=2").ok().await;
            let value = display(&checksum(algorithm, b"end"), 0);
            assert_eq!(second.header(name.as_str()), value);
            let plain = world.call("HEAD /bkt/k").ok().await;
            assert_eq!(plain.header(name.as_str()), "");

            let list = world
                .call("GET /bkt?list-type=2")
                .ok()
                .await
                .xml("ListBucketResult");
            assert_eq!(
                texts(&list, "Contents", "ChecksumAlgorithm"),
                algorithm.name()
            );
            assert_eq!(texts(&list, "Contents", "ChecksumType"), kind.name());
            let attributes = world
                .call("GET /bkt/k?attributes")
                .header("x-amz-object-attributes", "Checksum,ObjectParts")
                .header("x-amz-max-parts", "1")
                .header("x-amz-part-number-marker", "1");
            let attributes = attributes.ok().await.xml("GetObjectAttributesResponse");
            let of_all = attributes.child("Checksum").unwrap();
            assert_eq!(of_all.child_text(&element), Some(expected.as_str()));
            let parts = attributes.child("ObjectParts").unwrap();
            assert_eq!(texts(parts, "Part", &element), value);
            assert_eq!(texts(parts, "Part", "PartNumber"), "2");
            assert_eq!(parts.child_text("IsTruncated"), Some("false"));
        }
    }
}

#[tokio::test]
async fn s_18_parts_named_with_other_checksums_than_they_have() {
    let world = World::with_bucket().await;
    let create = world
        .call("POST /bkt/k?uploads")
        .header("x-amz-checksum-algorithm", "CRC32");
    let upload = start(create).await;
    let bare = part(&world, &upload, "1", b"123456789".to_vec())
        .send()
        .await
        .xml("Error");
    let expected = "Checksum Type mismatch occurred, expected checksum Type: crc32, actual \
                    checksum Type: null";
    assert_eq!(bare.child_text("Message"), Some(expected));
    let sent = part(&world, &upload, "1", b"123456789".to_vec());
    let sent = sent.header("x-amz-checksum-crc32", "y/Q5Jg==").ok().await;
    let etag = sent.header("etag");
    let crc32 = "<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>";
    let sha1 = "<ChecksumSHA1>98O8HYCOBHMq32eZZczDTKeuNEE=</ChecksumSHA1>";
    let both = format!("{crc32}{sha1}");
    for (sums, code, message) in [
        (
            "",
            "InvalidRequest",
            "It was missing for part 1 in the request.",
        ),
        (
            sha1,
            "BadDigest",
            "The sha1 you specified for part 1 did not match what we received.",
        ),
        (
            &*both,
            "InvalidArgument",
            "multiple checksums present in request",
        ),
        (
            "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>",
            "InvalidPart",
            "could not be found",
        ),
        (
            "<ChecksumCRC32>AAAA</ChecksumCRC32>",
            "InvalidArgument",
            "Invalid Base64",
        ),
    ] {
        let document = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag>{sums}\
             </Part></CompleteMultipartUpload>"
        );
        let call = world
            .call(&format!("POST /bkt/k?uploadId={upload}"))
            .body(document);
        let error = call.send().await.xml("Error");
        assert_eq!(error.child_text("Code"), Some(code), "{sums}");
        assert!(
            error.child_text("Message").unwrap().contains(message),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn s_16_attributes_of_versions_and_markers() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("old").ok().await;
    world.set_versioning("Enabled").await;
    let put = world.call("PUT /bkt/k").body("newer").ok().await;
    let new = put.header("x-amz-version-id");
    let ask = |query: String| {
        world
            .call(&format!("GET /bkt/k?attributes{query}"))
            .header("x-amz-object-attributes", "ObjectSize")
    };
    for (query, id, size) in [
        (String::new(), new, "5"),
        (format!("&versionId={new}"), new, "5"),
        ("&versionId=null".to_owned(), "null", "3"),
    ] {
        let found = ask(query).ok().await;
        assert_eq!(found.header("x-amz-version-id"), id);
        assert!(!found.header("last-modified").is_empty());
        let root = found.xml("GetObjectAttributesResponse");
        assert_eq!(root.child_text("ObjectSize"), Some(size));
    }
    let deleted = world.call("DELETE /bkt/k").ok().await;
    let marker = deleted.header("x-amz-version-id");
    for (query, expected) in [
        (String::new(), (404, "NoSuchKey")),
        (format!("&versionId={marker}"), (405, "MethodNotAllowed")),
    ] {
        let gone = ask(query).send().await;
        assert_eq!(gone.status, expected.0);
        assert_eq!(gone.header("x-amz-delete-marker"), "true");
        assert_eq!(gone.xml("Error").child_text("Code"), Some(expected.1));
    }
}

#[tokio::test]
async fn s_18_an_object_has_a_checksum_whether_its_client_sends_one_or_not() {
    let world = World::with_bucket().await;
    let put = world.call("PUT /bkt/k").body("123456789").ok().await;
    assert_eq!(put.header("x-amz-checksum-crc64nvme"), "rosUhgp5mIg=");
    assert_eq!(put.header("x-amz-checksum-type"), "FULL_OBJECT");
    // The value that AWS's own clients send of this text, from their issue tracker.
    let put = world
        .call("PUT /bkt/k")
        .header("x-amz-checksum-xxhash64", "RatnNLIeaWg=")
        .header("x-amz-sdk-checksum-algorithm", "XXHASH64");
    put.body("hello world").ok().await;
    let get = world
        .call("GET /bkt/k")
        .header("x-amz-checksum-mode", "ENABLED")
        .ok()
        .await;
    assert_eq!(get.header("x-amz-checksum-xxhash64"), "RatnNLIeaWg=");
    assert_eq!(get.header("x-amz-checksum-crc64nvme"), "");
    let copy = world
        .call("PUT /bkt/copy")
        .header("x-amz-copy-source", "bkt/k");
    let copied = copy.ok().await.xml("CopyObjectResult");
    assert_eq!(copied.child_text("ChecksumXXHASH64"), Some("RatnNLIeaWg="));
    assert_eq!(copied.child_text("ChecksumType"), Some("FULL_OBJECT"));
}
