//! How slow a client may be, in either direction.
//!
//! Only the time spent waiting for the client counts: a disk that is slow, or a handler that
//! isn't reading, is not the client's fault.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// At least so many bytes in so much time of waiting.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub bytes: u64,
    pub window: Duration,
}

/// Watches one direction of a connection or the body of one message.
pub struct Watch {
    tally: Tally,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub fn new(pace: Pace) -> Watch {
        Watch {
            tally: Tally::new(pace),
            alarm: None,
        }
    }

    /// Something came or went.
    pub fn moved(&mut self, bytes: usize) {
        self.tally.moved(bytes, Instant::now);
    }

    /// Nothing can be done but wait for the client. Ready when it was too slow.
    pub fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.tally.since.is_none() {
            let due = self.tally.wait(Instant::now());
            match &mut self.alarm {
                Some(alarm) => alarm.as_mut().reset(due),
                None => self.alarm = Some(Box::pin(sleep_until(due))),
            }
        }
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// A socket whose client has to take what is written at some pace. It lies below TLS, so that what
/// TLS holds back counts as little as what the system does.
pub struct Paced<S> {
    stream: S,
    writing: Watch,
    is_stalled: bool,
}

impl<S> Paced<S> {
    pub fn new(stream: S, pace: Pace) -> Paced<S> {
        Paced {
            stream,
            writing: Watch::new(pace),
            is_stalled: false,
        }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Whether the client let an answer wait for too long.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Counts what was written, and fails when the client takes too little of it.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(len)) => self.writing.moved(len),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                ready!(self.writing.poll_too_slow(cx));
                self.is_stalled = true;
                let error = "the client does not read its answer";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, error)));
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A watch's arithmetic.
struct Tally {
    pace: Pace,
    /// The bytes that moved in this window, and the time spent waiting before `since`.
    moved: u64,
    waited: Duration,
    /// Waiting since then.
    since: Option<Instant>,
}

impl Tally {
    fn new(pace: Pace) -> Tally {
        Tally {
            pace,
            moved: 0,
            waited: Duration::ZERO,
            since: None,
        }
    }

    fn moved(&mut self, bytes: usize, now: impl Fn() -> Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now().duration_since(since);
        }
        self.moved += bytes as u64;
        if self.moved >= self.pace.bytes {
            self.moved = 0;
            self.waited = Duration::ZERO;
        }
    }

    /// When waiting has to end.
    fn wait(&mut self, now: Instant) -> Instant {
        self.since = Some(now);
        now + self.pace.window.saturating_sub(self.waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        bytes: 100,
        window: Duration::from_secs(10),
    };

    #[test]
    fn a_60_drips_do_not_reset_the_clock_but_enough_bytes_do() {
        let zero = Instant::now();
        let at = |second| zero + Duration::from_secs(second);
        let mut tally = Tally::new(PACE);
        assert_eq!(tally.wait(at(0)), at(10));
        tally.moved(1, || at(3));
        assert_eq!(tally.wait(at(3)), at(10));
        tally.moved(1, || at(9));
        assert_eq!(tally.wait(at(9)), at(10));
        tally.moved(98, || at(9));
        assert_eq!(tally.wait(at(9)), at(19));
        tally.moved(99, || at(20));
        assert_eq!(tally.wait(at(20)), at(20));
    }

    #[test]
    fn time_in_which_nobody_waits_for_the_client_is_not_the_clients() {
        let zero = Instant::now();
        let at = |second| zero + Duration::from_secs(second);
        let mut tally = Tally::new(PACE);
        assert_eq!(tally.wait(at(0)), at(10));
        tally.moved(1, || at(5));
        tally.moved(1, || at(3000));
        assert_eq!(tally.wait(at(4000)), at(4005));
    }
}
