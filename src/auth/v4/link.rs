//! Credentials in the query: presigned URLs.
//!
//! Reads and checks the parameters (`v2` has the particulars of Signature Version 2); the signature
//! itself is verified by `authenticate`. Clients also put headers into a link's query, so that the
//! holder of the link need not send them: [`take_headers_from_link`].

use drystone_store::types::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::claim::{
    CONTENT_SHA256, Claim, Expected, MAX_SKEW_MS, ecdsa_not_implemented, invalid_content_sha256,
};
use crate::v2;
use crate::v4::canonical::{self, ALGORITHM, AmzDate, Scope, UNSIGNED_PAYLOAD};
use crate::v4::signed_headers::SignedHeaders;
use drystone_http::request::Head;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::percent::Decoded;
use drystone_protocol::query::Query;

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

/// The checksums of no bytes. The JavaScript SDK puts them into every link for an upload, as it
/// does not know yet what will be uploaded. S3 doesn't hold the upload to them.
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

/// Makes the `x-amz-*` parameters of a link headers, which are obeyed from here on. If one is sent
/// as a header too, the header counts.
pub fn take_headers_from_link(head: &mut Head) {
    let auth = QueryAuth::read(&head.query);
    let given = match (auth.is_v4(), auth.is_v2()) {
        (true, _) => headers_of_link(&head.query),
        (false, true) => v2::headers_of_link(&head.query),
        (false, false) => return,
    };
    let sent = head.headers.clone();
    for (name, value) in given {
        if !sent.contains_key(&name) {
            head.headers.append(name, value);
        }
    }
}

/// The headers in the query of a link by Version 4. There they are signed as parameters; their
/// names come in any case.
pub fn headers_of_link(query: &Query) -> Vec<(HeaderName, HeaderValue)> {
    let is_header = |name: &str| {
        // It says no more than the name of the checksum beside it, which may not count.
        let repeats = name == "x-amz-sdk-checksum-algorithm";
        name.starts_with("x-amz-") && !SIGNATURE.contains(&name) && !repeats
    };
    let is_of_nothing = |name: &str, value: &[u8]| {
        let mut known = CHECKSUMS_OF_NOTHING.iter();
        known.any(|(of, sum)| *of == name && sum.as_bytes() == value)
    };
    let mut headers = Vec::new();
    for parameter in query.parameters() {
        let name = parameter.name.text().to_ascii_lowercase();
        let value = parameter.value.as_ref().map_or(&[][..], Decoded::bytes);
        if !is_header(&name) || is_of_nothing(&name, value) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.push((name, value));
        }
    }
    headers
}

/// The parameters that have to do with authentication.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueryAuth<'a> {
    algorithm: Parameter<'a>,
    credential: Parameter<'a>,
    date: Parameter<'a>,
    expires: Parameter<'a>,
    signed_headers: Parameter<'a>,
    signature: Parameter<'a>,
    content_sha256: Parameter<'a>,
    security_token: Parameter<'a>,
    /// SigV2's.
    access_key_v2: Parameter<'a>,
    signature_v2: Parameter<'a>,
    expires_v2: Parameter<'a>,
}

/// A parameter that should come once.
#[derive(Clone, Copy, Debug, Default)]
struct Parameter<'a> {
    value: Option<&'a str>,
    repeated: bool,
}

impl<'a> QueryAuth<'a> {
    /// Lossy where a value is no UTF-8: no such value is a valid one.
    pub fn read(query: &'a Query) -> QueryAuth<'a> {
        let mut auth = QueryAuth::default();
        for (name, value) in query.iter() {
            let slot = match name {
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
            slot.value = Some(value);
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

    /// Reads the query's claim by Signature Version 2, and checks all of it but the signature and
    /// the session token.
    pub fn claim_v2(&self, head: &Head, now: Timestamp) -> Result<v2::Claim, S3Error> {
        let once = |parameter: Parameter<'a>| parameter.once().ok();
        let parameters = [self.access_key_v2, self.signature_v2, self.expires_v2];
        v2::Claim::from_query(parameters.map(once), head, now)
    }

    /// Reads the query's claim, and checks all of it but the signature and the session token.
    pub fn claim(&self, headers: &HeaderMap, expected: &Expected<'_>) -> Result<Claim, S3Error> {
        // Without an algorithm AWS sees no credentials at all. Taking half of some for none would
        // let a URL that lost a parameter pass as anonymous, so it is refused as such.
        if self.algorithm.value.is_none() {
            return Err(S3Error::new(Code::AccessDenied));
        }
        let algorithm = self.algorithm.once()?;
        if algorithm == "AWS4-ECDSA-P256-SHA256" {
            return Err(ecdsa_not_implemented());
        }
        if algorithm != ALGORITHM {
            return Err(malformed(
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"",
            ));
        }
        let scope = Scope::parse(self.credential.once()?, expected.service).map_err(|error| {
            malformed(format!(
                "Error parsing the X-Amz-Credential parameter; {error}"
            ))
        })?;
        let signature = self.signature.once()?;
        let date = AmzDate::parse(self.date.once()?).ok_or_else(|| {
            malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let signed_headers = SignedHeaders::parse(self.signed_headers.once()?)
            .map_err(|error| malformed(format!("X-Amz-SignedHeaders: {error}")))?;
        let expires = parse_expires(self.expires.once()?)?;
        if scope.date != date.day() {
            return Err(malformed(format!(
                "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
                scope.date,
                date.day()
            )));
        }
        check_lifetime(&date, expires, expected.now)?;
        let in_header = headers.get(CONTENT_SHA256);
        let payload_hash = match in_header.map(|value| value.to_str()) {
            Some(Ok(hash)) => hash.to_owned(),
            Some(Err(_)) => return Err(invalid_content_sha256("")),
            None if self.content_sha256.value.is_some() => self.content_sha256.once()?.to_owned(),
            None => {
                let implied = expected.implied_hash();
                implied.unwrap_or_else(|| UNSIGNED_PAYLOAD.to_owned())
            }
        };
        Ok(Claim {
            scope,
            date,
            signed_headers,
            signature: signature.to_owned(),
            payload_hash,
            session_token: self.security_token.value.map(str::to_owned),
        })
    }
}

impl<'a> Parameter<'a> {
    fn once(self) -> Result<&'a str, S3Error> {
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

/// Checks that it is past the moment of signing (a fast clock is tolerated) and before the second
/// in which the link expires.
fn check_lifetime(date: &AmzDate, expires: i64, now: Timestamp) -> Result<(), S3Error> {
    if date.time().0 > now.0 + MAX_SKEW_MS {
        return Err(S3Error::new(Code::AccessDenied)
            .message("Request is not valid yet")
            .with("ServerTime", canonical::rfc3339(now))
            .with("X-Amz-Date", date.as_str()));
    }
    let end = Timestamp(date.time().0 + expires * 1000);
    if now.0 >= end.0 {
        return Err(S3Error::new(Code::AccessDenied)
            .message("Request has expired")
            .with("X-Amz-Expires", expires.to_string())
            .with("Expires", canonical::rfc3339(end))
            .with("ServerTime", canonical::rfc3339(now)));
    }
    Ok(())
}

fn malformed(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::new(Code::AuthorizationQueryParametersError).message(message)
}
