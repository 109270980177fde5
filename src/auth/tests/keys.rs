//! Keys that are looked up, and signatures for other services than S3.

use async_trait::async_trait;

use super::*;
use crate::credentials::AccessKey;
use crate::identity::{SignaturePlace, SignatureVersion, Signing};
use crate::keys::{KeyError, KeySource};

/// A source that cannot be asked.
#[derive(Debug)]
struct Offline;

#[async_trait]
impl KeySource for Offline {
    async fn find(&self, _: &str, _: Option<&str>) -> Result<Option<AccessKey>, KeyError> {
        Err(KeyError::Unavailable("no majority".to_owned()))
    }
}

/// A source whose only key has a session token.
#[derive(Debug)]
struct Temporary;

#[async_trait]
impl KeySource for Temporary {
    async fn find(&self, id: &str, token: Option<&str>) -> Result<Option<AccessKey>, KeyError> {
        match token {
            Some("t") => keys().find(id, None).await,
            Some(_) => Err(KeyError::InvalidToken),
            None => Ok(None),
        }
    }
}

const STRICT: Leniency = Leniency {
    signature_v2: true,
    portless_host: false,
};

fn over(keys: impl KeySource + 'static) -> Verifier {
    Verifier {
        keys: Arc::new(keys),
        ..verifier(STRICT)
    }
}

fn code_with(verifier: &Verifier, parts: &Parts) -> Option<Code> {
    let head = received(parts, &domains(), Scheme::Http);
    let error = verify(verifier, &head, now()).err();
    error.map(|error| error.code())
}

#[test]
fn s_40_keys_that_cannot_be_looked_up_are_no_denial() {
    let offline = over(Offline);
    for parts in [signed("GET", "/k", &[]), presigned("GET", "/k", &[])] {
        let head = received(&parts, &domains(), Scheme::Http);
        let error = verify(&offline, &head, now()).unwrap_err();
        assert_eq!(error.code(), Code::ServiceUnavailable);
        assert_eq!(error.status(), 503);
    }
    // A request without credentials needs no key.
    assert_eq!(code_with(&offline, &request("GET", "/k", &[])), None);
}

#[test]
fn s_40_a_session_token_is_looked_up_with_its_key() {
    let temporary = over(Temporary);
    let in_header = |token: &str| signed("GET", "/k", &[("x-amz-security-token", token)]);
    assert_eq!(code_with(&temporary, &in_header("t")), None);
    let refused = code_with(&temporary, &in_header("other"));
    assert_eq!(refused, Some(Code::InvalidToken));
    let without = code_with(&temporary, &signed("GET", "/k", &[]));
    assert_eq!(without, Some(Code::InvalidAccessKeyId));
    let in_link = presigned("GET", "/k?X-Amz-Security-Token=t", &[]);
    assert_eq!(code_with(&temporary, &in_link), None);
}

/// The example of AWS's page on signing: a call of IAM, which declares no hash of its body.
fn list_users() -> Parts {
    let mut parts = request(
        "GET",
        "/?Action=ListUsers&Version=2010-05-08",
        &[
            (
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            ),
            ("x-amz-date", "20150830T123600Z"),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ],
    );
    set(&mut parts, "host", "iam.amazonaws.com");
    parts
}

#[test]
fn s_40_aws_example_of_a_signature_for_another_service() {
    let key = AccessKey {
        id: "AKIDEXAMPLE".into(),
        secret: Secret::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        ..keys()
            .find(KEY, None)
            .now_or_never()
            .unwrap()
            .unwrap()
            .unwrap()
    };
    let verifier = |service| Verifier {
        keys: Arc::new(FixedKeys::new([key.clone()]).unwrap()),
        service,
        leniency: STRICT,
    };
    let now = AmzDate::parse("20150830T123600Z").unwrap().time();
    let head = received(&list_users(), &[], Scheme::Http);
    let check = |service, body: Option<&[u8]>| {
        let verifier = verifier(service);
        let authenticated = verifier.authenticate_with(&head, body, now).now_or_never();
        let authenticated = authenticated.unwrap();
        authenticated
            .map(|found| found.signing)
            .map_err(|error| error.code())
    };
    let signing = Signing {
        version: SignatureVersion::V4,
        place: SignaturePlace::Header,
        signed_at: Some(now),
    };
    assert_eq!(check(ServiceName::Iam, Some(b"")), Ok(Some(signing)));
    let mismatch = check(ServiceName::Iam, Some(b"Action=DeleteUser"));
    assert_eq!(mismatch, Err(Code::SignatureDoesNotMatch));
    // Without the body nobody can say what was signed.
    let unread = check(ServiceName::Iam, None);
    assert_eq!(unread, Err(Code::InvalidRequest));
    for service in [ServiceName::S3, ServiceName::Sts] {
        let other = check(service, Some(b""));
        assert_eq!(other, Err(Code::AuthorizationHeaderMalformed));
    }
}

#[test]
fn s_40_what_a_signature_says_of_itself() {
    let signing = |parts: &Parts| check(parts).unwrap().signing;
    let header = signing(&signed("GET", "/k", &[])).unwrap();
    assert_eq!(header.place, SignaturePlace::Header);
    assert_eq!(header.signed_at, Some(now()));
    let link = signing(&presigned("GET", "/k", &[])).unwrap();
    assert_eq!(link.place, SignaturePlace::Query);
    assert_eq!(link.version, SignatureVersion::V4);
    assert_eq!(signing(&request("GET", "/k", &[])), None);
}

#[test]
fn s_40_session_tokens_are_not_valid_yet() {
    let header = signed("GET", "/k", &[("x-amz-security-token", "t")]);
    assert_eq!(code(&header), Code::InvalidToken);
    let query = presigned("GET", "/k?X-Amz-Security-Token=t", &[]);
    assert_eq!(code(&query), Code::InvalidToken);
}
