//! Conditions over HTTP: which ones hold, and in which words others are refused.

use drystone_world::{Answer, Call, World};

const OTHER: &str = "\"ffffffffffffffffffffffffffffffff\"";

/// Status, code, and what the error says of the condition.
fn told(answer: &Answer) -> (u16, String, String) {
    let error = answer.xml("Error");
    let text = |name| error.child_text(name).unwrap_or_default().to_owned();
    let about = match text("Condition") {
        none if none.is_empty() => text("Header"),
        condition => condition,
    };
    (answer.status.as_u16(), text("Code"), about)
}

async fn refused(call: Call<'_>) -> (u16, String, String) {
    told(&call.send().await)
}

fn not_implemented(header: &str) -> (u16, String, String) {
    (501, "NotImplemented".to_owned(), header.to_owned())
}

fn failed(condition: &str) -> (u16, String, String) {
    (412, "PreconditionFailed".to_owned(), condition.to_owned())
}

/// An upload of one part: the line that completes it, and the document.
async fn upload(world: &World) -> (String, String) {
    let started = world.call("POST /bkt/k?uploads").ok().await;
    let started = started.xml("InitiateMultipartUploadResult");
    let id = started.child_text("UploadId").unwrap();
    let line = format!("PUT /bkt/k?partNumber=1&uploadId={id}");
    let etag = world.call(&line).body("x").ok().await;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        etag.header("etag").trim_matches('"')
    );
    (format!("POST /bkt/k?uploadId={id}"), document)
}

#[tokio::test]
async fn s_17_w_12_every_write_takes_the_same_conditions() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/source").body("s").ok().await;
    let put = world.call("PUT /bkt/k").body("1").ok().await;
    let etag = put.header("etag").to_owned();
    for way in ["put", "copy", "complete"] {
        let completion = match way {
            "complete" => Some(upload(&world).await),
            _ => None,
        };
        let write = || match &completion {
            Some((line, document)) => world.call(line).body(document.clone()),
            None if way == "copy" => {
                let copy = world.call("PUT /bkt/k");
                copy.header("x-amz-copy-source", "bkt/source")
            }
            None => world.call("PUT /bkt/k").body("2"),
        };
        for (headers, expected) in [
            (&[("if-none-match", "*")][..], failed("If-None-Match")),
            (&[("if-match", OTHER)], failed("If-Match")),
            (&[("if-match", "nonsense")], failed("If-Match")),
            (&[("if-none-match", etag.as_str())], failed("If-None-Match")),
            (
                &[("if-none-match", OTHER), ("if-none-match", etag.as_str())],
                failed("If-None-Match"),
            ),
            (
                &[("if-match", etag.as_str()), ("if-none-match", "*")],
                failed("If-None-Match"),
            ),
            (
                &[("if-match", OTHER), ("if-none-match", OTHER)],
                failed("If-Match"),
            ),
        ] {
            let call = headers
                .iter()
                .fold(write(), |call, (name, value)| call.header(name, value));
            assert_eq!(refused(call).await, expected, "{way} {headers:?}");
        }
        write()
            .header("if-match", etag.trim_matches('"'))
            .ok()
            .await;
        if way != "complete" {
            write().header("if-match", "*").ok().await;
            write().header("if-none-match", &etag).ok().await;
        }
        world.call("DELETE /bkt/k").ok().await;
        if way != "complete" {
            for value in [etag.as_str(), "*"] {
                let gone = write().header("if-match", value).error().await;
                assert_eq!(gone, (404, "NoSuchKey".to_owned()), "{way}");
            }
            write().header("if-none-match", "*").ok().await;
        }
        let again = world.call("PUT /bkt/k").body("1").ok().await;
        assert_eq!(again.header("etag"), etag);
    }
}

