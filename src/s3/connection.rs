//! Connections: accepted, bounded, served, and ended without cutting off an answer.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::s3::health;
use crate::s3::response::Response;
use crate::s3::server::Server;

/// Connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 16_384;
/// What a connection may buffer. A header section longer than this gets hyper's own 431; up to it
/// the server answers as S3 does.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// As many as fit into S3's 8 KiB of headers, if they say anything.
const HEADERS_LEN_MAX: usize = 1024;
/// How long a client may take to send its headers, or stay idle between two requests.
const HEADER_READ_MAX: Duration = Duration::from_secs(60);
/// What is still read from a client that was refused before it had sent all, so that it sees the
/// answer and no reset: this much, for so long.
const LINGER_BYTES_MAX: usize = 4 << 20;
const LINGER_MAX: Duration = Duration::from_secs(2);
/// After the system had no descriptor or memory for a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that is served: probes, and S3 behind every other path.
pub fn router(server: Arc<Server>) -> Router {
    let any = move |request: Request<Body>| {
        let server = server.clone();
        async move {
            match health::answer(&server, request).await {
                Ok(response) => response,
                Err(request) => server.answer(request).await,
            }
        }
    };
    Router::new().fallback(any)
}

/// Serves until `stop` ends, then lets what is under way finish.
pub async fn serve(server: Arc<Server>, listener: TcpListener, stop: impl Future<Output = ()>) {
    let router = router(server);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (closing, closed) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        // The semaphore is never closed.
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let (router, closed) = (router.clone(), closed.clone());
                    connections.spawn(async move {
                        drive(stream, router, closed).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    while connections.join_next().await.is_some() {}
}

async fn drive(stream: TcpStream, router: Router, mut closed: watch::Receiver<bool>) {
    // Answers are written whole; waiting for more would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection was gone at once");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = router.clone().oneshot(request.map(Body::new));
        Box::pin(answer) as BoxFuture<'static, Result<Response, Infallible>>
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut draining = false;
    let ended = loop {
        let end = poll_fn(|cx| connection.poll_without_shutdown(cx));
        tokio::select! {
            ended = end => break ended,
            _ = closed.wait_for(|closed| *closed), if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
    linger(connection.into_parts().io.into_inner()).await;
}

/// Ends our side first and reads on for a moment: bytes that arrive at a closed socket make the
/// system send a reset, which can overtake the answer.
async fn linger(mut stream: TcpStream) {
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
