//! S3's errors: one table, and the one place where a storage error becomes one of them.
//!
//! A [`Code`] fixes the text and the status; an [`S3Error`] adds what this case has to say. It
//! becomes a response in one place, the server, which knows bucket, key and request id.

use std::borrow::Cow;
use std::fmt;

use drystone_storage::error::{Error, Precondition, Refusal};
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::s3::response::{self, Body, Response};
use crate::s3::xml::Writer;

/// Writes the table once: variant (which is also the text on the wire), status, AWS's message.
macro_rules! codes {
    ($($code:ident $status:ident $message:literal;)+) => {
        /// An error code as S3 names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $($code,)+
        }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$code,)+];

            /// The text in `<Code>`.
            pub fn text(self) -> &'static str {
                match self {
                    $(Code::$code => stringify!($code),)+
                }
            }

            pub fn status(self) -> StatusCode {
                match self {
                    $(Code::$code => StatusCode::$status,)+
                }
            }

            /// What AWS says where it says always the same.
            pub fn message(self) -> &'static str {
                match self {
                    $(Code::$code => $message,)+
                }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported BAD_REQUEST "The bucket does not allow ACLs";
    AccessDenied FORBIDDEN "Access Denied";
    AccessForbidden FORBIDDEN "CORSResponse: CORS is not enabled for this bucket.";
    AuthorizationHeaderMalformed BAD_REQUEST "The authorization header is malformed.";
    AuthorizationQueryParametersError BAD_REQUEST
        "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
         X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.";
    BadDigest BAD_REQUEST "The Content-MD5 you specified did not match what we received.";
    BadRequest BAD_REQUEST "Bad Request";
    BucketAlreadyExists CONFLICT
        "The requested bucket name is not available. The bucket namespace is shared by all users \
         of the system. Please select a different name and try again.";
    BucketAlreadyOwnedByYou CONFLICT
        "Your previous request to create the named bucket succeeded and you already own it.";
    BucketNotEmpty CONFLICT "The bucket you tried to delete is not empty";
    ConditionalRequestConflict CONFLICT
        "The conditional request cannot succeed due to a conflicting operation against this \
         resource.";
    EntityTooLarge BAD_REQUEST "Your proposed upload exceeds the maximum allowed size";
    EntityTooSmall BAD_REQUEST "Your proposed upload is smaller than the minimum allowed size";
    ExpiredToken BAD_REQUEST "The provided token has expired.";
    IllegalLocationConstraintException BAD_REQUEST
        "The unspecified location constraint is incompatible for the region specific endpoint \
         this request was sent to.";
    IllegalVersioningConfigurationException BAD_REQUEST
        "The Versioning element must be specified";
    IncompleteBody BAD_REQUEST
        "You did not provide the number of bytes specified by the Content-Length HTTP header";
    InternalError INTERNAL_SERVER_ERROR "We encountered an internal error. Please try again.";
    InvalidAccessKeyId FORBIDDEN
        "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument BAD_REQUEST "Invalid Argument";
    InvalidBucketName BAD_REQUEST "The specified bucket is not valid.";
    InvalidBucketState CONFLICT "The request is not valid for the current state of the bucket.";
    InvalidChunkSizeError FORBIDDEN
        "Only the last chunk is allowed to have a size less than 8192 bytes";
    InvalidDigest BAD_REQUEST "The Content-MD5 you specified was invalid.";
    InvalidLocationConstraint BAD_REQUEST "The specified location-constraint is not valid";
    InvalidObjectState FORBIDDEN "The operation is not valid for the object's storage class";
    InvalidPart BAD_REQUEST
        "One or more of the specified parts could not be found.  The part may not have been \
         uploaded, or the specified entity tag may not match the part's entity tag.";
    InvalidPartNumber RANGE_NOT_SATISFIABLE "The requested partnumber is not satisfiable";
    InvalidPartOrder BAD_REQUEST
        "The list of parts was not in ascending order. Parts must be ordered by part number.";
    InvalidRange RANGE_NOT_SATISFIABLE "The requested range is not satisfiable";
    InvalidRequest BAD_REQUEST "Invalid Request";
    InvalidStorageClass BAD_REQUEST "The storage class you specified is not valid";
    InvalidTag BAD_REQUEST
        "The tag provided was not a valid tag. This error can occur if the tag did not pass \
         input validation.";
    InvalidToken BAD_REQUEST "The provided token is malformed or otherwise invalid.";
    InvalidURI BAD_REQUEST "Couldn't parse the specified URI.";
    KeyTooLongError BAD_REQUEST "Your key is too long";
    MalformedACLError BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published \
         schema";
    MalformedTrailerError BAD_REQUEST
        "The request contained trailing data that was not well-formed or did not conform to our \
         published schema.";
    MalformedXML BAD_REQUEST
        "The XML you provided was not well-formed or did not validate against our published \
         schema";
    MaxMessageLengthExceeded BAD_REQUEST "Your request was too big.";
    MetadataTooLarge BAD_REQUEST
        "Your metadata headers exceed the maximum allowed metadata size";
    MethodNotAllowed METHOD_NOT_ALLOWED
        "The specified method is not allowed against this resource.";
    MissingContentLength LENGTH_REQUIRED "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError BAD_REQUEST "Request Body is empty";
    MissingSecurityHeader BAD_REQUEST "Your request was missing a required header";
    NoSuchBucket NOT_FOUND "The specified bucket does not exist";
    NoSuchBucketPolicy NOT_FOUND "The bucket policy does not exist";
    NoSuchCORSConfiguration NOT_FOUND "The CORS configuration does not exist";
    NoSuchConfiguration NOT_FOUND "The specified configuration does not exist.";
    NoSuchKey NOT_FOUND "The specified key does not exist.";
    NoSuchLifecycleConfiguration NOT_FOUND "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration NOT_FOUND
        "The specified object does not have a ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration NOT_FOUND
        "The public access block configuration was not found";
    NoSuchTagSet NOT_FOUND "The TagSet does not exist";
    NoSuchUpload NOT_FOUND
        "The specified upload does not exist. The upload ID may be invalid, or the upload may \
         have been aborted or completed.";
    NoSuchVersion NOT_FOUND "The specified version does not exist.";
    NoSuchWebsiteConfiguration NOT_FOUND
        "The specified bucket does not have a website configuration";
    NotImplemented NOT_IMPLEMENTED
        "A header you provided implies functionality that is not implemented";
    ObjectLockConfigurationNotFoundError NOT_FOUND
        "Object Lock configuration does not exist for this bucket";
    OperationAborted CONFLICT
        "A conflicting conditional operation is currently in progress against this resource. \
         Please try again.";
    OwnershipControlsNotFoundError NOT_FOUND "The bucket ownership controls were not found";
    PreconditionFailed PRECONDITION_FAILED
        "At least one of the pre-conditions you specified did not hold";
    ReplicationConfigurationNotFoundError NOT_FOUND
        "The replication configuration was not found";
    RequestHeaderSectionTooLarge BAD_REQUEST
        "Your request header section exceeds the maximum allowed request header section size.";
    RequestTimeTooSkewed FORBIDDEN
        "The difference between the request time and the current time is too large.";
    RequestTimeout BAD_REQUEST
        "Your socket connection to the server was not read from or written to within the timeout \
         period. Idle connections will be closed.";
    ServerSideEncryptionConfigurationNotFoundError NOT_FOUND
        "The server side encryption configuration was not found";
    ServiceUnavailable SERVICE_UNAVAILABLE
        "Service is unable to handle request.";
    SignatureDoesNotMatch FORBIDDEN
        "The request signature we calculated does not match the signature you provided. Check \
         your key and signing method.";
    SlowDown SERVICE_UNAVAILABLE "Please reduce your request rate.";
    StorageFull INSUFFICIENT_STORAGE
        "The disks are full. Delete objects or add disks, then try again.";
    TooManyBuckets BAD_REQUEST "You have attempted to create more buckets than allowed";
    XAmzContentChecksumMismatch BAD_REQUEST
        "The provided 'x-amz-checksum' header does not match what was computed.";
    XAmzContentSHA256Mismatch BAD_REQUEST
        "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

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

    /// Says something else than the table.
    #[must_use]
    pub fn message(mut self, message: impl Into<Cow<'static, str>>) -> S3Error {
        self.message = Some(message.into());
        self
    }

    /// Adds an element to the XML.
    #[must_use]
    pub fn with(mut self, element: &'static str, value: impl Into<String>) -> S3Error {
        self.elements.push((element, value.into()));
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

    /// The response with its XML. A HEAD's is cut to its head by whoever sends it.
    pub fn into_response(self, at: &ErrorContext<'_>) -> Response {
        let mut xml = Writer::new();
        xml.open("Error");
        xml.text("Code", self.code.text());
        xml.text("Message", self.text());
        for (element, value) in &self.elements {
            xml.text(element, value);
        }
        let named = |element| self.elements.iter().any(|(name, _)| *name == element);
        for (element, value) in self.subject(at) {
            if !named(element) {
                xml.text(element, value);
            }
        }
        xml.text("Resource", at.resource);
        xml.text("RequestId", at.request_id);
        xml.text("HostId", at.host_id);
        xml.close("Error");
        let mut response = response::new(self.status(), Body::from(xml.finish()));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, response::XML);
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }

    /// What AWS names in the XML when it says that something isn't there.
    fn subject<'a>(&self, at: &ErrorContext<'a>) -> Vec<(&'static str, &'a str)> {
        use Code as C;
        match self.code {
            C::NoSuchKey | C::NoSuchVersion => vec![("Key", at.key)],
            C::NoSuchBucket
            | C::BucketAlreadyExists
            | C::BucketAlreadyOwnedByYou
            | C::BucketNotEmpty
            | C::InvalidBucketName
            | C::NoSuchBucketPolicy
            | C::NoSuchCORSConfiguration
            | C::NoSuchLifecycleConfiguration
            | C::NoSuchPublicAccessBlockConfiguration
            | C::NoSuchTagSet
            | C::NoSuchWebsiteConfiguration
            | C::ObjectLockConfigurationNotFoundError
            | C::OwnershipControlsNotFoundError
            | C::ReplicationConfigurationNotFoundError
            | C::ServerSideEncryptionConfigurationNotFoundError => vec![("BucketName", at.bucket)],
            _ => Vec::new(),
        }
    }
}

