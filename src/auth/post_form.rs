//! Credentials in the fields of a POST form: its policy is what is signed, by Signature Version 4
//! or 2. This module does not read the policy.

use std::sync::Arc;

use drystone_store::types::Timestamp;

use crate::authenticate::{
    Verifier, authorization, does_not_match, two_mechanisms, unknown_key, v2_not_supported,
};
use crate::claim::ecdsa_not_implemented;
use crate::credentials::{Candidate, Principal};
use crate::identity::{
    Authenticated, Identity, Payload, SignaturePlace, SignatureVersion, Signing,
};
use crate::v2;
use crate::v4::canonical::{self, ALGORITHM, AmzDate, Scope, ScopeError, ServiceName, SigningKey};
use crate::v4::link::QueryAuth;
use drystone_http::request::Head;
use drystone_protocol::error::S3Error;
use drystone_protocol::form_fields::{Fields, missing};

/// The fields that make a form one of a version, as errors name them, in the order in which their
/// absence is noticed.
const OF_V4: [&str; 4] = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Signature",
    "X-Amz-Date",
];
const OF_V2: [&str; 2] = ["AWSAccessKeyId", "Signature"];

/// A form's claim, and the key that it names.
struct FormClaim<'a> {
    access_key: String,
    /// The scope of a signature by Version 4.
    scope: Option<Scope>,
    signature: &'a str,
    policy: &'a str,
    session_token: Option<&'a str>,
    signed_at: Option<Timestamp>,
}

impl Verifier {
    /// Verifies the signature of the form's policy. A form without credentials is anonymous, and
    /// must have none beside its fields either.
    pub async fn authenticate_form(
        &self,
        head: &Head,
        fields: &Fields,
    ) -> Result<Authenticated, S3Error> {
        let payload = Payload::Unsigned;
        let Some(claim) = self.read_form(head, fields)? else {
            return Ok(Authenticated {
                identity: Identity::Anonymous,
                payload,
                signing: None,
            });
        };
        let candidate = self.look_up(&claim.access_key, claim.session_token);
        let principal = claim.verify(&candidate.await?)?;
        let version = match claim.scope {
            Some(_) => SignatureVersion::V4,
            None => SignatureVersion::V2,
        };
        Ok(Authenticated {
            identity: Identity::Principal(principal),
            payload,
            signing: Some(Signing {
                version,
                place: SignaturePlace::Form,
                signed_at: claim.signed_at,
            }),
        })
    }

    fn read_form<'a>(
        &self,
        head: &Head,
        fields: &'a Fields,
    ) -> Result<Option<FormClaim<'a>>, S3Error> {
        if let Some(header) = authorization(&head.headers)? {
            return Err(two_mechanisms(header));
        }
        if QueryAuth::read(&head.query).is_present() {
            return Err(two_mechanisms(""));
        }
        let field = |name: &str| fields.get(&name.to_ascii_lowercase());
        let any = |names: &[&str]| names.iter().any(|name| field(name).is_some());
        let (names, is_v4): (&[&'static str], _) = match (any(&OF_V4), any(&OF_V2)) {
            (false, false) => return Ok(None),
            (true, true) => return Err(two_mechanisms("")),
            (is_v4, _) => (if is_v4 { &OF_V4 } else { &OF_V2 }, is_v4),
        };
        if !is_v4 && !self.leniency.signature_v2 {
            return Err(v2_not_supported());
        }
        let absent = names.iter().chain(&["Policy"]);
        if let Some(name) = absent.copied().find(|name| field(name).is_none()) {
            return Err(missing(name));
        }
        let text = |name| field(name).unwrap_or_default();
        let mut claim = FormClaim {
            access_key: text("AWSAccessKeyId").to_owned(),
            scope: None,
            signature: text("Signature"),
            policy: text("Policy"),
            session_token: field("x-amz-security-token"),
            signed_at: None,
        };
        if is_v4 {
            let [algorithm, credential, signature, date] = OF_V4.map(text);
            let (scope, date) = scope(algorithm, credential, date, self.service)?;
            claim.access_key = scope.access_key.clone();
            claim.scope = Some(scope);
            claim.signature = signature;
            claim.signed_at = Some(date.time());
        }
        Ok(Some(claim))
    }
}

impl FormClaim<'_> {
    fn verify(&self, candidate: &Candidate) -> Result<Arc<Principal>, S3Error> {
        let secret = &candidate.secret;
        let computed = match &self.scope {
            Some(scope) => SigningKey::derive(secret, scope).sign(self.policy),
            None => v2::sign(secret, self.policy.as_bytes()),
        };
        let matches = canonical::same_signature(&computed, self.signature);
        match &candidate.principal {
            Some(principal) if matches => Ok(principal.clone()),
            Some(_) => {
                let policy = self.policy.as_bytes();
                Err(does_not_match(&self.access_key, self.signature, policy))
            }
            None => Err(unknown_key(&self.access_key)),
        }
    }
}

/// Reads the scope and the date of a signature by Version 4.
fn scope(
    algorithm: &str,
    credential: &str,
    date: &str,
    service: ServiceName,
) -> Result<(Scope, AmzDate), S3Error> {
    if algorithm == "AWS4-ECDSA-P256-SHA256" {
        return Err(ecdsa_not_implemented());
    }
    if algorithm != ALGORITHM {
        let message =
            "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"";
        return Err(S3Error::invalid_argument(
            message,
            "X-Amz-Algorithm",
            algorithm,
        ));
    }
    let invalid =
        |message: String| S3Error::invalid_argument(message, "X-Amz-Credential", credential);
    let scope = Scope::parse(credential, service).map_err(|error| match error {
        ScopeError::Malformed if credential.starts_with('/') => {
            invalid("a non-empty Access Key (AKID) must be provided in the credential.".to_owned())
        }
        error => invalid(error.to_string()),
    })?;
    let date = AmzDate::parse(date).ok_or_else(|| {
        let message = "X-Amz-Date must be formated via ISO8601 Long format";
        S3Error::invalid_argument(message, "X-Amz-Date", date)
    })?;
    if scope.date != date.day() {
        return Err(invalid(format!(
            "Invalid credential date \"{}\". This date is not the same as X-Amz-Date: \"{}\".",
            scope.date,
            date.day()
        )));
    }
    Ok((scope, date))
}
