//! What only shows on a socket: when 100 is sent, how connections end, what is no HTTP.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::s3::connection::serve;
use crate::s3::testing::World;

/// Nothing here takes long, but the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

struct Listening {
    world: World,
    address: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Listening {
    async fn start() -> Listening {
        let world = World::with_bucket().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async { stopped.await.unwrap_or_default() };
        Listening {
            serving: tokio::spawn(serve(world.server.clone(), listener, until)),
            world,
            address,
            stop: Some(stop),
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The head of a signed request, up to and with its empty line.
    fn head(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut call = self.world.call(line).body(body.to_vec());
        for (name, value) in headers {
            call = call.header(name, value);
        }
        call.signed_head()
    }
}

/// Everything until the server closes.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

/// The head of one response.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.unwrap();
        head.push(byte.unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        }));
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn w_11_100_comes_after_authentication_and_before_the_body() {
    let listening = Listening::start().await;
    let mut stream = listening.connect().await;
    let expect = [("expect", "100-continue")];
    let head = listening.head("PUT /bkt/k", &expect, b"hello");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    stream.write_all(b"hello").await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200 "));
    // The connection goes on.
    let head = listening.head("HEAD /bkt/k", &[], b"");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_head(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 5\r\n"));
}

#[tokio::test]
async fn w_11_who_may_not_write_gets_no_100_and_the_connection_ends() {
    let listening = Listening::start().await;
    let expect = [("expect", "100-continue")];
    let missing = listening.head("PUT /none/k", &expect, b"hello");
    let forged = listening
        .head("PUT /bkt/k", &expect, b"hello")
        .replace("Signature=", "Signature=0");
    let conditional = [
        ("expect", "100-continue"),
        ("x-amz-storage-class", "nonsense"),
    ];
    let refused = listening.head("PUT /bkt/k", &conditional, b"hello");
    for (head, status) in [(missing, "404"), (forged, "403"), (refused, "400")] {
        let mut stream = listening.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("</Error>"));
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_still_sends() {
    let listening = Listening::start().await;
    let mut stream = listening.connect().await;
    let body = vec![b'x'; 3 << 20];
    let head = listening.head("PUT /none/k", &[], &body);
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("NoSuchBucket"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_28_what_is_no_one_message_is_400_and_the_end() {
    let listening = Listening::start().await;
    for head in [
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\ncontent-length: +5\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\ncontent-length: -5\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\nx-a : 1\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n folded\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\nx-a: \0\r\n\r\n",
        "PUT /bkt/k HTTP/1.1\r\nhost: h\r\nhost: i\r\ncontent-length: 0\r\n\r\n",
        "PUT /bkt/k x HTTP/1.1\r\nhost: h\r\n\r\n",
    ] {
        let mut stream = listening.connect().await;
        let smuggled = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        stream
            .write_all(format!("{head}{smuggled}").as_bytes())
            .await
            .unwrap();
        let answer = read_all(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
    }
}

/// The length is passed over, as RFC 9112 allows, and the connection ends after the answer, so
/// nothing behind the message is ever taken for a request.
#[tokio::test]
async fn a_28_two_lengths_make_one_message_and_the_end() {
    let listening = Listening::start().await;
    let mut stream = listening.connect().await;
    let message = "PUT /bkt/k HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\
                   transfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                   GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n";
    stream.write_all(message.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1);
}

#[tokio::test]
async fn probes_are_answered_without_credentials_and_errors_of_head_have_no_body() {
    let listening = Listening::start().await;
    for (line, status) in [
        ("GET /minio/health/live", "200"),
        ("HEAD /health/ready", "200"),
        ("GET /minio/health/cluster", "200"),
        ("HEAD /bkt/k", "403"),
    ] {
        let mut stream = listening.connect().await;
        let request = format!("{line} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_all(&mut stream).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{line}: {answer}");
    }
}

#[tokio::test]
async fn stopping_lets_a_request_finish() {
    let mut listening = Listening::start().await;
    let mut idle = listening.connect().await;
    let mut stream = listening.connect().await;
    let expect = [("expect", "100-continue")];
    let head = listening.head("PUT /bkt/k", &expect, b"hello");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 100 "));
    listening.stop.take().unwrap().send(()).unwrap();
    assert_eq!(read_all(&mut idle).await, "");
    stream.write_all(b"hello").await.unwrap();
    assert!(read_all(&mut stream).await.starts_with("HTTP/1.1 200 "));
    timeout(PATIENCE, listening.serving).await.unwrap().unwrap();
}
