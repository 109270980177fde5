//! Connections: accepted, bounded, served, and ended without cutting off an answer.
//!
//! From the socket up: [`Paced`] cuts off who doesn't take an answer, TLS where the port speaks it,
//! [`Gate`] judges heads, hyper parses them. A TLS handshake takes place within the connection's
//! place and in bounded time. Who speaks HTTP where TLS is expected is told so, in HTTP.
//!
//! Past the bound, the connection that has been idle for longest gives way ([`Seats`]). When all
//! are busy, a few more are accepted, which get probes and metrics answered and 503 for all else,
//! so that a full server still tells that it is one. Past those, further ones wait.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::admission;
use crate::gate::{self, Gate, Refusals};
use crate::head::HEADERS_LEN_MAX;
use crate::pace::Paced;
use crate::scheme::Scheme;
use crate::seats::{Seat, Seats, Work};
use crate::service::Services;
use crate::traffic::Rejection;
use crate::transport::Transport;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::Response;

/// The bytes that a connection may buffer: a whole head, as hyper sees none in pieces.
const BUFFER_BYTES_MAX: usize = 2 * gate::HEAD_BYTES_MAX;
/// A client that was refused before it had sent all is still read from, so that it sees the answer
/// and no reset: at most this many bytes, for at most this long.
const LINGER_BYTES_MAX: usize = 4 << 20;
const LINGER_MAX: Duration = Duration::from_secs(2);
/// How long a newcomer waits for one that gives way, which may answer a request still.
const GIVING_WAY_MAX: Duration = Duration::from_millis(100);
/// After the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The first byte of every TLS connection and of no HTTP request: the type of a record.
const TLS_HANDSHAKE: u8 = 22;

/// Where connections come in.
pub struct Port {
    pub listener: TcpListener,
    /// Speaks TLS; without it there is none.
    pub tls: Option<TlsAcceptor>,
    /// Answer what comes in here.
    pub services: Services,
}

/// A connection that was accepted.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    services: Services,
}

/// A connection that has a seat, and waits for a place.
struct Newcomer {
    accepted: Accepted,
    seat: Seat,
    arrival: Work,
}

/// The places of connections.
struct Places {
    open: Arc<Semaphore>,
    spare: Arc<Semaphore>,
    seats: Arc<Seats>,
}

/// The kind of answers that a connection gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    Serve,
    /// Serves only what is served when full: the connection is beyond the limit.
    ServeProbes,
    /// Refuses plain HTTP on a port with TLS.
    AskForTls,
}

/// A connection with TLS or without.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn socket(&self) -> &Paced<TcpStream>;
}

impl Wire for Paced<TcpStream> {
    fn socket(&self) -> &Paced<TcpStream> {
        self
    }
}

impl Wire for TlsStream<Paced<TcpStream>> {
    fn socket(&self) -> &Paced<TcpStream> {
        self.get_ref().0
    }
}

/// The parts that answer a connection's requests.
struct Conversation {
    transport: Arc<Transport>,
    services: Services,
    peer: SocketAddr,
    seat: Seat,
    treatment: Treatment,
    scheme: Scheme,
}

impl Conversation {
    /// Answers a request. The connection is busy until the end of the answer.
    async fn answer(&self, request: Request<Body>) -> Response {
        let work = self.seat.work();
        let answer = self.ask(request).await;
        answer.map(|body| Body::new(Busy { body, _work: work }))
    }

    /// Asks one service after the other.
    async fn ask(&self, request: Request<Body>) -> Response {
        let transport = &self.transport;
        if self.treatment == Treatment::AskForTls {
            return transport.refuse(not_over_tls(), Some(Rejection::Handshake));
        }
        let mut request = transport.enter(request, Some(self.peer), self.scheme);
        for service in self.services.iter() {
            if self.treatment == Treatment::ServeProbes && !service.serves_when_full() {
                continue;
            }
            request = match service.answer(request).await {
                Ok(response) => return response,
                Err(request) => request,
            };
        }
        match self.treatment {
            Treatment::ServeProbes => transport.refuse(admission::busy(), Some(Rejection::Busy)),
            Treatment::Serve | Treatment::AskForTls => {
                transport.refuse(Code::EndpointNotFound.into(), None)
            }
        }
    }
}

