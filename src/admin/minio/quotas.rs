//! The calls of MinIO's admin API that are served: a bucket's quota, as `mc quota` asks for it.
//!
//! They are signed as the operator's own are, and answered in MinIO's form. [`super::absent`] says
//! of all else that its tools ask for that it is missing.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use drystone_store::types::QuotaChange;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::json;

use crate::admin::body;
use crate::admin::context::Context;
use crate::admin::document::{Refused, document, parse};
use drystone_http::request::Request;
use drystone_http::service::Service;
use drystone_protocol::response::{self, Response};

const BUCKET: &str = "minio";
const GET: &str = "admin/v3/get-bucket-quota";
const SET: &str = "admin/v3/set-bucket-quota";

/// A quota as MinIO's tools send it; 0 is none.
#[derive(Deserialize)]
struct QuotaOptions {
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

/// Answers these calls.
pub struct Quotas {
    context: Arc<Context>,
}

#[async_trait]
impl Service for Quotas {
    async fn answer(&self, request: Request) -> Result<Response, Request> {
        let head = &request.head;
        let Ok(target) = &head.address.target else {
            return Err(request);
        };
        let sets = match (&head.method, target.key.as_str()) {
            (&Method::GET, GET) => false,
            (&Method::PUT, SET) => true,
            _ => return Err(request),
        };
        if target.bucket != BUCKET || target.by_host {
            return Err(request);
        }
        let (method, path) = (head.method.clone(), head.path().to_owned());
        let exchange = head.exchange.clone();
        exchange.note(|found| {
            found.operation = Some(match sets {
                true => "MinioSetBucketQuota",
                false => "MinioGetBucketQuota",
            });
        });
        let answer = match self.serve(request, sets).await {
            Ok(answer) => answer,
            Err(refused) => {
                refused.log(&method, &path, &exchange);
                exchange.note(|found| found.error = Some(refused.code));
                self.refuse(refused, &path, &exchange.id)
            }
        };
        exchange.answered(answer.status());
        Ok(answer)
    }
}

impl Quotas {
    pub fn new(context: Arc<Context>) -> Quotas {
        Quotas { context }
    }

    fn refuse(&self, refused: Refused, path: &str, id: &str) -> Response {
        let error = json!({
            "Code": refused.code,
            "Message": refused.message,
            "Resource": path,
            "RequestId": id,
            "HostId": self.context.ids.host_id(),
        });
        let mut answer = document(refused.status, &error);
        // A body that came along may not have been read.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
        answer
    }

    async fn serve(&self, request: Request, sets: bool) -> Result<Response, Refused> {
        let Request { head, body } = request;
        let payload = self.context.admit(&head).await?;
        head.query.check()?;
        let store = &self.context.store;
        let bucket = store.bucket(head.query.get("bucket").unwrap_or_default());
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
        let options: QuotaOptions = parse(&body)?;
        let feature = match options {
            QuotaOptions { rate: 1.., .. } | QuotaOptions { requests: 1.., .. } => {
                Some("A quota of rates")
            }
            QuotaOptions { ref quotatype, .. } if !matches!(quotatype.as_str(), "" | "hard") => {
                Some("A quota that is not hard")
            }
            _ => None,
        };
        if let Some(feature) = feature {
            let status = StatusCode::NOT_IMPLEMENTED;
            let what = format!("{feature} is not implemented.");
            return Err(Refused::new(status, "NotImplemented", what));
        }
        let limit = Some(options.size.max(options.quota)).filter(|limit| *limit > 0);
        let change = QuotaChange {
            hard_bytes: Some(limit),
            ..QuotaChange::default()
        };
        store.set_quota(bucket.id, change).await?;
        tracing::info!(bucket = bucket.name, ?change, "quota set");
        Ok(response::new(StatusCode::OK, Body::empty()))
    }
}
