//! The operator's API: what the store tells of itself and what can be done about it, as JSON.
//!
//! It lies under `/_admin/v1/` on the port of S3, where no bucket can be called so. Only the root
//! key may ask, signed by Signature Version 4 in the header with the body's hash; everyone else is
//! refused before anything is looked at.

mod body;
mod buckets;
mod minio;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use drystone_store::error::{Error, Refusal};
use drystone_store::operator::{Operator, ReplaceError, Status, UpkeepChange};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::auth::sigv4;
use crate::s3::beside::Beside;
use crate::s3::error::{Code, S3Error};
use crate::s3::response::{self, Response};
use crate::s3::route;
use crate::s3::server::Server;

const BUCKET: &str = "_admin";
const VERSION: &str = "v1/";

pub struct Admin {
    operator: Arc<dyn Operator>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Status,
    Disks,
    ReplaceDisk,
    /// Changes what of [`Settings`] the body names.
    Settings,
    BeginScrub,
    /// A page of all buckets, with what they hold and their quotas.
    Buckets,
    /// One of them.
    Bucket,
    SetQuota,
}

/// By method and path; one row each.
const ASKS: [(Method, &str, Ask); 8] = [
    (Method::GET, "status", Ask::Status),
    (Method::GET, "disks", Ask::Disks),
    (Method::POST, "disks/replace", Ask::ReplaceDisk),
    (Method::POST, "settings", Ask::Settings),
    (Method::POST, "scrub/start", Ask::BeginScrub),
    (Method::GET, "buckets", Ask::Buckets),
    (Method::GET, "quota", Ask::Bucket),
    (Method::POST, "quota", Ask::SetQuota),
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
    gone_after_seconds: Option<u64>,
    scrub_paused: Option<bool>,
    scrub_period_seconds: Option<u64>,
}

/// Why nothing was done.
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Refused {
        Refused {
            status,
            code,
            message: message.to_string(),
        }
    }
}

impl From<S3Error> for Refused {
    fn from(error: S3Error) -> Refused {
        Refused::new(error.status(), error.code().text(), error.text())
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        if let Error::Refused(Refusal::NoSuchBucket) = error {
            return S3Error::new(Code::NoSuchBucket).into();
        }
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", error)
    }
}

impl From<ReplaceError> for Refused {
    fn from(error: ReplaceError) -> Refused {
        let (status, code) = match &error {
            ReplaceError::Unknown(_) => (StatusCode::NOT_FOUND, "NoSuchDisk"),
            ReplaceError::Ambiguous(_) => (StatusCode::BAD_REQUEST, "AmbiguousDisk"),
            ReplaceError::Works(_) => (StatusCode::CONFLICT, "DiskWorks"),
            ReplaceError::Replaced(_) => (StatusCode::CONFLICT, "DiskReplaced"),
            ReplaceError::Directory(_) => (StatusCode::CONFLICT, "DirectoryNotUsable"),
            ReplaceError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        };
        Refused::new(status, code, error)
    }
}

#[async_trait]
impl Beside for Admin {
    async fn answer(
        &self,
        server: &Arc<Server>,
        request: Request<Body>,
    ) -> Result<Response, Request<Body>> {
        let target = route::target(request.uri(), request.headers(), &server.domains);
        let target = match target {
            Ok(target) if target.bucket == BUCKET => target,
            Ok(target) => return minio::answer(server, &target, request).await,
            Err(_) => return Err(request),
        };
        let method = request.method().clone();
        let answer = match self.serve(server, &target.key, request).await {
            Ok(answer) => answer,
            Err(refused) => {
                tracing::info!(%method, path = target.key, why = refused.message, "refused");
                let error = json!({ "code": refused.code, "message": refused.message });
                document(refused.status, &json!({ "error": error }))
            }
        };
        Ok(answer)
    }
}

impl Admin {
    pub fn new(operator: Arc<dyn Operator>) -> Admin {
        Admin { operator }
    }

