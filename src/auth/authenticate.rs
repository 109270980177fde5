//! Verification: the identity behind a request, and the expectations of its body.
//!
//! It goes in three steps: the claim is read and checked, the key is looked up, the signature is
//! verified. All of it happens before a byte of the body is read. Everything that can be wrong with
//! a signature is found here but the body's own part of it; the returned [`Payload`] says how to
//! check that.
//!
//! A key that does not exist costs what an existing one costs: the signature is computed with a
//! decoy and compared all the same, and only then the two answers part.

use std::sync::Arc;

use drystone_store::types::Timestamp;
use http::{HeaderMap, HeaderValue, header};

use crate::claim::{
    CONTENT_SHA256, Claim, Expected, ecdsa_not_implemented, invalid_content_sha256,
};
use crate::credentials::{Candidate, Principal};
use crate::identity::{
    Authenticated, Identity, Payload, SignaturePlace, SignatureVersion, Signing,
};
use crate::keys::{KeyError, KeySource};
use crate::message::Message;
use crate::v2;
use crate::v4::canonical::{self, CanonicalRequest, ServiceName, SigningKey, UNSIGNED_PAYLOAD};
use crate::v4::chunks::SignatureChain;
use crate::v4::header as v4_header;
use crate::v4::header::{scheme, unsupported_authorization};
use crate::v4::link::{self, QueryAuth};
use drystone_http::request::Head;
use drystone_protocol::error::{Code, S3Error};

const STREAMING_SIGNED: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const STREAMING_SIGNED_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const STREAMING_UNSIGNED_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The most bytes of a text that was signed that an error shows.
const ECHO_BYTES_MAX: usize = 8 << 10;

/// Verifies signatures for one service.
#[derive(Clone, Debug)]
pub struct Verifier {
    pub keys: Arc<dyn KeySource>,
    pub service: ServiceName,
    pub leniency: Leniency,
}

/// The things that are accepted though AWS might refuse them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leniency {
    /// Signature Version 2, which old clients send and some links have.
    pub signature_v2: bool,
    /// A signature over the host without its port, as git-annex makes it.
    pub portless_host: bool,
}

/// A claim that was read and checked, but for its key and its signature.
enum Signed {
    V4 {
        claim: Claim,
        payload: PayloadKind,
    },
    V2 {
        claim: v2::Claim,
        payload: Payload,
        /// The bucket, where the host names it.
        host_bucket: Option<String>,
    },
}

impl Verifier {
    /// Verifies the request's signature, wherever it stands. Without credentials the identity is
    /// [`Identity::Anonymous`].
    pub async fn authenticate(
        &self,
        head: &Head,
        now: Timestamp,
    ) -> Result<Authenticated, S3Error> {
        self.authenticate_with(head, None, now).await
    }