#[tokio::test]
async fn s_17_deletes_are_held_to_the_current_version() {
    let world = World::with_bucket().await;
    world.set_versioning("Enabled").await;
    let put = world.call("PUT /bkt/k").body("1").ok().await;
    let (etag, id) = (put.header("etag"), put.header("x-amz-version-id"));
    let by_id = world.call(&format!("DELETE /bkt/k?versionId={id}"));
    let by_id = refused(by_id.header("if-match", etag)).await;
    assert_eq!(by_id, not_implemented("If-Match"));
    for (name, value, condition) in [
        ("if-match", OTHER, "If-Match"),
        ("x-amz-if-match-size", "2", "x-amz-if-match-size"),
        (
            "x-amz-if-match-last-modified-time",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "x-amz-if-match-last-modified-time",
        ),
    ] {
        let delete = world.call("DELETE /bkt/k").header(name, value);
        assert_eq!(refused(delete).await, failed(condition));
    }
    for (name, value) in [
        ("x-amz-if-match-size", "one"),
        ("x-amz-if-match-last-modified-time", "yesterday"),
    ] {
        let delete = world
            .call("DELETE /bkt/k")
            .header(name, value)
            .error()
            .await;
        assert_eq!(delete, (400, "InvalidArgument".to_owned()));
    }
    let outcomes = async |conditions: &[&str]| {
        let objects = conditions
            .iter()
            .map(|condition| format!("<Object><Key>k</Key>{condition}</Object>"));
        let document = format!("<Delete>{}</Delete>", objects.collect::<String>());
        let answer = world
            .call("POST /bkt?delete")
            .document(&document)
            .ok()
            .await;
        let rows = answer.xml("DeleteResult").children;
        let told = |row: &drystone_protocol::xml::read::Element| {
            row.child_text("Code").unwrap_or("deleted").to_owned()
        };
        rows.iter().map(told).collect::<Vec<_>>()
    };
    // One after the other: the fourth deletes, and nothing is left for those behind it.
    let told = outcomes(&[
        "<ETag>ffffffffffffffffffffffffffffffff</ETag>",
        "<Size>9</Size>",
        "<LastModifiedTime>1994-11-06T08:49:37Z</LastModifiedTime>",
        "<ETag>*</ETag><Size>1</Size>",
        "<ETag>*</ETag>",
        "<Size>1</Size>",
        "<Size>one</Size>",
    ])
    .await;
    let expected = [
        "PreconditionFailed",
        "PreconditionFailed",
        "PreconditionFailed",
        "deleted",
        "NoSuchKey",
        "deleted",
        "MalformedXML",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn s_12_conditions_on_a_source_are_named_as_aws_names_them() {
    let world = World::with_bucket().await;
    let put = world.call("PUT /bkt/k").body("1").ok().await;
    let etag = put.header("etag").to_owned();
    let (past, future) = (
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Fri, 06 Nov 2099 08:49:37 GMT",
    );
    let copy = |headers: &[(&str, &str)]| {
        let copy = world.call("PUT /bkt/copy");
        let copy = copy.header("x-amz-copy-source", "bkt/k");
        headers.iter().fold(copy, |copy, (name, value)| {
            copy.header(&format!("x-amz-copy-source-if-{name}"), value)
        })
    };
    for (headers, condition) in [
        (&[("match", OTHER)][..], "If-Match"),
        (&[("none-match", etag.as_str())], "If-None-Match"),
        (&[("unmodified-since", past)], "If-Unmodified-Since"),
        // What fails is told before what is not modified.
        (
            &[("none-match", etag.as_str()), ("unmodified-since", past)],
            "If-Unmodified-Since",
        ),
        (
            &[("none-match", etag.as_str()), ("modified-since", past)],
            "If-None-Match",
        ),
    ] {
        let expected = failed(&format!("x-amz-copy-source-{condition}"));
        assert_eq!(refused(copy(headers)).await, expected, "{headers:?}");
    }
    for headers in [
        &[("match", etag.as_str()), ("unmodified-since", past)][..],
        &[("none-match", OTHER), ("modified-since", past)],
        &[("modified-since", future)],
        &[
            ("modified-since", "yesterday"),
            ("unmodified-since", "never"),
        ],
    ] {
        copy(headers).ok().await;
    }
}

#[tokio::test]
async fn s_11_dates_that_are_none_or_yet_to_come_are_no_conditions() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("1").ok().await;
    for (name, value) in [
        ("if-modified-since", "Fri, 06 Nov 2099 08:49:37 GMT"),
        ("if-modified-since", "yesterday"),
        ("if-unmodified-since", "1994-11-06"),
        ("if-unmodified-since", ""),
    ] {
        let got = world.call("GET /bkt/k").header(name, value).ok().await;
        assert_eq!(got.status, 200, "{name}: {value}");
    }
}
