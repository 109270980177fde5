//! Page parameters and tokens: pure.
//!
//! Holds what the listings share: how long a page is, how names are written when the client asked
//! for `encoding-type=url`, and the tokens that say where the next page begins. The limits and
//! texts are AWS's.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use drystone_store::listings::PAGE_LEN_MAX;
use sha2::{Digest as _, Sha256};

use drystone_protocol::error::S3Error;
use drystone_protocol::percent::encode_listed;

/// The most buckets in one page of ListBuckets, and how many one gets without asking.
const BUCKETS_LEN_MAX: usize = 10_000;

/// How many entries a page of keys, versions, uploads or parts may have. More than 1000 is 1000;
/// `parameter` is the query's name for it.
pub fn page_len(parameter: &'static str, value: Option<&str>) -> Result<usize, S3Error> {
    let asked = not_negative(parameter, value)?;
    Ok(asked.map_or(PAGE_LEN_MAX, |n| (n as usize).min(PAGE_LEN_MAX)))
}

/// `max-buckets`, which knows no empty page.
pub fn buckets_len(value: Option<&str>) -> Result<usize, S3Error> {
    let Some(n) = integer("max-buckets", value)? else {
        return Ok(BUCKETS_LEN_MAX);
    };
    match usize::try_from(n) {
        Ok(n @ 1..=BUCKETS_LEN_MAX) => Ok(n),
        _ => Err(S3Error::invalid_argument(
            format!("Argument max-buckets must be an integer between 1 and {BUCKETS_LEN_MAX}"),
            "max-buckets",
            n.to_string(),
        )),
    }
}

/// `part-number-marker`: parts above it are listed. Past the last number a part can have, none is.
pub fn part_number_marker(value: Option<&str>) -> Result<u16, S3Error> {
    let marker = not_negative("part-number-marker", value)?.unwrap_or(0);
    Ok(u16::try_from(marker).unwrap_or(u16::MAX))
}

fn not_negative(parameter: &'static str, value: Option<&str>) -> Result<Option<u32>, S3Error> {
    let Some(n) = integer(parameter, value)? else {
        return Ok(None);
    };
    u32::try_from(n).map(Some).map_err(|_| {
        // AWS names this one parameter by another name than it reads it by.
        let name = match parameter {
            "max-keys" => "maxKeys",
            other => other,
        };
        S3Error::invalid_argument(
            format!(
                "Argument {name} must be an integer between 0 and {}",
                i32::MAX
            ),
            name,
            n.to_string(),
        )
    })
}

/// An empty value counts as none.
fn integer(parameter: &'static str, value: Option<&str>) -> Result<Option<i32>, S3Error> {
    match value {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            S3Error::invalid_argument(
                format!("Provided {parameter} not an integer or within integer range"),
                parameter,
                text,
            )
        }),
    }
}

/// How keys, prefixes, delimiters and markers stand in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    /// From `encoding-type`.
    pub fn asked(value: Option<&str>) -> Result<Encoding, S3Error> {
        match value {
            None => Ok(Encoding::Plain),
            Some("url") => Ok(Encoding::Url),
            Some(other) => Err(S3Error::invalid_argument(
                "Invalid Encoding Method specified in Request",
                "encoding-type",
                other,
            )),
        }
    }

    pub fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Encoding::Plain => Cow::Borrowed(text),
            Encoding::Url => encode_listed(text),
        }
    }
}

/// The listing that a continuation token belongs to. It is refused anywhere else.
#[derive(Clone, Copy, Debug)]
pub enum TokenScope<'a> {
    /// A bucket's id: a namesake made later doesn't take it either.
    Bucket(u64),
    /// The buckets of an account; empty for those of all.
    Account(&'a str),
}

const TOKEN_VERSION: u8 = 1;
const TOKEN_TAG_LEN: usize = 16;

/// Makes the token that continues a listing after `after`.
///
/// It is opaque and bound to its scope, not secret: who takes the trouble to make one up gets what
/// `start-after` gives in that scope, and nothing of another.
pub fn issue_token(scope: TokenScope<'_>, after: &str) -> String {
    let mut token = vec![TOKEN_VERSION];
    token.extend_from_slice(&token_tag(scope, after));
    token.extend_from_slice(after.as_bytes());
    URL_SAFE_NO_PAD.encode(token)
}

/// Gives back what the token continues after.
pub fn open_token(scope: TokenScope<'_>, token: &str) -> Result<String, S3Error> {
    decode_token(scope, token).ok_or_else(|| {
        S3Error::invalid_argument(
            "The continuation token provided is incorrect",
            "continuation-token",
            token,
        )
    })
}

fn decode_token(scope: TokenScope<'_>, token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (tag, after) = rest.split_at_checked(TOKEN_TAG_LEN)?;
    let after = std::str::from_utf8(after).ok()?;
    let ours = *version == TOKEN_VERSION && tag == token_tag(scope, after);
    ours.then(|| after.to_owned())
}

