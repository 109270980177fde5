//! Tag sets of buckets and objects: their rules, their XML and their header form: pure.

use drystone_store::error::{Error, Refusal};
use drystone_store::types::Tags;

use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::xml::read::Element;
use drystone_protocol::xml::write::Writer;

pub const OBJECT_TAGS_MAX: usize = 10;
pub const BUCKET_TAGS_MAX: usize = 50;
/// In characters.
const KEY_LEN_MAX: usize = 128;
/// In characters.
const VALUE_LEN_MAX: usize = 256;

/// Reads a `Tagging` document's root; at most `max` tags.
pub fn read(root: &Element, max: usize) -> Result<Tags, S3Error> {
    match root.children.as_slice() {
        [set] if set.name == "TagSet" => read_set(set, max),
        _ => Err(S3Error::new(Code::MalformedXML)),
    }
}

/// Reads the element whose children are the tags; at most `max`.
pub fn read_set(set: &Element, max: usize) -> Result<Tags, S3Error> {
    let malformed = || S3Error::new(Code::MalformedXML);
    let mut tags = Tags::new();
    for tag in &set.children {
        let (key, value) = match (tag.child_text("Key"), tag.child_text("Value")) {
            (Some(key), Some(value)) if tag.name == "Tag" => (key, value),
            _ => return Err(malformed()),
        };
        tags.push((key.to_owned(), value.to_owned()));
    }
    check(&tags, max)?;
    Ok(tags)
}

/// Checks the rules for a tag set.
pub fn check(tags: &Tags, max: usize) -> Result<(), S3Error> {
    if tags.len() > max {
        let what = match max {
            OBJECT_TAGS_MAX => "Object tags",
            _ => "Bucket tag count",
        };
        return Err(
            S3Error::new(Code::BadRequest).message(format!("{what} cannot be greater than {max}"))
        );
    }
    for (at, (key, value)) in tags.iter().enumerate() {
        let invalid = |message: &'static str| S3Error::new(Code::InvalidTag).message(message);
        if key.is_empty() || !is_plain(key, KEY_LEN_MAX) {
            return Err(invalid("The TagKey you have provided is invalid").with("TagKey", key));
        }
        if !is_plain(value, VALUE_LEN_MAX) {
            let error = invalid("The TagValue you have provided is invalid");
            return Err(error.with("TagKey", key).with("TagValue", value));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            let message = match max {
                OBJECT_TAGS_MAX => "Your TagKey cannot be prefixed with aws:",
                _ => "System tags cannot be added/updated by requester",
            };
            return Err(invalid(message).with("TagKey", key));
        }
        if tags[..at].iter().any(|(earlier, _)| earlier == key) {
            let error = invalid("Cannot provide multiple Tags with the same key");
            return Err(error.with("TagKey", key));
        }
    }
    Ok(())
}

/// Why a version's tags can't be had. Unlike an object's bytes, those of a delete marker are
/// refused by name even where nobody named the marker.
pub fn refused(method: &'static str, error: Error) -> S3Error {
    match error {
        Error::Refused(Refusal::DeleteMarker { id, modified, .. }) => {
            S3Error::of_marker(method, id, modified)
        }
        other => other.into(),
    }
}

/// Letters, digits and white space of any script, and what AWS allows beside them.
fn is_plain(text: &str, len_max: usize) -> bool {
    let allowed = |c: char| {
        c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "+-=._:/@".contains(c)
    };
    text.chars().count() <= len_max && text.chars().all(allowed)
}

/// The `Tagging` document.
pub fn document(tags: &Tags) -> Writer {
    let mut xml = Writer::document("Tagging");
    xml.open("TagSet");
    for (key, value) in tags {
        xml.open("Tag");
        xml.text("Key", key);
        xml.text("Value", value);
        xml.close("Tag");
    }
    xml.close("TagSet");
    xml.close("Tagging");
    xml
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{BUCKET_TAGS_MAX, check, document, read};
    use drystone_protocol::error::Code;
    use drystone_protocol::xml;

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn s_06_what_is_written_reads_back() {
        let set = tags(&[("a", ""), ("é +-=._:/@", "x y")]);
        let written = document(&set).finish();
        let root = xml::read::parse(written.as_bytes(), "Tagging").unwrap();
        assert_eq!(read(&root, BUCKET_TAGS_MAX).unwrap(), set);
        for malformed in [
            "<Tagging></Tagging>",
            "<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
            "<Tagging><TagSet><X><Key>a</Key><Value/></X></TagSet></Tagging>",
            "<Tagging><TagSet/><TagSet/></Tagging>",
        ] {
            let root = xml::read::parse(malformed.as_bytes(), "Tagging").unwrap();
            let error = read(&root, BUCKET_TAGS_MAX).unwrap_err();
            assert_eq!(error.code(), Code::MalformedXML, "{malformed}");
        }
    }

    #[test]
    fn s_06_s_16_tags_that_are_refused() {
        let (key, value) = ("k".repeat(129), "v".repeat(257));
        let cases = [
            (
                tags(&[("", "v")]),
                "The TagKey you have provided is invalid",
            ),
            (
                tags(&[(&key, "v")]),
                "The TagKey you have provided is invalid",
            ),
            (
                tags(&[("a\n", "v")]),
                "The TagKey you have provided is invalid",
            ),
            (
                tags(&[("k", &value)]),
                "The TagValue you have provided is invalid",
            ),
            (
                tags(&[("k", "<")]),
                "The TagValue you have provided is invalid",
            ),
            (
                tags(&[("aws:x", "v")]),
                "System tags cannot be added/updated by requester",
            ),
            (
                tags(&[("k", "1"), ("k", "2")]),
                "Cannot provide multiple Tags with the same key",
            ),
        ];
        for (set, message) in cases {
            let error = check(&set, BUCKET_TAGS_MAX).unwrap_err();
            assert_eq!((error.code(), error.text()), (Code::InvalidTag, message));
        }
        let longest = tags(&[(&"é".repeat(128), &"ü".repeat(256))]);
        assert!(check(&longest, BUCKET_TAGS_MAX).is_ok());
        let many: Vec<_> = (0..51).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(check(&many, BUCKET_TAGS_MAX).is_err());
        assert!(check(&many[..50].to_vec(), BUCKET_TAGS_MAX).is_ok());
    }
}
