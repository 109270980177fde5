//! Authorisation: the one call that decides whether a caller may do something.
//!
//! For now there are no policies: an account's own principals may do everything in its buckets,
//! the operator everything, everybody else nothing. Policies come in here and nowhere else.

use crate::request::Request;
use drystone_auth::identity::Identity;

/// The answer to a request for a decision, with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(Grant),
    Deny(Denial),
}

/// The reason why something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The operator may do everything.
    Operator,
    /// An account may do everything to its own buckets.
    Account,
}

/// The reason why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request has no credentials.
    Anonymous,
    /// The bucket is another account's.
    OtherAccount,
}

impl Decision {
    pub fn is_allowed(self) -> bool {
        matches!(self, Decision::Allow(_))
    }

    /// The reason, as logs and records have it.
    pub fn reason(self) -> &'static str {
        match self {
            Decision::Allow(Grant::Operator) => "allowed: operator",
            Decision::Allow(Grant::Account) => "allowed: own account",
            Decision::Deny(Denial::Anonymous) => "denied: anonymous",
            Decision::Deny(Denial::OtherAccount) => "denied: other account",
        }
    }
}

/// Decides whether the caller may do what it asks for.
pub fn authorize(request: &Request<'_>) -> Decision {
    let Identity::Principal(principal) = request.identity else {
        return Decision::Deny(Denial::Anonymous);
    };
    if principal.is_operator {
        return Decision::Allow(Grant::Operator);
    }
    match request.bucket {
        // The account's own list of buckets, or a bucket that it is about to have.
        None => Decision::Allow(Grant::Account),
        Some(bucket) if principal.account.id == *bucket.owner => Decision::Allow(Grant::Account),
        Some(_) => Decision::Deny(Denial::OtherAccount),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use drystone_store::types::{Account, AccountId, Tags, Timestamp};

    use super::*;
    use crate::action::Action;
    use crate::arn::Arn;
    use crate::facts::{
        BucketFacts, BucketSettings, Lock, ObjectFacts, RequestFacts, Texts, Unread,
    };
    use drystone_auth::credentials::Principal;
    use drystone_auth::identity::{SignaturePlace, SignatureVersion, Signing};

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

    struct Sent;

    impl Texts for Sent {
        fn header(&self, name: &str) -> Option<&str> {
            match name {
                "user-agent" => Some("curl"),
                "x-amz-acl" => Some("private"),
                _ => None,
            }
        }

        fn parameter(&self, name: &str) -> Option<&str> {
            (name == "versionId").then_some("null")
        }
    }

    /// An object that counts how often it is asked.
    #[derive(Default)]
    struct Asked {
        times: Cell<usize>,
        tags: Tags,
    }

    impl Asked {
        fn count(&self) {
            self.times.set(self.times.get() + 1);
        }
    }

    impl ObjectFacts for Asked {
        fn owner(&self) -> Option<&AccountId> {
            self.count();
            None
        }

        fn tags(&self) -> Option<&Tags> {
            self.count();
            Some(&self.tags)
        }

        fn lock(&self) -> Option<Lock> {
            self.count();
            None
        }
    }

    const FACTS: RequestFacts<'_> = RequestFacts {
        peer: None,
        is_secure: true,
        now: Timestamp(10_000),
        signing: Some(Signing {
            version: SignatureVersion::V4,
            place: SignaturePlace::Query,
            signed_at: Some(Timestamp(7_000)),
        }),
        texts: &Sent,
    };

    fn request<'a>(
        identity: &'a Identity,
        bucket: Option<BucketFacts<'a>>,
        object: &'a dyn ObjectFacts,
    ) -> Request<'a> {
        Request {
            identity,
            action: Action::GetObject,
            resource: Arn::object("b", "k"),
            bucket,
            object,
            facts: FACTS,
        }
    }

    #[test]
    fn a_32_only_the_owners_account_and_the_operator_may() {
        let (owner, settings) = (AccountId("1".into()), BucketSettings::default());
        let bucket = Some(BucketFacts {
            owner: &owner,
            settings: &settings,
        });
        let verdict = |who: &Identity, bucket| authorize(&request(who, bucket, &Unread));
        let account = Decision::Allow(Grant::Account);
        assert_eq!(verdict(&identity("1", false), bucket), account);
        let operator = verdict(&identity("2", true), bucket);
        assert_eq!(operator, Decision::Allow(Grant::Operator));
        let other = verdict(&identity("2", false), bucket);
        assert_eq!(other, Decision::Deny(Denial::OtherAccount));
        assert_eq!(other.reason(), "denied: other account");
        let nobody = verdict(&Identity::Anonymous, bucket);
        assert_eq!(nobody, Decision::Deny(Denial::Anonymous));
        assert_eq!(verdict(&identity("2", false), None), account);
        assert!(!verdict(&Identity::Anonymous, None).is_allowed());
    }

    #[test]
    fn a_32_facts_about_the_object_are_asked_for_only_where_they_count() {
        let who = identity("1", false);
        let object = Asked {
            tags: vec![("Stage".into(), "live".into())],
            ..Asked::default()
        };
        let request = request(&who, None, &object);
        assert!(authorize(&request).is_allowed());
        assert_eq!(request.condition("s3:x-amz-acl").unwrap(), "private");
        assert_eq!(object.times.get(), 0);
        let tag = request.condition("s3:ExistingObjectTag/Stage");
        assert_eq!(tag.unwrap(), "live");
        assert_eq!(object.times.get(), 1);
    }

    #[test]
    fn a_32_condition_keys_are_looked_up_by_name() {
        let (who, owner) = (identity("1", false), AccountId("7".into()));
        let settings = BucketSettings {
            tags: vec![("team".into(), "red".into())],
        };
        let bucket = BucketFacts {
            owner: &owner,
            settings: &settings,
        };
        let mut request = request(&who, Some(bucket), &Unread);
        request.facts.peer = Some("::ffff:10.0.0.7".parse().unwrap());
        for (key, value) in [
            ("aws:SourceIp", Some("10.0.0.7")),
            ("AWS:securetransport", Some("true")),
            ("aws:EpochTime", Some("10")),
            ("aws:UserAgent", Some("curl")),
            ("aws:Referer", None),
            ("aws:username", Some("u")),
            ("aws:PrincipalAccount", Some("1")),
            ("s3:ResourceAccount", Some("7")),
            ("s3:signatureversion", Some("AWS4-HMAC-SHA256")),
            ("s3:authType", Some("REST-QUERY-STRING")),
            ("s3:signatureAge", Some("3000")),
            ("s3:VersionId", Some("null")),
            ("s3:prefix", None),
            ("s3:BucketTag/team", Some("red")),
            ("s3:buckettag/team", Some("red")),
            ("s3:BucketTag/Team", None),
            ("s3:ExistingObjectTag/team", None),
            ("s3:unknown", None),
            ("ec2:Region", None),
            ("", None),
        ] {
            assert_eq!(request.condition(key).as_deref(), value, "{key}");
        }
        let nobody = Request {
            identity: &Identity::Anonymous,
            ..request
        };
        assert_eq!(nobody.condition("aws:username"), None);
    }
}
