//! The facts that decisions may depend on: of the bucket, of the object, of the request.

use std::net::IpAddr;

use drystone_store::types::{AccountId, Tags, Timestamp};

use drystone_auth::identity::Signing;

/// The settings of a bucket that decisions may depend on, parsed. A bucket's policy, its ACL and
/// its public access block get a field each as soon as they can be set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketSettings {
    /// Empty where no tags are set.
    pub tags: Tags,
}

/// The bucket that an action is about.
#[derive(Clone, Copy, Debug)]
pub struct BucketFacts<'a> {
    pub owner: &'a AccountId,
    pub settings: &'a BucketSettings,
}

/// The object that an action is about. A decision asks only for the facts that it depends on.
pub trait ObjectFacts {
    fn owner(&self) -> Option<&AccountId>;
    fn tags(&self) -> Option<&Tags>;
    fn lock(&self) -> Option<Lock>;
}

/// The protection of an object against deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    pub retained_until: Option<Timestamp>,
    pub has_legal_hold: bool,
}

/// No object, or one that has not been read: nothing is known about it.
#[derive(Clone, Copy, Debug)]
pub struct Unread;

impl ObjectFacts for Unread {
    fn owner(&self) -> Option<&AccountId> {
        None
    }

    fn tags(&self) -> Option<&Tags> {
        None
    }

    fn lock(&self) -> Option<Lock> {
        None
    }
}

/// The texts that a request carries.
pub trait Texts {
    /// The value of a header, by its name in lower case.
    fn header(&self, name: &str) -> Option<&str>;
    /// The value of a query parameter.
    fn parameter(&self, name: &str) -> Option<&str>;
}

/// The circumstances of a request.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The other end of the connection.
    pub peer: Option<IpAddr>,
    /// The connection is TLS, which ends here.
    pub is_secure: bool,
    pub now: Timestamp,
    pub signing: Option<Signing>,
    pub texts: &'a dyn Texts,
}
