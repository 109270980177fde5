//! Credentials in the fields of a POST form: its policy is what is signed, by Signature Version 4
//! or 2. What the policy says is none of this module's business.

use crate::authenticate::{
    Verifier, authorization, does_not_match, two_mechanisms, unknown_key, v2_not_supported,
};
use crate::claim::ecdsa_not_implemented;
use crate::identity::Identity;
use crate::v2;
use crate::v4::canonical::{self, ALGORITHM, AmzDate, Scope, ScopeError, SigningKey};
use crate::v4::link::QueryAuth;
use drystone_http::request::Head;
use drystone_protocol::error::{Code, S3Error};
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

impl Verifier {
    /// Who signed the form's policy; nobody, if it bears no credentials. Such a form must have
    /// none beside its fields either.
    pub fn authenticate_form(&self, head: &Head, fields: &Fields) -> Result<Identity, S3Error> {
        if let Some(header) = authorization(&head.headers)? {
            return Err(two_mechanisms(header));
        }
        if QueryAuth::read(&head.query).is_present() {
            return Err(two_mechanisms(""));
        }
        let field = |name: &str| fields.get(&name.to_ascii_lowercase());
        let any = |names: &[&str]| names.iter().any(|name| field(name).is_some());
        let (names, is_v4): (&[&'static str], _) = match (any(&OF_V4), any(&OF_V2)) {
            (false, false) => return Ok(Identity::Anonymous),
            (true, true) => return Err(two_mechanisms("")),
            (is_v4, _) => (if is_v4 { &OF_V4 } else { &OF_V2 }, is_v4),
        };
        if !is_v4 && !self.also.signature_v2 {
            return Err(v2_not_supported());
        }
        let absent = names.iter().chain(&["Policy"]);
        if let Some(name) = absent.copied().find(|name| field(name).is_none()) {
            return Err(missing(name));
        }
        if field("x-amz-security-token").is_some() {
            return Err(S3Error::new(Code::InvalidToken));
        }
        let text = |name| field(name).unwrap_or_default();
        let policy = text("Policy");
        let (access_key, provided, computed) = if is_v4 {
            let scope = scope(
                text("X-Amz-Algorithm"),
                text("X-Amz-Credential"),
                text("X-Amz-Date"),
            )?;
            let (secret, _) = self.credentials.find(&scope.access_key);
            let computed = SigningKey::derive(secret, &scope).sign(policy);
            (scope.access_key, text("X-Amz-Signature"), computed)
        } else {
            let access_key = text("AWSAccessKeyId").to_owned();
            let (secret, _) = self.credentials.find(&access_key);
            let computed = v2::sign(secret, policy.as_bytes());
            (access_key, text("Signature"), computed)
        };
        let matches = canonical::same_signature(&computed, provided);
        match self.credentials.find(&access_key).1 {
            Some(principal) if matches => Ok(Identity::Principal(principal.clone())),
            Some(_) => Err(does_not_match(&access_key, provided, policy.as_bytes())),
            None => Err(unknown_key(&access_key)),
        }
    }
}

/// What the three fields say that a signature of Version 4 is for.
fn scope(algorithm: &str, credential: &str, date: &str) -> Result<Scope, S3Error> {
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
    let scope = Scope::parse(credential).map_err(|error| match error {
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
    Ok(scope)
}
