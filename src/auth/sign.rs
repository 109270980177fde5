//! The client's side of Signature Version 4: signs requests, URLs and `aws-chunked` bodies; and of
//! Version 2: requests and URLs; and by both of them: policies of forms.
//!
//! For the command line's client verbs and for tests. It shares the canonical request with the
//! server; that both are right is proved by AWS's published examples.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::types::Timestamp;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Uri};
use sha2::{Digest as _, Sha256};

use crate::credentials::Secret;
use crate::message::Message;
use crate::v2;
use crate::v4::canonical::{
    self, ALGORITHM, AmzDate, CanonicalRequest, Scope, ServiceName, SigningKey, UNSIGNED_PAYLOAD,
};
use crate::v4::chunks::{SignatureChain, Trailer};
use crate::v4::signed_headers::SignedHeaders;
use drystone_protocol::percent::encode_text;
use drystone_protocol::query::Query;

/// Headers that a client or a proxy may change on the way.
const NEVER_SIGNED: [&str; 4] = ["authorization", "connection", "expect", "user-agent"];

/// Signs with one key, for one region, at one time.
#[derive(Clone, Debug)]
pub struct Signer {
    scope: Scope,
    date: AmzDate,
    key: SigningKey,
}

/// The reason why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("the time lies outside the years 0 to 9999")]
    Time,
    #[error("not a header value: {0}")]
    Header(#[from] http::header::InvalidHeaderValue),
    #[error("not a uri: {0}")]
    Uri(#[from] http::Error),
}

impl Signer {
    pub fn new(
        access_key: &str,
        secret: &Secret,
        region: &str,
        now: Timestamp,
    ) -> Result<Signer, SignError> {
        let date = AmzDate::at(now).ok_or(SignError::Time)?;
        let scope = Scope {
            access_key: access_key.to_owned(),
            date: date.day().to_owned(),
            region: region.to_owned(),
            service: ServiceName::S3,
        };
        Ok(Signer {
            key: SigningKey::derive(secret, &scope),
            scope,
            date,
        })
    }

    /// Signs every header there is; gives the signature. `payload_hash` is the body's SHA-256 in
    /// hex, or one of the words that `x-amz-content-sha256` may hold. `host` must be set.
    pub fn sign(&self, parts: &mut Parts, payload_hash: &str) -> Result<String, SignError> {
        let headers = &mut parts.headers;
        headers.insert("x-amz-date", HeaderValue::from_str(self.date.as_str())?);
        headers.insert("x-amz-content-sha256", HeaderValue::from_str(payload_hash)?);
        let signed_headers = SignedHeaders::of(&parts.headers, &NEVER_SIGNED);
        let signature = self.signature(parts, &signed_headers, payload_hash);
        let authorization = format!(
            "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
            self.scope.access_key,
            self.scope,
            signed_headers.text()
        );
        parts.headers.insert(
            http::header::AUTHORIZATION,
            HeaderValue::from_str(&authorization)?,
        );
        Ok(signature)
    }

    /// Signs for a body that is at hand.
    pub fn sign_body(&self, parts: &mut Parts, body: &[u8]) -> Result<String, SignError> {
        self.sign(parts, &hex::encode(Sha256::digest(body)))
    }

    /// Puts the signature into the query: a URL that is good for `expires_seconds`. The headers
    /// that are set now must be sent with it.
    pub fn presign(&self, parts: &mut Parts, expires_seconds: u32) -> Result<(), SignError> {
        let signed_headers = SignedHeaders::of(&parts.headers, &NEVER_SIGNED);
        let credential = format!("{}/{}", self.scope.access_key, self.scope);
        let mut query = match parts.uri.query() {
            Some(query) if !query.is_empty() => format!("{query}&"),
            _ => String::new(),
        };
        query.push_str(&format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date={}\
             &X-Amz-Expires={expires_seconds}&X-Amz-SignedHeaders={}",
            encode_text(&credential),
            self.date.as_str(),
            encode_text(&signed_headers.text())
        ));
        parts.uri = with_query(&parts.uri, &query)?;
        let signature = self.signature(parts, &signed_headers, UNSIGNED_PAYLOAD);
        parts.uri = with_query(&parts.uri, &format!("{query}&X-Amz-Signature={signature}"))?;
        Ok(())
    }

    /// Signs the headers and each chunk; gives the body to send. With a trailer, that is signed
    /// too. `parts` must not have a content length yet.
    pub fn sign_chunks(
        &self,
        parts: &mut Parts,
        body: &[u8],
        chunk_len: usize,
        trailer: Option<(HeaderName, String)>,
    ) -> Result<Vec<u8>, SignError> {
        let payload = match trailer {
            Some(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
            None => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        };
        declare_chunks(parts, body.len(), trailer.as_ref())?;
        let seed = self.sign(parts, payload)?;
        let mut chain = SignatureChain::new(self.key.clone(), &self.date, &self.scope, seed);
        let mut out = Vec::with_capacity(body.len() + 1024);
        for chunk in body.chunks(chunk_len.max(1)).chain([&[][..]]) {
            let signature = chain.sign_chunk(&Sha256::digest(chunk).into());
            let head = format!("{:x};chunk-signature={signature}\r\n", chunk.len());
            out.extend_from_slice(head.as_bytes());
            if !chunk.is_empty() {
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
        }
        if let Some((name, value)) = trailer {
            let trailer = Trailer {
                headers: vec![(name.as_str().to_owned(), value)],
                signature: None,
            };
            let canonical = trailer.canonical();
            let signature = chain.sign_trailer(&Sha256::digest(&canonical).into());
            out.extend_from_slice(canonical.trim_ascii_end());
            out.extend_from_slice(b"\r\nx-amz-trailer-signature:");
            out.extend_from_slice(signature.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(out)
    }

    /// Signs the headers alone; gives the body in unsigned chunks with a trailer.
    pub fn sign_unsigned_chunks(
        &self,
        parts: &mut Parts,
        body: &[u8],
        chunk_len: usize,
        trailer: (HeaderName, String),
    ) -> Result<Vec<u8>, SignError> {
        declare_chunks(parts, body.len(), Some(&trailer))?;
        self.sign(parts, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")?;
        let mut out = Vec::with_capacity(body.len() + 1024);
        for chunk in body.chunks(chunk_len.max(1)) {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        let (name, value) = trailer;
        out.extend_from_slice(format!("0\r\n{name}:{value}\r\n\r\n").as_bytes());
        Ok(out)
    }

    /// Signs a form's policy; gives the fields to send with it. The policy must name the first
    /// three, by their values, as [`Signer::policy_fields`] gives them.
    pub fn sign_policy(&self, policy: &str) -> Vec<(&'static str, String)> {
        let encoded = BASE64.encode(policy);
        let mut fields = self.policy_fields();
        fields.push(("x-amz-signature", self.key.sign(&encoded)));
        fields.push(("policy", encoded));
        fields
    }

    /// The fields of a form's signature.
    pub fn policy_fields(&self) -> Vec<(&'static str, String)> {
        let credential = format!("{}/{}", self.scope.access_key, self.scope);
        vec![
            ("x-amz-algorithm", ALGORITHM.to_owned()),
            ("x-amz-credential", credential),
            ("x-amz-date", self.date.as_str().to_owned()),
        ]
    }

    fn signature(
        &self,
        parts: &Parts,
        signed_headers: &SignedHeaders,
        payload_hash: &str,
    ) -> String {
        let query = query_of(parts);
        let canonical = CanonicalRequest {
            message: Message::to_send(parts, &query),
            signed_headers,
            payload_hash,
        };
        let digest = canonical.digest();
        let text = canonical::string_to_sign(&self.date, &self.scope, &digest);
        self.key.sign(&text)
    }
}

/// Signs with one key by Signature Version 2. The caller sets `Date` or `x-amz-date`.
#[derive(Clone, Debug)]
pub struct SignerV2 {
    access_key: String,
    secret: Secret,
}

impl SignerV2 {
    pub fn new(access_key: &str, secret: &Secret) -> SignerV2 {
        SignerV2 {
            access_key: access_key.to_owned(),
            secret: secret.clone(),
        }
    }

    /// Signs what there is. `host_bucket`: the bucket, where the host names it and not the path.
    pub fn sign(&self, parts: &mut Parts, host_bucket: Option<&str>) -> Result<(), SignError> {
        let headers = &parts.headers;
        let date = match headers.get(http::header::DATE) {
            Some(date) if !headers.contains_key("x-amz-date") => date.to_str().unwrap_or_default(),
            _ => "",
        };
        let query = query_of(parts);
        let message = Message::to_send(parts, &query);
        let string_to_sign = v2::string_to_sign(&message, host_bucket, date);
        let signature = v2::sign(&self.secret, &string_to_sign);
        let authorization = format!("{} {}:{signature}", v2::SCHEME, self.access_key);
        parts.headers.insert(
            http::header::AUTHORIZATION,
            HeaderValue::from_str(&authorization)?,
        );
        Ok(())
    }

    /// Signs a form's policy; gives the fields to send with it.
    pub fn sign_policy(&self, policy: &str) -> Vec<(&'static str, String)> {
        let encoded = BASE64.encode(policy);
        vec![
            ("AWSAccessKeyId", self.access_key.clone()),
            ("signature", v2::sign(&self.secret, encoded.as_bytes())),
            ("policy", encoded),
        ]
    }

    /// Puts the signature into the query: a URL that is good until a time in seconds.
    pub fn presign(
        &self,
        parts: &mut Parts,
        host_bucket: Option<&str>,
        expires: i64,
    ) -> Result<(), SignError> {
        let query = query_of(parts);
        let message = Message::to_send(parts, &query);
        let string_to_sign = v2::string_to_sign(&message, host_bucket, &expires.to_string());
        let query = match parts.uri.query() {
            Some(query) if !query.is_empty() => format!("{query}&"),
            _ => String::new(),
        };
        let query = format!(
            "{query}AWSAccessKeyId={}&Signature={}&Expires={expires}",
            encode_text(&self.access_key),
            encode_text(&v2::sign(&self.secret, &string_to_sign))
        );
        parts.uri = with_query(&parts.uri, &query)?;
        Ok(())
    }
}

fn declare_chunks(
    parts: &mut Parts,
    len: usize,
    trailer: Option<&(HeaderName, String)>,
) -> Result<(), SignError> {
    let headers = &mut parts.headers;
    headers.insert("content-encoding", HeaderValue::from_static("aws-chunked"));
    headers.insert("x-amz-decoded-content-length", HeaderValue::from(len));
    if let Some((name, _)) = trailer {
        headers.insert("x-amz-trailer", HeaderValue::from_str(name.as_str())?);
    }
    Ok(())
}

fn query_of(parts: &Parts) -> Query {
    Query::parse(parts.uri.query().unwrap_or_default())
}

fn with_query(uri: &Uri, query: &str) -> Result<Uri, SignError> {
    let mut parts = uri.clone().into_parts();
    let path_and_query = format!("{}?{query}", uri.path());
    parts.path_and_query = Some(path_and_query.try_into().map_err(http::Error::from)?);
    Ok(Uri::from_parts(parts).map_err(http::Error::from)?)
}
