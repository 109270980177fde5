//! Authorisation: the one call that decides whether an identity may do something. Pure.
//!
//! For now there are no policies: an account's own principals may do everything in its buckets,
//! the operator everything, everybody else nothing. Policies come in here and nowhere else.

use drystone_store::types::AccountId;

use drystone_auth::identity::Identity;

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

/// Whether something may be done, and by what that was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Grant),
    Deny(Denial),
}

/// Why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The operator may do everything.
    Operator,
    /// An account may do everything to what is its own.
    Account,
}

/// Why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request bore no credentials.
    Anonymous,
    /// The bucket is another account's.
    OtherAccount,
}

impl Decision {
    pub fn is_allowed(self) -> bool {
        matches!(self, Decision::Allow(_))
    }
}

/// Decides whether `identity` may do `action` (`s3:GetObject`, …) to `resource`.
pub fn authorize(identity: &Identity, _action: &str, resource: Resource<'_>) -> Decision {
    let Identity::Principal(principal) = identity else {
        return Decision::Deny(Denial::Anonymous);
    };
    if principal.is_operator {
        return Decision::Allow(Grant::Operator);
    }
    match resource {
        Resource::Account => Decision::Allow(Grant::Account),
        Resource::Bucket { owner, .. } if principal.account.id == *owner => {
            Decision::Allow(Grant::Account)
        }
        Resource::Bucket { .. } => Decision::Deny(Denial::OtherAccount),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drystone_store::types::Account;

    use super::*;
    use drystone_auth::credentials::Principal;

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
        let verdict = |who: &Identity, what| authorize(who, "s3:GetObject", what).is_allowed();
        assert!(verdict(&identity("1", false), bucket));
        assert!(verdict(&identity("2", true), bucket));
        assert!(!verdict(&identity("2", false), bucket));
        assert!(!verdict(&Identity::Anonymous, bucket));
        assert!(verdict(&identity("2", false), Resource::Account));
        assert!(!verdict(&Identity::Anonymous, Resource::Account));
    }
}
