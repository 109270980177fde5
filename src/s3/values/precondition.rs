//! Conditional requests in RFC order: pure.
//!
//! Conditions on a read (or on the source of a copy) are decided here, against the version that
//! was opened. Those on a write are only read here: they are decided where the order is.

use drystone_store::objects::{ETagCondition, WriteCondition};
use drystone_store::types::{ETag, Timestamp};
use http::HeaderMap;

use crate::request::Request;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{parse_http_date, parse_iso_date};

pub const IF_MATCH_INITIATED: &str = "x-amz-if-match-initiated-time";

/// Under which names the four conditions come, as errors write them.
#[derive(Debug)]
pub struct Names {
    if_match: &'static str,
    if_none_match: &'static str,
    if_modified_since: &'static str,
    if_unmodified_since: &'static str,
}

pub const READ: Names = Names {
    if_match: "If-Match",
    if_none_match: "If-None-Match",
    if_modified_since: "If-Modified-Since",
    if_unmodified_since: "If-Unmodified-Since",
};

pub const COPY_SOURCE: Names = Names {
    if_match: "x-amz-copy-source-If-Match",
    if_none_match: "x-amz-copy-source-If-None-Match",
    if_modified_since: "x-amz-copy-source-If-Modified-Since",
    if_unmodified_since: "x-amz-copy-source-If-Unmodified-Since",
};

