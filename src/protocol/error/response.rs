//! The response that an error becomes: its XML, and what it is about.

use http::header;

use super::{Code, S3Error};
use crate::response::{self, Body, Response};
use crate::xml::write::Writer;

/// Where an error happened: what every error's XML says beside the error itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorContext<'a> {
    pub bucket: &'a str,
    pub key: &'a str,
    /// As the query names them; empty where it can't be read.
    pub upload_id: &'a str,
    pub version_id: &'a str,
    /// The request's path.
    pub resource: &'a str,
    pub request_id: &'a str,
    pub host_id: &'a str,
}

impl S3Error {
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

    /// Returns the elements by which AWS names the thing that is not there.
    fn subject<'a>(&self, at: &ErrorContext<'a>) -> Vec<(&'static str, &'a str)> {
        use Code as C;
        let mut subject = match self.code {
            C::NoSuchKey => vec![("Key", at.key)],
            C::NoSuchVersion => vec![("Key", at.key), ("VersionId", at.version_id)],
            C::NoSuchUpload | C::InvalidPart | C::InvalidPartOrder | C::EntityTooSmall => {
                vec![("UploadId", at.upload_id)]
            }
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
            | C::QuotaExceeded
            | C::ObjectLockConfigurationNotFoundError
            | C::OwnershipControlsNotFoundError
            | C::ReplicationConfigurationNotFoundError
            | C::ServerSideEncryptionConfigurationNotFoundError => vec![("BucketName", at.bucket)],
            _ => Vec::new(),
        };
        subject.retain(|(_, value)| !value.is_empty());
        subject
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::error::Refusal;
    use drystone_store::types::{Order, Timestamp, VersionId};

    use super::{Code, ErrorContext, S3Error};

    #[tokio::test]
    async fn an_error_names_what_it_is_about() {
        let at = ErrorContext {
            bucket: "b",
            key: "k",
            upload_id: "u&",
            version_id: "v",
            resource: "/b/k",
            request_id: "R",
            host_id: "H",
        };
        for (code, named) in [
            (Code::NoSuchKey, "<Key>k</Key>"),
            (Code::NoSuchVersion, "<Key>k</Key><VersionId>v</VersionId>"),
            (Code::NoSuchUpload, "<UploadId>u&amp;</UploadId>"),
            (Code::NoSuchBucket, "<BucketName>b</BucketName>"),
            (Code::AccessDenied, ""),
        ] {
            let body = S3Error::new(code).into_response(&at).into_body();
            let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
            let text = String::from_utf8(body.to_vec()).unwrap();
            let end = "<Resource>/b/k</Resource><RequestId>R</RequestId><HostId>H</HostId></Error>";
            let expected = format!("</Message>{named}{end}");
            assert!(text.ends_with(&expected), "{text}");
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
