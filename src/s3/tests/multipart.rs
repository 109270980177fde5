//! Uploads in parts.

use drystone_protocol::xml::read::Element;
use drystone_world::{Call, World};

pub fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

pub async fn start(call: Call<'_>) -> String {
    let root = call.ok().await.xml("InitiateMultipartUploadResult");
    root.child_text("UploadId").unwrap().to_owned()
}

pub async fn started(world: &World) -> String {
    start(world.call("POST /bkt/k?uploads")).await
}

pub fn part<'a>(world: &'a World, upload: &str, number: &str, body: Vec<u8>) -> Call<'a> {
    let target = format!("PUT /bkt/k?partNumber={number}&uploadId={upload}");
    world.call(&target).body(body)
}

pub fn complete<'a>(world: &'a World, upload: &str, parts: &[(&str, &str)]) -> Call<'a> {
    let line = format!("POST /bkt/k?uploadId={upload}");
    world.call(&line).body(named(parts))
}

fn named(parts: &[(&str, &str)]) -> String {
    let mut document = "<CompleteMultipartUpload>".to_owned();
    for (number, etag) in parts {
        let ends = "</ETag></Part>";
        document += &format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}{ends}");
    }
    document + "</CompleteMultipartUpload>"
}

pub fn big(byte: u8) -> Vec<u8> {
    vec![byte; 5 << 20]
}

