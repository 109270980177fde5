//! Credentials in the Authorization header.

use http::HeaderMap;

use crate::claim::{
    CONTENT_SHA256, Claim, Expected, MAX_SKEW_MS, ecdsa_not_implemented, invalid_content_sha256,
};
use crate::v4::canonical::{self, ALGORITHM, AmzDate, Scope, ServiceName};
use crate::v4::signed_headers::SignedHeaders;
use drystone_protocol::error::{Code, S3Error};

/// The Authorization header's first word, and the rest.
pub fn scheme(header: &str) -> Result<(&str, &str), S3Error> {
    header.split_once(' ').ok_or_else(|| {
        S3Error::new(Code::InvalidArgument)
            .message("Authorization header is invalid -- one and only one ' ' (space) required")
            .with("ArgumentName", "Authorization")
            .with("ArgumentValue", header)
    })
}

/// Reads the header's claim, and checks everything of it but the signature and the session token.
pub fn claim(header: &str, headers: &HeaderMap, expected: &Expected<'_>) -> Result<Claim, S3Error> {
    let (algorithm, fields) = scheme(header)?;
    match algorithm {
        ALGORITHM => {}
        "AWS4-ECDSA-P256-SHA256" => return Err(ecdsa_not_implemented()),
        _ => return Err(unsupported_authorization(header)),
    }
    let (scope, signed_headers, signature) = parse_fields(fields, expected.service)?;
    let date = header_date(headers)?;
    let now = expected.now;
    if (date.time().0 - now.0).abs() > MAX_SKEW_MS {
        return Err(S3Error::new(Code::RequestTimeTooSkewed)
            .with("RequestTime", date.as_str())
            .with("ServerTime", canonical::rfc3339(now))
            .with("MaxAllowedSkewMilliseconds", MAX_SKEW_MS.to_string()));
    }
    if scope.date != date.day() {
        return Err(malformed(&format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            date.day()
        )));
    }
    let payload_hash = match headers.get(CONTENT_SHA256) {
        Some(value) => {
            let text = value.to_str().map_err(|_| invalid_content_sha256(""))?;
            text.to_owned()
        }
        None => expected.implied_hash().ok_or_else(|| {
            S3Error::new(Code::InvalidRequest)
                .message("Missing required header for this request: x-amz-content-sha256")
        })?,
    };
    Ok(Claim {
        scope,
        date,
        signed_headers,
        signature,
        payload_hash,
        session_token: session_token(headers),
    })
}

/// Reads `Credential=…, SignedHeaders=…, Signature=…`, in any order.
fn parse_fields(
    fields: &str,
    service: ServiceName,
) -> Result<(Scope, SignedHeaders, String), S3Error> {
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
            // There are three, so one of the others is missing.
            _ => {}
        }
    }
    let required = |slot: Option<&str>, name: &str| match slot {
        Some(value) if !value.is_empty() => Ok(value.to_owned()),
        _ => Err(malformed(&format!("missing {name}."))),
    };
    let credential = required(credential, "Credential")?;
    let scope =
        Scope::parse(&credential, service).map_err(|error| malformed(&error.to_string()))?;
    let signed_headers = required(signed_headers, "SignedHeaders")?;
    let signed_headers = SignedHeaders::parse(&signed_headers);
    Ok((
        scope,
        signed_headers.map_err(|error| malformed(&format!("{error}.")))?,
        required(signature, "Signature")?,
    ))
}

/// The session token that the headers have. One that is no text belongs to no key.
pub fn session_token(headers: &HeaderMap) -> Option<String> {
    let token = headers.get("x-amz-security-token")?;
    Some(String::from_utf8_lossy(token.as_bytes()).into_owned())
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

fn malformed(reason: &str) -> S3Error {
    S3Error::new(Code::AuthorizationHeaderMalformed)
        .message(format!("The authorization header is malformed; {reason}"))
}

pub fn unsupported_authorization(header: &str) -> S3Error {
    S3Error::new(Code::InvalidArgument)
        .message("Unsupported Authorization Type")
        .with("ArgumentName", "Authorization")
        .with("ArgumentValue", header)
}
