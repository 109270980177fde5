//! The calls of MinIO's admin API that are served: a bucket's quota, as `mc quota` asks for it.
//!
//! They are signed as the operator's own are, and answered in MinIO's form. All else that its tools
//! ask for is told to be missing by `s3::foreign`. Whoever has a bucket `minio` gets that instead.

use std::sync::Arc;

use axum::body::Body;
use drystone_store::types::QuotaChange;
use http::{Method, Request, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use super::{Refused, admit, body, document, parse};
use crate::s3::request::Query;
use crate::s3::response::{self, Response};
use crate::s3::route::Target;
use crate::s3::server::Server;

const BUCKET: &str = "minio";
const GET: &str = "admin/v3/get-bucket-quota";
const SET: &str = "admin/v3/set-bucket-quota";

/// A quota as MinIO's tools send it; 0 is none.
#[derive(Deserialize)]
struct Wish {
    /// The older name of `size`.
    #[serde(default)]
    quota: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    rate: u64,
    #[serde(default)]
    requests: u64,
    #[serde(default)]
    quotatype: String,
}

/// Answers what is one of these calls; anything else comes back as it was.
pub(super) async fn answer(
    server: &Arc<Server>,
    target: &Target,
    request: Request<Body>,
) -> Result<Response, Request<Body>> {
    let sets = match (request.method(), target.key.as_str()) {
        (&Method::GET, GET) => false,
        (&Method::PUT, SET) => true,
        _ => return Err(request),
    };
    if target.bucket != BUCKET || server.store.bucket(BUCKET).await.is_ok() {
        return Err(request);
    }
    let path = request.uri().path().to_owned();
    let answer = match serve(server, request, sets).await {
        Ok(answer) => answer,
        Err(refused) => {
            tracing::info!(path, why = refused.message, "refused");
            let (id, host_id) = server.ids();
            let error = json!({
                "Code": refused.code,
                "Message": refused.message,
                "Resource": path,
                "RequestId": id,
                "HostId": host_id,
            });
            let mut answer = document(refused.status, &error);
            // A body that came along may not have been read.
            let close = http::HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            answer
        }
    };
    Ok(answer)
}

async fn serve(server: &Server, request: Request<Body>, sets: bool) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let payload = admit(server, &parts)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let bucket = server.store.bucket(query.get("bucket").unwrap_or_default());
    let bucket = bucket.await?;
    let body = body::read(body, &payload).await?;
    if !sets {
        let size = bucket.quota.hard_bytes;
        let mut quota = json!({ "quota": size.unwrap_or(0), "size": size.unwrap_or(0) });
        quota["rate"] = json!(0);
        quota["requests"] = json!(0);
        if size.is_some() {
            quota["quotatype"] = json!("hard");
        }
        return Ok(document(StatusCode::OK, &quota));
    }
    let wish: Wish = parse(&body)?;
    let feature = match wish {
        Wish { rate: 1.., .. } | Wish { requests: 1.., .. } => Some("A quota of rates"),
        Wish { ref quotatype, .. } if !matches!(quotatype.as_str(), "" | "hard") => {
            Some("A quota that is not hard")
        }
        _ => None,
    };
    if let Some(feature) = feature {
        let status = StatusCode::NOT_IMPLEMENTED;
        let what = format!("{feature} is not implemented.");
        return Err(Refused::new(status, "NotImplemented", what));
    }
    let limit = Some(wish.size.max(wish.quota)).filter(|limit| *limit > 0);
    let change = QuotaChange {
        hard_bytes: Some(limit),
        ..QuotaChange::default()
    };
    server.store.set_quota(bucket.id, change).await?;
    tracing::info!(bucket = bucket.name, ?change, "quota set");
    Ok(response::new(StatusCode::OK, Body::empty()))
}