pub fn texts(root: &Element, child: &str, path: &str) -> String {
    let found = root
        .children(child)
        .map(|child| child.child_text(path).unwrap());
    found.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn s_20_s_21_an_upload_from_start_to_end_and_its_completion_again() {
    let world = World::with_bucket().await;
    let create = world
        .call("POST /bkt/k?uploads")
        .header("content-type", "text/plain")
        .header("x-amz-meta-a", "b")
        .header("x-amz-tagging", "t=1");
    let upload = start(create).await;
    assert_eq!(
        world.call("GET /bkt/k").error().await,
        code(404, "NoSuchKey")
    );
    part(&world, &upload, "2", b"old".to_vec()).ok().await;
    let last = part(&world, &upload, "2", b"end".to_vec()).ok().await;
    let first = part(&world, &upload, "1", big(b'a')).ok().await;
    let etags = [first.header("etag"), last.header("etag")];
    // Quotes and letter case don't matter.
    let upper = etags[1].trim_matches('"').to_uppercase();
    let parts = [("1", etags[0]), ("2", &upper)];
    let mut results = Vec::new();
    for _ in 0..2 {
        let done = complete(&world, &upload, &parts).ok().await;
        let root = done.xml("CompleteMultipartUploadResult");
        assert_eq!(
            root.child_text("Location"),
            Some("http://s3.test:9000/bkt/k")
        );
        assert_eq!(root.child_text("Bucket"), Some("bkt"));
        assert_eq!(root.child_text("Key"), Some("k"));
        results.push(root.child_text("ETag").unwrap().to_owned());
    }
    // As the client addressed it, and by which scheme where a proxy took TLS off.
    let line = format!("POST /k?uploadId={upload}");
    let mut again = world.call(&line).header("x-forwarded-proto", "https");
    again.set_host("bkt.s3.test");
    let again = again.body(named(&parts));
    let root = again.ok().await.xml("CompleteMultipartUploadResult");
    assert_eq!(root.child_text("Location"), Some("https://bkt.s3.test/k"));
    // A host that happens to begin as the bucket is called doesn't name it.
    let mut again = world.call(&format!("POST /bkt/k?uploadId={upload}"));
    again.set_host("bkt.example");
    let again = again.body(named(&parts)).ok().await;
    let root = again.xml("CompleteMultipartUploadResult");
    assert_eq!(
        root.child_text("Location"),
        Some("http://bkt.example/bkt/k")
    );
    assert_eq!(results[0], results[1]);
    assert!(results[0].ends_with("-2\""), "{results:?}");
    let got = world.call("GET /bkt/k").ok().await;
    assert_eq!(got.bytes().len(), (5 << 20) + 3);
    assert!(got.bytes().ends_with(b"aend"));
    for (name, value) in [
        ("etag", results[0].as_str()),
        ("content-type", "text/plain"),
        ("x-amz-meta-a", "b"),
        ("x-amz-tagging-count", "1"),
    ] {
        assert_eq!(got.header(name), value);
    }
    for line in ["GET", "DELETE"] {
        let line = format!("{line} /bkt/k?uploadId={upload}");
        assert_eq!(world.call(&line).error().await, code(404, "NoSuchUpload"));
    }
}

#[tokio::test]
async fn a_25_completions_that_are_refused_leave_the_upload_as_it_was() {
    let world = World::with_bucket().await;
    let upload = started(&world).await;
    let mut etags = Vec::new();
    for (number, body) in [
        ("1", big(b'a')),
        ("2", b"small".to_vec()),
        ("3", b"end".to_vec()),
    ] {
        let answer = part(&world, &upload, number, body).ok().await;
        etags.push(answer.header("etag").to_owned());
    }
    let [one, two, three] = [etags[0].as_str(), &etags[1], &etags[2]];
    let many: Vec<String> = (1..=10_001).map(|n| n.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|n| (n.as_str(), one)).collect();
    let wrong = "\"ffffffffffffffffffffffffffffffff\"";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "MalformedXML"),
        (&many, "MalformedXML"),
        (&[("x", one)], "MalformedXML"),
        (&[("0", one)], "InvalidArgument"),
        (&[("10001", one)], "InvalidArgument"),
        (&[("2", two), ("1", one)], "InvalidPartOrder"),
        (&[("1", one), ("1", one)], "InvalidPartOrder"),
        (&[("1", wrong)], "InvalidPart"),
        (&[("1", "gibberish")], "InvalidPart"),
        (
            &[("1", &format!("{}-1", one.trim_matches('"')))],
            "InvalidPart",
        ),
        (&[("1", one), ("4", one)], "InvalidPart"),
        (&[("1", two)], "InvalidPart"),
        (&[("1", one), ("2", two), ("3", three)], "EntityTooSmall"),
    ];
    for (parts, expected) in cases {
        let refused = complete(&world, &upload, parts).error().await;
        assert_eq!(refused, code(400, expected), "{:?}", parts.first());
    }
    let small = complete(&world, &upload, &[("2", two), ("3", three)])
        .send()
        .await;
    let error = small.xml("Error");
    assert_eq!(error.child_text("ProposedSize"), Some("5"));
    assert_eq!(error.child_text("MinSizeAllowed"), Some("5242880"));
    assert_eq!(error.child_text("PartNumber"), Some("2"));
    assert_eq!(error.child_text("ETag"), Some(two.trim_matches('"')));
    let missing = complete(&world, &upload, &[("9", wrong)]).send().await;
    let error = missing.xml("Error");
    assert_eq!(error.child_text("UploadId"), Some(upload.as_str()));
    assert_eq!(error.child_text("PartNumber"), Some("9"));
    assert_eq!(error.child_text("ETag"), Some(wrong.trim_matches('"')));

    for (name, value, expected) in [
        ("x-amz-mp-object-size", "1", (400, "InvalidRequest")),
        ("x-amz-mp-object-size", "x", (400, "InvalidRequest")),
        ("x-amz-mp-object-size", "-1", (400, "InvalidRequest")),
        (
            "if-match",
            "\"ffffffffffffffffffffffffffffffff\"",
            (404, "NoSuchKey"),
        ),
    ] {
        let call = complete(&world, &upload, &[("1", one)]).header(name, value);
        assert_eq!(
            call.error().await,
            code(expected.0, expected.1),
            "{name}: {value}"
        );
    }
    world.call("PUT /bkt/k").body("before").ok().await;
    let exists = complete(&world, &upload, &[("1", one)]).header("if-none-match", "*");
    assert_eq!(exists.error().await, code(412, "PreconditionFailed"));
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"before");
    let fits = complete(&world, &upload, &[("1", one), ("2", two)]);
    fits.header("x-amz-mp-object-size", "5242885").ok().await;
}

