//! `x-amz-copy-source`: the version that CopyObject and UploadPartCopy read from.

use drystone_store::error::{Error, Refusal};
use drystone_store::objects::{ObjectHandle, ReadScope};
use drystone_store::types::{Bucket, VersionId, VersionSelector};
use http::{HeaderMap, HeaderName};

use crate::context::Context;
use crate::request::{Request, check_expected_owner, parse_version};
use crate::rights;
use crate::values::precondition::{self, COPY_SOURCE};
use drystone_iam::action::Action;
use drystone_iam::arn::Arn;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::names;
use drystone_protocol::percent::decode_once;
use drystone_protocol::response::{self, Response};

const X_AMZ_COPY_SOURCE_VERSION_ID: HeaderName =
    HeaderName::from_static("x-amz-copy-source-version-id");

/// Where to copy from, as the client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopySource {
    pub bucket: String,
    pub key: String,
    pub version: VersionSelector,
}

/// A source that the caller may read, and whose conditions hold.
pub struct OpenSource {
    pub bucket: Bucket,
    pub handle: Box<dyn ObjectHandle>,
}

impl CopySource {
    /// `bucket/key`, with or without a slash before it, encoded once as a form is (a `+` is a
    /// space); `?versionId=` may follow, and means one only where it stands unencoded.
    pub fn read(headers: &HeaderMap) -> Result<CopySource, S3Error> {
        let value = headers
            .get("x-amz-copy-source")
            .map(|value| value.as_bytes());
        let value = value.unwrap_or_default();
        let text = std::str::from_utf8(value).map_err(|_| invalid_encoding(value))?;
        let invalid = |message| S3Error::invalid_argument(message, "x-amz-copy-source", text);
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, id)) => (path, parse_version(&decode_once(id)?)?),
            None => (text, VersionSelector::Latest),
        };
        let path = decode_once(&path.replace('+', " ")).map_err(|_| invalid_encoding(value))?;
        let path = path.strip_prefix('/').unwrap_or(&path);
        if path.is_empty() {
            return Err(invalid(
                "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            ));
        }
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if key.is_empty() {
            let (name, message) = ("x-amz-copy-source", "Invalid copy source object key");
            return Err(S3Error::invalid_argument(message, name, name));
        }
        if !names::is_bucket_name(bucket) {
            return Err(invalid("Invalid copy source bucket name"));
        }
        names::check_key(key)?;
        Ok(CopySource {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version,
        })
    }

    /// Finds it, asks whether the caller may read it, and holds it to the request's conditions.
    pub async fn open(
        &self,
        context: &Context,
        request: &Request,
        scope: ReadScope,
    ) -> Result<OpenSource, S3Error> {
        let bucket = self.bucket(context, request).await?;
        let settings = context.settings.of(&bucket);
        let of = Some((&bucket, &*settings));
        if let Some(right) = request.operation.details.source {
            let action = right.action(self.version != VersionSelector::Latest);
            request.check(action, Arn::object(&bucket.name, &self.key), of)?;
        }
        let listing = request.decide(Action::ListBucket, Arn::bucket(&bucket.name), of);
        let owner = "x-amz-source-expected-bucket-owner";
        check_expected_owner(&request.headers, owner, &bucket.owner)?;
        let opened = context
            .store
            .open_object(bucket.id, &self.key, self.version, scope)
            .await;
        let handle = opened
            .map_err(|error| rights::hide_missing(self.refused(error), listing.is_allowed()))?;
        let (etag, modified) = (handle.object().etag, handle.version().modified);
        let now = context.env.now();
        precondition::check(&request.headers, &COPY_SOURCE, etag, modified, now).or_failed()?;
        Ok(OpenSource { bucket, handle })
    }

    async fn bucket(&self, context: &Context, request: &Request) -> Result<Bucket, S3Error> {
        if request.bucket().name == self.bucket {
            return Ok(request.bucket().clone());
        }
        let found = context.store.bucket(&self.bucket).await;
        found.map_err(|error| S3Error::from(error).with("BucketName", &self.bucket))
    }

    fn refused(&self, error: Error) -> S3Error {
        match error {
            Error::Refused(Refusal::DeleteMarker { latest: false, .. }) => {
                S3Error::new(Code::InvalidRequest).message(
                    "The source of a copy request may not specifically refer to a delete marker \
                     by version id.",
                )
            }
            // Without a delete marker's headers: they would be taken for the target's.
            Error::Refused(Refusal::NoSuchKey | Refusal::DeleteMarker { .. }) => {
                S3Error::new(Code::NoSuchKey).with("Key", &self.key)
            }
            error => S3Error::from(error),
        }
    }
}

fn invalid_encoding(value: &[u8]) -> S3Error {
    let (name, message) = ("x-amz-copy-source", "Invalid copy source encoding.");
    S3Error::invalid_argument(message, name, String::from_utf8_lossy(value))
}

impl OpenSource {
    /// Says which version was read. Of a `null` one S3 doesn't.
    pub fn show(&self, response: &mut Response) {
        let id = self.handle.version().id;
        if id != VersionId::Null {
            response::set(response, X_AMZ_COPY_SOURCE_VERSION_ID, id.to_string());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::types::{VersionId, VersionSelector};
    use http::{HeaderMap, HeaderValue};

    use super::CopySource;
    use drystone_protocol::error::S3Error;

    fn read(value: impl AsRef<[u8]>) -> Result<CopySource, S3Error> {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-amz-copy-source",
            HeaderValue::from_bytes(value.as_ref()).unwrap(),
        );
        CopySource::read(&headers)
    }

    #[test]
    fn a_21_a_source_is_decoded_once() {
        let latest = VersionSelector::Latest;
        let null = VersionSelector::Id(VersionId::Null);
        for (value, key, version) in [
            ("bkt/k", "k", latest),
            ("/bkt/k", "k", latest),
            ("bkt%2Fk", "k", latest),
            ("%2Fbkt%2Fa%2Fb", "a/b", latest),
            ("bkt/a+b%2B%20c", "a b+ c", latest),
            ("bkt//k", "/k", latest),
            ("bkt/%2F%2e%2e%5c", "/..\\", latest),
            ("bkt/../x", "../x", latest),
            ("bkt/%252e%252e", "%2e%2e", latest),
            ("bkt/a?b", "a?b", latest),
            ("bkt/é", "é", latest),
            ("bkt/%C3%A9", "é", latest),
            ("bkt/k?versionId=null", "k", null),
            ("bkt/k%3FversionId%3Dnull", "k?versionId=null", latest),
        ] {
            let source = read(value).unwrap();
            assert_eq!(
                (source.bucket.as_str(), source.key.as_str()),
                ("bkt", key),
                "{value}"
            );
            assert_eq!(source.version, version, "{value}");
        }
        let long = format!("bkt/{}", "k".repeat(1025));
        for value in [
            "",
            "/",
            "//k",
            "bkt",
            "bkt/",
            "/bkt",
            "bkt/%ff",
            "bkt/%",
            "bkt/k?versionId=",
            "bkt/k?versionId=x",
            "../k",
            "B_/k",
            &long,
        ] {
            assert_eq!(read(value).unwrap_err().status().as_u16(), 400, "{value}");
        }
        assert_eq!(read(b"bkt/\xe9").unwrap_err().status().as_u16(), 400);
    }
}
