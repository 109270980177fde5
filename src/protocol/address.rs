//! Which bucket and key a request names, by its host or its path: pure.
//!
//! The path is split first and decoded after, exactly once, so that storage, authorisation and
//! the client all mean the same key. Nothing is normalised: `..` and `//` are plain keys.

use http::{HeaderMap, Uri, header};

use crate::error::{Code, S3Error};
use crate::names;
use crate::percent::decode_once;

/// The bucket and the key that a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub bucket: String,
    pub key: String,
    /// The host names the bucket, and not the path.
    pub by_host: bool,
}

/// A request's host and path, read once.
#[derive(Clone, Debug)]
pub struct Address {
    /// The bucket that the host names; `None` where the path does.
    pub host_bucket: Result<Option<String>, S3Error>,
    pub target: Result<Target, S3Error>,
}

impl Address {
    /// `domains`: names whose sub-domains are buckets, in lower case.
    pub fn read(uri: &Uri, headers: &HeaderMap, domains: &[String]) -> Address {
        let host = host(uri, headers);
        let host_bucket = host.map(|host| bucket_of_host(&host, domains).map(str::to_owned));
        Address {
            target: target(uri.path(), host_bucket.as_ref()),
            host_bucket,
        }
    }

    /// The host names no bucket, and is one that a host can be.
    pub fn is_by_path(&self) -> bool {
        matches!(self.host_bucket, Ok(None))
    }
}

fn target(path: &str, named: Result<&Option<String>, &S3Error>) -> Result<Target, S3Error> {
    let path = path.strip_prefix('/').ok_or_else(invalid_uri)?;
    let named = named.map_err(S3Error::clone)?;
    let (bucket, key) = match named {
        Some(bucket) => (bucket.clone(), path),
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
        by_host: named.is_some(),
    })
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
    use http::{HeaderMap, HeaderValue, Uri};

    use super::{Address, Target};
    use crate::error::S3Error;
    use crate::percent::decode_once;

    fn find(uri: &str, host: &str) -> Result<Target, S3Error> {
        let domains = ["s3.test".to_owned(), "eu.s3.test".to_owned()];
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_str(host).unwrap());
        Address::read(&uri.parse::<Uri>().unwrap(), &headers, &domains).target
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
}
