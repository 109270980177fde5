//! S3's errors: one table of codes, and the one place where a storage error becomes one of them.
//!
//! A [`Code`] fixes the text and the status; an [`S3Error`] adds what this case has to say. It
//! becomes a response in one place, the server, which knows bucket, key and request id.

mod codes;
pub mod response;

use std::borrow::Cow;
use std::fmt;

use drystone_store::error::{Error, Precondition, Refusal};
use drystone_store::types::{Timestamp, VersionId};
use http::{HeaderName, HeaderValue, StatusCode, header};

pub use self::codes::Code;
use crate::response::{X_AMZ_DELETE_MARKER, X_AMZ_VERSION_ID, http_date};

/// The most bytes of an element that say something of a client's own.
const ELEMENT_BYTES_MAX: usize = 24 << 10;

/// One request's error: a code, and what this case adds to it.
#[derive(Clone, Debug)]
pub struct S3Error {
    code: Code,
    message: Option<Cow<'static, str>>,
    elements: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl S3Error {
    pub fn new(code: Code) -> S3Error {
        S3Error {
            code,
            message: None,
            elements: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// 501 for what Drystone doesn't do yet, by its name.
    pub fn not_implemented(feature: &str) -> S3Error {
        S3Error::new(Code::NotImplemented).message(format!("{feature} is not implemented."))
    }

    /// 400 InvalidArgument as AWS writes it: which argument, and what was in it.
    pub fn invalid_argument(
        message: impl Into<Cow<'static, str>>,
        name: &'static str,
        value: impl Into<String>,
    ) -> S3Error {
        S3Error::new(Code::InvalidArgument)
            .message(message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    /// 405 for what a delete marker, which was asked for, doesn't have.
    pub fn of_marker(method: &'static str, id: VersionId, modified: Timestamp) -> S3Error {
        S3Error::new(Code::MethodNotAllowed)
            .with("Method", method)
            .with("ResourceType", "DeleteMarker")
            .header(header::ALLOW, "DELETE")
            .header(header::LAST_MODIFIED, http_date(modified))
            .header(X_AMZ_DELETE_MARKER, "true")
            .header(X_AMZ_VERSION_ID, id.to_string())
    }

    /// Says something else than the table.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> S3Error {
        self.message = Some(message.into());
        self
    }

    /// Adds an element to the XML. Of a long value it shows the beginning.
    #[must_use]
    pub fn with(mut self, element: &'static str, value: impl Into<String>) -> S3Error {
        let mut value = value.into();
        value.truncate(value.floor_char_boundary(ELEMENT_BYTES_MAX));
        self.elements.push((element, value));
        self
    }

    /// Adds a header to the response. One that no header can hold is left out.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> S3Error {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((name, value));
        }
        self
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub fn text(&self) -> &str {
        self.message.as_deref().unwrap_or(self.code.message())
    }

    /// An element added by `with`.
    pub fn element(&self, name: &str) -> Option<&str> {
        let found = self.elements.iter().find(|(element, _)| *element == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.text(), self.text())
    }
}

impl std::error::Error for S3Error {}

impl From<Code> for S3Error {
    fn from(code: Code) -> S3Error {
        S3Error::new(code)
    }
}

/// The message of a write that is refused for want of room.
const DISKS_FULL: &str = "The disks are full. Delete objects or add disks, then try again.";

/// The client's view of a storage error. A new kind does not compile until someone decides.
impl From<Error> for S3Error {
    fn from(error: Error) -> S3Error {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Body(inner) => match inner.downcast::<S3Error>() {
                Ok(own) => *own,
                Err(other) => {
                    tracing::warn!(error = %other, "request body failed");
                    S3Error::new(Code::IncompleteBody)
                }
            },
            Error::Unavailable(reason) => {
                tracing::warn!(%reason, "storage unavailable");
                S3Error::new(Code::ServiceUnavailable)
            }
            Error::Full(reason) => {
                tracing::warn!(%reason, "disks full");
                // Not 507, which clients don't know and don't repeat.
                S3Error::new(Code::ServiceUnavailable).message(DISKS_FULL)
            }
            Error::Expired => S3Error::new(Code::SlowDown),
            Error::Closing => S3Error::new(Code::ServiceUnavailable),
            Error::Corrupt(what) => {
                tracing::error!(%what, "data damaged beyond repair");
                S3Error::new(Code::InternalError)
            }
            Error::BadRow(what) | Error::Unfit(what) => {
                tracing::error!(%what, "metadata cannot be read");
                S3Error::new(Code::InternalError)
            }
            Error::Io(error) => {
                tracing::error!(%error, "i/o failed");
                S3Error::new(Code::InternalError)
            }
        }
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> S3Error {
        match refusal {
            Refusal::NoSuchBucket => S3Error::new(Code::NoSuchBucket),
            // Whether it is the caller's own is known only where the bucket is made.
            Refusal::BucketExists { owner: _ } => S3Error::new(Code::BucketAlreadyExists),
            Refusal::BucketNotEmpty => S3Error::new(Code::BucketNotEmpty),
            Refusal::NoSuchKey => S3Error::new(Code::NoSuchKey),
            Refusal::NoSuchVersion => S3Error::new(Code::NoSuchVersion),
            Refusal::DeleteMarker {
                id,
                modified,
                latest,
            } => {
                if !latest {
                    return S3Error::of_marker("GET", id, modified);
                }
                S3Error::new(Code::NoSuchKey)
                    .header(X_AMZ_DELETE_MARKER, "true")
                    .header(X_AMZ_VERSION_ID, id.to_string())
            }
            Refusal::NoSuchUpload => S3Error::new(Code::NoSuchUpload),
            Refusal::InvalidPart { number } => {
                S3Error::new(Code::InvalidPart).with("PartNumber", number.to_string())
            }
            Refusal::PartTooSmall {
                number,
                size,
                minimum,
                etag,
            } => S3Error::new(Code::EntityTooSmall)
                .with("ProposedSize", size.to_string())
                .with("MinSizeAllowed", minimum.to_string())
                .with("PartNumber", number.to_string())
                .with("ETag", etag.to_string()),
            Refusal::ChecksumMismatch => S3Error::new(Code::BadDigest)
                .message("The checksum you specified did not match the calculated checksum."),
            Refusal::SizeMismatch { .. } => S3Error::new(Code::InvalidRequest).message(
                "The provided 'x-amz-mp-object-size' header does not match what was computed.",
            ),
            Refusal::PreconditionFailed(which) => {
                S3Error::new(Code::PreconditionFailed).with("Condition", condition_name(which))
            }
            // Both pass by themselves: 503 makes every client try again.
            Refusal::Conflict | Refusal::EpochBelowFloor => S3Error::new(Code::SlowDown),
            Refusal::TooLarge => S3Error::new(Code::EntityTooLarge),
            Refusal::BadRow => S3Error::new(Code::InternalError),
            Refusal::QuotaExceeded {
                counted,
                limit,
                used,
                wanted,
            } => S3Error::new(Code::QuotaExceeded)
                .with("QuotaType", format!("{counted:?}"))
                .with("Quota", limit.to_string())
                .with("CurrentUsage", used.to_string())
                .with("ProposedUsage", wanted.to_string()),
        }
    }
}

fn condition_name(which: Precondition) -> &'static str {
    match which {
        Precondition::IfMatch => "If-Match",
        Precondition::IfNoneMatch => "If-None-Match",
        Precondition::IfMatchSize => "x-amz-if-match-size",
        Precondition::IfMatchLastModified => "x-amz-if-match-last-modified-time",
        Precondition::Source => "x-amz-copy-source-If-Match",
    }
}

/// How the front end's own error travels through storage, inside [`Error::Body`].
impl From<S3Error> for Error {
    fn from(error: S3Error) -> Error {
        Error::Body(Box::new(error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::{Code, Error, Refusal, S3Error};

    #[test]
    fn an_own_error_comes_back_out_of_storage_unchanged() {
        let sent = S3Error::new(Code::BadDigest).with("ExpectedDigest", "x");
        let back = S3Error::from(Error::from(sent));
        assert_eq!(back.code(), Code::BadDigest);
        assert_eq!(back.element("ExpectedDigest"), Some("x"));
    }

    /// All that a client may match on, in one place: each code once, with a text of its own.
    #[test]
    fn every_code_has_a_status_and_a_text() {
        let texts: HashSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for code in Code::ALL {
            let (status, message) = (code.status(), code.message());
            assert!(status.as_u16() >= 300, "{code:?}: {status}");
            assert!(!message.is_empty() && !message.contains("  ") || message.contains(".  "));
            assert!(!message.contains('\n'), "{code:?}: {message}");
        }
        assert_eq!(Code::KmsNotFoundException.text(), "KMS.NotFoundException");
    }

    #[test]
    fn a_lost_quorum_is_503_never_500_nor_404() {
        for error in [
            Error::Unavailable("1 of 3".to_owned()),
            Error::Expired,
            Error::Closing,
            Error::Refused(Refusal::EpochBelowFloor),
        ] {
            assert_eq!(S3Error::from(error).status().as_u16(), 503);
        }
    }
}
