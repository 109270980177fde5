//! Who sent a request, and how its body is to be verified.
//!
//! Runs before a byte of the body is taken. Everything that can be wrong with a signature is found
//! here but the body's own part of it, which the returned [`Payload`] tells how to check.
//!
//! A key that does not exist costs what an existing one costs: the signature is computed with a
//! decoy and compared all the same, and only then the two answers part.

use std::sync::Arc;

use drystone_store::types::Timestamp;
use http::HeaderMap;
use http::request::Parts;

use super::credentials::{Credentials, Principal};
use super::presigned::{self, QueryAuth};
use super::sigv2;
use super::sigv4::{self, ALGORITHM, AmzDate, Scope, SigningKey, UNSIGNED_PAYLOAD};
use super::streaming::SignatureChain;
use crate::s3::error::{Code, S3Error};
use crate::s3::prefix;
use crate::s3::route;
use crate::s3::scheme::Scheme;

/// How far a client's clock may be off.
pub(super) const MAX_SKEW_MS: i64 = 15 * 60 * 1000;

const CONTENT_SHA256: &str = "x-amz-content-sha256";
const STREAMING_SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const STREAMING_SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// Who a request speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The request bore no credentials at all.
    Anonymous,
    Principal(Arc<Principal>),
}

impl Identity {
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Identity::Anonymous => None,
            Identity::Principal(principal) => Some(principal),
        }
    }
}

/// How the body comes, and what it must match.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Raw bytes with this SHA-256.
    Sha256([u8; 32]),
    /// Raw bytes that the signature does not cover.
    Unsigned,
    /// `aws-chunked`; each chunk, and the trailer if there is one, is signed.
    SignedChunks {
        chain: SignatureChain,
        trailer: bool,
    },
    /// `aws-chunked` without signatures, with a trailer.
    UnsignedChunks,
}

#[derive(Debug)]
pub struct Authenticated {
    pub identity: Identity,
    pub payload: Payload,
}

/// What a request says about its signature.
#[derive(Debug)]
pub(super) struct Claim {
    pub scope: Scope,
    pub date: AmzDate,
    pub signed_headers: String,
    pub signature: String,
    pub payload_hash: String,
}

/// What signatures are verified with.
#[derive(Clone, Copy, Debug)]
pub struct Verifier<'a> {
    pub credentials: &'a Credentials,
    /// Names whose sub-domains are buckets, in lower case.
    pub domains: &'a [String],
    pub also: Allowed,
}

/// What is taken though AWS might refuse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Signature Version 2, which old clients send and some links have.
    pub signature_v2: bool,
    /// A signature over the host without its port, as git-annex makes it.
    pub portless_host: bool,
}

/// The paths that a request's client may have signed, where that isn't simply the one that came:
/// put into the request by whoever took a prefix off, or knows that a proxy may have.
#[derive(Clone, Debug)]
pub struct SignedPaths(pub Vec<String>);

