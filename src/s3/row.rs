//! A row of the table: everything about an operation but its handler.

use http::{HeaderMap, Method};

use drystone_iam::action::Action;
use drystone_protocol::address::Target;
use drystone_protocol::error::Code;
use drystone_protocol::query::Query;

/// The kind of thing that the request's path names.
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

/// A mark that a request must have beside method and scope.
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

/// The use that the operation makes of the request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// Nobody reads it.
    Nothing,
    /// A document of at most this number of bytes.
    Document(usize),
    /// An object's or a part's bytes.
    Stream,
    /// A form, which has the request's credentials, its parameters and an object's bytes.
    Form,
}

/// A right: the action, and the one for a version by its id where that is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right(pub &'static [Action]);

impl Right {
    /// Reading an old version is another action than reading.
    pub fn action(self, names_version: bool) -> Action {
        let last = self.0.len() - 1;
        self.0[if names_version { last } else { 0 }]
    }
}

/// A condition on the request's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Always,
    /// One of these headers is there.
    AnyOf(&'static [&'static str]),
    /// The header has this value, in any letter case.
    Is(&'static str, &'static str),
}

impl When {
    fn holds(self, headers: &HeaderMap) -> bool {
        match self {
            When::Always => true,
            When::AnyOf(names) => names.iter().any(|name| headers.contains_key(*name)),
            When::Is(name, value) => headers
                .get(name)
                .is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes())),
        }
    }
}

/// How often an operation asks for its rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// At the entrance, for the thing that the path names.
    Once,
    /// The handler asks for each item of the body. At the entrance the bucket alone is asked for,
    /// and a caller that is denied there may do nothing to any item.
    PerItem,
}

/// The answer of an operation on a setting that nobody can have set yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// 501, by the operation's name.
    NotImplemented,
    /// There is no such document.
    Refused(Code),
    /// The bucket cannot have such a thing: InvalidRequest with this message.
    Invalid(&'static str),
    /// The document that S3 has before anybody sets it.
    Document(&'static str, &'static [Node]),
    /// Deleting a thing that isn't there is no error.
    Deleted,
}

/// A part of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    Text(&'static str, &'static str),
    Element(&'static str, &'static [Node]),
}

#[derive(Debug)]
pub struct Row {
    /// As in the AWS reference.
    pub name: &'static str,
    pub method: Method,
    pub scope: Scope,
    /// All of them must be on the request.
    pub marks: &'static [Mark],
    pub right: Right,
    pub body: BodyKind,
    pub details: Details,
}

/// The columns that most rows leave out.
#[derive(Clone, Copy, Debug)]
pub struct Details {
    /// The rights that are needed beside the main one.
    pub also: &'static [(When, Right)],
    /// The right that is needed on the source of a copy.
    pub source: Option<Right>,
    pub asks: Asks,
    pub unset: Unset,
    /// The bucket need not be there.
    pub makes_bucket: bool,
    /// A denial names the bucket's region: clients ask the operation for it alone.
    pub denial_has_region: bool,
}

impl Details {
    pub const NONE: Details = Details {
        also: &[],
        source: None,
        asks: Asks::Once,
        unset: Unset::NotImplemented,
        makes_bucket: false,
        denial_has_region: false,
    };
}

impl Row {
    /// All actions that the caller must be allowed for a request with these headers. An operation
    /// that asks per item calls this for each of them.
    pub fn actions(
        &self,
        names_version: bool,
        headers: &HeaderMap,
    ) -> impl Iterator<Item = Action> {
        let also = self.details.also.iter();
        let also = also.filter(|(when, _)| when.holds(headers));
        let rights = std::iter::once(self.right).chain(also.map(|(_, right)| *right));
        rights.map(move |right| right.action(names_version))
    }

    /// Whether it reads an object's bytes itself and writes them again.
    pub fn copies(&self) -> bool {
        self.details.source.is_some()
    }

    /// Whether the bucket must be there before anything else is looked at.
    pub fn needs_bucket(&self) -> bool {
        self.scope != Scope::Service && !self.details.makes_bucket
    }

    pub fn is_meant_by(&self, method: &Method, query: &Query, headers: &HeaderMap) -> bool {
        self.method == *method && self.marks.iter().all(|mark| mark.is_on(query, headers))
    }
}
