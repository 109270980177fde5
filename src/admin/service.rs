//! The operator's API: what the store tells of itself and what can be done about it, as JSON.
//!
//! It lies under `/_admin/v1/` on the port of S3, where no bucket can be called so. Only the root
//! key may ask, signed by Signature Version 4 in the header with the body's hash; everyone else is
//! refused before anything is looked at.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use drystone_store::error::Error;
use drystone_store::operator::{Status, UpkeepChange};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::admin::context::Context;
use crate::admin::document::{Refused, document, parse};
use crate::admin::{body, buckets};
use drystone_http::request::Request;
use drystone_http::service::Service;
use drystone_protocol::response::Response;

const BUCKET: &str = "_admin";
const VERSION: &str = "v1/";

/// The operation that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Status,
    Disks,
    ReplaceDisk,
    /// Changes what of [`Settings`] the body names.
    Settings,
    BeginScrub,
    /// The state of each worker.
    Workers,
    /// A page of all buckets, with what they hold and their quotas.
    Buckets,
    /// One of them.
    Bucket,
    SetQuota,
}

/// Method, path, the name of the operation in the record of an exchange, and the operation.
const ASKS: [(Method, &str, &str, Ask); 9] = [
    (Method::GET, "status", "AdminStatus", Ask::Status),
    (Method::GET, "disks", "AdminDisks", Ask::Disks),
    (
        Method::POST,
        "disks/replace",
        "AdminReplaceDisk",
        Ask::ReplaceDisk,
    ),
    (Method::POST, "settings", "AdminSettings", Ask::Settings),
    (
        Method::POST,
        "scrub/start",
        "AdminBeginScrub",
        Ask::BeginScrub,
    ),
    (Method::GET, "workers", "AdminWorkers", Ask::Workers),
    (Method::GET, "buckets", "AdminBuckets", Ask::Buckets),
    (Method::GET, "quota", "AdminBucket", Ask::Bucket),
    (Method::POST, "quota", "AdminSetQuota", Ask::SetQuota),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replace {
    /// A directory, or the beginning of a disk's id.
    old: String,
    /// An empty directory; the old one's, if it is not named.
    new: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    heal_paused: Option<bool>,
    heal_bytes_per_second: Option<u64>,
    remove_after_seconds: Option<u64>,
    scrub_paused: Option<bool>,
    scrub_period_seconds: Option<u64>,
}

/// Answers the operator.
pub struct Admin {
    context: Arc<Context>,
}

#[async_trait]
impl Service for Admin {
    async fn answer(&self, request: Request) -> Result<Response, Request> {
        let path = match &request.head.address.target {
            Ok(target) if target.bucket == BUCKET && !target.by_host => target.key.clone(),
            _ => return Err(request),
        };
        let method = request.head.method.clone();
        let exchange = request.head.exchange.clone();
        let answer = match self.serve(&path, request).await {
            Ok(answer) => answer,
            Err(refused) => {
                refused.log(&method, &path, &exchange);
                exchange.note(|found| found.error = Some(refused.code));
                let error = json!({ "code": refused.code, "message": refused.message });
                document(refused.status, &json!({ "error": error }))
            }
        };
        exchange.answered(answer.status());
        Ok(answer)
    }
}

impl Admin {
    pub fn new(context: Arc<Context>) -> Admin {
        Admin { context }
    }

    /// The store's, with what is to be done about the certificate.
    async fn status(&self) -> Result<Status, Error> {
        let mut status = self.context.operator.status().await?;
        if let Some(certificate) = &self.context.certificate {
            status.advice.extend(certificate.advice());
        }
        Ok(status)
    }

    async fn serve(&self, path: &str, request: Request) -> Result<Response, Refused> {
        let Request { head, body } = request;
        // The record names the operation in any case; others than the operator are not told of it.
        let found = find(&head.method, path);
        if let Ok((operation, _)) = &found {
            head.exchange
                .note(|notes| notes.operation = Some(operation));
        }
        let payload = self.context.admit(&head).await?;
        let (_, ask) = found?;
        let (operator, store) = (&self.context.operator, &*self.context.store);
        let body = body::read(body, &payload).await?;
        match ask {
            Ask::Status => Ok(document(StatusCode::OK, &self.status().await?)),
            Ask::Disks => {
                let disks = operator.status().await?.disks;
                Ok(document(StatusCode::OK, &json!({ "disks": disks })))
            }
            Ask::ReplaceDisk => {
                let Replace { old, new } = parse(&body)?;
                let replaced = operator.replace_disk(&old, new.as_deref());
                Ok(document(StatusCode::OK, &replaced.await?))
            }
            Ask::BeginScrub => {
                operator.begin_scrub().await?;
                Ok(document(StatusCode::OK, &self.status().await?))
            }
            Ask::Workers => {
                let workers = operator.workers().statuses();
                Ok(document(StatusCode::OK, &json!({ "workers": workers })))
            }
            Ask::Buckets => {
                let page = buckets::page(store, &head.query).await?;
                Ok(document(StatusCode::OK, &page))
            }
            Ask::Bucket => {
                let bucket = buckets::one(store, &head.query).await?;
                Ok(document(StatusCode::OK, &bucket))
            }
            Ask::SetQuota => {
                let set = buckets::set_quota(store, parse(&body)?);
                Ok(document(StatusCode::OK, &set.await?))
            }
            Ask::Settings => {
                let Settings {
                    heal_paused,
                    heal_bytes_per_second,
                    remove_after_seconds,
                    scrub_paused,
                    scrub_period_seconds,
                } = parse(&body)?;
                let change = UpkeepChange {
                    heal_paused,
                    heal_bytes_per_second,
                    remove_after_seconds,
                    scrub_paused,
                    scrub_period_seconds,
                };
                operator.change_upkeep(change).await?;
                Ok(document(StatusCode::OK, &self.status().await?))
            }
        }
    }
}

fn find(method: &Method, path: &str) -> Result<(&'static str, Ask), Refused> {
    let path = path.strip_prefix(VERSION).unwrap_or_default();
    let mut known = ASKS.iter().filter(|(_, row, ..)| *row == path).peekable();
    if known.peek().is_none() {
        let what = "no such path";
        return Err(Refused::new(StatusCode::NOT_FOUND, "NoSuchPath", what));
    }
    let found = known.find(|(row, ..)| row == method);
    found.map(|(_, _, name, ask)| (*name, *ask)).ok_or_else(|| {
        let what = "the method does not fit this path";
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", what)
    })
}
