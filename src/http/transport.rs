//! The parts that all connections share: limits, counts, and the entrance of requests.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;

use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::network::Network;
use crate::request::{Head, Request};
use crate::scheme::Scheme;
use crate::traffic::{Rejection, Traffic};
use drystone_protocol::error::S3Error;
use drystone_protocol::error::response::ErrorContext;
use drystone_protocol::ids::Ids;
use drystone_protocol::response::Response;

pub struct Transport {
    pub limits: Limits,
    pub traffic: Arc<Traffic>,
    pub ids: Arc<Ids>,
    /// The proxies, each of which speaks for many clients.
    pub trusted_proxies: Vec<Network>,
    /// Names whose sub-domains are buckets, in lower case.
    domains: Vec<String>,
    /// The prefix that all paths may begin with: empty, or such as `/s3`.
    path_prefix: String,
}

impl Transport {
    pub fn new(
        limits: Limits,
        traffic: Arc<Traffic>,
        ids: Arc<Ids>,
        domains: &[String],
        path_prefix: &str,
    ) -> Transport {
        let domains = domains.iter();
        Transport {
            limits,
            traffic,
            ids,
            trusted_proxies: Vec::new(),
            domains: domains.map(|domain| domain.to_ascii_lowercase()).collect(),
            path_prefix: path_prefix.to_owned(),
        }
    }

    /// Does not limit the connections of these addresses.
    #[must_use]
    pub fn trusting(mut self, proxies: &[Network]) -> Transport {
        self.trusted_proxies = proxies.to_vec();
        self
    }

    /// Reads a request, once for all services.
    pub fn enter(
        &self,
        request: http::Request<Body>,
        peer: Option<SocketAddr>,
        scheme: Scheme,
    ) -> Request {
        let (parts, body) = request.into_parts();
        let (id, method) = (self.ids.request_id(), parts.method.clone());
        let exchange = Exchange::begin(id, peer, scheme, method, parts.uri.path());
        let exchange = Arc::new(exchange);
        Request {
            head: Head::read(parts, &self.path_prefix, &self.domains, exchange),
            body,
        }
    }

    /// Answers what no service gets: its head was no HTTP, or too much of it; or there is no room
    /// for it. Ends the connection.
    pub fn refuse(&self, error: S3Error, why: Option<Rejection>) -> Response {
        let id = self.ids.request_id();
        tracing::debug!(request = %id, %error, "refused unread");
        let at = ErrorContext {
            request_id: &id,
            host_id: self.ids.host_id(),
            ..ErrorContext::default()
        };
        let mut response = error.into_response(&at);
        self.ids.finish(response.headers_mut(), &id, true);
        if let Some(why) = why {
            self.traffic.rejected(why);
        }
        response
    }
}
