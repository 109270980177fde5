//! Canonical request, string to sign, key: pure.
//!
//! The canonical request is made from the request as it was received: the raw path and query,
//! decoded once and encoded again by S3's rules, and the raw headers. Nothing is normalised: `//`,
//! `.` and `..` in a path are bytes of a key. Server and signing client share this code.
//!
//! Signing keys are derived for each request again (four short HMACs, one to two microseconds)
//! instead of being cached: a cache would answer faster for keys that exist than for others.

use std::fmt;

use drystone_store::types::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::credentials::Secret;
use crate::message::Message;
use crate::v4::signed_headers::SignedHeaders;
use drystone_protocol::percent::{self, Decoded};
use drystone_protocol::query::Query;

pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
pub const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// SHA-256 of no bytes, in hex.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const AMZ_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// The service that a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceName {
    S3,
    Iam,
    Sts,
}

impl ServiceName {
    /// The name as credential scopes have it.
    pub fn text(self) -> &'static str {
        match self {
            ServiceName::S3 => "s3",
            ServiceName::Iam => "iam",
            ServiceName::Sts => "sts",
        }
    }

    /// Whether requests must declare the hash of their body. Where they need not, the body is read
    /// before its signature is verified.
    pub fn demands_content_hash(self) -> bool {
        self == ServiceName::S3
    }
}

/// The scope of a signature: one key, one day, one region, one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key: String,
    /// `YYYYMMDD`.
    pub date: String,
    pub region: String,
    pub service: ServiceName,
}

/// The reason why a credential could not be read; the texts follow AWS's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    #[error(
        "the Credential is mal-formed; expecting \
         \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
    )]
    Malformed,
    #[error(
        "incorrect date format \"{0}\". This date in the credential must be in the format \
         \"yyyyMMdd\"."
    )]
    Date(String),
    #[error("incorrect service \"{given}\". This endpoint belongs to \"{}\".", expected.text())]
    Service {
        given: String,
        expected: ServiceName,
    },
    #[error("incorrect terminal \"{0}\". This endpoint uses \"aws4_request\".")]
    Terminal(String),
}

impl Scope {
    /// Reads `key/date/region/SERVICE/aws4_request`. The key may hold slashes itself; any region is
    /// accepted, even none, as mc signs its requests to an administrator.
    pub fn parse(credential: &str, expected: ServiceName) -> Result<Scope, ScopeError> {
        let mut fields = credential.rsplitn(5, '/');
        let mut field = || fields.next().ok_or(ScopeError::Malformed);
        let (terminator, service, region, date) = (field()?, field()?, field()?, field()?);
        let access_key = field()?;
        if access_key.is_empty() {
            return Err(ScopeError::Malformed);
        }
        if terminator != TERMINATOR {
            return Err(ScopeError::Terminal(terminator.to_owned()));
        }
        if service != expected.text() {
            let given = service.to_owned();
            return Err(ScopeError::Service { given, expected });
        }
        if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ScopeError::Date(date.to_owned()));
        }
        Ok(Scope {
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: expected,
        })
    }
}

impl fmt::Display for Scope {
    /// The scope as it stands in a string to sign: without the access key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.service.text();
        write!(f, "{}/{}/{service}/{TERMINATOR}", self.date, self.region)
    }
}

/// The time of a signature, to the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmzDate {
    /// `YYYYMMDDTHHMMSSZ`.
    text: String,
    time: Timestamp,
}

impl AmzDate {
    /// Reads the form of `x-amz-date`.
    pub fn parse(text: &str) -> Option<AmzDate> {
        let shape = |(i, b): (usize, u8)| match i {
            8 => b == b'T',
            15 => b == b'Z',
            _ => b.is_ascii_digit(),
        };
        if text.len() != 16 || !text.bytes().enumerate().all(shape) {
            return None;
        }
        let time = PrimitiveDateTime::parse(text, AMZ_DATE).ok()?.assume_utc();
        Some(AmzDate {
            text: text.to_owned(),
            time: Timestamp(time.unix_timestamp() * 1000),
        })
    }

    /// Reads a `Date` header: HTTP's form or that of `x-amz-date`.
    pub fn parse_http(text: &str) -> Option<AmzDate> {
        if let Some(date) = AmzDate::parse(text) {
            return Some(date);
        }
        let time = OffsetDateTime::parse(text, &Rfc2822).ok()?;
        AmzDate::at(Timestamp(time.unix_timestamp() * 1000))
    }

