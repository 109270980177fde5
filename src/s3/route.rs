//! From a request line to bucket, key and a row of the table: pure.
//!
//! The path is split first and decoded after, exactly once, so that storage, authorisation and
//! the client all mean the same key. Nothing is normalised: `..` and `//` are plain keys.

use http::{HeaderMap, Method, Uri, header};

use crate::s3::error::{Code, S3Error};
use crate::s3::names;
use crate::s3::operation::Scope;
use crate::s3::request::Query;

const COPY_SOURCE: &str = "x-amz-copy-source";

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub bucket: String,
    pub key: String,
    /// The host names the bucket, and not the path.
    pub by_host: bool,
}

impl Target {
    pub fn scope(&self) -> Scope {
        match (self.bucket.is_empty(), self.key.is_empty()) {
            (true, _) => Scope::Service,
            (false, true) => Scope::Bucket,
            (false, false) => Scope::Object,
        }
    }
}

/// Finds bucket and key. `domains`: names whose sub-domains are buckets, in lower case.
pub fn target(uri: &Uri, headers: &HeaderMap, domains: &[String]) -> Result<Target, S3Error> {
    let path = uri.path().strip_prefix('/').ok_or_else(invalid_uri)?;
    let named = host_bucket(uri, headers, domains)?;
    let by_host = named.is_some();
    let (bucket, key) = match named {
        Some(bucket) => (bucket, path),
        None => {
            let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
            if bucket.is_empty() && !path.is_empty() {
                return Err(S3Error::new(Code::InvalidBucketName));
            }
            (decode_once(bucket)?, key)
        }
    };
    let key = decode_once(key)?;
    names::check_key(&key)?;
    Ok(Target {
        bucket,
        key,
        by_host,
    })
}

/// The bucket that the host names; `None` where the path does.
pub fn host_bucket(
    uri: &Uri,
    headers: &HeaderMap,
    domains: &[String],
) -> Result<Option<String>, S3Error> {
    let host = host(uri, headers)?;
    Ok(bucket_of_host(&host, domains).map(str::to_owned))
}

/// Whether the query bears a signature, of either version.
pub fn names_signature(uri: &Uri) -> bool {
    let names = uri.query().unwrap_or_default().split('&');
    let mut names = names.map(|pair| pair.split('=').next().unwrap_or_default());
    names.any(|name| matches!(name, "X-Amz-Signature" | "Signature"))
}

/// Percent-decodes once. What isn't UTF-8 or no valid escape is nobody's key.
pub fn decode_once(text: &str) -> Result<String, S3Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|&c| char::from(c).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(invalid_uri());
        };
        bytes.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid_uri())
}

/// What stands where it can mean nothing, and would be taken for nothing: a part without its upload
/// would become the object.
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

/// The host asked for, without its port, in lower case. An absolute-form target names it too,
/// and must not name another than the signed `Host` header.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<String, S3Error> {
    let bad = || {
        S3Error::new(Code::BadRequest).message("An error occurred when parsing the HTTP request.")
    };
    let mut given = headers.get_all(header::HOST).iter();
    let header = given
        .next()
        .map(|value| value.to_str().map_err(|_| bad()))
        .transpose()?;
    if given.next().is_some() {
        return Err(bad());
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    let host = match (authority, header) {
        (Some(authority), Some(header)) if !authority.eq_ignore_ascii_case(header) => {
            return Err(bad());
        }
        (Some(host), _) | (None, Some(host)) => host,
        (None, None) => "",
    };
    Ok(without_port(host).to_ascii_lowercase())
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    match host.rsplit_once(':') {
        Some((name, _)) => name,
        None => host,
    }
}

/// The part of the host in front of the longest domain that it lies in.
fn bucket_of_host<'a>(host: &'a str, domains: &[String]) -> Option<&'a str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let in_front = |domain: &String| host.strip_suffix(domain.as_str())?.strip_suffix('.');
    let found = domains
        .iter()
        .filter_map(in_front)
        .min_by_key(|bucket| bucket.len());
    // A domain may lie in another one; asked for by its own name it is no bucket of that one.
    found.filter(|bucket| !bucket.is_empty() && !domains.iter().any(|domain| domain == host))
}

