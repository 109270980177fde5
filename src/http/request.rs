//! A request as it came in, read once: every service gets this one.
//!
//! The query is parsed here, the path is decoded here and the host is resolved here, so that no two
//! readers of a request can differ about what it says.

use std::sync::Arc;

use axum::body::Body;
use http::{HeaderMap, Method, Uri};

use crate::exchange::Exchange;
use crate::prefix;
use crate::scheme::Scheme;
use drystone_protocol::address::Address;
use drystone_protocol::query::Query;

/// All of a request but its body.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: Method,
    /// Without the path prefix.
    pub uri: Uri,
    pub headers: HeaderMap,
    pub query: Query,
    pub address: Address,
    /// The paths that the client may have signed.
    pub signed_paths: Vec<String>,
    /// The record of the request and its answer.
    pub exchange: Arc<Exchange>,
}

#[derive(Debug)]
pub struct Request {
    pub head: Head,
    pub body: Body,
}

impl Head {
    /// Reads the head of a request that came below `prefix`, or without it. `domains`: names whose
    /// sub-domains are buckets, in lower case.
    pub fn read(
        parts: http::request::Parts,
        prefix: &str,
        domains: &[String],
        exchange: Arc<Exchange>,
    ) -> Head {
        let (uri, signed_paths) = prefix::enter(prefix, parts.uri);
        Head {
            query: Query::parse(uri.query().unwrap_or_default()),
            address: Address::read(&uri, &parts.headers, domains),
            method: parts.method,
            uri,
            headers: parts.headers,
            signed_paths,
            exchange,
        }
    }

    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The scheme of the connection that it came by.
    pub fn scheme(&self) -> Scheme {
        self.exchange.scheme
    }
}
