//! A path prefix: where a proxy serves the store below one, as `https://host/s3/bucket/key`.
//!
//! The client signs the path that it sends, prefix and all; the proxy may take the prefix off or
//! leave it. Here it is taken off at the entrance, so that nothing behind knows of it, and the
//! request remembers which paths its client may have signed. One that bears the prefix was signed
//! with it. One that doesn't may have come straight, or lost it on the way.
//!
//! So a path that begins with the prefix always means what follows it, and a signature over it is
//! never good for anything else.

use axum::body::Body;
use http::{Request, Uri};

use crate::auth::authenticate::SignedPaths;

/// Takes the prefix off, which is empty or begins with a slash and ends without.
pub fn enter(prefix: &str, mut request: Request<Body>) -> Request<Body> {
    if prefix.is_empty() {
        return request;
    }
    let path = request.uri().path().to_owned();
    let below = path
        .strip_prefix(prefix)
        .filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let signed = match below {
        None => vec![path.clone(), format!("{prefix}{path}")],
        Some(rest) => {
            let rest = if rest.is_empty() { "/" } else { rest };
            let Some(uri) = with_path(request.uri(), rest) else {
                return request;
            };
            *request.uri_mut() = uri;
            vec![path]
        }
    };
    request.extensions_mut().insert(SignedPaths(signed));
    request
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
    use axum::body::Body;
    use http::Request;

    use super::{SignedPaths, enter};

    #[test]
    fn s_05_the_prefix_is_taken_off_once_and_remembered() {
        for (target, entered, signed) in [
            ("/s3/b/k?x=%20", "/b/k?x=%20", &["/s3/b/k"][..]),
            ("/s3", "/", &["/s3"]),
            ("/s3/", "/", &["/s3/"]),
            ("/s3//k", "//k", &["/s3//k"]),
            ("/s3/s3/k", "/s3/k", &["/s3/s3/k"]),
            ("http://h/s3/b", "http://h/b", &["/s3/b"]),
            ("/b/k", "/b/k", &["/b/k", "/s3/b/k"]),
            ("/s3x/k", "/s3x/k", &["/s3x/k", "/s3/s3x/k"]),
            ("/", "/", &["/", "/s3/"]),
        ] {
            let request = Request::builder().uri(target).body(Body::empty()).unwrap();
            let request = enter("/s3", request);
            assert_eq!(request.uri().to_string(), entered, "{target}");
            let SignedPaths(paths) = request.extensions().get().unwrap();
            assert_eq!(paths, signed, "{target}");
        }
        let request = Request::builder().uri("/s3/b").body(Body::empty());
        let request = enter("", request.unwrap());
        assert_eq!(request.uri().path(), "/s3/b");
        assert!(request.extensions().get::<SignedPaths>().is_none());
    }
}
