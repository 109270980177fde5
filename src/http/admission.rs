//! Admission: a bounded number of requests, a bounded memory for what they hold, and a short queue
//! before both.
//!
//! A request that finds the queue full, or waits in it for too long, is refused at once, before any
//! of its body was read. A client that gets this answer slows down; one that waits in silence gives
//! up and comes again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use drystone_store::measure::Measure;
use http::header;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::Limits;
use drystone_protocol::error::{Code, S3Error};

/// Memory is counted in units of this much.
const UNIT_BYTES: u64 = 1 << 10;
/// In `Retry-After`, seconds.
const RETRY_AFTER: &str = "1";

pub struct Admission {
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_units: u64,
    waiting: AtomicUsize,
    queue: usize,
    queue_wait: Duration,
}

/// A request's place: given back when the request and its answer are over.
#[derive(Debug)]
pub struct Place {
    _request: OwnedSemaphorePermit,
    memory: Option<OwnedSemaphorePermit>,
}

impl Admission {
    pub fn new(limits: &Limits) -> Admission {
        let memory_units = (limits.memory_bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX));
        Admission {
            requests: Arc::new(Semaphore::new(limits.requests)),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            waiting: AtomicUsize::new(0),
            queue: limits.queue,
            queue_wait: limits.queue_wait,
        }
    }

    /// Waits for a place among the requests in work.
    pub async fn enter(&self) -> Result<Place, S3Error> {
        Ok(Place {
            _request: self.wait(&self.requests, 1).await?,
            memory: None,
        })
    }

    /// Waits until so much more memory is free. One that wants more than there is at all gets
    /// all of it.
    pub async fn reserve(&self, place: &mut Place, bytes: u64) -> Result<(), S3Error> {
        let units = bytes.div_ceil(UNIT_BYTES).min(self.memory_units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        if units == 0 {
            return Ok(());
        }
        let more = self.wait(&self.memory, units).await?;
        match &mut place.memory {
            Some(memory) => memory.merge(more),
            None => place.memory = Some(more),
        }
        Ok(())
    }

    async fn wait(&self, of: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, S3Error> {
        if let Ok(permit) = of.clone().try_acquire_many_owned(count) {
            return Ok(permit);
        }
        let _waiting = Waiting::begin(&self.waiting, self.queue).ok_or_else(busy)?;
        match timeout(self.queue_wait, of.clone().acquire_many_owned(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy()),
        }
    }

    pub fn requests_free(&self) -> usize {
        self.requests.available_permits()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn memory_free_bytes(&self) -> u64 {
        self.memory.available_permits() as u64 * UNIT_BYTES
    }

    pub fn measures(&self) -> Vec<Measure> {
        let gauges = [
            (
                "s3_requests_waiting",
                "Requests that wait for a place or for memory.",
                self.waiting() as f64,
            ),
            (
                "s3_request_places_free",
                "Requests that may still be admitted.",
                self.requests_free() as f64,
            ),
            (
                "s3_request_memory_free_bytes",
                "Memory in bytes that requests may still reserve.",
                self.memory_free_bytes() as f64,
            ),
        ];
        let gauge = |(name, help, value)| Measure::gauge(name, help, value);
        gauges.into_iter().map(gauge).collect()
    }
}

/// Stands in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn begin(waiting: &AtomicUsize, max: usize) -> Option<Waiting<'_>> {
        let more = |len| (len < max).then_some(len + 1);
        let added = waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        added.is_ok().then(|| Waiting(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// 503, which every client takes as: later.
pub fn busy() -> S3Error {
    S3Error::new(Code::SlowDown).header(header::RETRY_AFTER, RETRY_AFTER)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn admission(requests: usize, queue: usize) -> Admission {
        Admission::new(&Limits {
            requests,
            queue,
            queue_wait: Duration::from_millis(20),
            memory_bytes: 1 << 20,
            ..Limits::default()
        })
    }

    #[tokio::test]
    async fn b_55_past_the_queue_the_answer_is_503_at_once_and_places_come_back() {
        let admission = admission(1, 1);
        let first = admission.enter().await.unwrap();
        let mut second = Box::pin(admission.enter());
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(admission.waiting(), 1);
        let third = admission.enter().now_or_never().unwrap().unwrap_err();
        assert_eq!(third.code(), Code::SlowDown);
        drop(first);
        let second = second.await.unwrap();
        // Time is up for who waits behind it.
        let late = admission.enter().await.unwrap_err();
        assert_eq!(late.code(), Code::SlowDown);
        drop(second);
        admission.enter().now_or_never().unwrap().unwrap();
        assert_eq!((admission.waiting(), admission.requests_free()), (0, 1));
    }

    #[tokio::test]
    async fn b_55_memory_is_bounded_and_comes_back() {
        let admission = admission(8, 0);
        let mut places = Vec::new();
        let refused = loop {
            let mut place = admission.enter().await.unwrap();
            match admission.reserve(&mut place, 300 << 10).await {
                Ok(()) => places.push(place),
                Err(error) => break error,
            }
        };
        assert_eq!((places.len(), refused.code()), (3, Code::SlowDown));
        drop(places);
        let mut place = admission.enter().await.unwrap();
        admission.reserve(&mut place, u64::MAX).await.unwrap();
        assert_eq!(admission.memory_free_bytes(), 0);
        drop(place);
        assert_eq!(admission.memory_free_bytes(), 1 << 20);
    }
}
