#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use drystone_store::env::{Env as _, SystemEnv};
use drystone_store::error::Error;
use drystone_store::operator::{
    DiskState, DiskStatus, HealStatus, Operator, Redundancy, ReplaceError, ScrubStatus, Status,
    UpkeepChange,
};
use drystone_store::workers::{Next, Runner, StepError, Wakeup, Worker};
use http::{HeaderValue, Request, StatusCode};
use serde_json::{Value, json};

use crate::admin::context::Context;
use crate::admin::minio::quotas::Quotas;
use crate::admin::service::Admin;
use drystone_auth::sign::Signer;
use drystone_http::exchange::Findings;
use drystone_http::service::Service as _;
use drystone_protocol::response::Response;
use drystone_world::{REGION, World, secret};

/// Remembers what it was told.
struct Told(Mutex<Vec<String>>, Runner);

impl Default for Told {
    fn default() -> Told {
        Told(Mutex::default(), Runner::new(Arc::new(SystemEnv)))
    }
}

/// A worker whose steps fail.
#[derive(Default)]
struct Failing(Wakeup);

#[async_trait]
impl Worker for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    async fn step(&self) -> Result<Next, StepError> {
        Err("it did not work".into())
    }

    fn wakeup(&self) -> &Wakeup {
        &self.0
    }
}

#[async_trait]
impl Operator for Told {
    async fn status(&self) -> Result<Status, Error> {
        Ok(Status {
            advice: vec!["do it".into()],
            disks: vec![disk()],
            redundancy: Redundancy::default(),
            heal: HealStatus::default(),
            scrub: ScrubStatus::default(),
            over_quota: Vec::new(),
            metadata_voters_alive: 3,
            metadata_voters: 4,
            metadata_quorum: 3,
        })
    }

    async fn replace_disk(
        &self,
        old: &str,
        new: Option<&Path>,
    ) -> Result<DiskStatus, ReplaceError> {
        self.0
            .lock()
            .unwrap()
            .push(format!("replace {old} {new:?}"));
        match old {
            "d1" => Ok(disk()),
            _ => Err(ReplaceError::Unknown(old.to_owned())),
        }
    }

    async fn begin_scrub(&self) -> Result<(), Error> {
        self.0.lock().unwrap().push("scrub".into());
        Ok(())
    }

    async fn change_upkeep(&self, change: UpkeepChange) -> Result<(), Error> {
        self.0.lock().unwrap().push(format!("{change:?}"));
        Ok(())
    }

    fn workers(&self) -> &Runner {
        &self.1
    }
}

fn disk() -> DiskStatus {
    DiskStatus {
        id: "0a".into(),
        directory: "/d1".into(),
        state: DiskState::Offline,
        reason: None,
        since_ms: 1,
        total_bytes: 2,
        free_bytes: 3,
        replaced_by: None,
        can_be_taken_out: false,
    }
}

fn request(line: &str, body: &str) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", "s3.test:9000");
    request.body(Body::from(body.to_owned())).unwrap()
}

fn signed(user: &str, line: &str, body: &str) -> Request<Body> {
    signed_for(REGION, user, line, body)
}

fn signed_for(region: &str, user: &str, line: &str, body: &str) -> Request<Body> {
    let (mut parts, sent) = request(line, body).into_parts();
    let now = SystemEnv.now();
    let signer = Signer::new(user, &secret(user), region, now).unwrap();
    signer.sign_body(&mut parts, body.as_bytes()).unwrap();
    Request::from_parts(parts, sent)
}

/// The answer of the operator's API or of MinIO's; `None` where the request is left to others.
async fn answer(world: &World, told: &Arc<Told>, request: Request<Body>) -> Option<Response> {
    let context = Arc::new(Context {
        operator: told.clone(),
        store: world.store.clone(),
        verifier: world.verifier.clone(),
        env: Arc::new(SystemEnv),
        ids: world.transport.ids.clone(),
        certificate: None,
    });
    let request = world.enter(request);
    match Admin::new(context.clone()).answer(request).await {
        Ok(response) => Some(response),
        Err(request) => Quotas::new(context).answer(request).await.ok(),
    }
}

