//! The query of a request: parsed once, for signatures and handlers alike.

use crate::error::{Code, S3Error};
use crate::percent::Decoded;

/// The most parameters of a query: no operation knows half as many, and a link has room for the
/// headers that clients put into it.
pub const PARAMETERS_LEN_MAX: usize = 200;

/// A name and what stands behind its `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: Decoded,
    /// `None` for a name that stands alone.
    pub value: Option<Decoded>,
}

/// The parameters behind the question mark, decoded once, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The first [`PARAMETERS_LEN_MAX`] of them.
    parameters: Vec<Parameter>,
    has_more: bool,
}

impl Query {
    /// Reads any query. One that is not valid is read as far as it goes, as signatures cover it;
    /// [`Query::check`] refuses it.
    pub fn parse(raw: &str) -> Query {
        let mut pairs = raw.split('&').filter(|pair| !pair.is_empty());
        let first = pairs.by_ref().take(PARAMETERS_LEN_MAX);
        let parameters = first.map(|pair| match pair.split_once('=') {
            Some((name, value)) => Parameter {
                name: Decoded::read_form(name),
                value: Some(Decoded::read_form(value)),
            },
            None => Parameter {
                name: Decoded::read_form(pair),
                value: None,
            },
        });
        Query {
            parameters: parameters.collect(),
            has_more: pairs.next().is_some(),
        }
    }

    /// Every escape is valid, every name and value is UTF-8, and there are not too many.
    pub fn is_valid(&self) -> bool {
        let is_valid = |value: &Option<Decoded>| value.as_ref().is_none_or(Decoded::is_valid);
        let mut all = self.parameters.iter();
        !self.has_more
            && all.all(|parameter| parameter.name.is_valid() && is_valid(&parameter.value))
    }

    pub fn check(&self) -> Result<(), S3Error> {
        if self.has_more {
            let message = format!("A query may have at most {PARAMETERS_LEN_MAX} parameters.");
            return Err(S3Error::new(Code::InvalidRequest).message(message));
        }
        match self.is_valid() {
            true => Ok(()),
            false => Err(S3Error::new(Code::InvalidURI)),
        }
    }

    /// The first value under this name; empty where only the name stands.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|parameter| {
            let value = parameter.value.as_ref().map_or("", Decoded::text);
            (parameter.name.text(), value)
        })
    }

    /// The parameters with their bytes.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::{PARAMETERS_LEN_MAX, Query};

    #[test]
    fn a_60_a_query_has_a_bound() {
        let many = |len: usize| Query::parse(&"a&".repeat(len));
        assert!(many(PARAMETERS_LEN_MAX).check().is_ok());
        let query = many(32_000);
        assert_eq!(query.parameters().len(), PARAMETERS_LEN_MAX);
        assert!(!query.is_valid());
        let error = query.check().err().map(|error| error.to_string());
        let text = "InvalidRequest: A query may have at most 200 parameters.";
        assert_eq!(error.as_deref(), Some(text));
    }

    #[test]
    fn w_14_a_query_is_decoded_once_and_keeps_what_nobody_knows() {
        let query = Query::parse("a=b%2520c+d&&acl&x-id=PutObject&a=2&e=%c3%a9=");
        assert_eq!(query.get("a"), Some("b%20c d"));
        assert_eq!(query.get("acl"), Some(""));
        assert_eq!(query.get("e"), Some("é="));
        assert_eq!(query.iter().count(), 5);
        assert!(query.is_valid());
        assert!(Query::parse("a=%ff").check().is_err());
        assert!(Query::parse("a=%4").check().is_err());
    }
}
