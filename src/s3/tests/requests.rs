//! The checks that every request goes through, whatever it asks for.

use drystone_s3::operation::rows;
use drystone_s3::row::{Mark, Row, Scope};
use drystone_world::World;

#[tokio::test]
async fn a_26_limits_on_headers() {
    let world = World::with_bucket().await;
    let (value, rest) = ("v".repeat(2000), "v".repeat(8 << 10));
    let fits = world
        .call("PUT /bkt/k")
        .header("x-amz-meta-a", &value)
        .ok()
        .await;
    assert_eq!(fits.status, 200);
    let over = world
        .call("PUT /bkt/k")
        .header("x-amz-meta-a", format!("{value}{value}"));
    assert_eq!(over.error().await, (400, "MetadataTooLarge".to_owned()));
    let section = world.call("PUT /bkt/k").header("x-other", &rest);
    assert_eq!(
        section.error().await,
        (400, "RequestHeaderSectionTooLarge".to_owned())
    );
}

#[tokio::test]
async fn a_60_a_query_of_too_many_parameters_is_refused() {
    let world = World::with_bucket().await;
    let ask = |count: usize| format!("GET /bkt?prefix=a{}", "&x".repeat(count - 1));
    world.call(&ask(200)).ok().await;
    for (user, count) in [("alice", 201), ("", 30_000)] {
        let refused = world.call(&ask(count)).by(user).error().await;
        assert_eq!(refused, (400, "InvalidRequest".to_owned()), "{count}");
    }
}

#[tokio::test]
async fn a_32_strangers_are_refused_and_nothing_is_told() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let denied = (403, "AccessDenied".to_owned());
    for line in [
        "GET /bkt/k",
        "PUT /bkt/k",
        "DELETE /bkt/k",
        "GET /bkt/k?tagging",
        "GET /bkt/none",
    ] {
        for user in ["", "bob"] {
            assert_eq!(
                world.call(line).by(user).error().await,
                denied,
                "{line} by {user:?}"
            );
        }
        // neither are conditions an oracle.
        let asked = world.call(line).by("bob").header("if-none-match", "*");
        assert_eq!(asked.error().await, denied);
    }
    let get = world.call("GET /bkt/k").by("root").ok().await;
    assert_eq!(get.bytes(), b"x");
    assert_eq!(
        world.call("GET /none/k").error().await,
        (404, "NoSuchBucket".to_owned())
    );
}

#[tokio::test]
async fn a_22_names_that_no_bucket_has() {
    let world = World::new().await;
    let long = "a".repeat(64);
    for name in [
        "..",
        ".sys",
        "Upper",
        "ab",
        &long,
        "1.2.3.4",
        "xn--a",
        "b%C3%BCck",
        "a%2fb",
    ] {
        for line in [format!("GET /{name}/k"), format!("PUT /{name}")] {
            let error = world.call(&line).error().await;
            assert_eq!(error, (400, "InvalidBucketName".to_owned()), "{line}");
        }
    }
}

#[tokio::test]
async fn s_05_a_bucket_in_the_host() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let mut call = world.call("GET /k");
    call.set_host("bkt.s3.test:9000");
    assert_eq!(call.ok().await.bytes(), b"x");
}

#[tokio::test]
async fn expected_owners_and_what_is_not_there() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let owner = |id: &'static str| {
        world
            .call("GET /bkt/k")
            .header("x-amz-expected-bucket-owner", id)
    };
    owner("000000000002").ok().await;
    assert_eq!(
        owner("000000000003").error().await,
        (403, "AccessDenied".to_owned())
    );
    let answer = world.call("PUT /bkt/k?retention").send().await;
    assert_eq!(answer.status, 501);
    let error = answer.xml("Error");
    assert_eq!(error.child_text("Code"), Some("NotImplemented"));
    assert!(
        error
            .child_text("Message")
            .unwrap()
            .contains("PutObjectRetention")
    );
    assert_eq!(error.child_text("Resource"), Some("/bkt/k"));
    assert!(error.child_text("RequestId").is_some());
    for (name, value) in [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-object-lock-mode", "COMPLIANCE"),
    ] {
        let put = world.call("PUT /bkt/k").header(name, value);
        assert_eq!(
            put.error().await,
            (501, "NotImplemented".to_owned()),
            "{name}"
        );
    }
    let acl = world.call("PUT /bkt/k").header("x-amz-acl", "public-read");
    assert_eq!(
        acl.error().await,
        (400, "AccessControlListNotSupported".to_owned())
    );
    let method = world.call("PATCH /bkt/k").error().await;
    assert_eq!(method, (405, "MethodNotAllowed".to_owned()));
    let allowed = world.call("PATCH /bkt?versioning").send().await;
    assert_eq!(allowed.header("allow"), "GET, PUT");
}