async fn ask(told: &Arc<Told>, request: Request<Body>) -> Option<(u16, Value)> {
    let world = World::with_bucket().await;
    let answer = answer(&world, told, request).await?;
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    Some((status, serde_json::from_slice(&body).unwrap()))
}

#[tokio::test]
async fn the_root_key_is_told_and_obeyed() {
    let told = Arc::new(Told::default());
    let (status, answer) = ask(&told, signed("root", "GET /_admin/v1/status", ""))
        .await
        .unwrap();
    assert_eq!((status, answer["advice"][0].as_str()), (200, Some("do it")));
    let (status, answer) = ask(&told, signed("root", "GET /_admin/v1/disks", ""))
        .await
        .unwrap();
    assert_eq!(
        (status, answer["disks"][0]["state"].as_str()),
        (200, Some("offline"))
    );
    let line = "POST /_admin/v1/disks/replace";
    let replace = signed("root", line, r#"{"old":"d1","new":"/new"}"#);
    assert_eq!(ask(&told, replace).await.unwrap().0, 200);
    let unknown = ask(&told, signed("root", line, r#"{"old":"d2"}"#))
        .await
        .unwrap();
    assert_eq!(
        (unknown.0, unknown.1["error"]["code"].as_str()),
        (404, Some("NoSuchDisk"))
    );
    let settings = signed(
        "root",
        "POST /_admin/v1/settings",
        r#"{"heal_paused":true}"#,
    );
    assert_eq!(ask(&told, settings).await.unwrap().0, 200);
    let told = told.0.lock().unwrap().clone();
    assert_eq!(told[0], "replace d1 Some(\"/new\")");
    assert!(told[2].contains("heal_paused: Some(true)"));
}

#[tokio::test]
async fn workers_are_listed_with_their_failures_and_when_they_are_due() {
    let told = Arc::new(Told::default());
    told.workers().add(Arc::new(Failing::default()));
    let listed = async || {
        let list = signed("root", "GET /_admin/v1/workers", "");
        let (status, answer) = ask(&told, list).await.unwrap();
        assert_eq!(status, 200);
        answer["workers"][0].clone()
    };
    let mut worker = listed().await;
    while worker["failures"] == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        worker = listed().await;
    }
    assert_eq!(worker["name"], "failing");
    assert_eq!(worker["state"], "waiting");
    assert_eq!(
        (&worker["steps"], &worker["panics"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(worker["last_error"], "it did not work");
    assert!(worker["next_ms"].as_i64() > worker["last_error_ms"].as_i64());
}

#[tokio::test]
async fn a_47_nobody_else_is_told_or_obeyed_anything() {
    let told = Arc::new(Told::default());
    let line = "POST /_admin/v1/disks/replace";
    let body = r#"{"old":"d1"}"#;
    // Another key, a wrong secret, no signature, another body than was signed.
    let mut forged = signed("root", line, body);
    let header = forged.headers()["authorization"]
        .to_str()
        .unwrap()
        .to_owned();
    let header = HeaderValue::from_str(&header.replace("Signature=", "Signature=0")).unwrap();
    forged.headers_mut().insert("authorization", header);
    let mut swapped = signed("root", line, r#"{"old":"d2"}"#);
    *swapped.body_mut() = Body::from(body);
    let mut unsigned_body = request(line, body).into_parts();
    let now = SystemEnv.now();
    let signer = Signer::new("root", &secret("root"), REGION, now).unwrap();
    signer
        .sign(&mut unsigned_body.0, "UNSIGNED-PAYLOAD")
        .unwrap();
    let unsigned_body = Request::from_parts(unsigned_body.0, unsigned_body.1);
    for (request, expected) in [
        (signed("alice", line, body), 403),
        (forged, 403),
        (request(line, body), 403),
        (request("GET /_admin/v1/status", ""), 403),
        (request("GET /_admin/v1/nothing", ""), 403),
        (unsigned_body, 403),
        (swapped, 400),
    ] {
        let (status, answer) = ask(&told, request).await.unwrap();
        assert_eq!(status, expected, "{answer}");
    }
    assert!(told.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn s_06_quotas_are_set_and_usage_is_told() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("12345").ok().await;
    let told = Arc::new(Told::default());
    let ask = async |line: &str, body: &str| {
        let answer = answer(&world, &told, signed("root", line, body)).await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let document = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (status, document)
    };
    let set = r#"{"bucket":"bkt","hard_bytes":6,"soft_objects":0}"#;
    let (status, bucket) = ask("POST /_admin/v1/quota", set).await;
    assert_eq!((status, &bucket["quota"]["hard_bytes"]), (200, &json!(6)));
    assert_eq!(bucket["over_soft_quota"], json!(true));
    assert_eq!(
        world.call("PUT /bkt/l").body("67").error().await,
        (403, "QuotaExceeded".into())
    );
    // What is not named stays, and null takes a limit away.
    let (_, bucket) = ask(
        "POST /_admin/v1/quota",
        r#"{"bucket":"bkt","hard_bytes":null}"#,
    )
    .await;
    assert_eq!(bucket["quota"]["hard_bytes"], Value::Null);
    assert_eq!(bucket["quota"]["soft_objects"], json!(0));
    let (_, one) = ask("GET /_admin/v1/quota?bucket=bkt", "").await;
    let (_, page) = ask("GET /_admin/v1/buckets?prefix=b&after=a", "").await;
    assert_eq!(page["buckets"][0], one);
    assert_eq!(
        (&one["usage"]["bytes"], &page["next"]),
        (&json!(5), &Value::Null)
    );
    for (line, body, status) in [
        ("GET /_admin/v1/quota", "", 400),
        ("GET /_admin/v1/quota?bucket=none", "", 404),
        ("POST /_admin/v1/quota", r#"{"bucket":"none"}"#, 404),
        (
            "POST /_admin/v1/quota",
            r#"{"bucket":"bkt","hard_byte":1}"#,
            400,
        ),
        (
            "POST /_admin/v1/quota",
            r#"{"bucket":"bkt","hard_bytes":-1}"#,
            400,
        ),
    ] {
        assert_eq!(ask(line, body).await.0, status, "{line} {body}");
    }
}

#[tokio::test]
async fn s_06_minios_tools_set_and_read_a_quota() {
    let world = World::with_bucket().await;
    let told = Arc::new(Told::default());
    let ask = async |user: &str, line: &str, body: &str| {
        let answer = answer(&world, &told, signed_for("", user, line, body)).await?;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    };
    let set = "PUT /minio/admin/v3/set-bucket-quota?bucket=bkt";
    let get = "GET /minio/admin/v3/get-bucket-quota?bucket=bkt";
    let none = json!({ "quota": 0, "size": 0, "rate": 0, "requests": 0 });
    assert_eq!(ask("root", get, "").await, Some((200, none.clone())));
    let wish = r#"{"quota":7,"size":7,"rate":0,"requests":0,"quotatype":"hard"}"#;
    assert_eq!(ask("root", set, wish).await, Some((200, Value::Null)));
    let (_, told) = ask("root", get, "").await.unwrap();
    assert_eq!(
        (&told["quota"], &told["quotatype"]),
        (&json!(7), &json!("hard"))
    );
    assert_eq!(
        world.call("PUT /bkt/k").body("12345678").error().await.0,
        403
    );
    assert_eq!(
        ask("root", set, r#"{"quota":0,"quotatype":"hard"}"#)
            .await
            .unwrap()
            .0,
        200
    );
    assert_eq!(ask("root", get, "").await, Some((200, none)));
    for (user, line, body, status) in [
        ("alice", set, wish, 403),
        ("root", set, r#"{"quota":7,"quotatype":"fifo"}"#, 501),
        ("root", set, r#"{"size":7,"rate":9}"#, 501),
        ("root", set, "{", 400),
        (
            "root",
            "GET /minio/admin/v3/get-bucket-quota?bucket=no",
            "",
            404,
        ),
        ("root", "GET /minio/admin/v3/get-bucket-quota", "", 404),
    ] {
        let (found, answer) = ask(user, line, body).await.unwrap();
        assert_eq!(
            (found, answer["Code"].is_string()),
            (status, true),
            "{line} {body}"
        );
    }
    // All else there is told to be missing, by others.
    assert_eq!(ask("root", "GET /minio/admin/v3/info", "").await, None);
    assert_eq!(
        ask(
            "root",
            "GET /minio/admin/v3/set-bucket-quota?bucket=bkt",
            ""
        )
        .await,
        None
    );
}

/// However the way there is written, it leads to the same gate or to none.
#[tokio::test]
async fn a_31_no_spelling_of_a_path_leads_around_the_gate() {
    let told = Arc::new(Told::default());
    let body = r#"{"old":"d1"}"#;
    for path in [
        "/_admin/v1/disks/replace",
        "/_Admin/v1/disks/replace",
        "//_admin/v1/disks/replace",
        "/%5fadmin/v1/disks/replace",
        "/%255fadmin/v1/disks/replace",
        "/_admin./v1/disks/replace",
        "/_admin/..;/_admin/v1/disks/replace",
        "/_admin/v1/./disks/replace",
        "/_admin/v1/status/../disks/replace",
        "/_admin/v1/disks/replace/",
        "/_admin/v1/disks%2freplace",
        "/x/../_admin/v1/disks/replace",
    ] {
        for user in ["alice", ""] {
            let line = format!("POST {path}");
            let request = match user {
                "" => request(&line, body),
                user => signed(user, &line, body),
            };
            let status = ask(&told, request).await.map(|(status, _)| status);
            assert!(
                matches!(status, None | Some(403 | 404)),
                "{path}: {status:?}"
            );
        }
    }
    for name in [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ] {
        let mut overridden = signed("root", "GET /_admin/v1/disks/replace", body);
        let post = HeaderValue::from_static("POST");
        overridden.headers_mut().insert(name, post);
        assert_eq!(ask(&told, overridden).await.unwrap().0, 405, "{name}");
    }
    assert!(told.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_the_operators_is_left_to_s3() {
    let told = Arc::new(Told::default());
    for line in ["GET /bkt/_admin/v1/status", "GET /", "GET /_adminv1/status"] {
        assert!(
            ask(&told, signed("root", line, "")).await.is_none(),
            "{line}"
        );
    }
    let mut hosted = request("GET /_admin/v1/status", "");
    let host = HeaderValue::from_static("bkt.s3.test:9000");
    hosted.headers_mut().insert("host", host);
    assert!(
        ask(&told, hosted).await.is_none(),
        "an object of the bucket"
    );
    for (line, body, status) in [
        ("GET /_admin/v1/nothing", "", 404),
        ("GET /_admin/v2/status", "", 404),
        ("PUT /_admin/v1/status", "", 405),
        ("POST /_admin/v1/settings", "{", 400),
        ("POST /_admin/v1/settings", r#"{"heal_pause":true}"#, 400),
    ] {
        let (answered, answer) = ask(&told, signed("root", line, body)).await.unwrap();
        assert_eq!(answered, status, "{line}: {answer}");
    }
}

#[tokio::test]
async fn the_record_of_an_exchange_has_the_operators_operation_and_the_decision() {
    let world = World::with_bucket().await;
    let context = Arc::new(Context {
        operator: Arc::new(Told::default()),
        store: world.store.clone(),
        verifier: world.verifier.clone(),
        env: Arc::new(SystemEnv),
        ids: world.transport.ids.clone(),
        certificate: None,
    });
    let admin = Admin::new(context);
    let line = "GET /_admin/v1/status";
    let mut recorded = Vec::new();
    for request in [
        signed("root", line, ""),
        signed("alice", line, ""),
        request(line, ""),
    ] {
        let request = world.enter(request);
        let exchange = request.head.exchange.clone();
        admin.answer(request).await.unwrap();
        recorded.push(exchange.findings());
    }
    let [root, alice, nobody] = recorded.as_slice() else {
        unreachable!("three were asked")
    };
    let user = |found: &Findings| found.caller.clone().map(|(_, user)| user);
    assert_eq!(root.operation, Some("AdminStatus"));
    assert_eq!(user(root).as_deref(), Some("root"));
    assert_eq!(root.decision, Some("allowed: operator"));
    assert_eq!((root.error, root.status), (None, Some(StatusCode::OK)));
    assert_eq!(user(alice).as_deref(), Some("alice"));
    assert_eq!(alice.decision, Some("denied: not the operator"));
    assert_eq!(alice.operation, Some("AdminStatus"));
    assert_eq!(alice.error, Some("AccessDenied"));
    assert_eq!(user(nobody), None);
    assert_eq!(nobody.error, Some("AccessDenied"));
}
