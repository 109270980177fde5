//! Signature Version 2: a request's claim by it, the string to sign, the signature: pure.
//!
//! Old clients sign with it, and some of today's still make links with it. It covers method, path,
//! the sub-resources of the query, `Content-MD5`, `Content-Type`, the date and every `x-amz-*`
//! header; neither the host, nor the rest of the query, nor the body.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::types::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha1::Sha1;

use crate::claim::MAX_SKEW_MS;
use crate::credentials::Secret;
use crate::message::Message;
use crate::v4::canonical::{self, AmzDate};
use crate::v4::header::session_token;
use drystone_http::request::Head;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::percent::Decoded;
use drystone_protocol::query::Query;

/// The Authorization header's first word.
pub const SCHEME: &str = "AWS";

const AMZ_PREFIX: &str = "x-amz-";
const AMZ_DATE: &str = "x-amz-date";
const NO_DATE: &str = "AWS authentication requires a valid Date or x-amz-date header";
const REQUIRED: &str =
    "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters";

/// The parameters that are signed, where a request has them; sorted.
const SIGNED_PARAMETERS: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// The parameters that name a sub-resource and are not signed; sorted. No link by this version can
/// ask for one of them.
const UNCOVERED_SUBRESOURCES: [&str; 17] = [
    "abac",
    "attributes",
    "encryption",
    "events",
    "id",
    "intelligent-tiering",
    "legal-hold",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "ownershipControls",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "retention",
    "session",
];

/// Everything that a request says about its signature.
#[derive(Debug)]
pub struct Claim {
    pub access_key: String,
    /// In base64.
    pub signature: String,
    /// The text that stands for the date in the string to sign.
    pub date: String,
    /// The time of signing, which a link does not say.
    pub signed_at: Option<Timestamp>,
    pub session_token: Option<String>,
}

impl Claim {
    /// Reads an Authorization header. `fields` is the rest of it after the scheme.
    pub fn from_header(
        fields: &str,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Claim, S3Error> {
        // A signature holds no colon, a key might.
        let (access_key, signature) = fields
            .rsplit_once(':')
            .filter(|(key, signature)| !key.is_empty() && !signature.is_empty())
            .ok_or_else(|| {
                S3Error::new(Code::InvalidArgument)
                    .message(
                        "AWS authorization header is invalid.  Expected AwsAccessKeyId:signature",
                    )
                    .with("ArgumentName", "Authorization")
                    .with("ArgumentValue", format!("{SCHEME} {fields}"))
            })?;
        let (date, time) = header_date(headers, now)?;
        Ok(Claim {
            access_key: access_key.to_owned(),
            signature: signature.to_owned(),
            date,
            signed_at: Some(time),
            session_token: session_token(headers),
        })
    }

    /// Reads the three parameters of a link; `None` for one that is missing or repeated.
    pub fn from_query(
        [access_key, signature, expires]: [Option<&str>; 3],
        head: &Head,
        now: Timestamp,
    ) -> Result<Claim, S3Error> {
        let (Some(access_key), Some(signature), Some(date)) = (access_key, signature, expires)
        else {
            return Err(S3Error::new(Code::AccessDenied).message(REQUIRED));
        };
        let end = Some(date)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<i64>().ok()?.checked_mul(1000))
            .map(Timestamp)
            .ok_or_else(|| {
                let message = format!("Invalid date (should be seconds since epoch): {date}");
                S3Error::new(Code::AccessDenied).message(message)
            })?;
        if now.0 >= end.0 {
            return Err(S3Error::new(Code::AccessDenied)
                .message("Request has expired")
                .with("Expires", canonical::rfc3339(end))
                .with("ServerTime", canonical::rfc3339(now)));
        }
        refuse_uncovered(&head.query)?;
        Ok(Claim {
            access_key: access_key.to_owned(),
            signature: signature.to_owned(),
            date: date.to_owned(),
            signed_at: None,
            session_token: session_token(&head.headers),
        })
    }
}

/// The date's line in the string to sign, which is empty where `x-amz-date` stands among the
/// headers, and the time of signing.
fn header_date(headers: &HeaderMap, now: Timestamp) -> Result<(String, Timestamp), S3Error> {
    let by_amz_date = headers.contains_key(AMZ_DATE);
    let name = if by_amz_date { AMZ_DATE } else { "date" };
    let text = headers.get(name).and_then(|value| value.to_str().ok());
    let (text, time) = text
        .and_then(|text| Some((text, AmzDate::parse_http(text)?.time())))
        .filter(|(_, time)| time.0 >= 0)
        .ok_or_else(|| S3Error::new(Code::AccessDenied).message(NO_DATE))?;
    if (time.0 - now.0).abs() > MAX_SKEW_MS {
        return Err(S3Error::new(Code::RequestTimeTooSkewed)
            .with("RequestTime", text)
            .with("ServerTime", canonical::rfc3339(now))
            .with("MaxAllowedSkewMilliseconds", MAX_SKEW_MS.to_string()));
    }
    let line = if by_amz_date { "" } else { text };
    Ok((line.to_owned(), time))
}

/// Refuses sub-resources that this signature does not cover: with one, the holder of a link could
/// turn it into a link for another operation.
fn refuse_uncovered(query: &Query) -> Result<(), S3Error> {
    let mut names = query.iter().map(|(name, _)| name);
    match names.find(|name| UNCOVERED_SUBRESOURCES.binary_search(name).is_ok()) {
        None => Ok(()),
        Some(name) => Err(S3Error::new(Code::AccessDenied).message(format!(
            "Signature Version 2 does not cover the parameter {name}. Please use AWS4-HMAC-SHA256."
        ))),
    }
}

