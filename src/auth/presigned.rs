//! Credentials in the query: presigned URLs.
//!
//! Reads and checks the parameters (what is particular to Signature Version 2 is in `sigv2`); the
//! signature itself is verified by `authenticate`. Clients also put headers into a link's query, so
//! that whoever holds it need not send them: [`take_headers_from_link`].

use drystone_store::types::Timestamp;
use http::request::Parts;
use http::{HeaderName, HeaderValue};

use super::authenticate::{Claim, MAX_SKEW_MS};
use super::sigv2;
use super::sigv4::{self, ALGORITHM, AmzDate, Scope, UNSIGNED_PAYLOAD};
use crate::s3::error::{Code, S3Error};

/// A URL is good for a week at most.
const EXPIRES_SECONDS_MAX: i64 = 7 * 24 * 3600;

const REQUIRED: &str = "Query-string authentication version 4 requires the X-Amz-Algorithm, \
     X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires \
     parameters.";

/// Parameters of a link that are its signature's own, in lower case.
const SIGNATURE: [&str; 8] = [
    "x-amz-algorithm",
    "x-amz-content-sha256",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// What the JavaScript SDK puts into every link for an upload, as nothing is known yet of what will
/// be uploaded: the checksums of no bytes. S3 doesn't hold the upload to them.
const CHECKSUMS_OF_NOTHING: [(&str, &str); 6] = [
    ("x-amz-checksum-crc32", "AAAAAA=="),
    ("x-amz-checksum-crc32c", "AAAAAA=="),
    ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
    ("x-amz-checksum-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
    (
        "x-amz-checksum-sha256",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ),
];

/// From here on the `x-amz-*` parameters of a link are headers, and obeyed. One that is sent as a
/// header too counts as such.
pub fn take_headers_from_link(parts: &mut Parts) {
    let auth = QueryAuth::read(parts);
    let given = match (auth.is_v4(), auth.is_v2()) {
        (true, _) => headers_of_link(parts),
        (false, true) => sigv2::headers_of_link(parts),
        (false, false) => return,
    };
    let sent = parts.headers.clone();
    for (name, value) in given {
        if !sent.contains_key(&name) {
            parts.headers.append(name, value);
        }
    }
}

/// The headers in the query of a link by Version 4. There they are signed as parameters; their
/// names come in any case.
pub(super) fn headers_of_link(parts: &Parts) -> Vec<(HeaderName, HeaderValue)> {
    let is_header = |name: &str| {
        // It says no more than the name of the checksum beside it, which may not count.
        let repeats = name == "x-amz-sdk-checksum-algorithm";
        name.starts_with("x-amz-") && !SIGNATURE.contains(&name) && !repeats
    };
    sigv2::parameters(parts)
        .map(|(name, value)| (name.to_ascii_lowercase(), value.unwrap_or_default()))
        .filter(|(name, _)| is_header(name))
        .filter(|(name, value)| {
            let of_nothing = |(of, sum): &(&str, &str)| of == name && sum.as_bytes() == *value;
            !CHECKSUMS_OF_NOTHING.iter().any(of_nothing)
        })
        .filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(&value).ok()?))
        })
        .collect()
}

/// The parameters that have to do with authentication, decoded.
#[derive(Debug, Default)]
pub(super) struct QueryAuth {
    algorithm: Parameter,
    credential: Parameter,
    date: Parameter,
    expires: Parameter,
    signed_headers: Parameter,
    signature: Parameter,
    content_sha256: Parameter,
    security_token: Parameter,
    /// SigV2's.
    access_key_v2: Parameter,
    signature_v2: Parameter,
    expires_v2: Parameter,
}

/// A parameter that should come once.
#[derive(Debug, Default)]
struct Parameter {
    value: Option<String>,
    repeated: bool,
}

