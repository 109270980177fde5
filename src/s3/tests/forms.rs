//! POST forms, from the bytes on the wire to the object.

use drystone_store::env::{Env as _, SystemEnv};
use drystone_store::types::Timestamp;

use drystone_auth::sign::{Signer, SignerV2};
use drystone_auth::v4::canonical::AmzDate;
use drystone_protocol::response::iso_date;
use drystone_s3::operation::rows;
use drystone_s3::row::{Mark, Scope};
use drystone_world::{Answer, REGION, World, secret};

pub(super) const ALL: &str = r#"{"bucket": "bkt"}, ["starts-with", "$key", ""]"#;

/// A form that is being made.
pub(super) struct Upload<'a> {
    world: &'a World,
    line: &'a str,
    host: Option<&'static str>,
    fields: Vec<(String, String)>,
    file: Option<(Option<String>, Vec<u8>)>,
    tail: String,
}

pub(super) fn upload(world: &World) -> Upload<'_> {
    Upload {
        world,
        line: "POST /bkt",
        host: None,
        fields: Vec::new(),
        file: Some((Some("name.txt".into()), b"content".to_vec())),
        tail: String::new(),
    }
}

fn policy(conditions: &str, seconds: i64) -> String {
    let end = iso_date(Timestamp(SystemEnv.now().0 + seconds * 1000));
    format!("{{\"expiration\": \"{end}\", \"conditions\": [{conditions}]}}")
}

impl<'a> Upload<'a> {
    pub(super) fn field(mut self, name: &str, value: &str) -> Upload<'a> {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Signed by version 4, with what that adds to the conditions.
    pub(super) fn signed(mut self, conditions: &str) -> Upload<'a> {
        let signer = Signer::new("alice", &secret("alice"), REGION, SystemEnv.now()).unwrap();
        let own = signer.policy_fields();
        let own = own
            .iter()
            .map(|(name, value)| format!(", {{\"{name}\": \"{value}\"}}"));
        let conditions = format!("{conditions}{}", own.collect::<String>());
        for (name, value) in signer.sign_policy(&policy(&conditions, 600)) {
            self.fields.push((name.into(), value));
        }
        self
    }

    fn signed_v2(mut self, policy: &str) -> Upload<'a> {
        for (name, value) in SignerV2::new("alice", &secret("alice")).sign_policy(policy) {
            self.fields.push((name.into(), value));
        }
        self
    }

    fn file(mut self, name: Option<&str>, content: impl Into<Vec<u8>>) -> Upload<'a> {
        self.file = Some((name.map(Into::into), content.into()));
        self
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let part = format!(
                "--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
            body.extend_from_slice(part.as_bytes());
        }
        if let Some((name, content)) = &self.file {
            let name = name.as_ref().map(|name| format!("; filename=\"{name}\""));
            let head = format!(
                "--x\r\nContent-Disposition: form-data; name=\"file\"{}\r\n\r\n",
                name.unwrap_or_default()
            );
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(self.tail.as_bytes());
        body.extend_from_slice(b"--x--\r\n");
        body
    }

    async fn send(self) -> Answer {
        let body = self.body();
        let mut call = self.world.call(self.line).by("");
        if let Some(host) = self.host {
            call.set_host(host);
        }
        call.header("content-type", "multipart/form-data; boundary=x")
            .body(body)
            .send()
            .await
    }

    /// Sends, and wants an error: code, message.
    async fn error(self) -> (u16, String, String) {
        let answer = self.send().await;
        let error = answer.xml("Error");
        let text = |name| error.child_text(name).unwrap().to_owned();
        (answer.status.as_u16(), text("Code"), text("Message"))
    }
}