/// A request line for an operation, as its row recognises it, and the header that it needs.
fn line_of(operation: &Row) -> (String, Option<&'static str>) {
    let path = match operation.scope {
        Scope::Object => "/bkt/k",
        _ => "/bkt",
    };
    let (mut query, mut header) = (Vec::new(), None);
    for mark in operation.marks {
        match mark {
            Mark::Key(key) => query.push(key.to_string()),
            Mark::KeyIs(key, value) => query.push(format!("{key}={value}")),
            Mark::Header(name) => header = Some(*name),
        }
    }
    let line = format!("{} {path}?{}", operation.method, query.join("&"));
    (line, header)
}

#[tokio::test]
async fn s_10_the_expected_owner_is_checked_by_every_operation_on_a_bucket() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let mut checked = 0;
    // A form has its fields where others have headers.
    let of_headers = |operation: &&Row| operation.needs_bucket() && operation.name != "PostObject";
    for operation in rows().filter(of_headers) {
        let (line, header) = line_of(operation);
        for (owner, status, code) in [
            ("000000000003", 403, "AccessDenied"),
            ("22222", 400, "InvalidBucketOwnerAWSAccountID"),
            ("00000000000x", 400, "InvalidBucketOwnerAWSAccountID"),
        ] {
            let mut call = world
                .call(&line)
                .header("x-amz-expected-bucket-owner", owner);
            if let Some(name) = header {
                call = call.header(name, "bkt/k");
            }
            let code = if line.starts_with("HEAD") { "" } else { code };
            let error = call.error().await;
            assert_eq!(
                error,
                (status, code.to_owned()),
                "{}: {owner}",
                operation.name
            );
        }
        checked += 1;
    }
    assert!(checked > 80, "{checked} operations");
    // Nothing was done by any of them.
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"x");
    let copy = |owner: &'static str| {
        let copy = world
            .call("PUT /bkt/copy")
            .header("x-amz-copy-source", "bkt/k");
        copy.header("x-amz-source-expected-bucket-owner", owner)
    };
    copy("000000000002").ok().await;
    assert_eq!(
        copy("000000000003").error().await,
        (403, "AccessDenied".to_owned())
    );
    let malformed = (400, "InvalidBucketOwnerAWSAccountID".to_owned());
    assert_eq!(copy("alice").error().await, malformed);
}

#[tokio::test]
async fn a_13_a_body_that_fails_a_check_leaves_nothing() {
    let world = World::with_bucket().await;
    let wrong = world
        .call("PUT /bkt/k")
        .header("content-md5", "XrY7u+Ae7tCTyyK7j1rNww==");
    assert_eq!(wrong.body("x").error().await, (400, "BadDigest".to_owned()));
    let wrong = world
        .call("PUT /bkt/k")
        .header("x-amz-checksum-crc32", "AAAAAA==")
        .body("x");
    assert_eq!(wrong.error().await, (400, "BadDigest".to_owned()));
    assert_eq!(
        world.call("GET /bkt/k").error().await,
        (404, "NoSuchKey".to_owned())
    );
}

/// An empty body is never asked for by `100 Continue`, so the final answer comes without one.
/// botocore kept that answer's status for the next request on the connection and then waited for
/// ever: a sync of a tree with empty files hung.
#[tokio::test]
async fn w_11_an_answer_without_continue_ends_the_connection() {
    let world = World::with_bucket().await;
    let put = |line| world.call(line).header("expect", "100-continue");
    assert_eq!(
        put("PUT /bkt/empty").ok().await.header("connection"),
        "close"
    );
    assert_eq!(
        put("PUT /bkt/k").body("x").ok().await.header("connection"),
        ""
    );
    assert_eq!(world.call("PUT /bkt/k").ok().await.header("connection"), "");
}

