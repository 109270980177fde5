//! Bodies as they come off the wire and go onto it: counted, and never waited for without end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes};
use http_body::{Body as _, Frame, SizeHint};

use crate::admission::Place;
use crate::exchange::Exchange;
use crate::pace::{Pace, Watch};
use crate::traffic::{Rejection, Traffic, Within};
use drystone_protocol::error::{Code, S3Error};

/// A request's body: remembers whether it was read to its end, and ends in an error when it comes
/// too slowly.
pub struct Incoming {
    inner: Body,
    unread: Arc<AtomicBool>,
    pace: Watch,
    traffic: Arc<Traffic>,
    exchange: Arc<Exchange>,
}

impl Incoming {
    /// The body, and what tells whether any of it is still unread.
    pub fn watch(
        inner: Body,
        pace: Pace,
        traffic: Arc<Traffic>,
        exchange: Arc<Exchange>,
    ) -> (Body, Arc<AtomicBool>) {
        let unread = Arc::new(AtomicBool::new(!inner.is_end_stream()));
        let incoming = Incoming {
            inner,
            unread: unread.clone(),
            pace: Watch::new(pace),
            traffic,
            exchange,
        };
        (Body::new(incoming), unread)
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok());
                let len = data.and_then(Frame::data_ref).map_or(0, Bytes::len);
                self.pace.moved(len);
                let received = &self.traffic.received_bytes;
                received.fetch_add(len as u64, Ordering::Relaxed);
                self.exchange.received(len);
                if frame.is_none() || self.inner.is_end_stream() {
                    self.unread.store(false, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Poll::Pending => self.pace.poll_too_slow(cx).map(|()| {
                self.traffic.rejected(Rejection::SlowBody);
                Some(Err(BoxError::from(S3Error::new(Code::RequestTimeout))))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer's body: holds the request's place until its end.
pub struct Outgoing {
    inner: Body,
    traffic: Arc<Traffic>,
    exchange: Arc<Exchange>,
    /// Dropped after the body, and with it what the body held.
    _held: (Option<Place>, Within),
}

impl Outgoing {
    pub fn watch(
        inner: Body,
        traffic: Arc<Traffic>,
        exchange: Arc<Exchange>,
        held: (Option<Place>, Within),
    ) -> Body {
        Body::new(Outgoing {
            inner,
            traffic,
            exchange,
            _held: held,
        })
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let len = frame.data_ref().map_or(0, Bytes::len);
            let sent = &self.traffic.sent_bytes;
            sent.fetch_add(len as u64, Ordering::Relaxed);
            self.exchange.sent(len);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
