//! Forms: who signed the policy.

use super::*;
use crate::sign::SignerV2;
use drystone_protocol::form_fields::Fields;

/// The policy of the form that AWS's documentation signs, to the byte.
const POLICY: &str = "{ \"expiration\": \"2015-12-30T12:00:00.000Z\",\r\n  \
    \"conditions\": [\r\n    \
    {\"bucket\": \"sigv4examplebucket\"},\r\n    \
    [\"starts-with\", \"$key\", \"user/user1/\"],\r\n    \
    {\"acl\": \"public-read\"},\r\n    \
    {\"success_action_redirect\": \
    \"http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html\"},\r\n    \
    [\"starts-with\", \"$Content-Type\", \"image/\"],\r\n    \
    {\"x-amz-meta-uuid\": \"14365123651274\"},\r\n    \
    {\"x-amz-server-side-encryption\": \"AES256\"},\r\n    \
    [\"starts-with\", \"$x-amz-meta-tag\", \"\"],\r\n\r\n    \
    {\"x-amz-credential\": \"AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request\"},\r\n    \
    {\"x-amz-algorithm\": \"AWS4-HMAC-SHA256\"},\r\n    \
    {\"x-amz-date\": \"20151229T000000Z\" }\r\n  ]\r\n}";

fn signed() -> Vec<(&'static str, String)> {
    let then = AmzDate::parse("20151229T000000Z").unwrap().time();
    let signer = Signer::new(KEY, &Secret::from(SECRET), "us-east-1", then).unwrap();
    signer.sign_policy(POLICY)
}

fn signed_v2() -> Vec<(&'static str, String)> {
    SignerV2::new(KEY, &Secret::from(SECRET)).sign_policy(POLICY)
}

