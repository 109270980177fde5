//! Paths that are no S3's: metrics, and what MinIO has there.

use std::sync::Arc;

use drystone_store::buckets::CreateBucket;
use drystone_store::types::AccountId;

use super::metrics;
use crate::admin::minio::absent::Absent;
use crate::probes::metrics::Access;
use drystone_auth::credentials::Secret;
use drystone_world::{Listening, World};

async fn listening(access: Access) -> Listening {
    let world = World::with_bucket().await;
    let absent = Absent {
        ids: world.transport.ids.clone(),
    };
    let metrics = Arc::new(metrics(&world, access));
    Listening::behind(vec![metrics, Arc::new(absent)], world).await
}

async fn get(listening: &Listening, path: &str, header: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{header}\r\n");
    listening.ended(head.as_bytes()).await
}

#[tokio::test]
async fn a_47_metrics_are_for_those_with_the_token() {
    let token = Secret::from("a token that only tests know");
    let listening = listening(Access::Token(token)).await;
    for header in [
        "",
        "Authorization: Bearer a token that only tests kno\r\n",
        "Authorization: Bearer a token that only tests know!\r\n",
        "Authorization: bearer x\r\n",
    ] {
        let answer = get(&listening, "/metrics", header).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{header}: {answer}");
        assert!(!answer.contains("test_"), "{answer}");
    }
    let header = "Authorization: Bearer a token that only tests know\r\n";
    let answer = get(&listening, "/metrics", header).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let type_of_text = "content-type: text/plain; version=0.0.4; charset=utf-8";
    assert!(answer.contains(type_of_text), "{answer}");
    assert!(answer.contains("\ntest_build_info{version=\"1.2.3\"} 1\n"));
    assert!(answer.contains("\ntest_s3_connections 1\n"), "{answer}");
}

#[tokio::test]
async fn a_signed_request_is_no_metrics_and_no_bucket() {
    let listening = listening(Access::Public).await;
    assert!(
        get(&listening, "/metrics", "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let call = |line: &str| listening.world.call(line).header("connection", "close");
    for (line, status) in [
        ("PUT /metrics", "400"),
        ("GET /metrics", "400"),
        ("GET /metrics/", "400"),
        ("PUT /metrics/key", "400"),
        ("GET /%6detrics/key", "400"),
    ] {
        let answer = listening.ended(&call(line).raw()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{line}: {answer}"
        );
        assert!(
            answer.contains("<Code>InvalidBucketName</Code>"),
            "{line}: {answer}"
        );
    }
    for path in ["/metrics?X-Amz-Signature=x", "/metrics/", "/metrics/key"] {
        let answer = get(&listening, path, "").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert!(answer.contains("<Code>"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_47_metrics_that_are_off_are_not_there() {
    let listening = listening(Access::Off).await;
    let answer = get(&listening, "/metrics", "").await;
    assert!(
        !answer.contains("test_") && answer.contains("<Error>"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_counted_of_requests() {
    let listening = listening(Access::Public).await;
    let call = |line: &str| listening.world.call(line).header("connection", "close");
    listening
        .ended(&call("PUT /bkt/k").body("12345").raw())
        .await;
    listening.ended(&call("GET /bkt/k").raw()).await;
    listening.ended(&call("GET /bkt/none").raw()).await;
    listening.ended(&call("PATCH /bkt/k").raw()).await;
    listening.ended(b"nonsense\r\n\r\n").await;
    let text = get(&listening, "/metrics", "").await;
    for line in [
        "test_s3_requests_total{operation=\"PutObject\",status=\"2xx\"} 1",
        "test_s3_requests_total{operation=\"GetObject\",status=\"2xx\"} 1",
        "test_s3_requests_total{operation=\"GetObject\",status=\"4xx\"} 1",
        "test_s3_requests_total{operation=\"None\",status=\"4xx\"} 1",
        "test_s3_request_seconds_count{operation=\"GetObject\"} 2",
        "test_s3_received_bytes_total 5",
        "test_s3_refused_total{reason=\"bad_head\"} 1",
        "test_s3_requests_in_flight 0",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
    }
}

#[tokio::test]
async fn minio_s_own_paths_say_what_is_not_here() {
    let listening = listening(Access::Off).await;
    for (path, feature) in [
        (
            "/minio/admin/v3/info?metrics=false",
            "MinIO's admin API (info)",
        ),
        (
            "/minio/admin/v4/list-users",
            "MinIO's admin API (list-users)",
        ),
        ("/minio/kms/v1/version", "MinIO's key service (version)"),
        ("/minio/admin/v1", "MinIO's admin API (v1)"),
        ("/minio/v2/metrics/cluster", "MinIO's metrics (cluster)"),
        ("/minio/prometheus/metrics", "MinIO's metrics (metrics)"),
    ] {
        for answer in [
            get(&listening, path, "").await,
            listening
                .ended(&listening.world.call(&format!("PUT {path}")).raw())
                .await,
        ] {
            assert!(answer.starts_with("HTTP/1.1 501"), "{path}: {answer}");
            assert!(
                answer.contains("content-type: application/json"),
                "{answer}"
            );
            let (_, json) = answer.split_once("\r\n\r\n").unwrap();
            let json: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(json["Code"], "NotImplemented");
            assert_eq!(json["Message"], format!("{feature} is not implemented."));
        }
    }
    // nothing else is taken for them.
    for path in [
        "/Minio/admin/v3/info",
        "//minio/admin/v3/info",
        "/%6dinio/admin/v3/info",
    ] {
        let answer = get(&listening, path, "").await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
}

/// Nobody gets what the operator sends there.
#[tokio::test]
async fn a_31_no_bucket_takes_the_operators_paths() {
    let listening = listening(Access::Off).await;
    let world = &listening.world;
    let reserved = (400, "InvalidBucketName".to_owned());
    for name in ["minio", "health", "metrics", "_admin"] {
        let made = world.call(&format!("PUT /{name}")).error().await;
        assert_eq!(made, reserved, "{name}");
        let mut by_host = world.call("PUT /");
        by_host.set_host(match name {
            "minio" => "minio.s3.test",
            "health" => "health.s3.test",
            "metrics" => "metrics.s3.test",
            _ => "_admin.s3.test",
        });
        assert_eq!(by_host.error().await, reserved, "{name}");
    }
    // A bucket that was made by an older version.
    let create = CreateBucket {
        name: "minio".to_owned(),
        owner: AccountId(format!("{:012}", 2)),
        location: String::new(),
        settings: Vec::new(),
    };
    world.store.create_bucket(create).await.unwrap();
    let path = "/minio/admin/v3/set-bucket-quota?bucket=bkt";
    for (path, status) in [
        (path, "501"),
        ("/%6dinio/admin/v3/set-bucket-quota", "400"),
        ("/minio/other", "400"),
    ] {
        let put = world.call(&format!("PUT {path}")).by("root").body("secret");
        let answer = listening.ended(&put.raw()).await;
        let status = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&status), "{path}: {answer}");
    }
    let by_host = |line| {
        let mut call = world.call(line);
        call.set_host("minio.s3.test");
        call
    };
    let listed = by_host("GET /").ok().await;
    let listed = listed.xml("ListBucketResult");
    assert_eq!(listed.children("Contents").count(), 0);
    by_host("PUT /admin/v3/info").body("an object").ok().await;
}