impl Verifier<'_> {
    /// Verifies the request's signature, wherever it stands. No credentials:
    /// [`Identity::Anonymous`].
    pub fn authenticate(&self, parts: &Parts, now: Timestamp) -> Result<Authenticated, S3Error> {
        let Some(SignedPaths(paths)) = parts.extensions.get() else {
            return self.authenticate_as_sent(parts, now);
        };
        let mut refused = None;
        for path in paths {
            let mut sent = parts.clone();
            sent.uri = prefix::with_path(&parts.uri, path).ok_or(Code::InvalidURI)?;
            match self.authenticate_as_sent(&sent, now) {
                // Both, so that a key that does not exist costs what an existing one costs.
                Err(error)
                    if matches!(
                        error.code(),
                        Code::SignatureDoesNotMatch | Code::InvalidAccessKeyId
                    ) =>
                {
                    refused = refused.or(Some(error));
                }
                answer => return answer,
            }
        }
        Err(refused.unwrap_or_else(|| Code::InvalidURI.into()))
    }

    fn authenticate_as_sent(
        &self,
        parts: &Parts,
        now: Timestamp,
    ) -> Result<Authenticated, S3Error> {
        let query = QueryAuth::read(parts);
        let header = authorization(&parts.headers)?;
        let is_v2 = match header {
            Some(header) if query.is_present() => return Err(two_mechanisms(header)),
            None if query.is_v2() && query.is_v4() => return Err(two_mechanisms("")),
            Some(header) => scheme(header)?.0 == sigv2::SCHEME,
            None => query.is_v2(),
        };
        if is_v2 {
            if !self.also.signature_v2 {
                return Err(v2_not_supported());
            }
            let claim = match header {
                Some(header) => sigv2::Claim::from_header(scheme(header)?.1, parts, now)?,
                None => query.claim_v2(parts, now)?,
            };
            return self.verify_v2(parts, &claim);
        }
        let claim = match header {
            Some(header) => from_header(header, parts, now)?,
            None if query.is_present() => query.claim(parts, now)?,
            None => {
                return Ok(Authenticated {
                    identity: Identity::Anonymous,
                    payload: unsigned_payload(&parts.headers)?,
                });
            }
        };
        let payload = PayloadKind::parse(&claim.payload_hash)?;
        check_signed_headers(parts, &claim)?;
        let (principal, key) = self.verify_v4(parts, &claim)?;
        Ok(Authenticated {
            identity: Identity::Principal(principal),
            payload: payload.with_signature(claim, key),
        })
    }

    fn verify_v4(
        &self,
        parts: &Parts,
        claim: &Claim,
    ) -> Result<(Arc<Principal>, SigningKey), S3Error> {
        let access_key = &claim.scope.access_key;
        let (secret, principal) = self.credentials.find(access_key);
        let key = SigningKey::derive(secret, &claim.scope);
        let text_for = |parts: &Parts| {
            let signed_headers = &claim.signed_headers;
            let canonical = sigv4::canonical_request(parts, signed_headers, &claim.payload_hash);
            let text = sigv4::string_to_sign(&claim.date, &claim.scope, &canonical);
            (canonical, text)
        };
        let matches = |text: &str| sigv4::same_signature(&key.sign(text), &claim.signature);
        let (canonical, text) = text_for(parts);
        let mut holds = matches(&text);
        let portless = || with_portless_host(parts, self.also.portless_host);
        if let Some(parts) = (!holds).then(portless).flatten() {
            holds = matches(&text_for(&parts).1);
            if holds {
                tracing::info!(access_key, "the client signed its host without the port");
            }
        }
        match principal {
            Some(principal) if holds => Ok((principal.clone(), key)),
            Some(_) => Err(
                does_not_match(access_key, &claim.signature, text.as_bytes())
                    .with("CanonicalRequest", String::from_utf8_lossy(&canonical))
                    .with("CanonicalRequestBytes", spaced_hex(&canonical)),
            ),
            None => Err(unknown_key(access_key)),
        }
    }

    fn verify_v2(&self, parts: &Parts, claim: &sigv2::Claim) -> Result<Authenticated, S3Error> {
        refuse_chunks(&parts.headers)?;
        let payload = unsigned_payload(&parts.headers)?;
        let bucket = route::host_bucket(&parts.uri, &parts.headers, self.domains)?;
        let (secret, principal) = self.credentials.find(&claim.access_key);
        let bucket = bucket.as_deref();
        let string_to_sign = sigv2::string_to_sign(parts, bucket, &claim.date);
        let is_signed =
            |text: &[u8]| sigv4::same_signature(&sigv2::sign(secret, text), &claim.signature);
        let with_slash = sigv2::string_to_sign_with_slash(parts, bucket, &claim.date)
            .is_some_and(|text| is_signed(&text));
        let matches = is_signed(&string_to_sign) | with_slash;
        match principal {
            Some(principal) if matches => Ok(Authenticated {
                identity: Identity::Principal(principal.clone()),
                payload,
            }),
            Some(_) => Err(does_not_match(
                &claim.access_key,
                &claim.signature,
                &string_to_sign,
            )),
            None => Err(unknown_key(&claim.access_key)),
        }
    }
}

/// The request as a client signs it that leaves the port out of the host; `None` where it has none.
/// The scheme's own port may always be left out: the host is the same with and without.
fn with_portless_host(parts: &Parts, any_port: bool) -> Option<Parts> {
    let host = parts.headers.get(http::header::HOST)?.to_str().ok()?;
    let (name, port) = host.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !any_port && port != Scheme::of(&parts.extensions).default_port() {
        return None;
    }
    let name = http::HeaderValue::from_str(name).ok()?;
    let mut parts = parts.clone();
    parts.headers.insert(http::header::HOST, name);
    Some(parts)
}