fn check_on(
    parts: &Parts,
    pairs: &[(&'static str, String)],
    signature_v2: bool,
) -> Result<Identity, S3Error> {
    let mut fields = Fields::default();
    pairs
        .iter()
        .for_each(|(name, value)| fields.push(name, value));
    let verifier = verifier(Leniency {
        signature_v2,
        portless_host: false,
    });
    let head = received(parts, &[], Scheme::Http);
    let authenticated = verifier.authenticate_form(&head, &fields).now_or_never();
    authenticated.unwrap().map(|found| found.identity)
}

fn check_form(pairs: &[(&'static str, String)]) -> Result<Identity, S3Error> {
    check_on(&request("POST", "/", &[]), pairs, true)
}

/// The fields with one of them changed.
fn changed(
    pairs: &[(&'static str, String)],
    name: &str,
    change: impl Fn(&str) -> String,
) -> Vec<(&'static str, String)> {
    let change = |(field, value): &(&'static str, String)| match *field == name {
        true => (*field, change(value)),
        false => (*field, value.clone()),
    };
    pairs.iter().map(change).collect()
}

fn without(pairs: &[(&'static str, String)], names: &[&str]) -> Vec<(&'static str, String)> {
    let mut kept = pairs.to_vec();
    kept.retain(|(name, _)| !names.contains(name));
    kept
}

#[test]
fn s_15_the_form_that_aws_signs() {
    let pairs = signed();
    let signature = pairs.iter().find(|(name, _)| *name == "x-amz-signature");
    assert_eq!(
        signature.unwrap().1,
        "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"
    );
    assert_eq!(
        check_form(&pairs).unwrap().principal().unwrap().user,
        "alice"
    );
    let capitals = [
        ("x-amz-algorithm", "X-Amz-Algorithm"),
        ("policy", "Policy"),
        ("x-amz-signature", "X-Amz-Signature"),
    ];
    let rename = |(name, value): (&'static str, String)| {
        let found = capitals.iter().find(|(small, _)| *small == name);
        (found.map_or(name, |(_, capital)| *capital), value)
    };
    let renamed: Vec<_> = pairs.into_iter().map(rename).collect();
    assert!(check_form(&renamed).is_ok());
}

#[test]
fn w_06_a_form_signed_by_version_2_passes_where_that_is_on() {
    let pairs = signed_v2();
    assert_eq!(
        check_form(&pairs).unwrap().principal().unwrap().user,
        "alice"
    );
    let off = check_on(&request("POST", "/", &[]), &pairs, false).unwrap_err();
    assert_eq!(off.code(), Code::InvalidRequest);
}

#[test]
fn a_01_a_form_with_anything_changed_that_is_signed() {
    for (pairs, signature) in [(signed(), "x-amz-signature"), (signed_v2(), "signature")] {
        let cut = changed(&pairs, "policy", |policy| {
            policy[..policy.len() - 4].to_owned()
        });
        let error = check_form(&cut).unwrap_err();
        assert_eq!(error.code(), Code::SignatureDoesNotMatch);
        let sent = &cut.iter().find(|(name, _)| *name == "policy").unwrap().1;
        assert_eq!(error.element("StringToSign"), Some(sent.as_str()));
        assert_eq!(error.element("AWSAccessKeyId"), Some(KEY));
        assert!(
            error
                .element("StringToSignBytes")
                .unwrap()
                .starts_with("65 79 41 69")
        );
        assert!(!format!("{error:?}").contains(SECRET));
        let flipped = changed(&pairs, signature, |text| text.chars().rev().collect());
        assert_eq!(
            check_form(&flipped).unwrap_err().code(),
            Code::SignatureDoesNotMatch
        );
        // A second field of the name is joined to the first.
        let doubled = [&pairs[..], &[("policy", "e30=".to_owned())]].concat();
        assert_eq!(
            check_form(&doubled).unwrap_err().code(),
            Code::SignatureDoesNotMatch
        );
    }
    let elsewhere = changed(&signed(), "x-amz-credential", |text| {
        text.replace("us-east-1", "eu")
    });
    assert_eq!(
        check_form(&elsewhere).unwrap_err().code(),
        Code::SignatureDoesNotMatch
    );
}

#[test]
fn a_18_an_unknown_key_in_a_form() {
    let v4 = changed(&signed(), "x-amz-credential", |text| {
        text.replace(KEY, "other")
    });
    let v2 = changed(&signed_v2(), "AWSAccessKeyId", |_| "other".to_owned());
    for pairs in [v4, v2] {
        let error = check_form(&pairs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidAccessKeyId);
        assert_eq!(error.element("AWSAccessKeyId"), Some("other"));
    }
}

#[test]
fn s_15_fields_that_are_missing_are_named() {
    let first_missing = |pairs: &[(&'static str, String)]| {
        let error = check_form(pairs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let name = error.element("ArgumentName").unwrap().to_owned();
        assert_eq!(
            error.text(),
            format!(
                "Bucket POST must contain a field named '{name}'.  If it is specified, please \
                 check the order of the fields."
            )
        );
        name
    };
    let (v4, v2) = (signed(), signed_v2());
    assert_eq!(
        first_missing(&without(&v4, &["x-amz-signature"])),
        "X-Amz-Signature"
    );
    let both = ["x-amz-algorithm", "x-amz-credential"];
    assert_eq!(first_missing(&without(&v4, &both)), "X-Amz-Algorithm");
    assert_eq!(first_missing(&without(&v4, &["policy"])), "Policy");
    assert_eq!(first_missing(&without(&v2, &["signature"])), "Signature");
    assert_eq!(
        first_missing(&without(&v2, &["AWSAccessKeyId"])),
        "AWSAccessKeyId"
    );
    let nobody = without(&v2, &["AWSAccessKeyId", "signature"]);
    assert_eq!(check_form(&nobody).unwrap(), Identity::Anonymous);
}

#[test]
fn a_17_fields_that_make_no_signature() {
    let v4 = signed();
    let empty_key = |text: &str| text.replace(KEY, "");
    for (pairs, name) in [
        (
            changed(&v4, "x-amz-algorithm", |_| "AWS4".into()),
            "X-Amz-Algorithm",
        ),
        (
            changed(&v4, "x-amz-credential", |_| "x".into()),
            "X-Amz-Credential",
        ),
        (
            changed(&v4, "x-amz-credential", empty_key),
            "X-Amz-Credential",
        ),
        (
            changed(&v4, "x-amz-date", |_| "yesterday".into()),
            "X-Amz-Date",
        ),
        (
            changed(&v4, "x-amz-date", |_| "20151230T000000Z".into()),
            "X-Amz-Credential",
        ),
    ] {
        let error = check_form(&pairs).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.element("ArgumentName"), Some(name));
    }
    let token = [&v4[..], &[("x-amz-security-token", "t".to_owned())]].concat();
    assert_eq!(check_form(&token).unwrap_err().code(), Code::InvalidToken);
}

#[test]
fn a_04_credentials_beside_a_form_or_of_both_versions() {
    let both = [signed(), without(&signed_v2(), &["policy"])].concat();
    let mut with_header = request("POST", "/", &[]);
    signer().sign_body(&mut with_header, b"").unwrap();
    let in_query = request("POST", "/?X-Amz-Credential=x", &[]);
    let nothing = request("POST", "/", &[]);
    for (parts, pairs) in [
        (&nothing, both),
        (&with_header, signed()),
        (&in_query, signed()),
    ] {
        let error = check_on(parts, &pairs, true).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}
