//! Objects: written, read, deleted.

use drystone_world::World;

#[tokio::test]
async fn s_10_s_11_what_is_put_is_got_with_all_its_headers() {
    let world = World::with_bucket().await;
    let put = world
        .call("PUT /bkt/dir/k%20%2B")
        .header("content-type", "text/plain")
        .header("content-encoding", "aws-chunked, gzip")
        .header("cache-control", "no-cache")
        .header("expires", "whenever")
        .header("x-amz-meta-Colour", "grün")
        .header("x-amz-tagging", "a=1&b=2")
        .header("x-amz-storage-class", "STANDARD_IA")
        .header("x-amz-website-redirect-location", "/other")
        .body("hello")
        .ok()
        .await;
    assert_eq!(put.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(put.header("x-amz-checksum-type"), "FULL_OBJECT");
    assert!(!put.header("x-amz-checksum-crc64nvme").is_empty());
    for method in ["GET", "HEAD"] {
        let got = world.call(&format!("{method} /bkt/dir/k%20%2B")).ok().await;
        assert_eq!(got.status, 200);
        assert_eq!(
            got.bytes(),
            if method == "GET" {
                b"hello" as &[u8]
            } else {
                b""
            }
        );
        for (name, value) in [
            ("etag", "\"5d41402abc4b2a76b9719d911017c592\""),
            ("content-length", "5"),
            ("content-type", "text/plain"),
            ("content-encoding", "gzip"),
            ("cache-control", "no-cache"),
            ("expires", "whenever"),
            ("accept-ranges", "bytes"),
            ("x-amz-tagging-count", "2"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-website-redirect-location", "/other"),
            ("x-amz-version-id", ""),
            ("x-amz-checksum-crc64nvme", ""),
            ("server", "S3"),
        ] {
            assert_eq!(got.header(name), value, "{method} {name}");
        }
        assert_eq!(got.header("x-amz-meta-colour"), "=?UTF-8?Q?gr=C3=BCn?=");
        assert!(got.header("last-modified").ends_with(" GMT"));
        assert_eq!(got.header("x-amz-request-id").len(), 16);
    }
    let asked = world
        .call("GET /bkt/dir/k%20%2B")
        .header("x-amz-checksum-mode", "ENABLED");
    let asked = asked.ok().await;
    assert_eq!(
        asked.header("x-amz-checksum-crc64nvme"),
        put.header("x-amz-checksum-crc64nvme")
    );
}

#[tokio::test]
async fn a_29_b_46_ranges_of_bodies() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("0123456789").ok().await;
    let hundred = format!("bytes={}", vec!["0-0"; 100].join(","));
    for (range, status, body, content_range) in [
        (hundred.as_str(), 200, "0123456789", ""),
        ("bytes=9223372036854775807-", 416, "", "bytes */10"),
        ("bytes=9-9223372036854775807", 206, "9", "bytes 9-9/10"),
        ("bytes=0-3", 206, "0123", "bytes 0-3/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=-99", 206, "0123456789", "bytes 0-9/10"),
        ("bytes=0-1,4-5", 200, "0123456789", ""),
        ("bytes=5-2", 200, "0123456789", ""),
        ("bytes=-0", 416, "", "bytes */10"),
        ("bytes=10-", 416, "", "bytes */10"),
        (
            "bytes=-18446744073709551615",
            206,
            "0123456789",
            "bytes 0-9/10",
        ),
    ] {
        let got = world.call("GET /bkt/k").header("range", range).send().await;
        assert_eq!(
            (got.status.as_u16(), got.header("content-range")),
            (status, content_range)
        );
        if status == 416 {
            let error = got.xml("Error");
            assert_eq!(error.child_text("Code"), Some("InvalidRange"));
            assert_eq!(error.child_text("ActualObjectSize"), Some("10"));
        } else {
            assert_eq!(got.bytes(), body.as_bytes(), "{range}");
            assert_eq!(got.header("content-length"), body.len().to_string());
        }
    }
    world.call("PUT /bkt/empty").ok().await;
    assert_eq!(
        world
            .call("GET /bkt/empty")
            .ok()
            .await
            .header("content-length"),
        "0"
    );
    let (status, code) = world
        .call("GET /bkt/empty")
        .header("range", "bytes=0-")
        .error()
        .await;
    assert_eq!((status, code.as_str()), (416, "InvalidRange"));
}

#[tokio::test]
async fn a_30_part_numbers_of_an_object_of_one_request() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("0123456789").ok().await;
    let got = world.call("GET /bkt/k?partNumber=1").ok().await;
    assert_eq!(
        (got.status.as_u16(), got.header("content-range")),
        (206, "bytes 0-9/10")
    );
    for (part, status, code) in [
        ("0", 400, "InvalidArgument"),
        ("-1", 400, "InvalidArgument"),
        ("10001", 400, "InvalidArgument"),
        ("x", 400, "InvalidArgument"),
        ("2", 416, "InvalidPartNumber"),
    ] {
        let line = format!("GET /bkt/k?partNumber={part}");
        assert_eq!(
            world.call(&line).error().await,
            (status, code.to_owned()),
            "{part}"
        );
    }
    let both = world
        .call("GET /bkt/k?partNumber=1")
        .header("range", "bytes=0-1");
    assert_eq!(both.error().await, (400, "InvalidRequest".to_owned()));
}

