//! Documents that the operator's API takes and gives, and its refusals.

use axum::body::Body;
use drystone_store::error::{Error, Refusal};
use drystone_store::operator::ReplaceError;
use http::{HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};

use drystone_http::exchange::Exchange;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};

/// Why nothing was done.
pub struct Refused {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl Refused {
    pub fn new(status: StatusCode, code: &'static str, message: impl ToString) -> Refused {
        Refused {
            status,
            code,
            message: message.to_string(),
        }
    }

    /// Reports the refusal. Strangers cannot fill the log with theirs.
    pub fn log(&self, method: &Method, path: &str, exchange: &Exchange) {
        let why = &self.message;
        match exchange.findings().caller {
            Some((_, user)) => tracing::info!(%method, path, user, why, "refused"),
            None => tracing::debug!(%method, path, why, "refused"),
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

pub fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Refused> {
    let parsed = serde_json::from_slice(body);
    parsed.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "MalformedBody", error))
}

pub fn document(status: StatusCode, content: &impl Serialize) -> Response {
    let text = serde_json::to_string(content).unwrap_or_default();
    let mut answer = response::new(status, Body::from(text));
    let json = HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
