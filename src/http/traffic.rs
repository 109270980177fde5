//! The counts of connections and requests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use drystone_store::measure::{Histogram, Measure};
use http::StatusCode;

/// Requests that ask for no operation that there is.
const NO_OPERATION: &str = "None";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicU64);

impl Level {
    pub fn enter(self: &std::sync::Arc<Level>) -> Within {
        self.0.fetch_add(1, Ordering::Relaxed);
        Within(self.clone())
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts until it is dropped.
#[derive(Debug)]
pub struct Within(std::sync::Arc<Level>);

impl Drop for Within {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct OfOperation {
    classes: [AtomicU64; CLASSES.len()],
    took: Histogram,
}

/// The reason why something was refused or disconnected before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// 503: too many requests or too much memory.
    Busy,
    /// A connection of a client that had its share of them, all busy.
    Client,
    /// An idle connection, which gave way to a newcomer.
    Idle,
    /// A TLS handshake that failed or was too slow, or HTTP in its place.
    Handshake,
    /// A head that was no HTTP, too long or too slow.
    BadHead,
    /// A body that came too slowly.
    SlowBody,
    /// An answer that was taken too slowly.
    SlowReader,
}

const REJECTIONS: [(Rejection, &str); 7] = [
    (Rejection::Busy, "busy"),
    (Rejection::Client, "client"),
    (Rejection::Idle, "idle"),
    (Rejection::Handshake, "handshake"),
    (Rejection::BadHead, "bad_head"),
    (Rejection::SlowBody, "slow_body"),
    (Rejection::SlowReader, "slow_reader"),
];

pub struct Traffic {
    /// In their order, with the name for none at the end.
    names: Vec<&'static str>,
    operations: HashMap<&'static str, OfOperation>,
    pub connections: std::sync::Arc<Level>,
    pub requests: std::sync::Arc<Level>,
    pub received_bytes: AtomicU64,
    pub sent_bytes: AtomicU64,
    rejections: [AtomicU64; REJECTIONS.len()],
}

impl Traffic {
    /// `operations`: the names of all operations that there are.
    pub fn new(operations: impl IntoIterator<Item = &'static str>) -> Traffic {
        let names: Vec<&str> = operations.into_iter().chain([NO_OPERATION]).collect();
        let counts = names.iter().map(|name| (*name, OfOperation::default()));
        Traffic {
            operations: counts.collect(),
            names,
            connections: Default::default(),
            requests: Default::default(),
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            rejections: Default::default(),
        }
    }

    /// A request was answered: its operation, if it asked for one, and how long that took until
    /// the head of the answer was there.
    pub fn answered(&self, operation: Option<&'static str>, status: StatusCode, took: Duration) {
        let counts = &self.operations[operation.unwrap_or(NO_OPERATION)];
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        counts.classes[class].fetch_add(1, Ordering::Relaxed);
        counts.took.add(took);
    }

    pub fn rejected(&self, why: Rejection) {
        let at = REJECTIONS
            .iter()
            .position(|(rejection, _)| *rejection == why);
        self.rejections[at.expect("all are in the list")].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all counts. Operations that were never asked for are left out.
    pub fn measures(&self) -> Vec<Measure> {
        let mut measures = Vec::new();
        for name in &self.names {
            let counts = &self.operations[name];
            if counts.took.durations().count() > 0 {
                measure_operation(name, counts, &mut measures);
            }
        }
        let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
        for (name, help, count) in [
            (
                "s3_received_bytes_total",
                "Bytes of request bodies.",
                load(&self.received_bytes),
            ),
            (
                "s3_sent_bytes_total",
                "Bytes of answers' bodies.",
                load(&self.sent_bytes),
            ),
        ] {
            measures.push(Measure::counter(name, help, count));
        }
        for ((_, name), count) in REJECTIONS.iter().zip(&self.rejections) {
            let help = "Requests and connections that were refused or ended early, by reason.";
            let measure = Measure::counter("s3_refused_total", help, load(count));
            measures.push(measure.label("reason", name));
        }
        for (name, help, level) in [
            ("s3_connections", "Connections now.", self.connections.get()),
            (
                "s3_requests_in_flight",
                "Requests whose answer has not ended.",
                self.requests.get(),
            ),
        ] {
            measures.push(Measure::gauge(name, help, level as f64));
        }
        measures
    }
}

fn measure_operation(name: &str, counts: &OfOperation, measures: &mut Vec<Measure>) {
    for (class, count) in CLASSES.iter().zip(&counts.classes) {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            let help = "Requests answered, by operation and class of status.";
            let measure = Measure::counter("s3_requests_total", help, count);
            measures.push(measure.label("operation", name).label("status", class));
        }
    }
    let help = "From a request's head to the head of its answer.";
    let took = Measure::durations("s3_request_seconds", help, &counts.took);
    measures.push(took.label("operation", name));
}