#[tokio::test]
async fn s_11_conditions_on_reads() {
    let world = World::with_bucket().await;
    let etag = world
        .call("PUT /bkt/k")
        .header("cache-control", "max-age=5")
        .header("x-amz-meta-a", "b")
        .body("x")
        .ok()
        .await
        .header("etag")
        .to_owned();
    let modified = world
        .call("HEAD /bkt/k")
        .ok()
        .await
        .header("last-modified")
        .to_owned();
    let other = "\"ffffffffffffffffffffffffffffffff\"";
    for (method, name, value, status) in [
        ("GET", "if-match", etag.as_str(), 200),
        ("GET", "if-match", other, 412),
        ("GET", "if-none-match", other, 200),
        ("GET", "if-none-match", &etag, 304),
        ("HEAD", "if-none-match", &etag, 304),
        ("HEAD", "if-match", other, 412),
        ("GET", "if-modified-since", &modified, 304),
        ("GET", "if-unmodified-since", &modified, 200),
    ] {
        let got = world
            .call(&format!("{method} /bkt/k"))
            .header(name, value)
            .send()
            .await;
        assert_eq!(got.status, status, "{method} {name}");
        if status == 304 {
            assert_eq!(
                (got.header("etag"), got.bytes()),
                (etag.as_str(), b"" as &[u8])
            );
            // How long it may be kept, but nothing of what it is.
            assert_eq!(got.header("cache-control"), "max-age=5");
            assert_eq!(got.header("x-amz-meta-a"), "");
        }
        if method == "HEAD" {
            assert!(got.bytes().is_empty());
        }
    }
    // W-12: what another wrote since is not what the reader began with.
    let got = world
        .call("GET /bkt/k")
        .header("if-match", other)
        .header("range", "bytes=0-0");
    assert_eq!(got.error().await, (412, "PreconditionFailed".to_owned()));
}

#[tokio::test]
async fn w_12_s_17_conditions_on_writes() {
    let world = World::with_bucket().await;
    let etag = world
        .call("PUT /bkt/k")
        .header("if-none-match", "*")
        .body("1")
        .ok()
        .await;
    let etag = etag.header("etag").to_owned();
    let failed = (412, "PreconditionFailed".to_owned());
    let again = world
        .call("PUT /bkt/k")
        .header("if-none-match", "*")
        .body("2");
    assert_eq!(again.error().await, failed);
    world
        .call("PUT /bkt/k")
        .header("if-match", &etag)
        .body("3")
        .ok()
        .await;
    assert_eq!(
        world
            .call("PUT /bkt/k")
            .header("if-match", &etag)
            .body("4")
            .error()
            .await,
        failed
    );
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"3");
    let absent = world
        .call("PUT /bkt/absent")
        .header("if-match", &etag)
        .body("5");
    assert_eq!(absent.error().await, (404, "NoSuchKey".to_owned()));
    assert_eq!(
        world
            .call("DELETE /bkt/k")
            .header("if-match", &etag)
            .error()
            .await,
        failed
    );
    let size = world
        .call("DELETE /bkt/k")
        .header("x-amz-if-match-size", "7");
    assert_eq!(size.error().await, failed);
    world
        .call("DELETE /bkt/k")
        .header("if-match", "*")
        .ok()
        .await;
}