    /// `None` outside the years 0 to 9999.
    pub fn at(time: Timestamp) -> Option<AmzDate> {
        let utc = OffsetDateTime::from_unix_timestamp(time.seconds()).ok()?;
        let text = utc.format(AMZ_DATE).ok()?;
        AmzDate::parse(&text)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `YYYYMMDD`.
    pub fn day(&self) -> &str {
        &self.text[..8]
    }

    pub fn time(&self) -> Timestamp {
        self.time
    }
}

/// A time as error documents show it: `2013-05-24T00:00:00Z`.
pub fn rfc3339(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(time.seconds())
        .ok()
        .and_then(|utc| utc.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// The key that signs one day's requests to one region.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SigningKey {
    pub fn derive(secret: &Secret, scope: &Scope) -> SigningKey {
        let seed = [b"AWS4", secret.expose().as_bytes()].concat();
        let date = hmac(&seed, scope.date.as_bytes());
        let region = hmac(&date, scope.region.as_bytes());
        let service = hmac(&region, scope.service.text().as_bytes());
        SigningKey(hmac(&service, TERMINATOR.as_bytes()))
    }

    /// The signature in hex.
    pub fn sign(&self, string_to_sign: &str) -> String {
        hex::encode(hmac(&self.0, string_to_sign.as_bytes()))
    }
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    Hmac::<Sha256>::new_from_slice(key)
        .expect("HMAC takes keys of any length")
        .chain_update(data)
        .finalize()
        .into_bytes()
        .into()
}

/// Compares signatures in a time that does not depend on where they differ.
pub fn same_signature(computed: &str, provided: &str) -> bool {
    computed.as_bytes().ct_eq(provided.as_bytes()).into()
}

/// A receiver of a canonical request, which comes piece by piece. The whole is never in memory
/// while a signature is verified.
trait Out {
    fn put(&mut self, bytes: &[u8]);
}

impl Out for Sha256 {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// The beginning of a text.
struct Beginning {
    bytes: Vec<u8>,
    len_max: usize,
}

impl Out for Beginning {
    fn put(&mut self, bytes: &[u8]) {
        let len = bytes.len().min(self.len_max - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..len]);
    }
}

/// A request as a signature of Version 4 covers it.
#[derive(Clone, Copy, Debug)]
pub struct CanonicalRequest<'a> {
    pub message: Message<'a>,
    /// A header that it names and that is not there counts as empty.
    pub signed_headers: &'a SignedHeaders,
    pub payload_hash: &'a str,
}

impl CanonicalRequest<'_> {
    /// Returns the SHA-256 of its text, which stands in the string to sign.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.write(&mut hash);
        hash.finalize().into()
    }

    /// Returns its text, or at most `len_max` bytes of it.
    pub fn beginning(&self, len_max: usize) -> Vec<u8> {
        let bytes = Vec::new();
        let mut beginning = Beginning { bytes, len_max };
        self.write(&mut beginning);
        beginning.bytes
    }

    fn write(&self, out: &mut impl Out) {
        let message = &self.message;
        out.put(message.method.as_str().as_bytes());
        out.put(b"\n");
        canonical_path(out, message.path);
        out.put(b"\n");
        canonical_query(out, message.query);
        out.put(b"\n");
        for name in self.signed_headers.names() {
            canonical_header(out, message, name);
        }
        out.put(b"\n");
        for (at, name) in self.signed_headers.names().enumerate() {
            if at > 0 {
                out.put(b";");
            }
            out.put(name.as_bytes());
        }
        out.put(b"\n");
        out.put(self.payload_hash.as_bytes());
    }
}

/// `digest`: that of the canonical request.
pub fn string_to_sign(date: &AmzDate, scope: &Scope, digest: &[u8; 32]) -> String {
    let digest = hex::encode(digest);
    format!("{ALGORITHM}\n{}\n{scope}\n{digest}", date.as_str())
}

fn canonical_path(out: &mut impl Out, raw: &str) {
    if raw.is_empty() {
        out.put(b"/");
    }
    let decoded = Decoded::read(raw);
    for (at, segment) in decoded.bytes().split(|byte| *byte == b'/').enumerate() {
        if at > 0 {
            out.put(b"/");
        }
        push_encoded(out, segment);
    }
}

/// All parameters but the signature itself, known or not, sorted by encoded name and value.
fn canonical_query(out: &mut impl Out, query: &Query) {
    let encode = |decoded: &Decoded| {
        let mut encoded = Vec::with_capacity(decoded.bytes().len());
        let pieces = percent::encode(decoded.bytes());
        pieces.for_each(|text| encoded.extend_from_slice(text.as_bytes()));
        encoded
    };
    let all = query.parameters().iter().map(|parameter| {
        let value = parameter.value.as_ref().map(encode);
        (encode(&parameter.name), value.unwrap_or_default())
    });
    let mut parameters: Vec<(Vec<u8>, Vec<u8>)> =
        all.filter(|(name, _)| name != b"X-Amz-Signature").collect();
    parameters.sort_unstable();
    for (i, (name, value)) in parameters.iter().enumerate() {
        if i > 0 {
            out.put(b"&");
        }
        out.put(name);
        out.put(b"=");
        out.put(value);
    }
}

/// `name:value`, where values of one name are joined by commas, and white space around and within
/// them counts as one space or none.
fn canonical_header(out: &mut impl Out, message: &Message<'_>, name: &str) {
    out.put(name.as_bytes());
    out.put(b":");
    let mut values = message.headers.get_all(name).iter().peekable();
    if values.peek().is_none() && name == "host" {
        // HTTP/2 carries it as `:authority`.
        out.put(message.authority.as_bytes());
    }
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.put(b",");
        }
        let words = value.as_bytes().split(|b| matches!(b, b' ' | b'\t'));
        for (j, word) in words.filter(|word| !word.is_empty()).enumerate() {
            if j > 0 {
                out.put(b" ");
            }
            out.put(word);
        }
    }
    out.put(b"\n");
}

fn push_encoded(out: &mut impl Out, bytes: &[u8]) {
    percent::encode(bytes).for_each(|text| out.put(text.as_bytes()));
}