/// The Authorization header; an empty one is none.
pub(super) fn authorization(headers: &HeaderMap) -> Result<Option<&str>, S3Error> {
    let mut values = headers.get_all(http::header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if values.next().is_some() || (text.is_empty() && !value.is_empty()) {
        return Err(unsupported_authorization(text));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The Authorization header's first word, and what follows.
fn scheme(header: &str) -> Result<(&str, &str), S3Error> {
    header.split_once(' ').ok_or_else(|| {
        S3Error::new(Code::InvalidArgument)
            .message("Authorization header is invalid -- one and only one ' ' (space) required")
            .with("ArgumentName", "Authorization")
            .with("ArgumentValue", header)
    })
}

fn from_header(header: &str, parts: &Parts, now: Timestamp) -> Result<Claim, S3Error> {
    let (algorithm, fields) = scheme(header)?;
    match algorithm {
        ALGORITHM => {}
        "AWS4-ECDSA-P256-SHA256" => return Err(ecdsa_not_implemented()),
        _ => return Err(unsupported_authorization(header)),
    }
    let (scope, signed_headers, signature) = parse_fields(fields)?;
    if parts.headers.contains_key("x-amz-security-token") {
        return Err(S3Error::new(Code::InvalidToken));
    }
    let date = header_date(&parts.headers)?;
    if (date.time().0 - now.0).abs() > MAX_SKEW_MS {
        return Err(S3Error::new(Code::RequestTimeTooSkewed)
            .with("RequestTime", date.as_str())
            .with("ServerTime", sigv4::rfc3339(now))
            .with("MaxAllowedSkewMilliseconds", MAX_SKEW_MS.to_string()));
    }
    if scope.date != date.day() {
        return Err(malformed(&format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            date.day()
        )));
    }
    let payload_hash = match parts.headers.get(CONTENT_SHA256) {
        Some(value) => value.to_str().map_err(|_| invalid_content_sha256(""))?,
        None => {
            return Err(S3Error::new(Code::InvalidRequest)
                .message("Missing required header for this request: x-amz-content-sha256"));
        }
    };
    Ok(Claim {
        scope,
        date,
        signed_headers,
        signature,
        payload_hash: payload_hash.to_owned(),
    })
}

/// Reads `Credential=…, SignedHeaders=…, Signature=…`, in any order.
fn parse_fields(fields: &str) -> Result<(Scope, String, String), S3Error> {
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    let fields: Vec<&str> = fields.split(',').map(str::trim).collect();
    if fields.len() != 3 {
        return Err(malformed(
            "the authorization header requires three components: Credential, SignedHeaders, and \
             Signature.",
        ));
    }
    for field in fields {
        let (name, value) = field.split_once('=').ok_or_else(|| {
            malformed(&format!(
                "the authorization component \"{field}\" is malformed."
            ))
        })?;
        match name {
            "Credential" => credential = Some(value),
            "SignedHeaders" => signed_headers = Some(value),
            "Signature" => signature = Some(value),
            // Three they are, so one of the others is missing.
            _ => {}
        }
    }
    let required = |slot: Option<&str>, name: &str| match slot {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(malformed(&format!("missing {name}."))),
    };
    let credential = required(credential, "Credential")?;
    let scope = Scope::parse(&credential).map_err(|error| malformed(&error.to_string()))?;
    Ok((
        scope,
        required(signed_headers, "SignedHeaders")?,
        required(signature, "Signature")?,
    ))
}

fn header_date(headers: &HeaderMap) -> Result<AmzDate, S3Error> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let date = if headers.contains_key("x-amz-date") {
        text("x-amz-date").and_then(AmzDate::parse_http)
    } else {
        text("date").and_then(AmzDate::parse_http)
    };
    date.ok_or_else(|| {
        S3Error::new(Code::AccessDenied)
            .message("AWS authentication requires a valid Date or x-amz-date header")
    })
}

/// `host` and every `x-amz-*` header must be signed, so that nobody can add one on the way.
///
/// Two are bound without being in the list: the content hash is the canonical request's last line,
/// and the date of a header signature stands in the string to sign.
fn check_signed_headers(parts: &Parts, claim: &Claim) -> Result<(), S3Error> {
    let signed = |name: &str| claim.signed_headers.split(';').any(|listed| listed == name);
    let by_header = parts.headers.contains_key(http::header::AUTHORIZATION);
    // What came in a link's query is signed with it, if it is what counts.
    let hoisted = match by_header {
        true => Vec::new(),
        false => presigned::headers_of_link(parts),
    };
    let in_link = |name: &str| {
        let of_name = hoisted.iter().filter(|(hoisted, _)| hoisted == name);
        let values = parts.headers.get_all(name).iter();
        of_name.map(|(_, value)| value).eq(values)
    };
    let is_bound =
        |name: &str| name == CONTENT_SHA256 || (name == "x-amz-date" && by_header) || in_link(name);
    let mut unsigned: Vec<&str> = parts
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && !is_bound(name) && !signed(name))
        .collect();
    if !signed("host") {
        unsigned.push("host");
    }
    if unsigned.is_empty() {
        return Ok(());
    }
    unsigned.sort_unstable();
    Err(S3Error::new(Code::AccessDenied)
        .message("There were headers present in the request which were not signed")
        .with("HeadersNotSigned", unsigned.join(", ")))
}