#[tokio::test]
async fn s_11_response_headers_for_those_who_sign() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let query = "response-content-type=text/x&response-content-disposition=attachment%3B%20a\
                 &response-cache-control=c&response-expires=e&response-content-language=l\
                 &response-content-encoding=g";
    let got = world.call(&format!("GET /bkt/k?{query}")).ok().await;
    for (name, value) in [
        ("content-type", "text/x"),
        ("content-disposition", "attachment; a"),
        ("cache-control", "c"),
        ("expires", "e"),
        ("content-language", "l"),
        ("content-encoding", "g"),
    ] {
        assert_eq!(got.header(name), value);
    }
    // a line break would be a header of the client's own.
    let (status, _) = world
        .call("GET /bkt/k?response-expires=a%0d%0ab:c")
        .error()
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn s_13_deletes_are_idempotent() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for _ in 0..2 {
        let deleted = world.call("DELETE /bkt/k").ok().await;
        assert_eq!(deleted.status, 204);
        assert_eq!(deleted.header("x-amz-delete-marker"), "");
    }
    assert_eq!(
        world.call("GET /bkt/k").error().await,
        (404, "NoSuchKey".to_owned())
    );
    assert_eq!(
        world.call("HEAD /bkt/k").error().await,
        (404, String::new())
    );
}

#[tokio::test]
async fn s_13_delete_objects_decides_each_key_alone() {
    let world = World::with_bucket().await;
    for key in ["1", "2", "3"] {
        world.call(&format!("PUT /bkt/{key}")).body("x").ok().await;
    }
    let long = "k".repeat(1025);
    let document = format!(
        "<Delete><Object><Key>1</Key></Object><Object><Key>{long}</Key></Object>\
         <Object><Key>2</Key><ETag>nonsense</ETag></Object>\
         <Object><Key>none</Key></Object>\
         <Object><Key>3</Key><VersionId>bad</VersionId></Object></Delete>"
    );
    let answer = world
        .call("POST /bkt?delete")
        .document(&document)
        .ok()
        .await
        .xml("DeleteResult");
    let rows: Vec<_> = answer
        .children
        .iter()
        .map(|row| {
            let code = row.child_text("Code").unwrap_or_default();
            (
                row.name.as_str(),
                &row.child_text("Key").unwrap()[..1],
                code,
            )
        })
        .collect();
    let expected = [
        ("Deleted", "1", ""),
        ("Error", "k", "KeyTooLongError"),
        ("Error", "2", "PreconditionFailed"),
        ("Deleted", "n", ""),
        ("Error", "3", "NoSuchVersion"),
    ];
    assert_eq!(rows, expected);
    world.call("HEAD /bkt/2").ok().await;
    world.call("HEAD /bkt/3").ok().await;
    let quiet = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>\
                 <Object><Key>2</Key></Object></Delete>";
    let answer = world
        .call("POST /bkt?delete")
        .document(quiet)
        .ok()
        .await
        .xml("DeleteResult");
    assert!(answer.children.is_empty());
    assert_eq!(world.call("HEAD /bkt/2").error().await.0, 404);
}

#[tokio::test]
async fn a_24_delete_objects_refuses_what_no_client_sends() {
    let world = World::with_bucket().await;
    let keys = |n: usize| {
        let objects: String = (0..n)
            .map(|n| format!("<Object><Key>{n}</Key></Object>"))
            .collect();
        format!("<Delete>{objects}</Delete>")
    };
    world
        .call("POST /bkt?delete")
        .document(&keys(1000))
        .ok()
        .await;
    for document in [keys(1001), keys(0), "<Delete><Object/></Delete>".to_owned()] {
        let error = world
            .call("POST /bkt?delete")
            .document(&document)
            .error()
            .await;
        assert_eq!(error, (400, "MalformedXML".to_owned()));
    }
    let big = format!("<Delete>{}</Delete>", " ".repeat(2 << 20));
    let error = world.call("POST /bkt?delete").document(&big).error().await;
    assert_eq!(error, (400, "MaxMessageLengthExceeded".to_owned()));
    let unprotected = world.call("POST /bkt?delete").body(keys(1));
    assert_eq!(
        unprotected.error().await,
        (400, "InvalidRequest".to_owned())
    );
}

