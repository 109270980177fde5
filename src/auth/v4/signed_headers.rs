//! The list of the headers that a signature covers: pure.
//!
//! It is read once and in one form: names in lower case, ascending, each once. So a canonical
//! request has each header at most once, and is no longer than the request is.

use http::HeaderMap;

/// The most names of a list: as many as a message may have headers.
const LEN_MAX: usize = 1024;
const SEPARATOR: &str = ";";

/// The names of the signed headers, in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders {
    names: Vec<String>,
}

/// The list is in another form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the SignedHeaders must be a list of at most {LEN_MAX} header names in lower case, each once, \
     in ascending order, with a semicolon between them"
)]
pub struct NotAscending;

impl SignedHeaders {
    /// Reads the list as a request has it. A name of which no header was sent is accepted: the
    /// signature will not match, as the client signed a value.
    pub fn parse(list: &str) -> Result<SignedHeaders, NotAscending> {
        let mut names: Vec<String> = Vec::new();
        for name in list.split(SEPARATOR) {
            let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            let follows = names.last().is_none_or(|last| last.as_str() < name);
            if name.is_empty() || !is_lower || !follows || names.len() == LEN_MAX {
                return Err(NotAscending);
            }
            names.push(name.to_owned());
        }
        Ok(SignedHeaders { names })
    }

    /// Returns the names of all headers but these.
    pub fn of(headers: &HeaderMap, but: &[&str]) -> SignedHeaders {
        let names = headers.keys().map(|name| name.as_str());
        let mut names: Vec<String> = names
            .filter(|name| !but.contains(name))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        SignedHeaders { names }
    }

    pub fn has(&self, name: &str) -> bool {
        let found = self
            .names
            .binary_search_by(|listed| listed.as_str().cmp(name));
        found.is_ok()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The list as a request has it.
    pub fn text(&self) -> String {
        self.names.join(SEPARATOR)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{LEN_MAX, SignedHeaders};

    #[test]
    fn a_60_a_list_of_signed_headers_is_ascending_and_has_a_bound() {
        let list = SignedHeaders::parse("host;range;x-amz-date").unwrap();
        assert!(list.has("range") && !list.has("rang") && !list.has("x-amz"));
        assert_eq!(list.text(), "host;range;x-amz-date");
        for bad in [
            "",
            ";",
            "host;",
            ";host",
            "host;host",
            "range;host",
            "Host",
            "a;;b",
        ] {
            assert!(SignedHeaders::parse(bad).is_err(), "{bad}");
        }
        let names = |len: usize| {
            let names: Vec<String> = (0..len).map(|at| format!("{at:05}")).collect();
            SignedHeaders::parse(&names.join(";"))
        };
        assert!(names(LEN_MAX).is_ok());
        assert!(names(LEN_MAX + 1).is_err());
    }
}