/// Serves until `stop` ends, then lets what is under way finish.
pub async fn serve(transport: Arc<Transport>, ports: Vec<Port>, stop: impl Future<Output = ()>) {
    let limits = &transport.limits;
    let seats = Seats::new(limits.client_connections, transport.trusted_proxies.clone());
    let places = Places {
        open: Arc::new(Semaphore::new(limits.connections)),
        spare: Arc::new(Semaphore::new(limits.spare_connections)),
        seats: Arc::new(seats),
    };
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut turn = 0;
    let mut newcomer = None;
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = accept(&ports, turn), if newcomer.is_none() => match accepted {
                Ok(accepted) => {
                    turn = (turn + 1) % ports.len();
                    newcomer = places.seat(accepted, &transport);
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            (treatment, permit) = places.enter(), if newcomer.is_some() => {
                let Some(newcomer) = newcomer.take() else { continue };
                let (transport, closed) = (transport.clone(), closed.clone());
                connections.spawn(async move {
                    let connections = transport.traffic.connections.clone();
                    let _within = connections.enter();
                    drive(newcomer, transport, treatment, closed).await;
                    drop(permit);
                });
            }
        }
    }
    drop(ports);
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

impl Places {
    /// Seats a connection, or closes it where its client has too many.
    fn seat(&self, accepted: Accepted, transport: &Transport) -> Option<Newcomer> {
        let Some((seat, arrival)) = self.seats.take(accepted.peer.ip()) else {
            transport.traffic.rejected(Rejection::Client);
            tracing::debug!(peer = %accepted.peer, "the client has too many connections");
            return None;
        };
        Some(Newcomer {
            accepted,
            seat,
            arrival,
        })
    }

    /// Waits for a place for one more connection. Where there is none, an idle one is ended.
    async fn enter(&self) -> (Treatment, OwnedSemaphorePermit) {
        if let Ok(permit) = self.open.clone().try_acquire_owned() {
            return (Treatment::Serve, permit);
        }
        if self.seats.end_oldest() {
            let freed = timeout(GIVING_WAY_MAX, self.open.clone().acquire_owned());
            if let Ok(Ok(permit)) = freed.await {
                return (Treatment::Serve, permit);
            }
        }
        let (treatment, permit) = tokio::select! {
            biased;
            permit = self.open.clone().acquire_owned() => (Treatment::Serve, permit),
            permit = self.spare.clone().acquire_owned() => (Treatment::ServeProbes, permit),
        };
        (treatment, permit.expect("nobody closes these"))
    }
}

/// The next connection of any port. The caller has another one looked at first each time, so that
/// a busy port keeps no other waiting.
async fn accept(ports: &[Port], first: usize) -> io::Result<Accepted> {
    let (before, from) = ports.split_at(first);
    poll_fn(|cx| {
        for port in from.iter().chain(before) {
            if let Poll::Ready(accepted) = port.listener.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, peer)| Accepted {
                    stream,
                    peer,
                    tls: port.tls.clone(),
                    services: port.services.clone(),
                }));
            }
        }
        Poll::Pending
    })
    .await
}

async fn drive(
    newcomer: Newcomer,
    transport: Arc<Transport>,
    treatment: Treatment,
    mut closed: watch::Receiver<bool>,
) {
    let Newcomer {
        accepted,
        seat,
        arrival,
    } = newcomer;
    let Accepted {
        stream,
        peer,
        tls,
        services,
    } = accepted;
    drop(arrival);
    // Answers are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection closed at once");
        return;
    }
    let stream = Paced::new(stream, transport.limits.pace);
    let mut conversation = Conversation {
        transport,
        services,
        peer,
        seat,
        treatment,
        scheme: Scheme::Http,
    };
    let Some(tls) = tls else {
        return converse(stream, conversation, closed).await;
    };
    let opened = tokio::select! {
        opened = open(stream, &tls, &conversation.transport) => opened,
        // Nothing was asked yet.
        _ = closed.wait_for(|closed| *closed) => None,
        () = conversation.seat.given_way() => {
            conversation.transport.traffic.rejected(Rejection::Idle);
            None
        }
    };
    match opened {
        Some(Opened::Tls(stream)) => {
            conversation.scheme = Scheme::Https;
            converse(*stream, conversation, closed).await;
        }
        Some(Opened::Plain(stream)) => {
            conversation.treatment = Treatment::AskForTls;
            converse(stream, conversation, closed).await;
        }
        None => {}
    }
}

/// How a client began on a port that speaks TLS.
enum Opened {
    Tls(Box<TlsStream<Paced<TcpStream>>>),
    Plain(Paced<TcpStream>),
}