impl QueryAuth {
    pub fn read(parts: &Parts) -> QueryAuth {
        let mut auth = QueryAuth::default();
        for parameter in parts.uri.query().unwrap_or_default().split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let slot = match decode(name).as_str() {
                "X-Amz-Algorithm" => &mut auth.algorithm,
                "X-Amz-Credential" => &mut auth.credential,
                "X-Amz-Date" => &mut auth.date,
                "X-Amz-Expires" => &mut auth.expires,
                "X-Amz-SignedHeaders" => &mut auth.signed_headers,
                "X-Amz-Signature" => &mut auth.signature,
                "X-Amz-Content-Sha256" => &mut auth.content_sha256,
                "X-Amz-Security-Token" => &mut auth.security_token,
                "AWSAccessKeyId" => &mut auth.access_key_v2,
                "Signature" => &mut auth.signature_v2,
                "Expires" => &mut auth.expires_v2,
                _ => continue,
            };
            slot.repeated |= slot.value.is_some();
            slot.value = Some(decode(value));
        }
        auth
    }

    /// Some credential stands in the query, complete or not.
    pub fn is_present(&self) -> bool {
        self.is_v2() || self.is_v4()
    }

    pub fn is_v2(&self) -> bool {
        self.access_key_v2.value.is_some() || self.signature_v2.value.is_some()
    }

    pub fn is_v4(&self) -> bool {
        [&self.algorithm, &self.credential, &self.signature]
            .iter()
            .any(|parameter| parameter.value.is_some())
    }

    /// What the query claims by Signature Version 2, once everything but the signature holds.
    pub fn claim_v2(self, parts: &Parts, now: Timestamp) -> Result<sigv2::Claim, S3Error> {
        let once = |parameter: Parameter| parameter.once().ok();
        let parameters = [self.access_key_v2, self.signature_v2, self.expires_v2];
        sigv2::Claim::from_query(parameters.map(once), parts, now)
    }

    /// What the query claims, once everything but the signature holds.
    pub fn claim(self, parts: &Parts, now: Timestamp) -> Result<Claim, S3Error> {
        // Without an algorithm AWS sees no credentials at all. Taking half of some for none would
        // let a URL that lost a parameter pass as anonymous, so it is refused as such.
        if self.algorithm.value.is_none() {
            return Err(S3Error::new(Code::AccessDenied));
        }
        let algorithm = self.algorithm.once()?;
        if algorithm == "AWS4-ECDSA-P256-SHA256" {
            return Err(super::authenticate::ecdsa_not_implemented());
        }
        if algorithm != ALGORITHM {
            return Err(malformed(
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"",
            ));
        }
        let scope = Scope::parse(&self.credential.once()?).map_err(|error| {
            malformed(format!(
                "Error parsing the X-Amz-Credential parameter; {error}"
            ))
        })?;
        let signature = self.signature.once()?;
        let date = AmzDate::parse(&self.date.once()?).ok_or_else(|| {
            malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let signed_headers = self.signed_headers.once()?;
        let expires = parse_expires(&self.expires.once()?)?;
        if scope.date != date.day() {
            return Err(malformed(format!(
                "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
                scope.date,
                date.day()
            )));
        }
        if self.security_token.value.is_some() {
            return Err(S3Error::new(Code::InvalidToken));
        }
        check_lifetime(&date, expires, now)?;
        let in_header = parts.headers.get("x-amz-content-sha256");
        let payload_hash = match in_header.map(|value| value.to_str()) {
            Some(Ok(hash)) => hash.to_owned(),
            Some(Err(_)) => return Err(super::authenticate::invalid_content_sha256("")),
            None if self.content_sha256.value.is_some() => self.content_sha256.once()?,
            None => UNSIGNED_PAYLOAD.to_owned(),
        };
        Ok(Claim {
            scope,
            date,
            signed_headers,
            signature,
            payload_hash,
        })
    }
}

impl Parameter {
    fn once(self) -> Result<String, S3Error> {
        match self.value {
            Some(value) if !value.is_empty() && !self.repeated => Ok(value),
            _ => Err(malformed(REQUIRED)),
        }
    }
}

fn parse_expires(text: &str) -> Result<i64, S3Error> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed("X-Amz-Expires should be a number"));
    }
    if text.starts_with('-') {
        return Err(malformed("X-Amz-Expires must be non-negative"));
    }
    // A number too long for an i64 is too large in any case.
    match digits.parse() {
        Ok(seconds) if seconds <= EXPIRES_SECONDS_MAX => Ok(seconds),
        _ => Err(malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given \
             X-Amz-Expires must be less than 604800 seconds",
        )),
    }
}

/// From the moment of signing (a fast clock forgiven) to just before the second it expires in.
fn check_lifetime(date: &AmzDate, expires: i64, now: Timestamp) -> Result<(), S3Error> {
    if date.time().0 > now.0 + MAX_SKEW_MS {
        return Err(S3Error::new(Code::AccessDenied)
            .message("Request is not valid yet")
            .with("ServerTime", sigv4::rfc3339(now))
            .with("X-Amz-Date", date.as_str()));
    }
    let end = Timestamp(date.time().0 + expires * 1000);
    if now.0 >= end.0 {
        return Err(S3Error::new(Code::AccessDenied)
            .message("Request has expired")
            .with("X-Amz-Expires", expires.to_string())
            .with("Expires", sigv4::rfc3339(end))
            .with("ServerTime", sigv4::rfc3339(now)));
    }
    Ok(())
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::new(Code::AuthorizationQueryParametersError).message(message)
}

/// Lossy where it is no UTF-8: no such value is a valid one.
fn decode(raw: &str) -> String {
    let bytes: Vec<u8> = sigv4::decoded(raw, true).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
