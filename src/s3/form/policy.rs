//! The policy of a POST form: what whoever signed it allows. Its language, and a form held against
//! it: pure.
//!
//! The texts of its errors are AWS's own, as people match on them.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::types::Timestamp;
use serde_json::{Map, Value};

use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::form_fields::{Field, Fields};
use drystone_protocol::response;

/// Fields that no condition need name: they are the signature's own, or decide nothing. A checksum
/// can only refuse a file, so that AWS wants it named and we do not.
const EXEMPT: [&str; 6] = [
    "policy",
    "x-amz-signature",
    "signature",
    "awsaccesskeyid",
    "content-md5",
    "x-amz-checksum-algorithm",
];
const EXEMPT_PREFIXES: [&str; 2] = ["x-ignore-", "x-amz-checksum-"];

#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    expiration: Timestamp,
    conditions: Vec<Condition>,
}

#[derive(Debug, PartialEq, Eq)]
struct Condition {
    test: Test,
    /// As errors show it.
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Test {
    Equals {
        field: String,
        value: String,
    },
    StartsWith {
        field: String,
        prefix: String,
    },
    Length(RangeInclusive<u64>),
    /// A condition that makes no sense and is still no error of the document: it fails.
    Never,
}

impl Policy {
    /// Reads the field `policy`.
    pub fn parse(encoded: &str) -> Result<Policy, S3Error> {
        // Some encoders break lines.
        let packed: String = encoded.split_ascii_whitespace().collect();
        let document = BASE64
            .decode(packed)
            .map_err(|_| invalid("invalid Base64 encoding."))?;
        let Ok(Value::Object(document)) = serde_json::from_slice(&document) else {
            return Err(invalid_json());
        };
        let known = ["expiration", "conditions"];
        if let Some(name) = document.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(invalid(format!("Unexpected: '{}'", name.to_lowercase())));
        }
        let expiration = match document.get("expiration") {
            None => return Err(invalid("Policy missing expiration.")),
            Some(Value::String(text)) => expiration(text)?,
            Some(_) => return Err(invalid_json()),
        };
        let conditions = match document.get("conditions") {
            None => return Err(invalid("Policy missing conditions.")),
            Some(Value::Array(list)) => list.iter().map(condition).collect::<Result<_, _>>()?,
            Some(_) => return Err(invalid("Invalid 'conditions' value: must be a List.")),
        };
        Ok(Policy {
            expiration,
            conditions,
        })
    }

    /// Holds the form against the policy: each condition must be met, and each field be named by
    /// one. The bucket counts as a field, whether the form names it or not. Gives the lengths that
    /// the file may have.
    pub fn check(
        &self,
        fields: &Fields,
        bucket: &str,
        now: Timestamp,
    ) -> Result<RangeInclusive<u64>, S3Error> {
        if now.0 >= self.expiration.0 {
            return Err(denied("Policy expired."));
        }
        let mut length = 0..=u64::MAX;
        for condition in &self.conditions {
            if let Test::Length(range) = &condition.test {
                let least = *range.start().max(length.start());
                length = least..=*range.end().min(length.end());
            }
            if !condition.test.holds(fields, bucket) {
                return Err(denied(format!(
                    "Policy Condition failed: {}",
                    condition.text
                )));
            }
        }
        let is_covered = |name: &str| self.conditions.iter().any(|one| one.test.names(name));
        if !is_covered("bucket") {
            return Err(denied("Extra input fields: bucket"));
        }
        let is_free = |field: &Field| is_exempt(&field.lower) || is_covered(&field.lower);
        match fields.iter().find(|field| !is_free(field)) {
            None => Ok(length),
            Some(field) => Err(denied(format!("Extra input fields: {}", field.name))),
        }
    }
}

impl Test {
    fn holds(&self, fields: &Fields, bucket: &str) -> bool {
        // The bucket is the one written to, and a field must not say otherwise.
        let values = |field: &str| match field {
            "bucket" => vec![bucket, fields.get(field).unwrap_or(bucket)],
            _ => fields.get(field).into_iter().collect(),
        };
        let all = |field: &str, test: &dyn Fn(&str) -> bool| {
            let values = values(field);
            !values.is_empty() && values.into_iter().all(test)
        };
        match self {
            Test::Equals { field, value } => all(field, &|found| found == value),
            Test::StartsWith { field, prefix } if field == "content-type" => all(field, &|found| {
                let mut members = found.split(',').map(str::trim_start);
                members.all(|member| member.starts_with(prefix.as_str()))
            }),
            Test::StartsWith { field, prefix } => {
                all(field, &|found| found.starts_with(prefix.as_str()))
            }
            // The file's length shows when it has come.
            Test::Length(_) => true,
            Test::Never => false,
        }
    }