fn invalid_uri() -> S3Error {
    S3Error::new(Code::InvalidURI)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

    use super::{Target, check_marks, decode_once, target};
    use crate::s3::error::S3Error;
    use crate::s3::operation::Operation;
    use crate::s3::request::Query;

    fn find(uri: &str, host: &str) -> Result<Target, S3Error> {
        let domains = ["s3.test".to_owned(), "eu.s3.test".to_owned()];
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(host).unwrap());
        target(&uri.parse::<Uri>().unwrap(), &headers, &domains)
    }

    #[test]
    fn s_05_w_20_hosts_and_paths() {
        for (host, uri, bucket, key) in [
            ("h:9000", "/", "", ""),
            ("h:9000", "/b", "b", ""),
            ("h:9000", "/b/", "b", ""),
            ("h:9000", "/b/k", "b", "k"),
            ("h", "http://h/b/k?x", "b", "k"),
            ("s3.test", "/b/k", "b", "k"),
            ("S3.test:443", "/b/k", "b", "k"),
            ("b.s3.test", "/", "b", ""),
            ("B.S3.TEST:80", "/x/k", "b", "x/k"),
            ("a.b.s3.test.", "/k", "a.b", "k"),
            ("eu.s3.test", "/b/k", "b", "k"),
            ("b.eu.s3.test", "/k", "b", "k"),
            ("xs3.test", "/b/k", "b", "k"),
            ("[::1]", "/b/k", "b", "k"),
            ("[::1]:9000", "/b/k", "b", "k"),
            ("127.0.0.1:9000", "/b/k", "b", "k"),
        ] {
            let expected = Target {
                bucket: bucket.to_owned(),
                key: key.to_owned(),
                by_host: !uri.starts_with(&format!("/{bucket}")) && !uri.starts_with("http"),
            };
            assert_eq!(find(uri, host).unwrap(), expected, "{host} {uri}");
        }
        for (host, uri) in [("h", "http://other/b"), ("h", "//k"), ("h", "*")] {
            assert!(find(uri, host).is_err(), "{host} {uri}");
        }
    }

    #[test]
    fn a_20_keys_are_opaque_and_decoded_once() {
        for (path, key) in [
            ("../x", "../x"),
            ("a/../../b/x", "a/../../b/x"),
            ("%2e%2e%2f", "../"),
            ("..%5c", "..\\"),
            ("%5C..%5C", "\\..\\"),
            ("a//b", "a//b"),
            ("/x", "/x"),
            (".", "."),
            ("..", ".."),
            ("a/./b", "a/./b"),
            ("a/", "a/"),
            ("a.", "a."),
            ("a%20", "a "),
            ("%252e", "%2e"),
            ("a+b", "a+b"),
            ("%2F", "/"),
            ("a%3Fb%23c", "a?b#c"),
            ("%F0%9F%98%80", "😀"),
            ("%00", "\0"),
            ("%0d%0a", "\r\n"),
        ] {
            assert_eq!(find(&format!("/b/{path}"), "h").unwrap().key, key, "{path}");
        }
    }

    #[test]
    fn a_22_a_slash_in_a_bucket_stays_in_it() {
        assert_eq!(find("/a%2Fb/k", "h").unwrap().bucket, "a/b");
    }

    #[test]
    fn a_23_what_is_no_utf8_is_no_key() {
        for text in ["%ff", "%c3", "%ed%a0%80", "%", "%1", "%zz", "a%+1"] {
            assert!(decode_once(text).is_err(), "{text}");
        }
        let long = "k".repeat(1024);
        assert!(find(&format!("/b/{long}"), "h").is_ok());
        assert!(find(&format!("/b/{long}k"), "h").is_err());
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
            let target = target(&uri, &headers, &[]).unwrap();
            let query = Query::parse(uri.query().unwrap_or_default()).unwrap();
            let checked = check_marks(&method, target.scope(), &query, &headers);
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
            let target = target(&uri, &headers, &[]).unwrap();
            let query = Query::parse(uri.query().unwrap_or_default()).unwrap();
            let found = Operation::find(&method, target.scope(), &query, &headers);
            assert_eq!(found.map_or("-", |row| row.name), *expected, "{line}");
        }
    }
}
