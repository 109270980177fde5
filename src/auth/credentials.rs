//! Access keys: which secret belongs to one, and whose it is.
//!
//! The table is built once from the configuration. A secret never leaves it but into a signing
//! key, and prints as `***`. Looking up an unknown key gives a decoy secret, so that the caller
//! does the same work for a key that exists and for one that does not.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use drystone_store::types::Account;

/// Text that no log and no error shows: a secret access key.
#[derive(Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for deriving signing keys and for the file of generated keys.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who an access key speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user's name within its account.
    pub user: String,
    pub account: Account,
    /// The root of the first account: may do everything everywhere.
    pub is_operator: bool,
}

#[derive(Clone, Debug)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
    pub principal: Arc<Principal>,
}

/// Every access key of the store.
#[derive(Debug)]
pub struct Credentials {
    keys: HashMap<String, AccessKey>,
    decoy: Secret,
}

/// Two users were given the same access key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access key {0:?} is given twice")]
pub struct DuplicateAccessKey(pub String);

impl Credentials {
    pub fn new(
        keys: impl IntoIterator<Item = AccessKey>,
    ) -> Result<Credentials, DuplicateAccessKey> {
        let mut table = HashMap::new();
        for key in keys {
            if let Some(earlier) = table.insert(key.id.clone(), key) {
                return Err(DuplicateAccessKey(earlier.id));
            }
        }
        Ok(Credentials {
            keys: table,
            // As long as secrets usually are; what is signed with it is refused in any case.
            decoy: Secret::from("0".repeat(40)),
        })
    }

    /// The key's secret and whose it is; for an unknown key a decoy and nobody.
    pub fn find(&self, id: &str) -> (&Secret, Option<&Arc<Principal>>) {
        match self.keys.get(id) {
            Some(key) => (&key.secret, Some(&key.principal)),
            None => (&self.decoy, None),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use drystone_store::types::AccountId;

    use super::*;

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

    #[test]
    fn a_56_debug_of_keys_shows_no_secret() {
        let table = Credentials::new([key("AK", "hush-hush")]).unwrap();
        let shown = format!("{table:?} {:?}", key("AK", "hush-hush"));
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("***"));
    }

    #[test]
    fn a_18_an_unknown_key_has_a_secret_to_compute_with_but_nobody_behind_it() {
        let table = Credentials::new([key("AK", "s")]).unwrap();
        assert!(table.find("AK").1.is_some());
        for odd in ["", "ak", "%", "*", "(", "\0", &"x".repeat(10_000)] {
            let (secret, principal) = table.find(odd);
            assert_eq!((secret.expose().len(), principal), (40, None));
        }
    }

    #[test]
    fn a_key_given_twice_is_refused() {
        let twice = Credentials::new([key("AK", "a"), key("AK", "b")]);
        assert_eq!(twice.unwrap_err(), DuplicateAccessKey("AK".into()));
    }
}