/// The verdict of the conditions about a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Holds,
    /// The client has it already: 304 for a read, 412 for a copy.
    NotModified(&'static str),
    /// 412, and by which condition.
    Failed(&'static str),
}

impl Verdict {
    /// For the source of a copy, where every condition that does not hold is a 412.
    pub fn or_failed(self) -> Result<(), S3Error> {
        match self {
            Verdict::Holds => Ok(()),
            Verdict::NotModified(name) | Verdict::Failed(name) => Err(failed(name)),
        }
    }
}

pub fn failed(condition: &'static str) -> S3Error {
    S3Error::new(Code::PreconditionFailed).with("Condition", condition)
}

/// RFC 9110, section 13.2.2: the ETag decides, and the date only where no ETag is given.
pub fn check(
    headers: &HeaderMap,
    names: &Names,
    etag: ETag,
    modified: Timestamp,
    now: Timestamp,
) -> Verdict {
    let tags = |name: &str| header_tags(headers, name);
    // A date that can't be read is no condition.
    let date = |name: &str| parse_http_date(headers.get(name)?.to_str().ok()?);
    if let Some(tags) = tags(names.if_match) {
        if !matches(&tags, etag) {
            return Verdict::Failed(names.if_match);
        }
    } else if let Some(since) = date(names.if_unmodified_since)
        && modified.seconds() > since.seconds()
    {
        return Verdict::Failed(names.if_unmodified_since);
    }
    if let Some(tags) = tags(names.if_none_match) {
        if matches(&tags, etag) {
            return Verdict::NotModified(names.if_none_match);
        }
    } else if let Some(since) = date(names.if_modified_since)
        // A date that is yet to come is no condition either.
        && since.seconds() <= now.seconds()
        && modified.seconds() <= since.seconds()
    {
        return Verdict::NotModified(names.if_modified_since);
    }
    Verdict::Holds
}

/// `If-Range`: whether the range is still wanted from this version.
pub fn range_applies(headers: &HeaderMap, etag: ETag, modified: Timestamp) -> bool {
    let Some(value) = headers.get("if-range") else {
        return true;
    };
    let Ok(text) = value.to_str() else {
        return false;
    };
    match parse_http_date(text) {
        Some(date) => date.seconds() == modified.seconds(),
        None => parse_tag(text) == Some(etag),
    }
}

/// If-Match and If-None-Match of a PUT, a copy's target or a completion, each with ETags or a star,
/// as RFC 9110 has them. AWS answers 501 to a star in the one, to ETags in the other and to both.
pub fn of_write(headers: &HeaderMap) -> WriteCondition {
    WriteCondition {
        if_match: header_tags(headers, "if-match"),
        if_none_match: header_tags(headers, "if-none-match"),
        ..WriteCondition::default()
    }
}

/// If-Match of a DELETE, and its like for size and time. They are about the current version, so
/// AWS takes no If-Match where another is named.
pub fn of_delete(request: &Request) -> Result<WriteCondition, S3Error> {
    if request.query.has("versionId") && request.headers.contains_key("if-match") {
        return Err(S3Error::new(Code::NotImplemented).with("Header", "If-Match"));
    }
    let size = request.header("x-amz-if-match-size");
    let modified = request.header("x-amz-if-match-last-modified-time");
    let parse_size = |text: &str| {
        text.parse()
            .map_err(|_| invalid("x-amz-if-match-size", text))
    };
    let parse_date = |text: &str| {
        let name = "x-amz-if-match-last-modified-time";
        parse_http_date(text).ok_or_else(|| invalid(name, text))
    };
    Ok(WriteCondition {
        if_match: header_tags(&request.headers, "if-match"),
        if_none_match: None,
        if_match_size: size.map(parse_size).transpose()?,
        if_match_modified: modified.map(parse_date).transpose()?,
    })
}

/// When the upload that an abort means was begun, in whole seconds. On AWS directory buckets alone
/// know it; taken for nothing it would end another upload than the client means.
pub fn of_abort(request: &Request) -> Result<Option<Timestamp>, S3Error> {
    let Some(text) = request.header(IF_MATCH_INITIATED) else {
        return Ok(None);
    };
    let asked = parse_http_date(text).or_else(|| parse_iso_date(text));
    asked
        .map(Some)
        .ok_or_else(|| invalid(IF_MATCH_INITIATED, text))
}

fn invalid(name: &'static str, value: &str) -> S3Error {
    S3Error::invalid_argument(format!("Invalid value for {name}"), name, value)
}

fn header_tags(headers: &HeaderMap, name: &str) -> Option<ETagCondition> {
    let mut values = headers.get_all(name).iter().peekable();
    values.peek()?;
    let texts = values.map(|value| value.to_str().unwrap_or_default());
    Some(parse_tags(&texts.collect::<Vec<_>>().join(",")))
}

/// A list of ETags, with or without their quotes. What can't be a tag of ours matches nothing.
pub fn parse_tags(text: &str) -> ETagCondition {
    let mut items = text.split(',').map(str::trim);
    if items.clone().any(|item| item == "*") {
        return ETagCondition::Any;
    }
    ETagCondition::OneOf(items.by_ref().filter_map(parse_tag).collect())
}

/// `"md5"`, `"md5-parts"`, without quotes, or marked as weak.
pub fn parse_tag(text: &str) -> Option<ETag> {
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    let text = text.strip_prefix('"').unwrap_or(text);
    let text = text.strip_suffix('"').unwrap_or(text);
    let (md5, parts) = match text.split_once('-') {
        Some((md5, parts)) if parts.bytes().all(|c| c.is_ascii_digit()) => {
            (md5, parts.parse().ok().filter(|n| *n > 0)?)
        }
        Some(_) => return None,
        None => (text, 0),
    };
    let mut bytes = [0; 16];
    hex::decode_to_slice(md5, &mut bytes).ok()?;
    Some(ETag { md5: bytes, parts })
}

fn matches(condition: &ETagCondition, etag: ETag) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::OneOf(tags) => tags.contains(&etag),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::objects::ETagCondition;
    use drystone_store::types::{ETag, Timestamp};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{COPY_SOURCE, READ, Verdict, check, of_write, parse_tag, range_applies};

    const TAG: &str = "\"0123456789abcdef0123456789abcdef\"";
    const OTHER: &str = "\"ffffffffffffffffffffffffffffffff\"";
    const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const NOW: Timestamp = Timestamp(784_111_778_100);
    const TO_COME: &str = "Sun, 06 Nov 1994 08:49:39 GMT";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn verdict(pairs: &[(&str, &str)]) -> Verdict {
        let modified = Timestamp(784_111_777_900);
        let tag = parse_tag(TAG).unwrap();
        check(&headers(pairs), &READ, tag, modified, NOW)
    }

    #[test]
    fn s_11_conditions_in_rfc_order() {
        let failed = Verdict::Failed;
        let unmodified = Verdict::NotModified;
        let both = format!("{OTHER}, {TAG}");
        let (im, inm) = ("If-Match", "If-None-Match");
        let (ims, ius) = ("If-Modified-Since", "If-Unmodified-Since");
        let cases: &[(&[(&str, &str)], Verdict)] = &[
            (&[], Verdict::Holds),
            (&[(im, TAG)], Verdict::Holds),
            (&[(im, "*")], Verdict::Holds),
            (&[(im, &TAG[1..33])], Verdict::Holds),
            (&[(im, &both)], Verdict::Holds),
            (&[(im, OTHER), (im, TAG)], Verdict::Holds),
            (&[(im, OTHER)], failed(im)),
            (&[(im, "nonsense")], failed(im)),
            (&[(inm, OTHER)], Verdict::Holds),
            (&[(inm, "nonsense")], Verdict::Holds),
            (&[(inm, TAG)], unmodified(inm)),
            (&[(inm, "*")], unmodified(inm)),
            (&[(ius, AT)], Verdict::Holds),
            (&[(ius, BEFORE)], failed(ius)),
            (&[(ius, "yesterday")], Verdict::Holds),
            (&[(ims, AT)], unmodified(ims)),
            (&[(ims, BEFORE)], Verdict::Holds),
            (&[(ims, AFTER)], unmodified(ims)),
            (&[(ims, TO_COME)], Verdict::Holds),
            (&[(ims, "1994-11-06T08:49:37Z")], Verdict::Holds),
            (&[(ius, TO_COME)], Verdict::Holds),
            (
                &[(im, "W/\"0123456789abcdef0123456789abcdef\"")],
                Verdict::Holds,
            ),
            (
                &[(inm, "W/\"0123456789abcdef0123456789abcdef\"")],
                unmodified(inm),
            ),
            (&[(inm, &both)], unmodified(inm)),
            // The ETag decides, the date beside it nothing.
            (&[(im, TAG), (ius, BEFORE)], Verdict::Holds),
            (&[(inm, OTHER), (ims, AT)], Verdict::Holds),
            (&[(inm, TAG), (ims, BEFORE)], unmodified(inm)),
            // What fails wins over what is not modified.
            (&[(im, OTHER), (inm, TAG)], failed(im)),
            (&[(ius, BEFORE), (inm, TAG)], failed(ius)),
        ];
        for (pairs, expected) in cases {
            assert_eq!(verdict(pairs), *expected, "{pairs:?}");
        }
    }

    #[test]
    fn s_12_conditions_on_a_source_have_their_own_names() {
        let pairs = headers(&[
            ("x-amz-copy-source-if-none-match", TAG),
            ("if-match", OTHER),
        ]);
        let tag = parse_tag(TAG).unwrap();
        let verdict = check(&pairs, &COPY_SOURCE, tag, Timestamp(0), NOW);
        assert_eq!(verdict.or_failed().unwrap_err().status().as_u16(), 412);
    }

    #[test]
    fn s_17_a_write_takes_etags_and_a_star() {
        let tags = |tags: &[&str]| {
            let tags = tags.iter().map(|tag| parse_tag(tag).unwrap());
            Some(ETagCondition::OneOf(tags.collect()))
        };
        let any = || Some(ETagCondition::Any);
        for (pairs, if_match, if_none_match) in [
            (&[][..], None, None),
            (&[("if-match", TAG)], tags(&[TAG]), None),
            (&[("if-match", "*")], any(), None),
            (&[("if-match", "nonsense")], tags(&[]), None),
            (&[("if-none-match", "*")], None, any()),
            (
                &[("if-none-match", TAG), ("if-none-match", OTHER)],
                None,
                tags(&[TAG, OTHER]),
            ),
            (
                &[("if-match", TAG), ("if-none-match", "*")],
                tags(&[TAG]),
                any(),
            ),
        ] {
            let condition = of_write(&headers(pairs));
            assert_eq!(condition.if_match, if_match, "{pairs:?}");
            assert_eq!(condition.if_none_match, if_none_match, "{pairs:?}");
        }
    }

    #[test]
    fn etags_in_all_spellings() {
        let parts = |parts| {
            Some(ETag {
                parts,
                ..parse_tag(TAG).unwrap()
            })
        };
        assert_eq!(
            parse_tag("W/\"0123456789ABCDEF0123456789abcdef-12\""),
            parts(12)
        );
        for text in [
            "",
            "\"\"",
            "0123456789abcdef0123456789abcdef-",
            "x-1",
            "é",
            "a-0",
        ] {
            assert_eq!(parse_tag(text), None, "{text}");
        }
    }

    #[test]
    fn s_11_a_range_of_another_version_is_not_wanted() {
        let modified = Timestamp(784_111_777_900);
        let applies = |value| {
            let headers = headers(&[("if-range", value)]);
            range_applies(&headers, parse_tag(TAG).unwrap(), modified)
        };
        assert!(applies(TAG) && applies(AT));
        assert!(!applies(OTHER) && !applies(BEFORE) && !applies("x"));
    }
}