/// A `100 Continue` goes out when a body is first asked for, so nobody may ask for one too large.
#[tokio::test]
async fn s_10_a_body_beyond_five_gibibytes_is_refused_before_it_is_asked_for() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use drystone_store::uploads::PART_SIZE_MAX_BYTES;

    let world = World::with_bucket().await;
    let create = world.call("POST /bkt/k?uploads").ok().await;
    let create = create.xml("InitiateMultipartUploadResult");
    let upload = create.child_text("UploadId").unwrap();
    let part = format!("PUT /bkt/k?partNumber=1&uploadId={upload}");
    for line in ["PUT /bkt/k", part.as_str()] {
        for (length, code, is_asked_for) in [
            (PART_SIZE_MAX_BYTES + 1, "EntityTooLarge", false),
            (PART_SIZE_MAX_BYTES, "IncompleteBody", true),
        ] {
            let asked = Arc::new(AtomicBool::new(false));
            let flag = asked.clone();
            let pieces = futures_util::stream::poll_fn(move |_| {
                flag.store(true, Ordering::Relaxed);
                std::task::Poll::Ready(None::<Result<bytes::Bytes, std::io::Error>>)
            });
            let call = world
                .call(line)
                .header("content-length", length.to_string())
                .header("expect", "100-continue");
            let answer = call
                .send_unsigned(axum::body::Body::from_stream(pieces))
                .await;
            let error = answer.xml("Error");
            assert_eq!(error.child_text("Code"), Some(code), "{line}");
            assert_eq!(asked.load(Ordering::Relaxed), is_asked_for);
            if !is_asked_for {
                assert_eq!(answer.header("connection"), "close");
                assert_eq!(error.child_text("ProposedSize"), Some("5368709121"));
                assert_eq!(error.child_text("MaxSizeAllowed"), Some("5368709120"));
            }
        }
    }
}

/// As AWS answers where a bucket has no CORS rules; it looks at neither bucket nor key.
#[tokio::test]
async fn a_58_no_origin_is_let_in() {
    let world = World::with_bucket().await;
    let preflight = |origin: &'static str, method: &'static str| {
        let mut call = world.call("OPTIONS /bkt/k").by("");
        for (name, value) in [
            ("origin", origin),
            ("access-control-request-method", method),
        ] {
            if !value.is_empty() {
                call = call.header(name, value);
            }
        }
        call
    };
    let answer = preflight("https://evil.test", "PUT").send().await;
    assert_eq!(answer.status, 403);
    let error = answer.xml("Error");
    assert_eq!(error.child_text("Code"), Some("AccessForbidden"));
    assert_eq!(error.child_text("Method"), Some("PUT"));
    assert_eq!(error.child_text("ResourceType"), Some("OBJECT"));
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let answer = preflight("https://evil.test", "").send().await;
    assert_eq!(answer.status, 403);
    let error = answer.xml("Error");
    assert_eq!(error.child_text("Method"), Some("OPTIONS"));
    let nowhere = world.call("OPTIONS /nowhere").by("");
    let nowhere = nowhere.header("origin", "https://evil.test").send().await;
    let error = nowhere.xml("Error");
    assert_eq!(error.child_text("Code"), Some("AccessForbidden"));
    assert_eq!(
        error.child_text("Message"),
        Some("CORSResponse: Bucket not found")
    );
    for (origin, method) in [("", "PUT"), ("https://a.test", "PATCH")] {
        let error = preflight(origin, method).error().await;
        assert_eq!(error, (400, "BadRequest".to_owned()), "{origin} {method}");
    }
}

#[tokio::test]
async fn a_27_no_header_of_an_answer_is_a_clients_own_making() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for parameter in [
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ] {
        for value in ["a%0D%0AX-Evil:%20b", "a%0AX-Evil:%20b", "a%0DX", "a%00"] {
            let line = format!("GET /bkt/k?{parameter}={value}");
            let answer = world.call(&line).send().await;
            assert_eq!(answer.status, 400, "{line}");
            // Not by the reader of XML: a control character goes out as AWS sends it.
            let text = String::from_utf8_lossy(answer.bytes());
            assert!(text.contains("<Code>InvalidArgument</Code>"), "{text}");
            assert_eq!(answer.header("x-evil"), "");
        }
    }
}

#[tokio::test]
async fn the_record_of_an_exchange_has_caller_operation_decision_and_error() {
    let world = World::with_bucket().await;
    let by = async |user| {
        let found = world.call("GET /bkt/none").by(user).findings().await;
        assert_eq!(found.operation, Some("GetObject"));
        assert_eq!((found.bucket.as_str(), found.key.as_str()), ("bkt", "none"));
        let user = found.caller.map(|(_, user)| user).unwrap_or_default();
        (user, found.decision.unwrap(), found.error)
    };
    let missing = Some("NoSuchKey");
    let own = ("alice".to_owned(), "allowed: own account", missing);
    assert_eq!(by("alice").await, own);
    let operator = ("root".to_owned(), "allowed: operator", missing);
    assert_eq!(by("root").await, operator);
    let denied = Some("AccessDenied");
    let other = ("bob".to_owned(), "denied: other account", denied);
    assert_eq!(by("bob").await, other);
    assert_eq!(by("").await, (String::new(), "denied: anonymous", denied));
    let copy = world
        .call("PUT /bkt/k")
        .header("x-amz-copy-source", "bobs/k");
    world.call("PUT /bobs").by("bob").ok().await;
    let refused = copy.findings().await;
    assert_eq!(refused.decision, Some("denied: other account"));
}
