//! A path prefix: where a proxy serves the store below one, as `https://host/s3/bucket/key`.
//!
//! The client signs the path that it sends, prefix and all; the proxy may take the prefix off or
//! leave it. Here it is taken off at the entrance, so that nothing behind knows of it, and the
//! request remembers which paths its client may have signed. One that bears the prefix was signed
//! with it. One that doesn't may have come straight, or lost it on the way.
//!
//! A path that begins with the prefix therefore always means what follows it, and a signature over
//! it is never good for anything else. Signatures cover the decoded path, so the prefix is compared
//! with that: `/%733/bucket` begins with `/s3`.

use http::Uri;

/// Takes the prefix off, which is empty or begins with a slash and ends without. Gives the URI
/// without it and the paths that the client may have signed.
pub fn enter(prefix: &str, uri: Uri) -> (Uri, Vec<String>) {
    let path = uri.path().to_owned();
    if prefix.is_empty() {
        return (uri, vec![path]);
    }
    let Some(rest) = below(prefix, &path) else {
        let with_prefix = format!("{prefix}{path}");
        return (uri, vec![path, with_prefix]);
    };
    let entered = with_path(&uri, &format!("/{rest}")).unwrap_or(uri);
    (entered, vec![path])
}

/// The raw rest of a path behind the prefix and the slash that follows it.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let mut rest = path;
    for expected in prefix.bytes() {
        let (byte, after) = first_byte(rest)?;
        if byte != expected {
            return None;
        }
        rest = after;
    }
    match first_byte(rest) {
        None => Some(rest),
        Some((b'/', after)) => Some(after),
        Some(_) => None,
    }
}

/// The first byte of a path, decoded, and the rest.
fn first_byte(path: &str) -> Option<(u8, &str)> {
    let escape = path.strip_prefix('%').and_then(|rest| rest.get(..2));
    let escape = escape.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
        Some(byte) => Some((byte, &path[3..])),
        None => Some((*path.as_bytes().first()?, path.get(1..).unwrap_or_default())),
    }
}

/// The same target with another path.
pub fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Uri;

    use super::enter;

    #[test]
    fn s_05_the_prefix_is_taken_off_once_and_remembered() {
        for (target, entered, signed) in [
            ("/s3/b/k?x=%20", "/b/k?x=%20", &["/s3/b/k"][..]),
            ("/s3", "/", &["/s3"]),
            ("/s3/", "/", &["/s3/"]),
            ("/s3//k", "//k", &["/s3//k"]),
            ("/s3/s3/k", "/s3/k", &["/s3/s3/k"]),
            ("http://h/s3/b", "http://h/b", &["/s3/b"]),
            ("/%73%33/b/%6b", "/b/%6b", &["/%73%33/b/%6b"]),
            ("/s3%2Fb/k", "/b/k", &["/s3%2Fb/k"]),
            ("/%2573/b", "/%2573/b", &["/%2573/b", "/s3/%2573/b"]),
            ("/%s3/b", "/%s3/b", &["/%s3/b", "/s3/%s3/b"]),
            ("/b/k", "/b/k", &["/b/k", "/s3/b/k"]),
            ("/s3x/k", "/s3x/k", &["/s3x/k", "/s3/s3x/k"]),
            ("/", "/", &["/", "/s3/"]),
        ] {
            let (uri, paths) = enter("/s3", target.parse::<Uri>().unwrap());
            assert_eq!(uri.to_string(), entered, "{target}");
            assert_eq!(paths, signed, "{target}");
        }
        let (uri, paths) = enter("", "/s3/b".parse::<Uri>().unwrap());
        assert_eq!((uri.path(), paths), ("/s3/b", vec!["/s3/b".to_owned()]));
    }
}
