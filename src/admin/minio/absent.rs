//! Paths of MinIO's own that S3 doesn't have: its admin API, its key service, its metrics. The few
//! calls that are served, for quotas, are answered before, by [`super::quotas`].
//!
//! Its tools ask there. An S3 error about a bucket `minio` would look like a broken server, so
//! they get an error in their own form for what is not here.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::{HeaderValue, StatusCode, header};

use drystone_http::request::Request;
use drystone_http::service::Service;
use drystone_protocol::ids::Ids;
use drystone_protocol::response::{self, Response};

/// The beginning of each path, and the feature that it asks for.
const FEATURES: [(&str, &str); 6] = [
    ("/minio/admin/", "MinIO's admin API"),
    ("/minio/kms/", "MinIO's key service"),
    ("/minio/v2/metrics", "MinIO's metrics"),
    ("/minio/metrics/", "MinIO's metrics"),
    ("/minio/prometheus/", "MinIO's metrics"),
    ("/minio/bootstrap/", "MinIO's internode API"),
];
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers requests for such paths.
pub struct Absent {
    pub ids: Arc<Ids>,
}

#[async_trait]
impl Service for Absent {
    async fn answer(&self, request: Request) -> Result<Response, Request> {
        let head = &request.head;
        let path = head.path();
        let known = FEATURES.iter().find(|(prefix, _)| path.starts_with(prefix));
        let Some((prefix, feature)) = known.filter(|_| head.address.is_by_path()) else {
            return Err(request);
        };
        let call = without_version(&path[prefix.len()..]);
        let what = match call {
            "" => (*feature).to_owned(),
            call => format!("{feature} ({call})"),
        };
        Ok(self.not_implemented(&what, path, &head.exchange.id))
    }
}

/// The call behind its version: `v3/info` is `info`.
fn without_version(path: &str) -> &str {
    let path = path.trim_start_matches('/');
    let behind = path.strip_prefix('v').and_then(|rest| {
        let (version, call) = rest.split_once('/')?;
        let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some(call)
    });
    behind.unwrap_or(path)
}

impl Absent {
    fn not_implemented(&self, what: &str, path: &str, id: &str) -> Response {
        let document = serde_json::json!({
            "Code": "NotImplemented",
            "Message": format!("{what} is not implemented."),
            "Resource": path,
            "RequestId": id,
            "HostId": self.ids.host_id(),
        });
        let status = StatusCode::NOT_IMPLEMENTED;
        let mut response = response::new(status, Body::from(document.to_string()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        // A body that came along was not read.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }
}