#[tokio::test]
async fn s_15_a_form_becomes_an_object() {
    let world = World::with_bucket().await;
    let conditions = r#"{"bucket": "bkt"}, ["starts-with", "$key", "user/"],
        ["starts-with", "$content-type", "text/"], {"X-Amz-Meta-A": "ä"}, {"acl": "private"},
        ["starts-with", "$tagging", "<"], {"x-amz-storage-class": "STANDARD_IA"},
        ["starts-with", "$cache-control", "no-"], {"submit": "now"}"#;
    let tagging = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let answer = upload(&world)
        .field("Key", "user/${filename}")
        .field("submit", "now")
        .field("Content-Type", "text/plain")
        .field("x-amz-meta-a", "ä")
        .field("ACL", "private")
        .field("tagging", tagging)
        .field("x-amz-storage-class", "STANDARD_IA")
        .field("Cache-Control", "no-cache")
        .field("x-ignore-me", "x")
        .signed(conditions)
        .file(Some("C:\\dir/ü.txt"), "\r\n--\r\n")
        .send()
        .await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.bytes(), b"");
    assert_eq!(
        answer.header("location"),
        "http://s3.test:9000/bkt/user%2F%C3%BC.txt"
    );
    assert_eq!(answer.header("x-amz-checksum-type"), "FULL_OBJECT");
    let get = world.call("GET /bkt/user/%C3%BC.txt").ok().await;
    assert_eq!(get.bytes(), b"\r\n--\r\n");
    assert_eq!(get.header("etag"), answer.header("etag"));
    assert_eq!(get.header("content-type"), "text/plain");
    assert_eq!(get.header("cache-control"), "no-cache");
    assert_eq!(get.header("x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(get.header("x-amz-tagging-count"), "1");
    assert!(get.headers.contains_key("x-amz-meta-a"));
}

#[tokio::test]
async fn s_15_what_a_form_is_answered_with() {
    let world = World::with_bucket().await;
    let answered = async |name: &str, value: &str| {
        let conditions = format!("{ALL}, {{\"{name}\": \"{value}\"}}");
        upload(&world)
            .field("key", "a/b c")
            .field(name, value)
            .signed(&conditions)
            .send()
            .await
    };
    for (value, status) in [("200", 200), ("204", 204), ("404", 204), ("", 204)] {
        let answer = answered("success_action_status", value).await;
        assert_eq!((answer.status.as_u16(), answer.bytes()), (status, &b""[..]));
    }
    let created = answered("success_action_status", "201").await;
    assert_eq!(created.status, 201);
    let url = "http://s3.test:9000/bkt/a%2Fb%20c";
    let etag = created.header("etag");
    assert_eq!(
        std::str::from_utf8(created.bytes()).unwrap(),
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{url}</Location>\
             <Bucket>bkt</Bucket><Key>a/b c</Key><ETag>{}</ETag></PostResponse>",
            etag.replace('"', "&quot;")
        )
    );
    assert_eq!(created.header("location"), url);
    for name in ["success_action_redirect", "redirect"] {
        let answer = answered(name, "http://there/?x=y").await;
        assert_eq!(answer.status, 303);
        let told = format!(
            "bucket=bkt&key=a%2Fb+c&etag=%22{}%22",
            etag.trim_matches('"')
        );
        assert_eq!(
            answer.header("location"),
            format!("http://there/?x=y&{told}")
        );
        assert_eq!(answered(name, "/relative").await.status, 204);
    }
}