#[tokio::test]
async fn s_16_tags_of_objects() {
    let world = World::with_bucket().await;
    world
        .call("PUT /bkt/k")
        .header("x-amz-tagging", "a=1")
        .body("x")
        .ok()
        .await;
    let tags = async || {
        let answer = world.call("GET /bkt/k?tagging").ok().await.xml("Tagging");
        let tag = |tag: &drystone_protocol::xml::read::Element| {
            let text = |name| tag.child_text(name).unwrap().to_owned();
            format!("{}={}", text("Key"), text("Value"))
        };
        answer
            .child("TagSet")
            .unwrap()
            .children
            .iter()
            .map(tag)
            .collect::<Vec<_>>()
    };
    assert_eq!(tags().await, ["a=1"]);
    let set = "<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>";
    let before = world
        .call("HEAD /bkt/k")
        .ok()
        .await
        .header("last-modified")
        .to_owned();
    assert_eq!(
        world.call("PUT /bkt/k?tagging").body(set).ok().await.status,
        200
    );
    assert_eq!(tags().await, ["b=2"]);
    assert_eq!(
        world.call("HEAD /bkt/k").ok().await.header("last-modified"),
        before
    );
    assert_eq!(world.call("DELETE /bkt/k?tagging").ok().await.status, 204);
    assert!(tags().await.is_empty());
    assert_eq!(
        world.call("GET /bkt/x?tagging").error().await,
        (404, "NoSuchKey".to_owned())
    );
    let twice = "<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag>\
                 <Tag><Key>b</Key><Value>3</Value></Tag></TagSet></Tagging>";
    let error = world.call("PUT /bkt/k?tagging").body(twice).error().await;
    assert_eq!(error, (400, "InvalidTag".to_owned()));
    let many: String = (0..11)
        .map(|n| format!("<Tag><Key>{n}</Key><Value/></Tag>"))
        .collect();
    let many = format!("<Tagging><TagSet>{many}</TagSet></Tagging>");
    let error = world.call("PUT /bkt/k?tagging").body(many).error().await;
    assert_eq!(error, (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn s_30_versions_and_markers() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("old").ok().await;
    world.set_versioning("Enabled").await;
    let put = world.call("PUT /bkt/k").body("new").ok().await;
    let id = put.header("x-amz-version-id").to_owned();
    assert_eq!(id.len(), 32);
    assert_eq!(
        world
            .call("GET /bkt/k")
            .ok()
            .await
            .header("x-amz-version-id"),
        id
    );
    let null = world.call("GET /bkt/k?versionId=null").ok().await;
    assert_eq!(
        (null.bytes(), null.header("x-amz-version-id")),
        (b"old" as &[u8], "null")
    );
    let deleted = world.call("DELETE /bkt/k").ok().await;
    assert_eq!(deleted.header("x-amz-delete-marker"), "true");
    let marker = deleted.header("x-amz-version-id").to_owned();
    let gone = world.call("GET /bkt/k").send().await;
    assert_eq!(gone.status, 404);
    assert_eq!(gone.header("x-amz-delete-marker"), "true");
    assert_eq!(gone.header("x-amz-version-id"), marker);
    assert_eq!(gone.xml("Error").child_text("Code"), Some("NoSuchKey"));
    let by_id = world
        .call(&format!("GET /bkt/k?versionId={marker}"))
        .send()
        .await;
    assert_eq!(
        (by_id.status.as_u16(), by_id.header("allow")),
        (405, "DELETE")
    );
    assert_eq!(
        by_id.xml("Error").child_text("Code"),
        Some("MethodNotAllowed")
    );
    let removed = world
        .call(&format!("DELETE /bkt/k?versionId={marker}"))
        .ok()
        .await;
    assert_eq!(removed.header("x-amz-delete-marker"), "true");
    assert_eq!(removed.header("x-amz-version-id"), marker);
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"new");
    world.set_versioning("Suspended").await;
    assert_eq!(
        world
            .call("PUT /bkt/k")
            .body("3")
            .ok()
            .await
            .header("x-amz-version-id"),
        ""
    );
    assert_eq!(
        world
            .call("HEAD /bkt/k")
            .ok()
            .await
            .header("x-amz-version-id"),
        "null"
    );
    let missing = format!("GET /bkt/k?versionId={}", "0".repeat(32));
    assert_eq!(
        world.call(&missing).error().await,
        (404, "NoSuchVersion".to_owned())
    );
    let invalid = world.call("GET /bkt/k?versionId=x").error().await;
    assert_eq!(invalid, (400, "InvalidArgument".to_owned()));
}