/// `None` when the connection is at its end.
async fn open(
    stream: Paced<TcpStream>,
    tls: &TlsAcceptor,
    transport: &Transport,
) -> Option<Opened> {
    let due = Instant::now() + transport.limits.handshake;
    let mut first = [0];
    match timeout_at(due, stream.get_ref().peek(&mut first)).await {
        Ok(Ok(1..)) if first[0] == TLS_HANDSHAKE => {}
        Ok(Ok(1..)) => return Some(Opened::Plain(stream)),
        // Who leaves without a word only asked whether somebody listens.
        Ok(_) => return None,
        Err(_) => {
            transport.traffic.rejected(Rejection::Handshake);
            tracing::debug!("connection sent nothing");
            return None;
        }
    }
    let shaken = timeout_at(due, tls.accept(stream).into_fallible()).await;
    if let Ok(Ok(stream)) = shaken {
        return Some(Opened::Tls(Box::new(stream)));
    }
    transport.traffic.rejected(Rejection::Handshake);
    match shaken {
        Ok(Err((error, mut stream))) => {
            tracing::debug!(%error, "TLS handshake failed");
            // The client was told why.
            linger(&mut stream).await;
        }
        _ => tracing::debug!("TLS handshake took too long"),
    }
    None
}

/// Answers requests until either side ends the connection.
async fn converse<S: Wire>(
    stream: S,
    conversation: Conversation,
    mut closed: watch::Receiver<bool>,
) {
    let transport = conversation.transport.clone();
    let limits = transport.limits;
    let refusals = Refusals::default();
    let gate = Gate::new(stream, limits.head, refusals.clone());
    let heads = AtomicU64::new(0);
    let conversation = Arc::new(conversation);
    let seated = conversation.clone();
    let seat = &seated.seat;
    let service = service_fn(move |request: Request<Incoming>| {
        let number = heads.fetch_add(1, Ordering::Relaxed) + 1;
        let (conversation, refused) = (conversation.clone(), refusals.of(number));
        Box::pin(async move {
            Ok::<_, Infallible>(match refused {
                Some(code) => {
                    let transport = &conversation.transport;
                    transport.refuse(S3Error::new(code), Some(Rejection::BadHead))
                }
                None => conversation.answer(request.map(Body::new)).await,
            })
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_LEN_MAX)
        .serve_connection(TokioIo::new(gate), service);
    let mut draining = false;
    let ended = loop {
        let end = poll_fn(|cx| connection.poll_without_shutdown(cx));
        tokio::select! {
            ended = end => break ended,
            _ = closed.wait_for(|closed| *closed), if !draining => {}
            () = seat.given_way(), if !draining => {}
        }
        draining = true;
        Pin::new(&mut connection).graceful_shutdown();
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    if !stream.socket().is_stalled() && !seat.gives_way() {
        tokio::select! {
            () = linger(&mut stream) => {}
            () = seat.given_way() => {}
        }
    }
    if seat.gives_way() {
        transport.traffic.rejected(Rejection::Idle);
    }
    // Also where the client took the answer but not TLS's last word.
    if stream.socket().is_stalled() {
        transport.traffic.rejected(Rejection::SlowReader);
        reset(stream.socket().get_ref());
    }
}

/// The body of an answer, with which the connection's work ends.
struct Busy {
    body: Body,
    _work: Work,
}

impl http_body::Body for Busy {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn not_over_tls() -> S3Error {
    let message = "Client sent an HTTP request to an HTTPS server.";
    S3Error::new(Code::BadRequest).message(message)
}

/// Has the system drop what the client has not taken, and tell it that the answer is not whole.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection is closed without a reset");
    }
}

/// Ends our side first, with TLS's own end where there is TLS, and reads on for a moment: bytes
/// that arrive at a closed socket make the system send a reset, which can overtake the answer.
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    // Within the pace that an answer is to be taken at: over TLS its end may wait still.
    if stream.shutdown().await.is_err() {
        return;
    }
    let discard = async {
        let mut buffer = vec![0; 16 << 10];
        let mut total = 0;
        while let Ok(n) = stream.read(&mut buffer).await {
            total += n;
            if n == 0 || total > LINGER_BYTES_MAX {
                break;
            }
        }
    };
    // Past the time the client has to live with a reset.
    let _ = timeout(LINGER_MAX, discard).await;
}
