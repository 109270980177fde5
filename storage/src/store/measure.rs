//! Measures: what a process counts and measures about itself.
//!
//! A [`Measure`] is one value with its name. Names have no prefix here, and the value of a counter
//! or a histogram only grows within a process. [`Histogram`] collects durations without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds, in seconds, of the buckets in which durations are counted. One more bucket
/// follows the last bound.
pub const BOUNDS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Counter(u64),
    Gauge(f64),
    Durations(Durations),
}

/// One value of a family. All measures of one name have the same help, kind and label names.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    pub name: &'static str,
    /// One sentence that explains the measure.
    pub help: &'static str,
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

impl Measure {
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Measure {
        Measure::new(name, help, Value::Counter(value))
    }

    pub fn gauge(name: &'static str, help: &'static str, value: f64) -> Measure {
        Measure::new(name, help, Value::Gauge(value))
    }

    pub fn durations(name: &'static str, help: &'static str, of: &Histogram) -> Measure {
        Measure::new(name, help, Value::Durations(of.durations()))
    }

    fn new(name: &'static str, help: &'static str, value: Value) -> Measure {
        Measure {
            name,
            help,
            labels: Vec::new(),
            value,
        }
    }

    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl ToString) -> Measure {
        self.labels.push((name, value.to_string()));
        self
    }
}

/// The durations counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Durations {
    /// The number of durations in each bucket: longer than the bound before and at most as long as
    /// the bound of [`BOUNDS_SECONDS`]. The last bucket has those beyond all bounds.
    pub counts: [u64; BOUNDS_SECONDS.len() + 1],
    pub seconds: f64,
}

impl Durations {
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A collector of durations. Any number of threads may add to it.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_SECONDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS_SECONDS.partition_point(|bound| *bound < seconds);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub fn durations(&self) -> Durations {
        Durations {
            counts: std::array::from_fn(|at| self.counts[at].load(Ordering::Relaxed)),
            seconds: Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_below_the_bound_that_it_does_not_pass() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 10_000, 10_001] {
            histogram.add(Duration::from_millis(millis));
        }
        let durations = histogram.durations();
        assert_eq!(durations.count(), 5);
        assert_eq!(durations.counts[..3], [1, 1, 1]);
        assert_eq!(durations.counts[BOUNDS_SECONDS.len() - 1..], [1, 1]);
        assert!((durations.seconds - 20.004).abs() < 1e-9);
    }
}
