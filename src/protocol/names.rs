//! Bucket names, keys and their rules: pure.

use crate::error::{Code, S3Error};

/// The first parts of paths at which the server itself answers. No bucket is made with such a name;
/// one that exists is reached by its host alone.
pub const OWN_PATHS: [&str; 4] = ["_admin", "health", "metrics", "minio"];

/// A key is at most this long, in bytes of UTF-8.
const KEY_BYTES_MAX: usize = 1024;

/// S-01: what a bucket may be called.
pub fn check_bucket(name: &str) -> Result<(), S3Error> {
    if is_bucket_name(name) {
        Ok(())
    } else {
        Err(S3Error::new(Code::InvalidBucketName))
    }
}

pub fn is_bucket_name(name: &str) -> bool {
    let letter_or_digit = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|&c| letter_or_digit(c) || c == b'.' || c == b'-')
        && letter_or_digit(*first)
        && letter_or_digit(*last)
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
        && !name.starts_with("xn--")
        && !["-s3alias", "--ol-s3", "--x-s3", ".mrap"]
            .iter()
            .any(|end| name.ends_with(end))
        && !looks_like_ipv4(name)
}

/// Whether the server itself answers at paths that begin so.
pub fn is_own_path(name: &str) -> bool {
    OWN_PATHS.contains(&name)
}

/// The refusal of a bucket at such a path.
pub fn reserved() -> S3Error {
    let message = "The server itself answers under this name, so that it cannot be a bucket's.";
    S3Error::new(Code::InvalidBucketName).message(message)
}

/// Four numbers with dots between, whatever their size.
fn looks_like_ipv4(name: &str) -> bool {
    let mut numbers = 0;
    for label in name.split('.') {
        if label.is_empty() || !label.bytes().all(|c| c.is_ascii_digit()) {
            return false;
        }
        numbers += 1;
    }
    numbers == 4
}

/// S-04: any UTF-8 of 1 to 1024 bytes is a key, and means nothing.
pub fn check_key(key: &str) -> Result<(), S3Error> {
    if key.len() > KEY_BYTES_MAX {
        return Err(S3Error::new(Code::KeyTooLongError)
            .with("Size", key.len().to_string())
            .with("MaxSizeAllowed", KEY_BYTES_MAX.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{check_key, is_bucket_name};

    #[test]
    fn s_01_a_22_bucket_names() {
        let longest = "a".repeat(63);
        let good = [
            "abc",
            "a-b",
            "a.b",
            "123",
            "a--b",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4a",
            "xn-a",
            &longest,
            "s3alias",
            "mrap",
        ];
        for name in good {
            assert!(is_bucket_name(name), "{name}");
        }
        let too_long = "a".repeat(64);
        let bad = [
            "",
            "a",
            "ab",
            &too_long,
            "Abc",
            "a_b",
            "a b",
            "-ab",
            "ab-",
            ".ab",
            "ab.",
            "a..b",
            "a.-b",
            "a-.b",
            "192.168.5.4",
            "999.999.999.999",
            "xn--abc",
            "abc-s3alias",
            "abc--ol-s3",
            "abc--x-s3",
            "abc.mrap",
            "..",
            "...",
            ".sys",
            "a/b",
            "bück",
            "abc\n",
            "abc\0",
        ];
        for name in bad {
            assert!(!is_bucket_name(name), "{name}");
        }
    }

    #[test]
    fn a_23_a_key_of_1024_bytes_is_the_longest() {
        assert!(check_key(&"k".repeat(1024)).is_ok());
        assert!(check_key(&"k".repeat(1025)).is_err());
        assert!(check_key(&"é".repeat(513)).is_err());
    }
}