fn token_tag(scope: TokenScope<'_>, after: &str) -> [u8; TOKEN_TAG_LEN] {
    let mut hash = Sha256::new();
    hash.update(b"listing token\0");
    match scope {
        TokenScope::Bucket(id) => {
            hash.update(b"bucket\0");
            hash.update(id.to_be_bytes());
        }
        TokenScope::Account(id) => {
            hash.update(b"account\0");
            hash.update(id.as_bytes());
            hash.update(b"\0");
        }
    }
    hash.update(after.as_bytes());
    let full: [u8; 32] = hash.finalize().into();
    full[..TOKEN_TAG_LEN]
        .try_into()
        .expect("a part of the hash has the tag's length")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn refusal(error: &S3Error) -> (String, String, String) {
        let detail = |name: &str| error.element(name).unwrap_or_default().to_owned();
        (
            error.text().to_owned(),
            detail("ArgumentName"),
            detail("ArgumentValue"),
        )
    }

    #[test]
    fn a_30_page_lengths() {
        let cases = [
            (None, 1000),
            (Some(""), 1000),
            (Some("0"), 0),
            (Some("-0"), 0),
            (Some("05"), 5),
            (Some("1000"), 1000),
            (Some("1001"), 1000),
            (Some("2147483647"), 1000),
        ];
        for (value, len) in cases {
            assert_eq!(page_len("max-keys", value).unwrap(), len, "{value:?}");
        }
    }

    #[test]
    fn a_30_page_lengths_refused() {
        let range = "must be an integer between 0 and 2147483647";
        let unreadable = "not an integer or within integer range";
        let cases = [
            (
                "max-keys",
                "-1",
                format!("Argument maxKeys {range}"),
                "maxKeys",
            ),
            (
                "max-keys",
                "2147483648",
                format!("Provided max-keys {unreadable}"),
                "max-keys",
            ),
            (
                "max-keys",
                "blah",
                format!("Provided max-keys {unreadable}"),
                "max-keys",
            ),
            (
                "max-keys",
                " 5",
                format!("Provided max-keys {unreadable}"),
                "max-keys",
            ),
            (
                "max-parts",
                "-3",
                format!("Argument max-parts {range}"),
                "max-parts",
            ),
            (
                "max-uploads",
                "1e3",
                format!("Provided max-uploads {unreadable}"),
                "max-uploads",
            ),
        ];
        for (parameter, value, message, name) in cases {
            let error = page_len(parameter, Some(value)).unwrap_err();
            assert_eq!(refusal(&error), (message, name.into(), value.into()));
        }
    }

    #[test]
    fn s_03_bucket_page_lengths() {
        assert_eq!(buckets_len(None).unwrap(), 10_000);
        assert_eq!(buckets_len(Some("1")).unwrap(), 1);
        assert_eq!(buckets_len(Some("10000")).unwrap(), 10_000);
        for value in ["0", "-1", "10001", "x"] {
            let error = buckets_len(Some(value)).unwrap_err();
            assert_eq!(refusal(&error).1, "max-buckets", "{value}");
        }
    }

    #[test]
    fn s_20_part_number_markers() {
        assert_eq!(part_number_marker(None).unwrap(), 0);
        assert_eq!(part_number_marker(Some("7")).unwrap(), 7);
        assert_eq!(part_number_marker(Some("2147483647")).unwrap(), u16::MAX);
        assert!(part_number_marker(Some("-1")).is_err());
        assert!(part_number_marker(Some("one")).is_err());
    }

    #[test]
    fn w_10_names_encoded_as_aws_does() {
        let cases = [
            ("a b.txt", "a+b.txt"),
            ("a+b.txt", "a%2Bb.txt"),
            ("100%.csv", "100%25.csv"),
            ("run books/x.txt", "run+books/x.txt"),
            ("한글/x.txt", "%ED%95%9C%EA%B8%80/x.txt"),
            ("test_file(3).png", "test_file%283%29.png"),
            ("-_.*/", "-_.*/"),
            ("~&<>\"'\u{1}\r\n", "%7E%26%3C%3E%22%27%01%0D%0A"),
            ("", ""),
        ];
        for (key, encoded) in cases {
            assert_eq!(Encoding::Url.apply(key), encoded);
            assert_eq!(Encoding::Plain.apply(key), key);
        }
        assert_eq!(Encoding::asked(None).unwrap(), Encoding::Plain);
        assert_eq!(Encoding::asked(Some("url")).unwrap(), Encoding::Url);
        for value in ["utf", ""] {
            let error = Encoding::asked(Some(value)).unwrap_err();
            let message = "Invalid Encoding Method specified in Request";
            let expected = (message.into(), "encoding-type".into(), value.into());
            assert_eq!(refusal(&error), expected);
        }
    }

    #[test]
    fn a_30_tokens_forged_or_from_elsewhere() {
        let here = TokenScope::Bucket(7);
        let token = issue_token(here, "photos/1");
        assert_eq!(open_token(here, &token).unwrap(), "photos/1");
        assert!(open_token(TokenScope::Bucket(8), &token).is_err());
        assert!(open_token(TokenScope::Account("7"), &token).is_err());
        let mut forged = URL_SAFE_NO_PAD.decode(&token).unwrap();
        *forged.last_mut().unwrap() ^= 1;
        let forged = URL_SAFE_NO_PAD.encode(forged);
        for bad in [forged.as_str(), "", "photos/1", "AQ", "=", &token[1..]] {
            let error = open_token(here, bad).unwrap_err();
            let message = "The continuation token provided is incorrect";
            let expected = (message.into(), "continuation-token".into(), bad.into());
            assert_eq!(refusal(&error), expected);
        }
    }

    proptest! {
        #[test]
        fn s_14_tokens_round_trip(key in any::<String>(), id in any::<u64>()) {
            let scope = TokenScope::Bucket(id);
            prop_assert_eq!(open_token(scope, &issue_token(scope, &key)).unwrap(), key);
        }

        #[test]
        fn w_10_encoded_names_decode_to_themselves(key in any::<String>()) {
            let encoded = Encoding::Url.apply(&key).replace('+', "%20");
            let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap();
            prop_assert_eq!(decoded, key);
        }
    }
}
