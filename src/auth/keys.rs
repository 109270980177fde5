//! Access keys by their id: the source that verification looks them up in.

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;

use crate::credentials::AccessKey;

/// A place that knows access keys.
#[async_trait]
pub trait KeySource: fmt::Debug + Send + Sync {
    /// Returns the key with this id, if there is one. A key that comes with a session token is
    /// returned only with its own token.
    async fn find(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<AccessKey>, KeyError>;
}

/// The reason why a look-up gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The request has a session token that does not belong to the key.
    #[error("the session token does not belong to the access key")]
    InvalidToken,
    /// Nobody can say now whether the key exists.
    #[error("access keys cannot be looked up: {0}")]
    Unavailable(String),
}

/// The keys that the configuration names: built once, never changed, and none has a token.
#[derive(Debug)]
pub struct FixedKeys(HashMap<String, AccessKey>);

/// Two users were given the same access key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access key {0:?} is given twice")]
pub struct DuplicateAccessKey(pub String);

impl FixedKeys {
    pub fn new(keys: impl IntoIterator<Item = AccessKey>) -> Result<FixedKeys, DuplicateAccessKey> {
        let mut table = HashMap::new();
        for key in keys {
            if let Some(earlier) = table.insert(key.id.clone(), key) {
                return Err(DuplicateAccessKey(earlier.id));
            }
        }
        Ok(FixedKeys(table))
    }
}

#[async_trait]
impl KeySource for FixedKeys {
    async fn find(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<AccessKey>, KeyError> {
        match session_token {
            None => Ok(self.0.get(access_key_id).cloned()),
            Some(_) => Err(KeyError::InvalidToken),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use drystone_store::types::{Account, AccountId};
    use futures_util::FutureExt as _;

    use super::*;
    use crate::credentials::{Candidate, Principal, Secret};

    fn key(id: &str, secret: &str) -> AccessKey {
        let account = Account {
            id: AccountId("000000000001".into()),
            canonical_id: "c".repeat(64),
            display_name: "one".into(),
        };
        AccessKey {
            id: id.into(),
            secret: Secret::from(secret),
            principal: Arc::new(Principal {
                user: id.to_lowercase(),
                account,
                is_operator: false,
            }),
        }
    }

    fn find(table: &FixedKeys, id: &str, token: Option<&str>) -> Result<Candidate, KeyError> {
        let found = table.find(id, token).now_or_never().unwrap();
        found.map(Candidate::from)
    }

    #[test]
    fn a_56_debug_of_keys_shows_no_secret() {
        let table = FixedKeys::new([key("AK", "hush-hush")]).unwrap();
        let shown = format!("{table:?} {:?}", key("AK", "hush-hush"));
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("***"));
    }

    #[test]
    fn a_18_an_unknown_key_has_a_secret_to_compute_with_but_nobody_behind_it() {
        let table = FixedKeys::new([key("AK", "s")]).unwrap();
        assert!(find(&table, "AK", None).unwrap().principal.is_some());
        for odd in ["", "ak", "%", "*", "(", "\0", &"x".repeat(10_000)] {
            let candidate = find(&table, odd, None).unwrap();
            assert_eq!(candidate.secret.expose().len(), 40);
            assert_eq!(candidate.principal, None);
        }
    }

    #[test]
    fn s_40_no_key_of_the_configuration_has_a_session_token() {
        let table = FixedKeys::new([key("AK", "s")]).unwrap();
        for id in ["AK", "unknown"] {
            let found = find(&table, id, Some("t"));
            assert_eq!(found.unwrap_err(), KeyError::InvalidToken);
        }
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let twice = FixedKeys::new([key("AK", "a"), key("AK", "b")]);
        assert_eq!(twice.unwrap_err(), DuplicateAccessKey("AK".into()));
    }
}