    /// The same for a request whose body has been read. Services other than S3 need that: their
    /// clients sign the body's hash without declaring it.
    pub async fn authenticate_with(
        &self,
        head: &Head,
        body: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Authenticated, S3Error> {
        let service = self.service;
        let Some(signed) = self.read(head, &Expected { service, now, body })? else {
            return Ok(Authenticated {
                identity: Identity::Anonymous,
                payload: unsigned_payload(&head.headers)?,
                signing: None,
            });
        };
        let (access_key, token) = match &signed {
            Signed::V4 { claim, .. } => (&claim.scope.access_key, &claim.session_token),
            Signed::V2 { claim, .. } => (&claim.access_key, &claim.session_token),
        };
        let candidate = self.look_up(access_key, token.as_deref()).await?;
        let signing = signed.signing(head);
        let (principal, payload) = self.verify(head, signed, &candidate)?;
        Ok(Authenticated {
            identity: Identity::Principal(principal),
            payload,
            signing: Some(signing),
        })
    }

    /// Looks the key up: the one place where a session token is refused.
    pub(crate) async fn look_up(
        &self,
        access_key: &str,
        session_token: Option<&str>,
    ) -> Result<Candidate, S3Error> {
        let found = self.keys.find(access_key, session_token).await;
        found.map(Candidate::from).map_err(|error| match error {
            KeyError::InvalidToken => S3Error::new(Code::InvalidToken),
            KeyError::Unavailable(_) => {
                tracing::warn!(%error, "no signature can be verified");
                S3Error::new(Code::ServiceUnavailable)
            }
        })
    }

    /// Reads the claim; `None` if the request has no credentials.
    fn read(&self, head: &Head, expected: &Expected<'_>) -> Result<Option<Signed>, S3Error> {
        let query = QueryAuth::read(&head.query);
        let header = authorization(&head.headers)?;
        let is_v2 = match header {
            Some(header) if query.is_present() => return Err(two_mechanisms(header)),
            None if query.is_v2() && query.is_v4() => return Err(two_mechanisms("")),
            Some(header) => scheme(header)?.0 == v2::SCHEME,
            None => query.is_v2(),
        };
        if is_v2 {
            return self.read_v2(head, header, &query, expected.now).map(Some);
        }
        let claim = match header {
            Some(header) => v4_header::claim(header, &head.headers, expected)?,
            None if query.is_present() => query.claim(&head.headers, expected)?,
            None => return Ok(None),
        };
        let payload = PayloadKind::parse(&claim.payload_hash)?;
        check_signed_headers(head, &claim)?;
        Ok(Some(Signed::V4 { claim, payload }))
    }

    fn read_v2(
        &self,
        head: &Head,
        header: Option<&str>,
        query: &QueryAuth<'_>,
        now: Timestamp,
    ) -> Result<Signed, S3Error> {
        if !self.leniency.signature_v2 {
            return Err(v2_not_supported());
        }
        let claim = match header {
            Some(header) => v2::Claim::from_header(scheme(header)?.1, &head.headers, now)?,
            None => query.claim_v2(head, now)?,
        };
        refuse_chunks(&head.headers)?;
        Ok(Signed::V2 {
            claim,
            payload: unsigned_payload(&head.headers)?,
            host_bucket: head.address.host_bucket.clone()?,
        })
    }

    fn verify(
        &self,
        head: &Head,
        signed: Signed,
        candidate: &Candidate,
    ) -> Result<(Arc<Principal>, Payload), S3Error> {
        match signed {
            Signed::V4 { claim, payload } => {
                let (principal, key) = self.verify_v4(head, &claim, candidate)?;
                Ok((principal, payload.with_signature(claim, key)))
            }
            Signed::V2 {
                claim,
                payload,
                host_bucket,
            } => {
                let principal = verify_v2(head, &claim, host_bucket.as_deref(), candidate)?;
                Ok((principal, payload))
            }
        }
    }

    fn verify_v4(
        &self,
        head: &Head,
        claim: &Claim,
        candidate: &Candidate,
    ) -> Result<(Arc<Principal>, SigningKey), S3Error> {
        let access_key = &claim.scope.access_key;
        let key = SigningKey::derive(&candidate.secret, &claim.scope);
        let mut refused = None;
        // All paths, so that a key that does not exist costs what an existing one costs.
        for path in &head.signed_paths {
            let canonical = canonical_request(Message::received(head, path), claim);
            let text = text_to_sign(&canonical, claim);
            let holds = self.is_signed(head, &canonical, claim, &key, &text);
            match &candidate.principal {
                Some(principal) if holds => return Ok((principal.clone(), key)),
                Some(_) if refused.is_none() => {
                    let error = does_not_match(access_key, &claim.signature, text.as_bytes());
                    let canonical = canonical.beginning(ECHO_BYTES_MAX);
                    let error = error
                        .with("CanonicalRequest", String::from_utf8_lossy(&canonical))
                        .with("CanonicalRequestBytes", spaced_hex(&canonical));
                    refused = Some(error);
                }
                Some(_) => {}
                None => refused = Some(unknown_key(access_key)),
            }
        }
        Err(refused.unwrap_or_else(|| Code::InvalidURI.into()))
    }

    /// Whether the claim's signature is that of the text, or of the request with a host without its
    /// port.
    fn is_signed(
        &self,
        head: &Head,
        canonical: &CanonicalRequest<'_>,
        claim: &Claim,
        key: &SigningKey,
        text: &str,
    ) -> bool {
        let matches = |text: &str| canonical::same_signature(&key.sign(text), &claim.signature);
        if matches(text) {
            return true;
        }
        let Some(headers) = with_portless_host(head, self.leniency.portless_host) else {
            return false;
        };
        let mut portless = *canonical;
        portless.message.headers = &headers;
        let holds = matches(&text_to_sign(&portless, claim));
        if holds {
            let access_key = &claim.scope.access_key;
            // Not louder: whoever knows the decoy's secret can have this for any key that is none.
            tracing::debug!(access_key, "the client signed its host without the port");
        }
        holds
    }
}

impl Signed {
    fn signing(&self, head: &Head) -> Signing {
        let (version, signed_at) = match self {
            Signed::V4 { claim, .. } => (SignatureVersion::V4, Some(claim.date.time())),
            Signed::V2 { claim, .. } => (SignatureVersion::V2, claim.signed_at),
        };
        // An empty header is none, and was passed over.
        let has_header = matches!(authorization(&head.headers), Ok(Some(_)));
        let place = match has_header {
            true => SignaturePlace::Header,
            false => SignaturePlace::Query,
        };
        Signing {
            version,
            place,
            signed_at,
        }
    }
}

fn verify_v2(
    head: &Head,
    claim: &v2::Claim,
    host_bucket: Option<&str>,
    candidate: &Candidate,
) -> Result<Arc<Principal>, S3Error> {
    let is_signed = |text: &[u8]| {
        canonical::same_signature(&v2::sign(&candidate.secret, text), &claim.signature)
    };
    let mut refused = None;
    for path in &head.signed_paths {
        let message = Message::received(head, path);
        let string_to_sign = v2::string_to_sign(&message, host_bucket, &claim.date);
        let others = v2::other_strings_to_sign(&message, host_bucket, &claim.date);
        let others = others.iter().map(|text| is_signed(text));
        let matches = is_signed(&string_to_sign) | others.fold(false, |any, holds| any | holds);
        match &candidate.principal {
            Some(principal) if matches => return Ok(principal.clone()),
            Some(_) if refused.is_none() => {
                let (key, signature) = (&claim.access_key, &claim.signature);
                refused = Some(does_not_match(key, signature, &string_to_sign));
            }
            Some(_) => {}
            None => refused = Some(unknown_key(&claim.access_key)),
        }
    }
    Err(refused.unwrap_or_else(|| Code::InvalidURI.into()))
}

fn canonical_request<'a>(message: Message<'a>, claim: &'a Claim) -> CanonicalRequest<'a> {
    CanonicalRequest {
        message,
        signed_headers: &claim.signed_headers,
        payload_hash: &claim.payload_hash,
    }
}

fn text_to_sign(canonical: &CanonicalRequest<'_>, claim: &Claim) -> String {
    canonical::string_to_sign(&claim.date, &claim.scope, &canonical.digest())
}

/// The headers as a client signs them that leaves the port out of the host; `None` where the host
/// has none. The scheme's own port may always be left out: the host is the same with and without.
fn with_portless_host(head: &Head, any_port: bool) -> Option<HeaderMap> {
    let host = head.headers.get(header::HOST)?.to_str().ok()?;
    let (name, port) = host.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !any_port && port != head.scheme().default_port() {
        return None;
    }
    let name = HeaderValue::from_str(name).ok()?;
    let mut headers = head.headers.clone();
    headers.insert(header::HOST, name);
    Some(headers)
}

/// The Authorization header; an empty one is none.
pub fn authorization(headers: &HeaderMap) -> Result<Option<&str>, S3Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if values.next().is_some() || (text.is_empty() && !value.is_empty()) {
        return Err(unsupported_authorization(text));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// `host` and every `x-amz-*` header must be signed, so that nobody can add one on the way.
///
/// Two are bound without being in the list: the content hash is the canonical request's last line,
/// and the date of a header signature stands in the string to sign.
fn check_signed_headers(head: &Head, claim: &Claim) -> Result<(), S3Error> {
    let signed = |name: &str| claim.signed_headers.has(name);
    // An empty header is none.
    let by_header = authorization(&head.headers)?.is_some();
    // What came in a link's query is signed with it, if it is what counts.
    let hoisted = match by_header {
        true => Vec::new(),
        false => link::headers_of_link(&head.query),
    };
    let in_link = |name: &str| {
        let of_name = hoisted.iter().filter(|(hoisted, _)| hoisted == name);
        let values = head.headers.get_all(name).iter();
        of_name.map(|(_, value)| value).eq(values)
    };
    let is_bound =
        |name: &str| name == CONTENT_SHA256 || (name == "x-amz-date" && by_header) || in_link(name);
    let mut unsigned: Vec<&str> = head
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with("x-amz-") && !signed(name) && !is_bound(name))
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

/// Shows what was signed, or the beginning of it.
pub fn does_not_match(access_key: &str, provided: &str, string_to_sign: &[u8]) -> S3Error {
    let string_to_sign = &string_to_sign[..string_to_sign.len().min(ECHO_BYTES_MAX)];
    S3Error::new(Code::SignatureDoesNotMatch)
        .with("AWSAccessKeyId", access_key)
        .with("StringToSign", String::from_utf8_lossy(string_to_sign))
        .with("SignatureProvided", provided)
        .with("StringToSignBytes", spaced_hex(string_to_sign))
}

pub fn unknown_key(access_key: &str) -> S3Error {
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

/// Refuses chunks, which Signature Version 2 does not know: stored as they come they would become
/// the object.
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

pub fn two_mechanisms(header: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message(
            "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature \
             query string parameter or the Authorization header should be specified",
        )
        .with("ArgumentName", "Authorization")
        .with("ArgumentValue", header)
}

pub fn v2_not_supported() -> S3Error {
    S3Error::new(Code::InvalidRequest).message(
        "The authorization mechanism you have provided is not supported. Please use \
         AWS4-HMAC-SHA256.",
    )
}

fn spaced_hex(bytes: &[u8]) -> String {
    let digits = hex::encode(bytes);
    let mut out = String::with_capacity(bytes.len() * 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && at % 2 == 0 {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}
