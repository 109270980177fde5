//! Encoded words (RFC 2047): how text that is not ASCII travels in the value of a metadata header:
//! pure.
//!
//! S3 reads them on the way in and writes them on the way out, so what leaves is always visible
//! ASCII. Which of the two forms it writes, and where it breaks a long text, is AWS's choice,
//! found by comparing answers.

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The most that one word holds beside its frame: RFC 2047 ends a word at 75 characters.
const PAYLOAD_LEN_MAX: usize = 63;

/// The text that a header's value stands for. What is no UTF-8 is taken for ISO-8859-1, and what
/// only looks like an encoded word stays as it is.
pub fn decode(value: &[u8]) -> String {
    let text = match std::str::from_utf8(value) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(latin1(value)),
    };
    let (mut decoded, mut space) = (String::with_capacity(text.len()), String::new());
    let mut after_word = false;
    for piece in text.split_inclusive([' ', '\t']) {
        let token = piece.trim_end_matches([' ', '\t']);
        if !token.is_empty() {
            let word = decode_word(token);
            // White space between two encoded words belongs to neither.
            if !(after_word && word.is_some()) {
                decoded.push_str(&space);
            }
            space.clear();
            after_word = word.is_some();
            decoded.push_str(word.as_deref().unwrap_or(token));
        }
        space.push_str(&piece[token.len()..]);
    }
    decoded.push_str(&space);
    decoded
}

/// `=?charset?encoding?text?=`
fn decode_word(token: &str) -> Option<String> {
    let mut fields = token.strip_prefix("=?")?.strip_suffix("?=")?.split('?');
    let (charset, encoding, text) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let bytes = match encoding {
        "Q" | "q" => unquote(text)?,
        "B" | "b" => STANDARD.decode(text).ok()?,
        _ => return None,
    };
    match charset.to_ascii_uppercase().as_str() {
        "UTF-8" | "US-ASCII" => Some(String::from_utf8_lossy(&bytes).into_owned()),
        "ISO-8859-1" => Some(latin1(&bytes)),
        _ => None,
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'=' => {
                let mut decoded = [0];
                hex::decode_to_slice([rest.next()?, rest.next()?], &mut decoded).ok()?;
                decoded[0]
            }
            plain => plain,
        });
    }
    Some(bytes)
}

/// The header value for a text: itself, where it is visible ASCII. Control characters, above all
/// line breaks, never leave as they are.
pub fn encode(text: &str) -> Cow<'_, str> {
    let plain = |c: char| matches!(c, ' '..='~' | '\t');
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let units = |wanted: bool| -> usize {
        let chars = text.chars().filter(|c| plain(*c) == wanted);
        chars.map(char::len_utf16).sum()
    };
    let form = match units(true) > units(false) {
        true => Form::Quoted,
        false => Form::Base64,
    };
    let mut words = String::new();
    write_words(&mut words, text, form);
    Cow::Owned(words)
}

#[derive(Clone, Copy)]
enum Form {
    Quoted,
    Base64,
}

/// One word, or the words of both halves where one would be too long.
fn write_words(out: &mut String, text: &str, form: Form) {
    let payload = match form {
        Form::Quoted => quote(text),
        Form::Base64 => STANDARD.encode(text),
    };
    if payload.len() > PAYLOAD_LEN_MAX
        && let Some(half) = middle(text)
    {
        write_words(out, &text[..half], form);
        write_words(out, &text[half..], form);
        return;
    }
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(match form {
        Form::Quoted => "=?UTF-8?Q?",
        Form::Base64 => "=?UTF-8?B?",
    });
    out.push_str(&payload);
    out.push_str("?=");
}

/// The last place between two characters that is not past the middle, counted in UTF-16; `None`
/// where that leaves nothing before it.
fn middle(text: &str) -> Option<usize> {
    let half = text.encode_utf16().count() / 2;
    let mut units = 0;
    let mut at = 0;
    for (start, c) in text.char_indices() {
        units += c.len_utf16();
        if units > half {
            break;
        }
        at = start + c.len_utf8();
    }
    (at > 0).then_some(at)
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        match byte {
            b' ' => quoted.push('_'),
            b'!'..=b'~' if !b"=_?".contains(&byte) => quoted.push(char::from(byte)),
            _ => write!(quoted, "={byte:02X}").expect("a string takes what is written"),
        }
    }
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{decode, encode};

    #[test]
    fn s_10_text_leaves_as_aws_writes_it() {
        for (text, header) in [
            ("plain ~ text", "plain ~ text"),
            ("ÄMÄZÕÑ S3", "=?UTF-8?Q?=C3=84M=C3=84Z=C3=95=C3=91_S3?="),
            (
                "test_—_file%E2%80%94_é_2?.pdf",
                "=?UTF-8?Q?test=5F=E2=80=94=5Ffile%E2%80%94=5F=C3=A9=5F2=3F.pdf?=",
            ),
            (
                "test_—_file%E2%80%94_é_2👑.pdf",
                "=?UTF-8?Q?test=5F=E2=80=94=5Ffile%E2%80%94=5F=C3=A9=5F2=F0=9F=91=91.pdf?=",
            ),
            ("\0\u{1}\u{2}\u{3}", "=?UTF-8?B?AAECAw==?="),
            (
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
                "=?UTF-8?B?77+977+977+977+977+977+977+9?=",
            ),
        ] {
            assert_eq!(encode(text), header);
            assert_eq!(decode(header.as_bytes()), text);
        }
    }

    #[test]
    fn s_10_words_are_read_and_their_likes_left_alone() {
        for (header, text) in [
            ("=?UTF-8?Q?actually-ascii?=", "actually-ascii"),
            ("=?utf-8?b?YWJj?=", "abc"),
            ("=?ISO-8859-1?Q?=E9?=", "é"),
            ("a =?UTF-8?Q?b?= c", "a b c"),
            ("=?UTF-8?Q?a?=  =?UTF-8?Q?b?= ", "ab "),
            ("=?UTF-8?B?=GGG?=", "=?UTF-8?B?=GGG?="),
            ("=?UTF-8?Q?=4?=", "=?UTF-8?Q?=4?="),
            ("=?KOI8-R?Q?a?=", "=?KOI8-R?Q?a?="),
            ("=?UTF-8?X?a?=", "=?UTF-8?X?a?="),
            ("=?UTF-8?Q?a?b?=", "=?UTF-8?Q?a?b?="),
            ("=?", "=?"),
            ("=?=", "=?="),
            (" \t", " \t"),
        ] {
            assert_eq!(decode(header.as_bytes()), text, "{header}");
        }
        assert_eq!(decode(b"Hello \xe9"), "Hello é", "a byte of ISO-8859-1");
    }

    proptest! {
        #[test]
        fn a_26_whatever_the_text_its_header_is_visible_ascii(text in any::<String>()) {
            let header = encode(&text).into_owned();
            prop_assert!(header.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')));
            // Text that is ASCII and looks like a word is read as one.
            if !text.contains("=?") {
                prop_assert_eq!(decode(header.as_bytes()), text);
            }
        }

        #[test]
        fn s_10_any_bytes_are_read(value in any::<Vec<u8>>()) {
            decode(&value);
        }
    }
}
