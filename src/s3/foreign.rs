//! Paths of MinIO's own that S3 doesn't have: its admin API, its key service, its metrics. The few
//! calls that are served, for quotas, are answered before, by `admin`.
//!
//! Its tools ask there. An S3 error about a bucket `minio` would look like a broken server, so
//! they are told in their own form what is not here. Whoever has a bucket of that name gets it.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderValue, Request, StatusCode, header};

use crate::s3::response::{self, Response};
use crate::s3::route;
use crate::s3::server::Server;

const BUCKET: &str = "minio";
/// What a path begins with, and what it asks for.
const FEATURES: [(&str, &str); 6] = [
    ("/minio/admin/", "MinIO's admin API"),
    ("/minio/kms/", "MinIO's key service"),
    ("/minio/v2/metrics", "MinIO's metrics"),
    ("/minio/metrics/", "MinIO's metrics"),
    ("/minio/prometheus/", "MinIO's metrics"),
    ("/minio/bootstrap/", "MinIO's internode API"),
];
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Answers a request for such a path; anything else comes back as it was.
pub async fn answer(
    server: &Arc<Server>,
    request: Request<Body>,
) -> Result<Response, Request<Body>> {
    let path = request.uri().path();
    let Some((prefix, feature)) = FEATURES.iter().find(|(prefix, _)| path.starts_with(prefix))
    else {
        return Err(request);
    };
    let host = route::host_bucket(request.uri(), request.headers(), &server.domains);
    if !matches!(host, Ok(None)) || server.store.bucket(BUCKET).await.is_ok() {
        return Err(request);
    }
    let call = path[prefix.len()..].trim_start_matches(['/', 'v', '1', '2', '3', '4']);
    let what = match call {
        "" => (*feature).to_owned(),
        call => format!("{feature} ({call})"),
    };
    Ok(not_implemented(server, &what, path))
}

fn not_implemented(server: &Server, what: &str, path: &str) -> Response {
    let (id, host_id) = server.ids();
    let document = serde_json::json!({
        "Code": "NotImplemented",
        "Message": format!("{what} is not implemented."),
        "Resource": path,
        "RequestId": id,
        "HostId": host_id,
    });
    let status = StatusCode::NOT_IMPLEMENTED;
    let mut response = response::new(status, Body::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    // A body that came along was not read.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
