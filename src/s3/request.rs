//! A parsed S3 request, as handlers get it.
//!
//! By the time a handler sees one, its signature is verified, its bucket is there and the caller
//! may do what the operation's row says. Only the body is left to be read, and verifies itself.

use std::sync::Arc;

use axum::body::Body as Source;
use drystone_store::lock::Mutex;
use drystone_store::types::{AccountId, Bucket, ChecksumAlgorithm, Timestamp, VersionSelector};
use http::{HeaderMap, HeaderName, header};

use crate::body::{self, SmallBody, VerifiedBody};
use crate::rights;
use crate::row::{BodyKind, Row};
use drystone_auth::credentials::Principal;
use drystone_auth::identity::{Identity, Payload, Signing};
use drystone_http::exchange::Exchange;
use drystone_http::scheme::Scheme;
use drystone_iam::action::Action;
use drystone_iam::arn::Arn;
use drystone_iam::authorize::{Decision, authorize};
use drystone_iam::facts::{BucketFacts, BucketSettings, RequestFacts, Texts, Unread};
use drystone_iam::request::Request as Question;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::form_fields::Fields;
use drystone_protocol::query::Query;
use drystone_protocol::xml;
use drystone_protocol::xml::read::Element;

pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

pub struct Request {
    pub operation: &'static Row,
    /// The record of the request and its answer.
    pub exchange: Arc<Exchange>,
    pub received_at: Timestamp,
    pub identity: Identity,
    pub signing: Option<Signing>,
    /// Empty for an operation on the service.
    pub bucket_name: String,
    /// Empty for an operation on service or bucket.
    pub key: String,
    /// The host names the bucket, and not the path.
    pub by_host: bool,
    /// As it came. Errors call it the resource.
    pub path: String,
    /// The prefix of the server.
    pub path_prefix: String,
    pub query: Query,
    pub headers: HeaderMap,
    /// A form's fields. Its headers are those that the fields stand for.
    pub form: Option<Fields>,
    pub bucket: Option<Bucket>,
    pub settings: Arc<BucketSettings>,
    /// Whether the caller may list the bucket, and so may know which keys are there.
    pub may_list: bool,
    /// Nobody locks it: with the lock, threads may share a request with its body.
    pub body: Mutex<Option<(Payload, Source)>>,
}

impl Request {
    /// The bucket's row. Every operation but those on the service and CreateBucket has one.
    pub fn bucket(&self) -> &Bucket {
        self.bucket
            .as_ref()
            .expect("the server finds the bucket before its operations run")
    }

    /// The id of the request, as the answer has it.
    pub fn id(&self) -> &str {
        &self.exchange.id
    }

    /// The caller; `None` without credentials.
    pub fn principal(&self) -> Option<&Principal> {
        self.identity.principal()
    }

    /// The account that owns what is written into the bucket: the bucket's. Every bucket has the
    /// ownership setting BucketOwnerEnforced.
    pub fn object_owner(&self) -> AccountId {
        self.bucket().owner.clone()
    }

    /// The caller's account, which owns the buckets that it makes. Empty without credentials.
    pub fn account(&self) -> AccountId {
        self.principal()
            .map(|who| who.account.id.clone())
            .unwrap_or_default()
    }

    /// A header's text. One that is not ASCII counts as absent where an ASCII text is meant.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The object's URL, as the client addressed it; a proxy that ended TLS says so. With a
    /// prefix it is right whether or not there is a proxy. `key` is encoded already.
    pub fn url_of(&self, key: &str) -> String {
        let forwarded = self.header(X_FORWARDED_PROTO.as_str()).unwrap_or_default();
        let scheme = match forwarded.eq_ignore_ascii_case("https") {
            true => Scheme::Https,
            false => self.exchange.scheme,
        };
        let scheme = scheme.text();
        let host = self.header(header::HOST.as_str()).unwrap_or_default();
        let (bucket, prefix) = (&self.bucket_name, &self.path_prefix);
        if self.by_host {
            format!("{scheme}://{host}{prefix}/{key}")
        } else {
            format!("{scheme}://{host}{prefix}/{bucket}/{key}")
        }
    }

    /// The version that `versionId` names, or the latest.
    pub fn version(&self) -> Result<VersionSelector, S3Error> {
        match self.query.get("versionId") {
            None => Ok(VersionSelector::Latest),
            Some(text) => parse_version(text),
        }
    }

    /// The object's or part's body, verified as it is read. `algorithm` is the checksum to
    /// compute where the client declares none.
    pub fn take_stream(&mut self, algorithm: ChecksumAlgorithm) -> Result<VerifiedBody, S3Error> {
        let (payload, source) = self.take();
        VerifiedBody::for_object(&self.headers, payload, algorithm, source)
    }

