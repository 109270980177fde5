//! A connection as hyper sees it: heads come whole, judged, and in time.
//!
//! All bytes that hyper reads went through here before, so one judgement of heads and framing
//! ([`head`]) holds for all that follows. A head that is refused is replaced by one that says
//! nothing, and the connection gives nothing after it; [`Refusals`] has the answer for the service.
//! The answer to nonsense is therefore an S3 error like any other: it comes in its turn, behind the
//! answers to earlier requests, and the connection ends with it.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::head::{self, Chunks, Framing};
use drystone_protocol::error::Code;

use drystone_store::lock::Mutex;

/// A head longer than this isn't read to its end. Up to it the server answers as S3 does to more
/// than its 8 KiB of headers; a key may take three times its length, and a link's query as much.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// One read of a head. What is read with it belongs to the body.
const READ_BYTES: usize = 8 << 10;
/// Takes the place of a head that was refused.
const NOTHING: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\n\r\n";

/// Which head of a connection was refused, and why.
#[derive(Clone, Default)]
pub struct Refusals(Arc<Mutex<Option<(u64, Code)>>>);

impl Refusals {
    /// Returns the error for the connection's `number`-th head, counted from 1, if it was refused.
    pub fn of(&self, number: u64) -> Option<Code> {
        let refused = *self.0.lock();
        refused.and_then(|(refused, code)| (refused == number).then_some(code))
    }

    fn set(&self, number: u64, code: Code) {
        *self.0.lock() = Some((number, code));
    }
}

enum State {
    /// A head is read.
    Head,
    /// The head, so many bytes of `held`, is given.
    Given {
        left: usize,
        then: Framing,
    },
    Length(u64),
    Chunked(Chunks),
    /// The replacement of a refused head is given out. This many bytes of it are left.
    Refused {
        left: usize,
    },
}

pub struct Gate<S> {
    stream: S,
    state: State,
    /// Read and not given yet.
    held: BytesMut,
    /// The number of bytes in `held` that were examined.
    seen: usize,
    heads: u64,
    refusals: Refusals,
    head_max: Duration,
    /// Runs while a head has begun and not ended.
    head_due: Option<Pin<Box<Sleep>>>,
}

impl<S> Gate<S> {
    pub fn new(stream: S, head_max: Duration, refusals: Refusals) -> Gate<S> {
        Gate {
            stream,
            state: State::Head,
            held: BytesMut::new(),
            seen: 0,
            heads: 0,
            refusals,
            head_max,
            head_due: None,
        }
    }

    pub fn into_inner(self) -> S {
        self.stream
    }

    fn refuse(&mut self, code: Code) {
        self.refusals.set(self.heads + 1, code);
        self.begin(State::Refused {
            left: NOTHING.len(),
        });
        self.held.clear();
    }

    fn begin(&mut self, state: State) {
        self.heads += 1;
        self.head_due = None;
        self.seen = 0;
        self.state = state;
    }

    /// Looks at what is held; true when it is a whole head, or refused.
    fn judge(&mut self) -> bool {
        // One empty line in front is let pass, as old clients end a body with it. Its two bytes may
        // come apart.
        if self.seen < 2 && self.held.starts_with(b"\r\n") {
            self.held.advance(2);
            self.seen = 0;
        }
        match head::end(&self.held, self.seen) {
            Some(end) if end <= HEAD_BYTES_MAX => match head::check(&self.held[..end]) {
                Ok(then) => self.begin(State::Given { left: end, then }),
                Err(code) => self.refuse(code),
            },
            None if self.held.len() <= HEAD_BYTES_MAX => {
                self.seen = self.held.len();
                return false;
            }
            _ => self.refuse(Code::RequestHeaderSectionTooLarge),
        }
        true
    }
}

impl<S: AsyncRead + Unpin> Gate<S> {
    /// Reads until the head is whole. Ready(true) at the connection's end.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.judge() {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
                Poll::Ready(()) if read.filled().is_empty() => return Poll::Ready(Ok(true)),
                Poll::Ready(()) => self.held.extend_from_slice(read.filled()),
                Poll::Pending if self.held.is_empty() => return Poll::Pending,
                Poll::Pending => {
                    let head_max = self.head_max;
                    let due = self
                        .head_due
                        .get_or_insert_with(|| Box::pin(sleep(head_max)));
                    ready!(due.as_mut().poll(cx));
                    self.refuse(Code::RequestTimeout);
                    return Poll::Ready(Ok(false));
                }
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Bytes of a body, those held first. What was read past its end is held.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.held.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let len = self.held.len().min(buf.remaining());
            buf.put_slice(&self.held.split_to(len));
        }
        let fresh = &buf.filled()[before..];
        let (len, is_ended) = match &mut self.state {
            State::Length(left) => {
                let len = fresh
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= len as u64;
                (len, *left == 0)
            }
            State::Chunked(chunks) => match chunks.take(fresh) {
                Ok(len) => (len, chunks.is_ended()),
                Err(head::NotChunked) => {
                    buf.set_filled(before);
                    let error = "the body's chunks have no sense";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            },
            State::Head | State::Given { .. } | State::Refused { .. } => {
                unreachable!("no body is read in this state")
            }
        };
        if len < fresh.len() {
            let rest = self.held.split();
            self.held.extend_from_slice(&fresh[len..]);
            self.held.unsplit(rest);
            buf.set_filled(before + len);
        }
        if is_ended {
            self.state = State::Head;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let gate = &mut *self;
        loop {
            match &mut gate.state {
                State::Head => {
                    if ready!(gate.poll_head(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                State::Given { left, then } => {
                    let len = buf.remaining().min(*left);
                    buf.put_slice(&gate.held.split_to(len));
                    *left -= len;
                    if *left == 0 {
                        gate.state = match then {
                            Framing::Length(0) => State::Head,
                            Framing::Length(length) => State::Length(*length),
                            Framing::Chunked => State::Chunked(Chunks::default()),
                        };
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Length(_) | State::Chunked(_) => return gate.poll_body(cx, buf),
                // Nothing more ever comes; the answer ends the connection.
                State::Refused { left: 0 } => return Poll::Pending,
                State::Refused { left } => {
                    let len = buf.remaining().min(*left);
                    buf.put_slice(&NOTHING[NOTHING.len() - *left..][..len]);
                    *left -= len;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn an_empty_line_in_front_may_come_in_two_pieces() {
        let (mut client, server) = duplex(1024);
        let mut gate = Gate::new(server, Duration::from_secs(10), Refusals::default());
        let mut bytes = [0; 64];
        client.write_all(b"\r").await.unwrap();
        assert!(gate.read(&mut bytes).now_or_never().is_none());
        let head = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        client
            .write_all(&[b"\n", &head[..]].concat())
            .await
            .unwrap();
        let len = gate.read(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..len], head);
    }
}