pub(super) fn does_not_match(access_key: &str, provided: &str, string_to_sign: &[u8]) -> S3Error {
    S3Error::new(Code::SignatureDoesNotMatch)
        .with("AWSAccessKeyId", access_key)
        .with("StringToSign", String::from_utf8_lossy(string_to_sign))
        .with("SignatureProvided", provided)
        .with("StringToSignBytes", spaced_hex(string_to_sign))
}

pub(super) fn unknown_key(access_key: &str) -> S3Error {
    S3Error::new(Code::InvalidAccessKeyId).with("AWSAccessKeyId", access_key)
}

/// A body nobody signed may still declare its hash or come in unsigned chunks.
fn unsigned_payload(headers: &HeaderMap) -> Result<Payload, S3Error> {
    let Some(value) = headers.get(CONTENT_SHA256) else {
        return Ok(Payload::Unsigned);
    };
    let text = value.to_str().map_err(|_| invalid_content_sha256(""))?;
    match PayloadKind::parse(text)? {
        PayloadKind::Sha256(hash) => Ok(Payload::Sha256(hash)),
        PayloadKind::Unsigned => Ok(Payload::Unsigned),
        PayloadKind::UnsignedChunks => Ok(Payload::UnsignedChunks),
        // Chunk signatures need a key.
        PayloadKind::SignedChunks { .. } => Err(S3Error::new(Code::AccessDenied)),
    }
}

/// Signature Version 2 knows no chunks: kept as they come they would be taken for the object.
fn refuse_chunks(headers: &HeaderMap) -> Result<(), S3Error> {
    let says = |name: &str, word: &str| {
        let values = headers.get_all(name).iter();
        let mut texts = values.filter_map(|value| value.to_str().ok());
        texts.any(|text| text.to_ascii_lowercase().contains(word))
    };
    match says("content-encoding", "aws-chunked") || says(CONTENT_SHA256, "streaming-") {
        true => Err(S3Error::not_implemented(
            "A body in aws-chunked coding with Signature Version 2",
        )),
        false => Ok(()),
    }
}

/// A payload as `x-amz-content-sha256` names it.
enum PayloadKind {
    Sha256([u8; 32]),
    Unsigned,
    SignedChunks { trailer: bool },
    UnsignedChunks,
}

impl PayloadKind {
    fn parse(text: &str) -> Result<PayloadKind, S3Error> {
        match text {
            UNSIGNED_PAYLOAD => Ok(PayloadKind::Unsigned),
            STREAMING_SIGNED => Ok(PayloadKind::SignedChunks { trailer: false }),
            STREAMING_SIGNED_TRAILER => Ok(PayloadKind::SignedChunks { trailer: true }),
            STREAMING_UNSIGNED_TRAILER => Ok(PayloadKind::UnsignedChunks),
            "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
            | "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER" => Err(ecdsa_not_implemented()),
            _ => {
                let mut hash = [0; 32];
                hex::decode_to_slice(text, &mut hash).map_err(|_| invalid_content_sha256(text))?;
                Ok(PayloadKind::Sha256(hash))
            }
        }
    }

    fn with_signature(self, claim: Claim, key: SigningKey) -> Payload {
        match self {
            PayloadKind::Sha256(hash) => Payload::Sha256(hash),
            PayloadKind::Unsigned => Payload::Unsigned,
            PayloadKind::UnsignedChunks => Payload::UnsignedChunks,
            PayloadKind::SignedChunks { trailer } => Payload::SignedChunks {
                chain: SignatureChain::new(key, &claim.date, &claim.scope, claim.signature),
                trailer,
            },
        }
    }
}

pub(super) fn invalid_content_sha256(value: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message(
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, \
             STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, \
             STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
        .with("ArgumentName", CONTENT_SHA256)
        .with("ArgumentValue", value)
}

pub(super) fn ecdsa_not_implemented() -> S3Error {
    S3Error::new(Code::NotImplemented).message("AWS4-ECDSA-P256-SHA256 is not implemented")
}

pub(super) fn two_mechanisms(header: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        )
        .with("ArgumentName", "Authorization")
        .with("ArgumentValue", header)
}

pub(super) fn v2_not_supported() -> S3Error {
    S3Error::new(Code::InvalidRequest).message(
        "The authorization mechanism you have provided is not supported. Please use \
         AWS4-HMAC-SHA256.",
    )
}

fn unsupported_authorization(header: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message("Unsupported Authorization Type")
        .with("ArgumentName", "Authorization")
        .with("ArgumentValue", header)
}

fn malformed(reason: &str) -> S3Error {
    S3Error::new(Code::AuthorizationHeaderMalformed)
        .message(format!("The authorization header is malformed; {reason}"))
}

fn spaced_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&hex::encode([*byte]));
    }
    out
}
