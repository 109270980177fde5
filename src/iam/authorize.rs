//! May they: the one call that decides whether an identity may do something.
//!
//! For now there are no policies: an account's own principals may do everything in its buckets,
//! the operator everything, everybody else nothing. Policies come in here and nowhere else.

use drystone_store::types::AccountId;

use crate::auth::authenticate::Identity;
use crate::s3::error::{Code, S3Error};

/// What an action is done to.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// The caller's own account: listing its buckets, making one.
    Account,
    /// A bucket, or something in it.
    Bucket {
        owner: &'a AccountId,
        name: &'a str,
        /// The object's key, where one is meant.
        key: Option<&'a str>,
    },
}

/// Whether `identity` may do `action` (`s3:GetObject`, …) to `resource`; the error is the answer.
pub fn authorize(identity: &Identity, action: &str, resource: Resource<'_>) -> Result<(), S3Error> {
    let allowed = match (identity, resource) {
        (Identity::Anonymous, _) => false,
        (Identity::Principal(principal), _) if principal.is_operator => true,
        (Identity::Principal(_), Resource::Account) => true,
        (Identity::Principal(principal), Resource::Bucket { owner, .. }) => {
            principal.account.id == *owner
        }
    };
    if allowed {
        return Ok(());
    }
    let user = identity
        .principal()
        .map(|principal| principal.user.as_str());
    tracing::debug!(action, ?resource, user, "denied");
    Err(S3Error::new(Code::AccessDenied))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drystone_store::types::Account;

    use super::*;
    use crate::auth::credentials::Principal;

    fn identity(account: &str, is_operator: bool) -> Identity {
        Identity::Principal(Arc::new(Principal {
            user: "u".into(),
            account: Account {
                id: AccountId(account.into()),
                canonical_id: String::new(),
                display_name: String::new(),
            },
            is_operator,
        }))
    }

    #[test]
    fn a_32_only_the_owners_account_and_the_operator_may() {
        let owner = AccountId("1".into());
        let bucket = Resource::Bucket {
            owner: &owner,
            name: "b",
            key: Some("k"),
        };
        let verdict = |who: &Identity, what| authorize(who, "s3:GetObject", what).is_ok();
        assert!(verdict(&identity("1", false), bucket));
        assert!(verdict(&identity("2", true), bucket));
        assert!(!verdict(&identity("2", false), bucket));
        assert!(!verdict(&Identity::Anonymous, bucket));
        assert!(verdict(&identity("2", false), Resource::Account));
        assert!(!verdict(&Identity::Anonymous, Resource::Account));
    }
}
