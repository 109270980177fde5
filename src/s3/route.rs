//! Marks that a request must not have: pure.

use http::{HeaderMap, Method};

use crate::row::Scope;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::query::Query;

const COPY_SOURCE: &str = "x-amz-copy-source";
/// The parts of a version that can be written later.
const OF_VERSIONS: [&str; 5] = ["acl", "encryption", "legal-hold", "retention", "tagging"];

/// Refuses marks that mean nothing where they stand. They must not be ignored: a part without its
/// upload would become the object.
pub fn check_marks(
    method: &Method,
    scope: Scope,
    query: &Query,
    headers: &HeaderMap,
) -> Result<(), S3Error> {
    let invalid = |message| Err(S3Error::new(Code::InvalidRequest).message(message));
    let is_put = method == Method::PUT;
    // Beside a form headers say nothing.
    let copies = is_put || (method == Method::POST && !query.has("uploadId"));
    if let Some(source) = headers.get(COPY_SOURCE).filter(|_| !copies) {
        let source = String::from_utf8_lossy(source.as_bytes());
        return Err(S3Error::invalid_argument(
            "You can only specify a copy source header for copy requests.",
            COPY_SOURCE,
            source,
        ));
    }
    if scope != Scope::Object {
        return Ok(());
    }
    let is_plain_put = is_put && !OF_VERSIONS.iter().any(|name| query.has(name));
    if let Some(version) = query.get("versionId").filter(|_| is_plain_put) {
        let message = "This operation does not accept a version-id.";
        return Err(S3Error::invalid_argument(message, "versionId", version));
    }
    match query.get("partNumber") {
        Some(number) if is_put && !query.has("uploadId") => Err(S3Error::invalid_argument(
            "This operation does not accept partNumber without uploadId",
            "partNumber",
            number,
        )),
        _ if method == Method::GET && query.has("versions") => {
            invalid("There is no such thing as the ?versions sub-resource for a key")
        }
        _ if method == Method::GET && query.has("uploads") => {
            invalid("Key is not expected for the GET method ?uploads subresource")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::check_marks;
    use crate::operation;
    use crate::row::Scope;
    use drystone_protocol::address::{Address, Target};
    use drystone_protocol::query::Query;

    fn target(uri: &Uri, headers: &HeaderMap) -> Target {
        Address::read(uri, headers, &[]).target.unwrap()
    }

    /// `METHOD target [header]`, and the operation it is.
    const LINES: &[(&str, &str)] = &[
        ("GET /", "ListBuckets"),
        ("GET /?x-id=ListBuckets", "ListBuckets"),
        ("PUT /b", "CreateBucket"),
        ("PUT /b?unknown", "CreateBucket"),
        ("HEAD /b", "HeadBucket"),
        ("HEAD /b/?location", "-"),
        ("DELETE /b", "DeleteBucket"),
        ("DELETE /b?policy", "DeleteBucketPolicy"),
        ("DELETE /b?acl", "-"),
        ("GET /b?location", "GetBucketLocation"),
        ("GET /b?location=", "GetBucketLocation"),
        ("GET /b?prefix=acl", "ListObjects"),
        ("GET /b?list-type=2&prefix=x", "ListObjectsV2"),
        ("GET /b?list-type=1", "ListObjects"),
        ("GET /b?versions&prefix=x", "ListObjectVersions"),
        ("GET /b?uploads", "ListMultipartUploads"),
        ("GET /b?versioning", "GetBucketVersioning"),
        ("PUT /b?versioning", "PutBucketVersioning"),
        ("GET /b?analytics", "ListBucketAnalyticsConfigurations"),
        ("GET /b?analytics&id=1", "GetBucketAnalyticsConfiguration"),
        ("POST /b?delete", "DeleteObjects"),
        ("POST /b", "PostObject"),
        ("PUT /b/k", "PutObject"),
        ("PUT /b/k?x-id=PutObject", "PutObject"),
        ("PUT /b/k x-amz-copy-source", "CopyObject"),
        ("PUT /b/k?partNumber=1&uploadId=u", "UploadPart"),
        (
            "PUT /b/k?partNumber=1&uploadId=u x-amz-copy-source",
            "UploadPartCopy",
        ),
        ("PUT /b/k?uploadId=u", "-"),
        ("PUT /b/k?tagging", "PutObjectTagging"),
        ("PUT /b/k?renameObject", "RenameObject"),
        ("GET /b/k", "GetObject"),
        ("GET /b/k?versionId=null&partNumber=1", "GetObject"),
        ("GET /b/k?uploadId=u", "ListParts"),
        ("GET /b/k?attributes", "GetObjectAttributes"),
        ("HEAD /b/k", "HeadObject"),
        ("POST /b/k?uploads", "CreateMultipartUpload"),
        ("POST /b/k?uploadId=u", "CompleteMultipartUpload"),
        ("POST /b/k?select&select-type=2", "SelectObjectContent"),
        ("POST /b/k", "-"),
        ("DELETE /b/k", "DeleteObject"),
        ("DELETE /b/k?uploadId=u", "AbortMultipartUpload"),
        ("DELETE /b/k?acl", "-"),
        ("PATCH /b/k", "-"),
        ("POST /", "-"),
    ];

    #[test]
    fn s_04_what_an_operation_has_no_use_for_is_refused() {
        for (line, code) in [
            ("PUT /b/k?partNumber=1", Some("InvalidArgument")),
            ("PUT /b/k?partNumber=1&uploadId=u", None),
            ("PUT /b/k x-amz-copy-source", None),
            ("GET /b/k?partNumber=1", None),
            ("PUT /b/k?versionId=null", Some("InvalidArgument")),
            (
                "PUT /b/k?versionId=null x-amz-copy-source",
                Some("InvalidArgument"),
            ),
            ("PUT /b/k?versionId=null&tagging", None),
            ("GET /b/k?versionId=null", None),
            ("DELETE /b/k?versionId=null", None),
            ("GET /b/k?versions", Some("InvalidRequest")),
            ("GET /b?versions", None),
            ("GET /b/k?uploads", Some("InvalidRequest")),
            ("POST /b/k?uploads", None),
            (
                "POST /b/k?uploadId=u x-amz-copy-source",
                Some("InvalidArgument"),
            ),
            ("POST /b x-amz-copy-source", None),
            ("GET /b/k x-amz-copy-source", Some("InvalidArgument")),
            ("DELETE /b x-amz-copy-source", Some("InvalidArgument")),
        ] {
            let (method, uri, headers) = read(line);
            let target = target(&uri, &headers);
            let query = Query::parse(uri.query().unwrap_or_default());
            let checked = check_marks(&method, Scope::of(&target), &query, &headers);
            let found = checked.err().map(|error| error.code().text());
            assert_eq!(found, code, "{line}");
        }
    }

    fn read(line: &str) -> (Method, Uri, HeaderMap) {
        let mut words = line.split(' ');
        let method: Method = words.next().unwrap().parse().unwrap();
        let uri: Uri = words.next().unwrap().parse().unwrap();
        let names = words.map(|name| name.parse::<HeaderName>().unwrap());
        let headers = names.map(|name| (name, HeaderValue::from_static("x")));
        (method, uri, headers.collect())
    }

    #[test]
    fn request_lines() {
        for (line, expected) in LINES {
            let (method, uri, headers) = read(line);
            let target = target(&uri, &headers);
            let query = Query::parse(uri.query().unwrap_or_default());
            let found = operation::find(&method, Scope::of(&target), &query, &headers);
            assert_eq!(
                found.map_or("-", |found| found.row.name),
                *expected,
                "{line}"
            );
        }
    }
}
