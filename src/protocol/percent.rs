//! Percent-encoding: the one place that decodes and encodes it.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Code, S3Error};

/// Everything but RFC 3986's unreserved characters is escaped.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The characters that AWS escapes in a listing: as in a form, with the slash kept. The space is
/// replaced afterwards.
const LISTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'*')
    .remove(b'/')
    .remove(b' ');

/// A text that was decoded once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Lossy where the bytes are no UTF-8.
    text: String,
    /// The bytes, where they are no UTF-8.
    bytes: Option<Vec<u8>>,
    /// A `%` stands for itself, as it starts no escape.
    has_stray_percent: bool,
}

impl Decoded {
    /// Decodes once. A `%` that starts no escape stands for itself.
    pub fn read(raw: &str) -> Decoded {
        let has_stray_percent = has_stray_percent(raw.as_bytes());
        match String::from_utf8(percent_decode_str(raw).collect()) {
            Ok(text) => Decoded {
                text,
                bytes: None,
                has_stray_percent,
            },
            Err(error) => Decoded {
                text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                bytes: Some(error.into_bytes()),
                has_stray_percent,
            },
        }
    }

    /// Decodes a name or value of a query, where `+` is a space.
    pub fn read_form(raw: &str) -> Decoded {
        match raw.contains('+') {
            true => Decoded::read(&raw.replace('+', " ")),
            false => Decoded::read(raw),
        }
    }

    /// The text; replacement characters stand where the bytes are no UTF-8.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.text.as_bytes())
    }

    pub fn is_utf8(&self) -> bool {
        self.bytes.is_none()
    }

    /// Only valid escapes were decoded, and to UTF-8.
    pub fn is_valid(&self) -> bool {
        self.is_utf8() && !self.has_stray_percent
    }

    /// The text, unless an escape in it or its UTF-8 is not valid.
    pub fn into_valid(self) -> Result<String, S3Error> {
        match self.is_valid() {
            true => Ok(self.text),
            false => Err(S3Error::new(Code::InvalidURI)),
        }
    }
}

fn has_stray_percent(raw: &[u8]) -> bool {
    let is_digit = |at: usize| raw.get(at).is_some_and(u8::is_ascii_hexdigit);
    let mut percents = raw.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    percents.any(|(at, _)| !is_digit(at + 1) || !is_digit(at + 2))
}

/// Decodes once. Text that is not UTF-8 or holds an invalid escape is nobody's key.
pub fn decode_once(raw: &str) -> Result<String, S3Error> {
    Decoded::read(raw).into_valid()
}

/// Encodes bytes as they stand in a query or, but for the slash, in a path.
pub fn encode(bytes: &[u8]) -> impl Iterator<Item = &str> {
    percent_encoding::percent_encode(bytes, RESERVED)
}

/// Encodes a value as it stands in a query.
pub fn encode_text(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes a name in a listing as AWS does: a space is `+`, the slash is kept.
pub fn encode_listed(text: &str) -> Cow<'_, str> {
    let encoded = Cow::from(utf8_percent_encode(text, LISTED));
    match encoded.contains(' ') {
        true => Cow::Owned(encoded.replace(' ', "+")),
        false => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::{Decoded, encode_listed};

    #[test]
    fn a_stray_percent_stands_for_itself() {
        for (raw, text, valid) in [
            ("a%2520b", "a%20b", true),
            ("%", "%", false),
            ("%%41", "%A", false),
            ("%4%41", "%4A", false),
            ("a+b", "a b", true),
        ] {
            let decoded = Decoded::read_form(raw);
            assert_eq!((decoded.text(), decoded.is_valid()), (text, valid), "{raw}");
        }
        assert_eq!(Decoded::read("%ff").bytes(), b"\xff");
    }

    #[test]
    fn w_10_a_listing_is_encoded_as_a_form_is() {
        assert_eq!(encode_listed("a/b-_.*c"), "a/b-_.*c");
        assert_eq!(encode_listed("a b+~é"), "a+b%2B%7E%C3%A9");
    }
}
