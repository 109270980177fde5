//! What a row of the table says of an operation, but for who answers it.

use http::{HeaderMap, Method};

use drystone_protocol::address::Target;
use drystone_protocol::query::Query;

/// What the request's path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Service,
    Bucket,
    Object,
}

impl Scope {
    pub fn of(target: &Target) -> Scope {
        match (target.bucket.is_empty(), target.key.is_empty()) {
            (true, _) => Scope::Service,
            (false, true) => Scope::Bucket,
            (false, false) => Scope::Object,
        }
    }
}

/// What a request must have beside method and scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A query key.
    Key(&'static str),
    /// A query key with this value.
    KeyIs(&'static str, &'static str),
    Header(&'static str),
}

impl Mark {
    fn is_on(self, query: &Query, headers: &HeaderMap) -> bool {
        match self {
            Mark::Key(key) => query.has(key),
            Mark::KeyIs(key, value) => query.get(key) == Some(value),
            Mark::Header(name) => headers.contains_key(name),
        }
    }
}

/// What becomes of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Nobody reads it.
    Nothing,
    /// A document of at most so many bytes.
    Document(usize),
    /// An object's or a part's bytes.
    Stream,
    /// A form, which bears the request's credentials, its parameters and an object's bytes.
    Form,
}

#[derive(Debug)]
pub struct Row {
    /// As in the AWS reference.
    pub name: &'static str,
    pub method: Method,
    pub scope: Scope,
    /// All of them must be on the request.
    pub marks: &'static [Mark],
    /// The right needed, and where it is another one, the right needed for a version by its id.
    pub actions: &'static [&'static str],
    pub body: BodyKind,
}

impl Row {
    /// The right that a request needs: reading an old version is another one than reading.
    pub fn action(&self, names_version: bool) -> &'static str {
        let last = self.actions.len() - 1;
        self.actions[if names_version { last } else { 0 }]
    }

    /// Reads an object's bytes itself and writes them anew, or may.
    pub fn copies(&self) -> bool {
        self.marks.contains(&Mark::Header("x-amz-copy-source"))
    }

    /// The bucket must be there before the operation is thought of.
    pub fn needs_bucket(&self) -> bool {
        self.scope != Scope::Service && self.name != "CreateBucket"
    }

    pub fn is_meant_by(&self, method: &Method, query: &Query, headers: &HeaderMap) -> bool {
        self.method == *method && self.marks.iter().all(|mark| mark.is_on(query, headers))
    }
}
