//! The record of a request and its answer, for access logs, audit and traces.
//!
//! The connection begins it, the services add what they find out, and it is complete when the last
//! of them lets go of it: after the last byte of the answer.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::scheme::Scheme;

use drystone_store::lock::Mutex;

/// One request and its answer.
#[derive(Debug)]
pub struct Exchange {
    /// The request's id, as the answer bears it.
    pub id: String,
    /// The other end of the connection; `None` without a socket.
    pub peer: Option<SocketAddr>,
    pub scheme: Scheme,
    pub method: Method,
    /// As the client sent it.
    pub path: String,
    began: Instant,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    findings: Mutex<Findings>,
}

/// The facts that services find out on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub operation: Option<&'static str>,
    pub bucket: String,
    pub key: String,
    /// The account and the user that the signature speaks for; `None` without credentials.
    pub caller: Option<(String, String)>,
    /// The reason why the caller was allowed or denied what it asked for.
    pub decision: Option<&'static str>,
    /// The code of the error that was answered.
    pub error: Option<&'static str>,
    pub status: Option<StatusCode>,
    /// From the beginning to the head of the answer.
    pub answered_after: Option<Duration>,
}

impl Exchange {
    pub fn begin(
        id: String,
        peer: Option<SocketAddr>,
        scheme: Scheme,
        method: Method,
        path: &str,
    ) -> Exchange {
        Exchange {
            id,
            peer,
            scheme,
            method,
            path: path.to_owned(),
            began: Instant::now(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            findings: Mutex::default(),
        }
    }

    pub fn note(&self, add: impl FnOnce(&mut Findings)) {
        add(&mut self.findings.lock());
    }

    /// The head of the answer is there.
    pub fn answered(&self, status: StatusCode) {
        let after = self.elapsed();
        self.note(|findings| {
            findings.status = Some(status);
            findings.answered_after = Some(after);
        });
    }

    pub fn received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn findings(&self) -> Findings {
        self.findings.lock().clone()
    }

    /// Bytes of the body that came, and of the answer's that went.
    pub fn bytes(&self) -> (u64, u64) {
        let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (load(&self.received_bytes), load(&self.sent_bytes))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let (received, sent) = self.bytes();
        let took = self.elapsed();
        let findings = self.findings.get_mut();
        tracing::debug!(
            request = self.id,
            peer = ?self.peer,
            scheme = self.scheme.text(),
            method = %self.method,
            path = self.path,
            operation = findings.operation,
            bucket = findings.bucket,
            key = findings.key,
            caller = ?findings.caller,
            decision = findings.decision,
            status = findings.status.map(|status| status.as_u16()),
            error = findings.error,
            received,
            sent,
            ?took,
            "done"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_holds_what_was_noted() {
        let method = Method::GET;
        let exchange = Exchange::begin("R".to_owned(), None, Scheme::Http, method, "/b/k");
        exchange.note(|findings| findings.operation = Some("GetObject"));
        exchange.sent(3);
        exchange.sent(4);
        exchange.received(5);
        exchange.answered(StatusCode::OK);
        let findings = exchange.findings();
        assert_eq!(findings.operation, Some("GetObject"));
        assert_eq!(findings.status, Some(StatusCode::OK));
        assert!(findings.answered_after.is_some());
        assert_eq!(exchange.bytes(), (5, 7));
    }
}