    /// The file of a form as an object's body.
    pub fn take_file(&mut self, algorithm: ChecksumAlgorithm) -> Result<VerifiedBody, S3Error> {
        let (_, source) = self.take();
        VerifiedBody::for_file(&self.headers, algorithm, source)
    }

    /// The whole body, verified, where the operation accepts a document.
    pub async fn take_document(&mut self) -> Result<SmallBody, S3Error> {
        let BodyKind::Document(max) = self.operation.body else {
            unreachable!("{} takes no document", self.operation.name);
        };
        let (payload, source) = self.take();
        body::collect_small(&self.headers, payload, source, max).await
    }

    /// The body as an XML document with this root.
    pub async fn take_xml(&mut self, root: &str) -> Result<Element, S3Error> {
        let document = self.take_document().await?;
        if document.bytes.is_empty() {
            return Err(S3Error::new(Code::MissingRequestBodyError));
        }
        xml::read::parse(&document.bytes, root)
    }

    /// Decides whether the caller may do something to a resource. `bucket`: the row and the
    /// settings of the bucket that it is or lies in, if there is one.
    pub fn decide(
        &self,
        action: Action,
        resource: Arn<'_>,
        bucket: Option<(&Bucket, &BucketSettings)>,
    ) -> Decision {
        let texts = SentTexts {
            headers: &self.headers,
            query: &self.query,
        };
        let decision = authorize(&Question {
            identity: &self.identity,
            action,
            resource,
            bucket: bucket.map(|(bucket, settings)| BucketFacts {
                owner: &bucket.owner,
                settings,
            }),
            object: &Unread,
            facts: RequestFacts {
                peer: self.exchange.peer.map(|peer| peer.ip()),
                is_secure: self.exchange.scheme == Scheme::Https,
                now: self.received_at,
                signing: self.signing,
                texts: &texts,
            },
        });
        if !decision.is_allowed() {
            let user = self.principal().map(|principal| principal.user.as_str());
            tracing::debug!(%action, %resource, user, why = decision.reason(), "denied");
        }
        decision
    }

    /// The same, on which the whole request depends: a denial refuses it, and the record of the
    /// exchange says what was decided.
    pub fn check(
        &self,
        action: Action,
        resource: Arn<'_>,
        bucket: Option<(&Bucket, &BucketSettings)>,
    ) -> Result<(), S3Error> {
        let decision = self.decide(action, resource, bucket);
        self.exchange
            .note(|findings| findings.decision = Some(decision.reason()));
        rights::check(decision)
    }

    fn take(&mut self) -> (Payload, Source) {
        let body = self.body.get_mut();
        body.take().expect("a handler takes the body once")
    }
}

/// The headers and the query, where decisions look up condition keys.
struct SentTexts<'a> {
    headers: &'a HeaderMap,
    query: &'a Query,
}

impl Texts for SentTexts<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }
}

/// A version id as `versionId` and DeleteObjects name it.
pub fn parse_version(text: &str) -> Result<VersionSelector, S3Error> {
    let invalid = |message| S3Error::invalid_argument(message, "versionId", text);
    if text.is_empty() {
        return Err(invalid("Version id cannot be the empty string"));
    }
    match text.parse() {
        Ok(id) => Ok(VersionSelector::Id(id)),
        Err(_) => Err(invalid("Invalid version id specified")),
    }
}

/// `x-amz-expected-bucket-owner` and its like: the bucket must belong to this account.
pub fn check_expected_owner(
    headers: &HeaderMap,
    name: &str,
    owner: &AccountId,
) -> Result<(), S3Error> {
    let Some(expected) = headers.get(name) else {
        return Ok(());
    };
    let is_account_id = |text: &[u8]| text.len() == 12 && text.iter().all(|c| c.is_ascii_digit());
    if !is_account_id(expected.as_bytes()) {
        return Err(S3Error::new(Code::InvalidBucketOwnerAWSAccountID).message(format!(
            "The value of the expected bucket owner parameter must be an AWS Account ID... [{}]",
            String::from_utf8_lossy(expected.as_bytes())
        )));
    }
    if expected.as_bytes() != owner.0.as_bytes() {
        return Err(S3Error::new(Code::AccessDenied));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::parse_version;
    use drystone_protocol::error::Code;

    #[test]
    fn s_30_a_version_id_that_nobody_gave_out_is_invalid() {
        assert!(parse_version("null").is_ok());
        assert!(parse_version(&"0".repeat(32)).is_ok());
        for text in ["", "x", "NULL", "../../etc"] {
            assert_eq!(
                parse_version(text).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
    }
}