#[tokio::test]
async fn s_20_part_numbers_and_ids_that_cannot_be() {
    let world = World::with_bucket().await;
    let upload = started(&world).await;
    for number in ["0", "-1", "10001", "x", "", "1.0"] {
        let answer = part(&world, &upload, number, b"x".to_vec()).send().await;
        let error = answer.xml("Error");
        assert_eq!(
            error.child_text("Code"),
            Some("InvalidArgument"),
            "{number}"
        );
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        assert_eq!(error.child_text("Message"), Some(message));
        assert_eq!(error.child_text("ArgumentName"), Some("partNumber"));
        assert_eq!(error.child_text("ArgumentValue"), Some(number));
    }
    let unknown = "0".repeat(32);
    for id in ["", "x", "../../x", unknown.as_str()] {
        let put = part(&world, id, "1", b"x".to_vec()).error().await;
        assert_eq!(put, code(404, "NoSuchUpload"), "{id}");
        let done = complete(&world, id, &[("1", &unknown)]).error().await;
        assert_eq!(done, code(404, "NoSuchUpload"), "{id}");
    }
    // An upload is its key's.
    let other = format!("PUT /bkt/other?partNumber=1&uploadId={upload}");
    assert_eq!(
        world.call(&other).body("x").error().await,
        code(404, "NoSuchUpload")
    );
    part(&world, &upload, "10000", b"x".to_vec()).ok().await;
    let aborted = world
        .call(&format!("DELETE /bkt/k?uploadId={upload}"))
        .ok()
        .await;
    assert_eq!(aborted.status.as_u16(), 204);
    let gone = part(&world, &upload, "1", b"x".to_vec()).error().await;
    assert_eq!(gone, code(404, "NoSuchUpload"));
}

#[tokio::test]
async fn s_20_an_abort_may_name_the_time_of_its_upload() {
    let world = World::with_bucket().await;
    let upload = started(&world).await;
    let abort = |time: &str| {
        let call = world.call(&format!("DELETE /bkt/k?uploadId={upload}"));
        call.header("x-amz-if-match-initiated-time", time)
    };
    let other = abort("Sun, 06 Nov 1994 08:49:37 GMT").error().await;
    assert_eq!(other, (412, "PreconditionFailed".to_owned()));
    let none = abort("yesterday").error().await;
    assert_eq!(none, (400, "InvalidArgument".to_owned()));
    let uploads = world.call("GET /bkt?uploads").ok().await;
    let uploads = uploads.xml("ListMultipartUploadsResult");
    let begun = uploads.child("Upload").unwrap().child_text("Initiated");
    assert_eq!(abort(begun.unwrap()).ok().await.status, 204);
    assert_eq!(
        abort(begun.unwrap()).error().await,
        (404, "NoSuchUpload".to_owned())
    );
}

#[tokio::test]
async fn s_20_w_17_parts_and_uploads_are_listed_in_pages() {
    let world = World::with_bucket().await;
    let upload = started(&world).await;
    for number in ["1", "3", "7"] {
        part(&world, &upload, number, number.as_bytes().to_vec())
            .ok()
            .await;
    }
    let parts = async |query: &str| {
        let line = format!("GET /bkt/k?uploadId={upload}{query}");
        world.call(&line).ok().await.xml("ListPartsResult")
    };
    let all = parts("").await;
    assert_eq!(texts(&all, "Part", "PartNumber"), "1 3 7");
    assert_eq!(all.child_text("NextPartNumberMarker"), Some("7"));
    assert_eq!(all.child_text("StorageClass"), Some("STANDARD"));
    for element in ["Initiator", "Owner"] {
        let name = all.child(element).unwrap().child_text("DisplayName");
        assert_eq!(name, Some("alice"));
    }
    let page = parts("&max-parts=2").await;
    assert_eq!(texts(&page, "Part", "PartNumber"), "1 3");
    assert_eq!(page.child_text("IsTruncated"), Some("true"));
    let page = parts("&part-number-marker=3").await;
    assert_eq!(texts(&page, "Part", "PartNumber"), "7");
    assert_eq!(page.child_text("IsTruncated"), Some("false"));

    start(world.call("POST /bkt/d/1?uploads")).await;
    start(world.call("POST /bkt/d/2?uploads")).await;
    let second = started(&world).await;
    let uploads = async |query: &str| {
        let answer = world.call(&format!("GET /bkt?uploads{query}")).ok().await;
        answer.xml("ListMultipartUploadsResult")
    };
    let all = uploads("").await;
    assert_eq!(texts(&all, "Upload", "Key"), "d/1 d/2 k k");
    assert!(texts(&all, "Upload", "UploadId").ends_with(&format!("{upload} {second}")));
    assert_eq!(all.child_text("NextUploadIdMarker"), Some(second.as_str()));
    let page = uploads("&delimiter=/&max-uploads=2").await;
    assert_eq!(texts(&page, "CommonPrefixes", "Prefix"), "d/");
    assert_eq!(texts(&page, "Upload", "UploadId"), upload);
    assert_eq!(page.child_text("IsTruncated"), Some("true"));
    assert_eq!(page.child_text("NextKeyMarker"), Some("k"));
    let rest = uploads(&format!("&key-marker=k&upload-id-marker={upload}")).await;
    assert_eq!(texts(&rest, "Upload", "UploadId"), second);
    assert_eq!(
        texts(&uploads("&key-marker=d/1").await, "Upload", "Key"),
        "d/2 k k"
    );
    assert_eq!(
        texts(&uploads("&prefix=d").await, "Upload", "Key"),
        "d/1 d/2"
    );
    // Without a key's, an upload's marker is not looked at.
    let page = uploads("&upload-id-marker=x").await;
    assert_eq!(page.child_text("UploadIdMarker"), Some(""));
    let bad = world.call("GET /bkt?uploads&key-marker=k&upload-id-marker=x");
    assert_eq!(bad.error().await, code(400, "InvalidArgument"));
    // They go with their bucket.
    let deleted = world.call("DELETE /bkt").send().await;
    assert_eq!(deleted.status.as_u16(), 204);
    let gone = world.call("GET /bkt?uploads").error().await;
    assert_eq!(gone, code(404, "NoSuchBucket"));
}

