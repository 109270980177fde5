//! Takes the keys of rows apart, from FORMAT.md alone.

use drystone_store::error::{Error, Result};
use drystone_store::types::{UploadId, WriteId};

fn malformed(key: &[u8]) -> Error {
    Error::BadRow(format!("malformed key {key:02x?}"))
}

/// Splits a key into its first eight bytes as a number, and the rest.
pub fn number(key: &[u8]) -> Result<(u64, &[u8])> {
    let (first, rest) = key.split_first_chunk().ok_or_else(|| malformed(key))?;
    Ok((u64::from_be_bytes(*first), rest))
}

pub fn write_id(key: &[u8]) -> Result<(WriteId, &[u8])> {
    let (first, rest) = key.split_first_chunk().ok_or_else(|| malformed(key))?;
    Ok((WriteId(*first), rest))
}

pub fn upload_id(key: &[u8]) -> Result<(UploadId, &[u8])> {
    let (id, rest) = write_id(key)?;
    Ok((UploadId(id), rest))
}

/// Reads the two bytes at the end of a key as a part number.
pub fn part_number(key: &[u8]) -> Result<u16> {
    let number = key.try_into().map_err(|_| malformed(key))?;
    Ok(u16::from_be_bytes(number))
}

/// Splits a key into a bucket and an object's key without an end mark.
pub fn bare(key: &[u8]) -> Result<(u64, String)> {
    let (bucket, rest) = number(key)?;
    Ok((bucket, text(rest)?))
}

/// Splits a key into a bucket, an object's key in which `00 FF` stands for a zero and `00 00` for
/// its end, and the rest.
pub fn ended(key: &[u8]) -> Result<(u64, String, &[u8])> {
    let (bucket, rest) = number(key)?;
    let mut object = Vec::new();
    let mut bytes = rest.iter().enumerate();
    while let Some((_, byte)) = bytes.next() {
        match (byte, byte.eq(&0).then(|| bytes.next()).flatten()) {
            (0, Some((_, 0xff))) => object.push(0),
            (0, Some((at, 0))) => return Ok((bucket, text(&object)?, &rest[at + 1..])),
            (0, _) => break,
            (byte, _) => object.push(*byte),
        }
    }
    Err(malformed(key))
}

fn text(key: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(key).map_err(|_| malformed(key))?;
    Ok(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_as_the_format_says() {
        let row = b"\0\0\0\0\0\0\0\x05a\0\xffb\0\0rest";
        let (bucket, key, rest) = ended(row).unwrap();
        assert_eq!((bucket, key.as_str(), rest), (5, "a\0b", &b"rest"[..]));
        for bad in [
            &b"\0\0\0\0\0\0\0\x05a"[..],
            b"\0\0\0\0\0\0\0\x05a\0\x01\0\0",
            b"\0\0",
        ] {
            assert!(ended(bad).is_err(), "{bad:?}");
        }
        assert_eq!(bare(&row[..9]).unwrap(), (5, "a".into()));
    }
}