    fn names(&self, name: &str) -> bool {
        match self {
            Test::Equals { field, .. } | Test::StartsWith { field, .. } => field == name,
            Test::Length(_) | Test::Never => false,
        }
    }
}

fn is_exempt(name: &str) -> bool {
    let mut prefixes = EXEMPT_PREFIXES.iter();
    EXEMPT.contains(&name) || prefixes.any(|prefix| name.starts_with(prefix))
}

/// A time in the form that AWS takes: in UTC, with the letters.
fn expiration(text: &str) -> Result<Timestamp, S3Error> {
    let shaped = text.as_bytes().get(10) == Some(&b'T') && text.ends_with('Z');
    Some(text)
        .filter(|_| shaped)
        .and_then(response::parse_iso_date)
        .ok_or_else(|| invalid(format!("Invalid 'expiration' value: '{text}'")))
}

fn condition(value: &Value) -> Result<Condition, S3Error> {
    match value {
        Value::Object(pairs) => simple_condition(pairs),
        Value::Array(items) => list_condition(items),
        _ => Err(invalid("Invalid condition test: must be a List or Object.")),
    }
}

/// `{"field": "value"}`.
fn simple_condition(pairs: &Map<String, Value>) -> Result<Condition, S3Error> {
    let simple = |message| invalid(format!("Invalid Simple-Condition: {message}"));
    let mut pairs = pairs.iter();
    let (Some((field, value)), None) = (pairs.next(), pairs.next()) else {
        return Err(simple(
            "Simple-Conditions must have exactly one property specified.",
        ));
    };
    match value {
        Value::String(value) => Ok(Condition {
            text: shown(&[
                "eq".into(),
                format!("${field}").into(),
                value.clone().into(),
            ]),
            test: Test::Equals {
                field: field.to_ascii_lowercase(),
                value: value.clone(),
            },
        }),
        Value::Null => Err(invalid_json()),
        _ => Err(simple("value must be a string.")),
    }
}

/// `["eq", "$field", "value"]` and its like.
fn list_condition(items: &[Value]) -> Result<Condition, S3Error> {
    let (operation, operands) = match items {
        [] => {
            return Err(invalid("Invalid Condition: missing operation identifier."));
        }
        [Value::String(operation), operands @ ..] => (operation, operands),
        _ => return Err(invalid_json()),
    };
    let lower = operation.to_ascii_lowercase();
    if !["eq", "starts-with", "content-length-range"].contains(&lower.as_str()) {
        return Err(invalid(format!(
            "Invalid Condition: unknown operation '{operation}'."
        )));
    }
    let [first, second] = operands else {
        return Err(invalid(format!(
            "Invalid {operation}: wrong number of arguments."
        )));
    };
    let test = match (lower.as_str(), first, second) {
        ("content-length-range", ..) => length_range(first, second)?,
        (operation, Value::String(field), Value::String(value)) => {
            let value = value.clone();
            match field.strip_prefix('$').map(str::to_ascii_lowercase) {
                None => Test::Never,
                Some(field) if operation == "eq" => Test::Equals { field, value },
                Some(field) => Test::StartsWith {
                    field,
                    prefix: value,
                },
            }
        }
        _ => return Err(invalid_json()),
    };
    Ok(Condition {
        test,
        text: shown(items),
    })
}

fn length_range(least: &Value, most: &Value) -> Result<Test, S3Error> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_i64().map(Some).ok_or_else(invalid_json),
        Value::String(text) => Ok(text.parse::<i64>().ok()),
        _ => Err(invalid_json()),
    };
    Ok(match (number(least)?, number(most)?) {
        // A file is never shorter than nothing, whatever the least is.
        (Some(least), Some(most)) if most >= 0 => {
            Test::Length(least.max(0).unsigned_abs()..=most.unsigned_abs())
        }
        _ => Test::Never,
    })
}

fn shown(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(Value::to_string).collect();
    format!("[{}]", items.join(", "))
}

fn invalid_json() -> S3Error {
    invalid("Invalid JSON.")
}

fn invalid(reason: impl AsRef<str>) -> S3Error {
    S3Error::new(Code::InvalidPolicyDocument)
        .message(format!("Invalid Policy: {}", reason.as_ref()))
}