/// Where an error happened: what every error's XML says beside the error itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorContext<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    /// The request's path.
    pub resource: &'a str,
    pub request_id: &'a str,
    pub host_id: &'a str,
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

/// What the client sees of a storage error. A new kind doesn't compile until someone decides.
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
                S3Error::new(Code::StorageFull)
            }
            Error::Expired => S3Error::new(Code::SlowDown),
            Error::Closing => S3Error::new(Code::ServiceUnavailable),
            Error::Corrupt(what) => {
                tracing::error!(%what, "data damaged beyond repair");
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
                let error = if latest {
                    S3Error::new(Code::NoSuchKey)
                } else {
                    S3Error::new(Code::MethodNotAllowed)
                        .with("Method", "GET")
                        .with("ResourceType", "DeleteMarker")
                        .header(header::ALLOW, "DELETE")
                        .header(header::LAST_MODIFIED, response::http_date(modified))
                };
                error
                    .header(response::X_AMZ_DELETE_MARKER, "true")
                    .header(response::X_AMZ_VERSION_ID, id.to_string())
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
    use drystone_storage::types::{Order, Timestamp, VersionId};

    use super::{Code, Error, Refusal, S3Error};

    #[test]
    fn an_own_error_comes_back_out_of_storage_unchanged() {
        let sent = S3Error::new(Code::BadDigest).with("ExpectedDigest", "x");
        let back = S3Error::from(Error::from(sent));
        assert_eq!(back.code(), Code::BadDigest);
        assert_eq!(back.element("ExpectedDigest"), Some("x"));
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

    #[test]
    fn s_30_a_delete_marker_is_404_as_latest_and_405_by_id() {
        let marker = |latest| Refusal::DeleteMarker {
            id: VersionId::Ordered {
                order: Order(1),
                nonce: 2,
            },
            modified: Timestamp(1000),
            latest,
        };
        for (latest, status) in [(true, 404), (false, 405)] {
            let response = S3Error::from(marker(latest)).into_response(&Default::default());
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()["x-amz-delete-marker"], "true");
            let id = &response.headers()["x-amz-version-id"];
            assert_eq!(id, "00000000000000010000000000000002");
            assert_eq!(response.headers().contains_key("allow"), !latest);
        }
    }
}
