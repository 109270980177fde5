//! Access keys: the secret of one, and the principal behind it.
//!
//! A secret leaves its key only into a signing key, and prints as `***`. Verification of a key that
//! does not exist computes with a decoy, so that it costs the same as that of one that does.

use std::fmt;
use std::sync::Arc;

use drystone_store::types::Account;

/// A secret access key: text that no log and no error shows.
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

/// The user that an access key speaks for.
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

/// The secret to verify a signature with, and the principal if the key exists.
#[derive(Debug)]
pub struct Candidate {
    pub secret: Secret,
    /// `None` if there is no such key: the signature is computed, and refused in any case.
    pub principal: Option<Arc<Principal>>,
}

impl From<Option<AccessKey>> for Candidate {
    fn from(found: Option<AccessKey>) -> Candidate {
        match found {
            Some(key) => Candidate {
                secret: key.secret,
                principal: Some(key.principal),
            },
            // As long as secrets usually are.
            None => Candidate {
                secret: Secret::from("0".repeat(40)),
                principal: None,
            },
        }
    }
}