fn denied(reason: impl AsRef<str>) -> S3Error {
    let message = format!("Invalid according to Policy: {}", reason.as_ref());
    S3Error::new(Code::AccessDenied).message(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::ops::RangeInclusive;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use drystone_store::types::Timestamp;

    use super::Policy;
    use drystone_protocol::form_fields::Fields;

    const NOW: Timestamp = Timestamp(1_451_347_200_000);

    fn parse(document: &str) -> Result<Policy, String> {
        Policy::parse(&BASE64.encode(document)).map_err(|error| error.to_string())
    }

    /// These conditions, and one for the bucket `b`, held against `name=value` fields.
    fn check(conditions: &str, fields: &[(&str, &str)]) -> Result<RangeInclusive<u64>, String> {
        let mut form = Fields::default();
        fields
            .iter()
            .for_each(|(name, value)| form.push(name, value));
        let document =
            format!("{{\"expiration\": \"2015-12-29T01:00:00Z\", \"conditions\": [{conditions}]}}");
        let checked = parse(&document)?.check(&form, "b", NOW);
        checked.map_err(|error| error.text().to_owned())
    }

    fn passes(conditions: &str, fields: &[(&str, &str)]) -> bool {
        check(&format!("{{\"bucket\": \"b\"}}, {conditions}"), fields).is_ok()
    }

    #[test]
    fn s_15_a_15_conditions_hold_or_not() {
        let key = |value| [("key", value)];
        let kind = |value| [("Content-Type", value)];
        for (conditions, fields, expected) in [
            (r#"{"key": "k"}"#, key("k"), true),
            (r#"{"key": "k"}"#, key("K"), false),
            (r#"["eq", "$key", "k"]"#, key("k"), true),
            (r#"["EQ", "$KeY", "k"]"#, key("k"), true),
            (r#"["eq", "key", "k"]"#, key("k"), false),
            (r#"["eq", "$key", "k"], {"key": "x"}"#, key("k"), false),
            (r#"["StArTs-WiTh", "$key", "a/"]"#, key("a/b"), true),
            (r#"["starts-with", "$key", "a/"]"#, key("A/b"), false),
            (r#"["starts-with", "$key", "a/"]"#, key("b/a/"), false),
            (r#"["starts-with", "$key", "\\$a"]"#, key("\\$ab"), true),
            (r#"["starts-with", "$key", ""]"#, key("x"), true),
            (
                r#"["starts-with", "$content-type", "image/"]"#,
                kind("image/a, image/b"),
                true,
            ),
            (
                r#"["starts-with", "$content-type", "image/"]"#,
                kind("image/a,text/b"),
                false,
            ),
            (r#"["starts-with", "$key", "a"]"#, key("ab,c"), true),
            (
                r#"{"key": "k"}, ["starts-with", "$acl", ""]"#,
                key("k"),
                false,
            ),
            (r#"{"key": "k"}, {"bucket": "c"}"#, key("k"), false),
        ] {
            assert_eq!(
                passes(conditions, &fields),
                expected,
                "{conditions} {fields:?}"
            );
        }
        // Of two fields of one name both count.
        assert!(!passes(r#"{"key": "k"}"#, &[("key", "k"), ("Key", "evil")]));
        assert!(passes(r#"{"key": "k,l"}"#, &[("key", "k"), ("Key", "l")]));
    }

    #[test]
    fn s_15_a_16_each_field_is_named_by_a_condition_and_so_is_the_bucket() {
        let named = r#"{"key": "k"}, {"bucket": "b"}"#;
        let with = |name| check(named, &[("key", "k"), (name, "b")]).err();
        for free in [
            "policy",
            "X-Amz-Signature",
            "Signature",
            "AWSAccessKeyId",
            "x-ignore-this",
            "bucket",
        ] {
            assert_eq!(with(free), None, "{free}");
        }
        let extra = |name| {
            Some(format!(
                "Invalid according to Policy: Extra input fields: {name}"
            ))
        };
        for name in [
            "acl",
            "StorageClass",
            "x-amz-meta-a",
            "x-amz-security-token",
            "",
        ] {
            assert_eq!(with(name), extra(name));
        }
        assert_eq!(
            check(r#"{"key": "k"}"#, &[("key", "k")]).err(),
            extra("bucket")
        );
        let other = check(named, &[("key", "k"), ("bucket", "c")]).unwrap_err();
        let failed = "Invalid according to Policy: Policy Condition failed: ";
        assert_eq!(other, format!(r#"{failed}["eq", "$bucket", "b"]"#));
    }

    #[test]
    fn s_15_what_fails_is_shown_as_the_policy_writes_it() {
        let failed = "Invalid according to Policy: Policy Condition failed: ";
        for (condition, text) in [
            (r#"{"acl":"private"}"#, r#"["eq", "$acl", "private"]"#),
            (r#"["Eq","$X-A","a\"b"]"#, r#"["Eq", "$X-A", "a\"b"]"#),
            (
                r#"["content-length-range","a",5]"#,
                r#"["content-length-range", "a", 5]"#,
            ),
        ] {
            assert_eq!(
                check(condition, &[]).unwrap_err(),
                format!("{failed}{text}")
            );
        }
    }

    #[test]
    fn s_15_lengths() {
        let range = |text: &str| {
            let conditions = format!("{{\"bucket\": \"b\"}}{text}");
            check(&conditions, &[]).map(RangeInclusive::into_inner)
        };
        assert_eq!(range(""), Ok((0, u64::MAX)));
        assert_eq!(range(r#", ["content-length-range", 5, 10]"#), Ok((5, 10)));
        assert_eq!(
            range(r#", ["content-length-range", "5", "10"]"#),
            Ok((5, 10))
        );
        assert_eq!(range(r#", ["content-length-range", -1, 0]"#), Ok((0, 0)));
        let two = r#", ["content-length-range", 5, 10], ["content-length-range", 1, 7]"#;
        assert_eq!(range(two), Ok((5, 7)));
        assert!(range(r#", ["content-length-range", 0, -1]"#).is_err());
    }

    #[test]
    fn s_15_documents_that_are_no_policy() {
        let dated = |rest: &str| format!("{{\"expiration\": \"2015-12-29T01:00:00.000Z\"{rest}}}");
        let with = |condition: &str| dated(&format!(", \"conditions\": [{condition}]"));
        for (document, message) in [
            ("".to_owned(), "Invalid JSON."),
            ("[]".to_owned(), "Invalid JSON."),
            (
                "{\"conditions\": []}".to_owned(),
                "Policy missing expiration.",
            ),
            (dated(""), "Policy missing conditions."),
            (dated(", \"CONDITIONS\": []"), "Unexpected: 'conditions'"),
            (
                dated(", \"conditions\": {}"),
                "Invalid 'conditions' value: must be a List.",
            ),
            (
                "{\"expiration\": \"2015-12-29 01:00:00Z\", \"conditions\": []}".to_owned(),
                "Invalid 'expiration' value: '2015-12-29 01:00:00Z'",
            ),
            (
                "{\"expiration\": \"2015-12-29T01:00:00+02:00\", \"conditions\": []}".to_owned(),
                "Invalid 'expiration' value: '2015-12-29T01:00:00+02:00'",
            ),
            (
                with("{}"),
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property \
                 specified.",
            ),
            (
                with("{\"a\": \"b\", \"c\": \"d\"}"),
                "Invalid Simple-Condition: Simple-Conditions must have exactly one property \
                 specified.",
            ),
            (
                with("{\"a\": 1}"),
                "Invalid Simple-Condition: value must be a string.",
            ),
            (with("{\"a\": null}"), "Invalid JSON."),
            (
                with("[]"),
                "Invalid Condition: missing operation identifier.",
            ),
            (
                with("[\"ne\", \"$a\", \"b\"]"),
                "Invalid Condition: unknown operation 'ne'.",
            ),
            (
                with("[\"eq\", \"$a\"]"),
                "Invalid eq: wrong number of arguments.",
            ),
            (
                with("[\"content-length-range\", 0]"),
                "Invalid content-length-range: wrong number of arguments.",
            ),
            (with("[\"content-length-range\", 0, 1.5]"), "Invalid JSON."),
            (
                with("\"x\""),
                "Invalid condition test: must be a List or Object.",
            ),
        ] {
            let expected = format!("InvalidPolicyDocument: Invalid Policy: {message}");
            assert_eq!(parse(&document), Err(expected), "{document}");
        }
        let error = Policy::parse("!").unwrap_err();
        assert_eq!(error.text(), "Invalid Policy: invalid Base64 encoding.");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&with(&deep)).is_err());
    }

    #[test]
    fn s_15_a_policy_expires() {
        let policy = parse("{\"expiration\": \"2015-12-29T00:00:00Z\", \"conditions\": []}");
        let policy = policy.unwrap();
        let expired = policy.check(&Fields::default(), "b", NOW).unwrap_err();
        assert_eq!(
            expired.text(),
            "Invalid according to Policy: Policy expired."
        );
        let before = policy
            .check(&Fields::default(), "b", Timestamp(NOW.0 - 1))
            .unwrap_err();
        assert_ne!(before.text(), expired.text());
    }
}