    /// The store's, with what is to be done about the certificate.
    async fn status(&self, server: &Server) -> Result<Status, Error> {
        let mut status = self.operator.status().await?;
        if let Some(certificate) = &server.certificate {
            status.advice.extend(certificate.advice());
        }
        Ok(status)
    }

    async fn serve(
        &self,
        server: &Server,
        path: &str,
        request: Request<Body>,
    ) -> Result<Response, Refused> {
        let (parts, body) = request.into_parts();
        let payload = admit(server, &parts)?;
        let ask = find(&parts.method, path)?;
        let body = body::read(body, &payload).await?;
        match ask {
            Ask::Status => Ok(document(StatusCode::OK, &self.status(server).await?)),
            Ask::Disks => {
                let disks = self.operator.status().await?.disks;
                Ok(document(StatusCode::OK, &json!({ "disks": disks })))
            }
            Ask::ReplaceDisk => {
                let Replace { old, new } = parse(&body)?;
                let replaced = self.operator.replace_disk(&old, new.as_deref());
                Ok(document(StatusCode::OK, &replaced.await?))
            }
            Ask::BeginScrub => {
                self.operator.begin_scrub().await?;
                Ok(document(StatusCode::OK, &self.status(server).await?))
            }
            Ask::Buckets => {
                let page = buckets::page(server, parts.uri.query()).await?;
                Ok(document(StatusCode::OK, &page))
            }
            Ask::Bucket => {
                let bucket = buckets::one(server, parts.uri.query()).await?;
                Ok(document(StatusCode::OK, &bucket))
            }
            Ask::SetQuota => {
                let set = buckets::set_quota(server, parse(&body)?);
                Ok(document(StatusCode::OK, &set.await?))
            }
            Ask::Settings => {
                let Settings {
                    heal_paused,
                    heal_bytes_per_second,
                    gone_after_seconds,
                    scrub_paused,
                    scrub_period_seconds,
                } = parse(&body)?;
                let change = UpkeepChange {
                    heal_paused,
                    heal_bytes_per_second,
                    gone_after_seconds,
                    scrub_paused,
                    scrub_period_seconds,
                };
                self.operator.change_upkeep(change).await?;
                Ok(document(StatusCode::OK, &self.status(server).await?))
            }
        }
    }
}

/// Only the operator's own key, and only what the header signs.
fn admit(server: &Server, parts: &Parts) -> Result<crate::auth::authenticate::Payload, Refused> {
    let denied = || Refused::from(S3Error::new(Code::AccessDenied));
    let authorization = parts.headers.get(header::AUTHORIZATION);
    let signed = authorization.is_some_and(|value| {
        let scheme = sigv4::ALGORITHM.as_bytes();
        value.as_bytes().starts_with(scheme)
    });
    if !signed {
        return Err(denied());
    }
    let who = server.verifier().authenticate(parts, server.env.now())?;
    match who.identity.principal() {
        Some(principal) if principal.is_operator => Ok(who.payload),
        _ => Err(denied()),
    }
}

fn find(method: &Method, path: &str) -> Result<Ask, Refused> {
    let path = path.strip_prefix(VERSION).unwrap_or_default();
    let mut known = ASKS.iter().filter(|(_, row, _)| *row == path).peekable();
    if known.peek().is_none() {
        let what = "there is nothing under this path";
        return Err(Refused::new(StatusCode::NOT_FOUND, "NoSuchPath", what));
    }
    let found = known.find(|(row, _, _)| row == method);
    found.map(|(_, _, ask)| *ask).ok_or_else(|| {
        let what = "this path is asked in another way";
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", what)
    })
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refused> {
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "MalformedBody", error))
}

fn document(status: StatusCode, content: &impl Serialize) -> Response {
    let text = serde_json::to_string(content).unwrap_or_default();
    let mut answer = response::new(status, Body::from(text));
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

#[cfg(test)]
mod tests;