#[tokio::test]
async fn w_17_parts_are_copied_from_objects() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/source").body("0123456789").ok().await;
    world.call("PUT /theirs").by("bob").ok().await;
    world
        .call("PUT /theirs/x")
        .by("bob")
        .body("secret")
        .ok()
        .await;
    let upload = started(&world).await;
    let copy = |source: &str| {
        let line = format!("PUT /bkt/k?partNumber=1&uploadId={upload}");
        world.call(&line).header("x-amz-copy-source", source)
    };
    let whole = copy("/bkt/source").ok().await.xml("CopyPartResult");
    assert_eq!(
        whole.child_text("ETag"),
        Some("\"781e5e245d69b566979b86e28d23f2c7\"")
    );
    assert!(whole.child_text("LastModified").unwrap().ends_with('Z'));
    assert_eq!(whole.child_text("ChecksumCRC64NVME"), None);
    let summed = world.call("POST /bkt/s?uploads");
    let summed = start(summed.header("x-amz-checksum-algorithm", "CRC64NVME")).await;
    let line = format!("PUT /bkt/s?partNumber=1&uploadId={summed}");
    let summed = world.call(&line).header("x-amz-copy-source", "bkt/source");
    let summed = summed.ok().await.xml("CopyPartResult");
    assert!(summed.child_text("ChecksumCRC64NVME").is_some());
    let some = copy("bkt/source").header("x-amz-copy-source-range", "bytes=2-4");
    let some = some.ok().await.xml("CopyPartResult");
    let etag = some.child_text("ETag").unwrap();
    for (source, name, value, expected) in [
        (
            "bkt/source",
            "x-amz-copy-source-range",
            "2-4",
            (400, "InvalidArgument"),
        ),
        (
            "bkt/source",
            "x-amz-copy-source-range",
            "bytes=0-10",
            (400, "InvalidArgument"),
        ),
        (
            "bkt/source",
            "x-amz-copy-source-if-match",
            "\"x\"",
            (412, "PreconditionFailed"),
        ),
        (
            "bkt/source",
            "x-amz-copy-source-if-none-match",
            "*",
            (412, "PreconditionFailed"),
        ),
        ("bkt/none", "x-other", "", (404, "NoSuchKey")),
        ("none/k", "x-other", "", (404, "NoSuchBucket")),
        ("bkt", "x-other", "", (400, "InvalidArgument")),
        //
        ("theirs/x", "x-other", "", (403, "AccessDenied")),
    ] {
        let refused = copy(source).header(name, value).error().await;
        assert_eq!(
            refused,
            code(expected.0, expected.1),
            "{source} {name}: {value}"
        );
    }
    complete(&world, &upload, &[("1", etag)]).ok().await;
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"234");
}
