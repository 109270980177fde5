//! The parts of a request that its signature is about.

use http::request::Parts;
use http::{HeaderMap, Method, Uri};

use drystone_http::request::Head;
use drystone_protocol::query::Query;

/// A request as one of its signatures may cover it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub method: &'a Method,
    /// As the client sent it, still encoded.
    pub path: &'a str,
    pub query: &'a Query,
    pub headers: &'a HeaderMap,
    /// The host that stands in the target; empty where there is none.
    pub authority: &'a str,
}

impl<'a> Message<'a> {
    /// A request that came in, under one of the paths that its client may have signed.
    pub fn received(head: &'a Head, path: &'a str) -> Message<'a> {
        Message {
            method: &head.method,
            path,
            query: &head.query,
            headers: &head.headers,
            authority: authority(&head.uri),
        }
    }

    /// A request that is to be sent. `query` is that of its URI.
    pub fn to_send(parts: &'a Parts, query: &'a Query) -> Message<'a> {
        Message {
            method: &parts.method,
            path: parts.uri.path(),
            query,
            headers: &parts.headers,
            authority: authority(&parts.uri),
        }
    }
}

fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}