/// Whether a signature covers the sub-resource, or no link by this version can ask for it.
pub fn is_known_subresource(name: &str) -> bool {
    is_signed(name) || UNCOVERED_SUBRESOURCES.binary_search(&name).is_ok()
}

fn is_signed(name: &str) -> bool {
    SIGNED_PARAMETERS.binary_search(&name).is_ok()
}

/// The `x-amz-*` headers that clients put into a link's query, in lower case, where they are signed
/// as headers. A parameter that is no header cannot be signed as one: the signature won't match.
pub fn headers_of_link(query: &Query) -> Vec<(HeaderName, HeaderValue)> {
    let all = query.parameters().iter();
    all.filter(|parameter| parameter.name.text().starts_with(AMZ_PREFIX))
        .filter_map(|parameter| {
            let name = HeaderName::from_bytes(parameter.name.text().as_bytes()).ok()?;
            let value = parameter.value.as_ref().map_or(&[][..], Decoded::bytes);
            Some((name, HeaderValue::from_bytes(value).ok()?))
        })
        .collect()
}

/// Returns the text that is signed. `host_bucket`: the bucket, where the host names it and not the
/// path.
pub fn string_to_sign(message: &Message<'_>, host_bucket: Option<&str>, date: &str) -> Vec<u8> {
    let resource = Resource {
        host_bucket,
        path: message.path,
        empty_values: EmptyValues::Signed,
    };
    string_to_sign_of(message, resource, date)
}

/// Returns the texts that some clients sign instead. They name the same, so they are as good.
///
/// Some sign a bucket alone with a slash behind it, though they send none. Some (minio-go) leave
/// out the `=` of a sub-resource with an empty value, which others (botocore) sign.
pub fn other_strings_to_sign(
    message: &Message<'_>,
    host_bucket: Option<&str>,
    date: &str,
) -> Vec<Vec<u8>> {
    let path = message.path;
    let bucket = path.strip_prefix('/').filter(|_| host_bucket.is_none());
    let bucket = bucket.filter(|bucket| !bucket.is_empty() && !bucket.contains('/'));
    let with_slash = bucket.map(|_| format!("{path}/"));
    let has_empty = message.query.parameters().iter().any(|parameter| {
        let value = parameter.value.as_ref().map(Decoded::bytes);
        is_signed(parameter.name.text()) && value.is_some_and(<[u8]>::is_empty)
    });
    let mut texts = Vec::new();
    for path in std::iter::once(path).chain(with_slash.as_deref()) {
        for empty_values in [EmptyValues::Signed, EmptyValues::LeftOut] {
            let is_usual = path == message.path && empty_values == EmptyValues::Signed;
            if is_usual || (empty_values == EmptyValues::LeftOut && !has_empty) {
                continue;
            }
            let resource = Resource {
                host_bucket,
                path,
                empty_values,
            };
            texts.push(string_to_sign_of(message, resource, date));
        }
    }
    texts
}

/// The way in which a text names what it is about.
#[derive(Clone, Copy, Debug)]
struct Resource<'a> {
    host_bucket: Option<&'a str>,
    path: &'a str,
    empty_values: EmptyValues,
}

/// The text for a sub-resource whose value is empty: with its `=`, or its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmptyValues {
    Signed,
    LeftOut,
}

fn string_to_sign_of(message: &Message<'_>, resource: Resource<'_>, date: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(message.method.as_str().as_bytes());
    out.push(b'\n');
    for name in ["content-md5", "content-type"] {
        // All values that are there are covered, so that none can be added.
        for (at, value) in message.headers.get_all(name).iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            out.extend_from_slice(value.as_bytes().trim_ascii());
        }
        out.push(b'\n');
    }
    out.extend_from_slice(date.as_bytes());
    out.push(b'\n');
    canonical_headers(&mut out, message.headers);
    canonical_resource(&mut out, message.query, resource);
    out
}

/// `name:value` of every `x-amz-*` header, sorted; values of one name are joined by commas.
fn canonical_headers(out: &mut Vec<u8>, headers: &HeaderMap) {
    let mut lines: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (name, value) in headers {
        if !name.as_str().starts_with(AMZ_PREFIX) {
            continue;
        }
        lines
            .entry(name.as_str())
            .and_modify(|line| line.push(b','))
            .or_default()
            .extend_from_slice(value.as_bytes().trim_ascii());
    }
    for (name, value) in lines {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend_from_slice(&value);
        out.push(b'\n');
    }
}

/// The path as it was sent, under the bucket, and the sub-resources with their decoded values.
fn canonical_resource(out: &mut Vec<u8>, query: &Query, resource: Resource<'_>) {
    if let Some(bucket) = resource.host_bucket {
        out.push(b'/');
        out.extend_from_slice(bucket.as_bytes());
    }
    match resource.path {
        "" => out.push(b'/'),
        path => out.extend_from_slice(path.as_bytes()),
    }
    let all = query.parameters().iter();
    let mut signed: Vec<_> = all
        .filter(|parameter| is_signed(parameter.name.text()))
        .collect();
    signed.sort_by(|one, other| one.name.text().cmp(other.name.text()));
    for (at, parameter) in signed.into_iter().enumerate() {
        out.push(if at == 0 { b'?' } else { b'&' });
        out.extend_from_slice(parameter.name.text().as_bytes());
        let value = parameter.value.as_ref().map(Decoded::bytes);
        let leaves_out = resource.empty_values == EmptyValues::LeftOut;
        if let Some(value) = value.filter(|value| !(value.is_empty() && leaves_out)) {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
}

/// The signature in base64.
pub fn sign(secret: &Secret, string_to_sign: &[u8]) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length")
        .chain_update(string_to_sign)
        .finalize();
    BASE64.encode(mac.into_bytes())
}