#[tokio::test]
async fn s_15_names_of_files_and_keys() {
    let world = World::with_bucket().await;
    let keyed = async |key: &str, name: Option<&str>| {
        let answer = upload(&world)
            .field("key", key)
            .signed(ALL)
            .file(name, "x")
            .send()
            .await;
        assert_eq!(answer.status, 204, "{answer:?}");
        answer
            .header("location")
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(keyed("k-${filename}", Some("a/b/c")).await, "k-c");
    assert_eq!(keyed("k-${filename}", Some("")).await, "k-");
    assert_eq!(keyed("${filename}-${filename}", Some("c")).await, "c-c");
    // Without a name there is nothing to put in its place.
    assert_eq!(keyed("k-${filename}", None).await, "k-%24%7Bfilename%7D");
    assert_eq!(keyed("../../x", None).await, "..%2F..%2Fx");
    let long = "k".repeat(1025);
    let error = upload(&world).field("key", &long).signed(ALL).error().await;
    assert_eq!(error.1, "KeyTooLongError");
    let error = upload(&world).field("key", "").signed(ALL).error().await;
    assert_eq!(error.2, "User key must have a length greater than 0.");
}

#[tokio::test]
async fn s_15_a_form_for_a_bucket_that_the_host_names() {
    let world = World::with_bucket().await;
    let mut form = upload(&world).field("key", "k").signed(ALL);
    (form.line, form.host) = ("POST /", Some("bkt.s3.test"));
    let answer = form.send().await;
    assert_eq!(answer.header("location"), "http://bkt.s3.test/k");
    world.call("GET /bkt/k").ok().await;
}

#[tokio::test]
async fn w_06_a_form_signed_by_version_2() {
    let world = World::with_bucket().await;
    let form = |seconds| {
        upload(&world)
            .field("key", "k")
            .signed_v2(&policy(ALL, seconds))
    };
    assert_eq!(form(60).send().await.status, 204);
    let expired = form(-1).error().await;
    let message = "Invalid according to Policy: Policy expired.".to_owned();
    assert_eq!(expired, (403, "AccessDenied".to_owned(), message));
}

#[tokio::test]
async fn a_15_a_16_what_no_policy_allows_has_no_effect() {
    let world = World::with_bucket().await;
    let denied = async |form: Upload<'_>| {
        let (status, code, message) = form.error().await;
        assert_eq!((status, code.as_str()), (403, "AccessDenied"), "{message}");
        message
    };
    let form = |key: &str| upload(&world).field("key", key);
    let prefix = r#"{"bucket": "bkt"}, ["starts-with", "$key", "a/"]"#;
    assert!(
        denied(form("b/k").signed(prefix))
            .await
            .ends_with(r#"["starts-with", "$key", "a/"]"#)
    );
    let twice = form("x").field("KEY", "a/k");
    denied(twice.signed(prefix)).await;
    let escaping = form("${filename}").file(Some("a/../b"), "x");
    denied(escaping.signed(prefix)).await;
    let typed = r#"{"bucket": "bkt"}, {"key": "k"}, {"Content-Type": "image/png"}"#;
    denied(form("k").field("Content-Type", "text/html").signed(typed)).await;
    denied(form("k").signed(typed)).await;
    denied(form("k").signed(r#"{"bucket": "other"}, {"key": "k"}"#)).await;
    denied(form("k").signed(r#"{"key": "k"}"#)).await;
    denied(form("k").field("bucket", "other").signed(ALL)).await;
    for name in ["acl", "x-amz-meta-a", "tagging", "success_action_redirect"] {
        let message = denied(form("k").field(name, "x").signed(ALL)).await;
        assert_eq!(
            message,
            format!("Invalid according to Policy: Extra input fields: {name}")
        );
    }
    assert_eq!(denied(form("k")).await, "Access Denied");
    // The policy is signed: its own bytes, not what they mean.
    let mut forged = form("k").signed(ALL);
    forged.fields.retain(|(name, _)| name != "x-amz-signature");
    let forged = forged
        .field("x-amz-signature", &"0".repeat(64))
        .error()
        .await;
    assert_eq!(
        (forged.0, forged.1.as_str()),
        (403, "SignatureDoesNotMatch")
    );
    let list = world.call("GET /bkt?list-type=2").ok().await;
    assert_eq!(
        list.xml("ListBucketResult").child_text("KeyCount"),
        Some("0")
    );
}

/// A form is taken for what it is by one operation alone; elsewhere it is a body like another.
#[tokio::test]
async fn a_14_a_form_opens_no_other_operation() {
    let world = World::with_bucket().await;
    let body = upload(&world).field("key", "k").signed(ALL).body();
    let bogus = "AWS4-HMAC-SHA256 Credential=nobody/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders=host, Signature=00";
    for row in rows().filter(|row| row.name != "PostObject") {
        let path = match row.scope {
            Scope::Service => "/",
            Scope::Bucket => "/bkt",
            Scope::Object => "/bkt/k",
        };
        let mut query = Vec::new();
        let mut headers = vec![("content-type", "multipart/form-data; boundary=x")];
        for mark in row.marks {
            match mark {
                Mark::Key(key) => query.push((*key).to_owned()),
                Mark::KeyIs(key, value) => query.push(format!("{key}={value}")),
                Mark::Header(name) => headers.push((name, "/bkt/k")),
            }
        }
        let line = format!("{} {path}?{}", row.method, query.join("&"));
        for credentials in [None, Some(bogus)] {
            let mut call = world.call(&line).by("");
            for (name, value) in &headers {
                call = call.header(name, value);
            }
            if let Some(credentials) = credentials {
                let date = AmzDate::at(SystemEnv.now()).unwrap();
                let bogus = credentials.replace("20130524", date.day());
                call = call.header("authorization", bogus);
                call = call.header("x-amz-date", date.as_str());
                call = call.header("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
            }
            let answer = call.body(body.clone()).send().await;
            assert_eq!(answer.status, 403, "{}: {answer:?}", row.name);
        }
    }
    let list = world.call("GET /bkt?list-type=2").ok().await;
    assert_eq!(
        list.xml("ListBucketResult").child_text("KeyCount"),
        Some("0")
    );
}

#[tokio::test]
async fn a_15_a_file_is_as_long_as_the_policy_says() {
    let world = World::with_bucket().await;
    let conditions = format!("{ALL}, [\"content-length-range\", 5, 10]");
    let sized = |len: usize| {
        let form = upload(&world).field("key", "k").signed(&conditions);
        form.file(Some("f"), "x".repeat(len))
    };
    for (len, code, proposed, bound) in [
        (4, "EntityTooSmall", "ProposedSize", "MinSizeAllowed"),
        (11, "EntityTooLarge", "ProposedSize", "MaxSizeAllowed"),
        (300_000, "EntityTooLarge", "ProposedSize", "MaxSizeAllowed"),
    ] {
        let answer = sized(len).send().await;
        let error = answer.xml("Error");
        assert_eq!(
            (answer.status.as_u16(), error.child_text("Code")),
            (400, Some(code))
        );
        assert_eq!(error.child_text(proposed), Some(len.to_string().as_str()));
        assert!(error.child_text(bound).is_some());
        let get = world.call("GET /bkt/k").error().await;
        assert_eq!(get.0, 404);
    }
    // What cannot fit is refused before it has come.
    let refused = world
        .call("POST /bkt")
        .by("")
        .header("content-length", "2000000");
    let refused = refused.header("content-type", "multipart/form-data; boundary=x");
    let refused = refused.body(sized(3).body()).error().await;
    assert_eq!(refused, (400, "EntityTooLarge".to_owned()));
    for len in [5, 10] {
        assert_eq!(sized(len).send().await.status, 204);
    }
}

#[tokio::test]
async fn s_15_what_stands_behind_the_file_is_nothing() {
    let world = World::with_bucket().await;
    let mut form = upload(&world).signed(ALL);
    form.tail = "--x\r\nContent-Disposition: form-data; name=key\r\n\r\nk\r\n".into();
    let (status, code, message) = form.error().await;
    assert_eq!((status, code.as_str()), (400, "InvalidArgument"));
    assert!(message.starts_with("Bucket POST must contain a field named 'key'.  If"));
    let mut form = upload(&world).field("key", "k").signed(ALL);
    form.tail = "--x\r\nContent-Disposition: form-data; name=key\r\n\r\nother\r\n\
                 --x\r\nnonsense"
        .into();
    assert_eq!(form.send().await.status, 204);
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"content");
    let mut form = upload(&world).field("key", "k").signed(ALL);
    form.tail = "x".repeat(2 << 20);
    assert_eq!(form.error().await.1, "MalformedPOSTRequest");
}

#[tokio::test]
async fn s_15_what_is_no_form_or_too_much_of_one() {
    let world = World::with_bucket().await;
    let typed = async |content_type: &str, body: &str| {
        let call = world
            .call("POST /bkt")
            .by("")
            .header("content-type", content_type);
        call.body(body.to_owned()).error().await
    };
    let form = "multipart/form-data; boundary=x";
    for content_type in [
        "text/html",
        "multipart/mixed; boundary=x",
        "multipart/form-data-x",
    ] {
        assert_eq!(
            typed(content_type, "").await,
            (412, "PreconditionFailed".to_owned())
        );
    }
    let malformed = (400, "MalformedPOSTRequest".to_owned());
    assert_eq!(typed("multipart/form-data", "--x--").await, malformed);
    for body in ["", "--x", "--x\r\nA: b\r\n\r\n--x--", "no form"] {
        assert_eq!(typed(form, body).await, malformed, "{body}");
    }
    assert_eq!(
        typed(form, "--x--").await,
        (400, "InvalidArgument".to_owned())
    );
    let too_long = (400, "MaxPostPreDataLengthExceeded".to_owned());
    assert_eq!(typed(form, &"x".repeat(30_000)).await, too_long);
    let field = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n";
    let long = format!("{field}{}\r\n--x--", "x".repeat(21_000));
    assert_eq!(typed(form, &long).await, too_long);
    // A line that begins like a delimiter neither ends the file nor belongs to it.
    let alike = upload(&world).field("key", "k").signed(ALL);
    let alike = alike.file(Some("f"), "a\r\n--xy\r\nb").error().await;
    assert_eq!(alike.1, malformed.1);
    let mut no_file = upload(&world).field("key", "k").signed(ALL);
    no_file.file = None;
    let (_, code, message) = no_file.error().await;
    assert_eq!(code, "InvalidArgument");
    assert_eq!(
        message,
        "POST requires exactly one file upload per request."
    );
    let cut = upload(&world).field("key", "k").signed(ALL).body();
    let cut = String::from_utf8(cut).unwrap();
    let cut = &cut[..cut.len() - 10];
    assert_eq!(typed(form, cut).await, malformed);
    assert_eq!(world.call("GET /bkt/k").error().await.0, 404);
}

#[tokio::test]
async fn s_15_s_18_sums_and_features_in_fields() {
    let world = World::with_bucket().await;
    let with = |name: &str, value: &str| {
        let conditions = format!("{ALL}, [\"starts-with\", \"${name}\", \"\"]");
        upload(&world)
            .field("key", "k")
            .field(name, value)
            .signed(&conditions)
    };
    for (name, value) in [
        ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ("x-amz-checksum-crc32", "AAAAAA=="),
    ] {
        assert_eq!(with(name, value).error().await.1, "BadDigest", "{name}");
    }
    assert_eq!(
        with("x-amz-checksum-sha256", "sailor").error().await.1,
        "InvalidRequest"
    );
    assert_eq!(
        with("x-amz-checksum-algorithm", "CRC32").error().await.1,
        "InvalidRequest"
    );
    for name in [
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-customer-algorithm",
    ] {
        let (status, code, _) = with(name, "AES256").error().await;
        assert_eq!((status, code.as_str()), (501, "NotImplemented"));
    }
    assert_eq!(
        with("acl", "public-read").error().await.1,
        "AccessControlListNotSupported"
    );
    assert_eq!(
        with("x-amz-security-token", "t").error().await.1,
        "InvalidToken"
    );
    assert_eq!(
        with("x-amz-storage-class", "None").error().await.1,
        "InvalidStorageClass"
    );
    for tagging in [
        "no xml",
        "<NotTagging/>",
        "<Tagging/>",
        "<Tagging><Tag/></Tagging>",
    ] {
        assert_eq!(
            with("tagging", tagging).error().await.1,
            "MalformedXML",
            "{tagging}"
        );
    }
    assert_eq!(
        with("x-amz-meta-a", "a\u{1}").error().await.1,
        "InvalidArgument"
    );
    assert_eq!(world.call("GET /bkt/k").error().await.0, 404);
}

#[tokio::test]
async fn a_09_headers_beside_a_form_count_for_nothing() {
    let world = World::with_bucket().await;
    let body = upload(&world).field("key", "k").signed(ALL).body();
    let call = world.call("POST /bkt").by("");
    let answer = call
        .header("content-type", "multipart/form-data; boundary=x")
        .header("x-amz-meta-a", "b")
        .header("x-amz-copy-source", "/other/key")
        .header("cache-control", "no-store")
        .body(body)
        .ok()
        .await;
    assert_eq!(answer.status, 204);
    let get = world.call("GET /bkt/k").ok().await;
    assert_eq!(get.header("content-type"), "binary/octet-stream");
    assert!(!get.headers.contains_key("x-amz-meta-a"));
    assert!(!get.headers.contains_key("cache-control"));
    let body = upload(&world).field("key", "k").signed(ALL).body();
    for (name, value, refusal) in [
        ("if-none-match", "*", (412, "PreconditionFailed")),
        (
            "x-amz-expected-bucket-owner",
            "000000000003",
            (403, "AccessDenied"),
        ),
    ] {
        let again = world.call("POST /bkt").by("").header(name, value);
        let again = again.header("content-type", "multipart/form-data; boundary=x");
        let (status, code) = again.body(body.clone()).error().await;
        assert_eq!((status, code.as_str()), refusal);
    }
}
