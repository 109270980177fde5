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
/// The part of the memory that long answers may have together, in quarters. The rest is left to
/// requests and to short answers.
const LONG_ANSWERS_QUARTERS: u64 = 3;
/// An answer that holds more than this is a long one.
const SHORT_ANSWER_BYTES_MAX: u64 = 256 << 10;
/// In `Retry-After`, seconds.
const RETRY_AFTER: &str = "1";

pub struct Admission {
    requests: Arc<Semaphore>,
    forms: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    memory_units: u64,
    long_answers: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    queue_wait: Duration,
}

/// A request's place among those in work, and its memory. Both are given back when the request and
/// its answer are over, the place of one that is only sent earlier.
#[derive(Debug)]
pub struct Place {
    request: Option<OwnedSemaphorePermit>,
    memory: Option<OwnedSemaphorePermit>,
    _long_answer: Option<OwnedSemaphorePermit>,
}

/// The place of a form while its fields come, which say who sent it.
#[derive(Debug)]
pub struct FormPlace {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Gives back the place among the requests in work: its answer is ready to be sent, and holds
    /// nothing but memory.
    pub fn end_work(&mut self) {
        self.request = None;
    }
}

impl Admission {
    pub fn new(limits: &Limits) -> Admission {
        let memory_units = (limits.memory_bytes / UNIT_BYTES).clamp(1, u64::from(u32::MAX));
        Admission {
            requests: Arc::new(Semaphore::new(limits.requests)),
            forms: Arc::new(Semaphore::new(limits.forms)),
            memory: Arc::new(Semaphore::new(memory_units as usize)),
            memory_units,
            long_answers: Arc::new(Semaphore::new(long_answer_units(memory_units) as usize)),
            waiting: AtomicUsize::new(0),
            queue: limits.queue,
            queue_wait: limits.queue_wait,
        }
    }

    /// Waits for a place among the requests in work.
    pub async fn enter(&self) -> Result<Place, S3Error> {
        Ok(Place {
            request: Some(self.wait(&self.requests, 1).await?),
            memory: None,
            _long_answer: None,
        })
    }

    /// Gives a place to a form whose sender is not known yet. Nobody waits for one: strangers that
    /// hold all of them must not fill the queue as well.
    pub fn enter_form(&self) -> Result<FormPlace, S3Error> {
        let permit = self.forms.clone().try_acquire_owned();
        let place = permit.map(|permit| FormPlace { _permit: permit });
        place.map_err(|_| busy())
    }

    /// Waits until so much more memory is free. One that wants more than there is at all gets
    /// all of it.
    pub async fn reserve(&self, place: &mut Place, bytes: u64) -> Result<(), S3Error> {
        let units = units(bytes, self.memory_units);
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

    /// Waits for the memory of an answer. Long ones, which a slow client may hold for hours, never
    /// have all of it.
    pub async fn reserve_answer(&self, place: &mut Place, bytes: u64) -> Result<(), S3Error> {
        if bytes > SHORT_ANSWER_BYTES_MAX {
            let units = units(bytes, long_answer_units(self.memory_units));
            place._long_answer = Some(self.wait(&self.long_answers, units).await?);
        }
        self.reserve(place, bytes).await
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

    pub fn forms_free(&self) -> usize {
        self.forms.available_permits()
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
                "s3_form_places_free",
                "Forms whose fields may still be received at once.",
                self.forms_free() as f64,
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

/// The units for so many bytes, and at most all that there are.
fn units(bytes: u64, all: u64) -> u32 {
    let units = bytes.div_ceil(UNIT_BYTES).min(all);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn long_answer_units(memory_units: u64) -> u64 {
    (memory_units * LONG_ANSWERS_QUARTERS / 4).max(1)
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
    async fn r_18_long_answers_leave_memory_to_all_else() {
        let admission = admission(1, 0);
        let mut sent = Vec::new();
        let refused = loop {
            // One place is enough for all of them: an answer that is sent has none.
            let mut place = admission.enter().await.unwrap();
            match admission.reserve_answer(&mut place, 300 << 10).await {
                Ok(()) => place.end_work(),
                Err(error) => break error,
            }
            sent.push(place);
        };
        assert_eq!((sent.len(), refused.code()), (2, Code::SlowDown));
        let mut place = admission.enter().await.unwrap();
        admission.reserve(&mut place, 256 << 10).await.unwrap();
        admission
            .reserve_answer(&mut place, 64 << 10)
            .await
            .unwrap();
        drop((place, sent));
        assert_eq!(admission.memory_free_bytes(), 1 << 20);
        let mut place = admission.enter().await.unwrap();
        admission
            .reserve_answer(&mut place, u64::MAX)
            .await
            .unwrap();
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
