//! Requests over TLS, and plain ones where TLS is expected.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use drystone_authority::Authority;
use drystone_http::connection::{self, Port};
use drystone_http::limits::Limits;
use drystone_http::pace::Pace;
use drystone_http::tls::{Files, Live};
use drystone_http::traffic::Traffic;
use drystone_world::World;

/// A world that listens with TLS; it stops with its owner.
struct Listening {
    world: World,
    authority: Authority,
    files: Files,
    certificate: Arc<Live>,
    port: u16,
    task: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Listening {
    async fn new(limits: Limits) -> Listening {
        let world = World::limited(limits).await.and_bucket().await;
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.issue_into(folder.path(), &["localhost"], 90);
        let files = Files { certificate, key };
        let certificate = Live::open(files.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = vec![Port {
            listener,
            tls: Some(certificate.acceptor()),
            services: world.services(Vec::new()),
        }];
        let serve = connection::serve(world.transport.clone(), ports, std::future::pending());
        Listening {
            task: tokio::spawn(serve),
            world,
            authority,
            files,
            certificate,
            port,
            _folder: folder,
        }
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    fn config(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let pem = self.authority.pem();
        let root = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    async fn shake(&self, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, self.plain().await).await
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.shake(self.config(rustls::ALL_VERSIONS)).await.unwrap()
    }

    /// Sends it all and reads until the server ends the connection, in order.
    async fn until_closed(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn plain_until_closed(&self, bytes: &[u8]) -> String {
        let mut stream = self.plain().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn has(&self, key: &str) -> bool {
        let get = self.world.call(&format!("GET /bkt/{key}")).send().await;
        get.status == 200
    }

    async fn until_nobody_is_connected(&self) {
        while self.world.transport.traffic.connections.get() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn cut_handshakes(traffic: &Traffic) -> String {
    let measures = traffic.measures();
    let of = |measure: &&drystone_store::measure::Measure| {
        let (name, labels) = (measure.name, &measure.labels);
        name == "s3_refused_total" && labels.iter().any(|(_, value)| value == "handshake")
    };
    format!("{:?}", measures.iter().find(of).unwrap().value)
}

const LAST: &str = "connection";

#[tokio::test]
async fn s_05_requests_come_over_tls_of_either_version() {
    let listening = Listening::new(Limits::default()).await;
    for version in rustls::ALL_VERSIONS {
        let mut config = listening.config(&[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut stream = listening.shake(config).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));
        let put = listening.world.call("PUT /bkt/k").body("over TLS");
        stream.write_all(&put.raw()).await.unwrap();
        let get = listening.world.call("GET /bkt/k").header(LAST, "close");
        stream.write_all(&get.raw()).await.unwrap();
        let mut answers = String::new();
        // An end without TLS's own would be an error here.
        stream.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2, "{answers}");
        assert!(answers.ends_with("over TLS"), "{answers}");
    }
    // Who speaks HTTP/2 alone is told so by TLS.
    let mut config = listening.config(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert!(listening.shake(config).await.is_err());
}

#[tokio::test]
async fn s_05_locations_begin_with_https() {
    let listening = Listening::new(Limits::default()).await;
    let world = &listening.world;
    let post = world.call("POST /bkt/a%20b?uploads").ok().await;
    let id = post.xml("InitiateMultipartUploadResult");
    let id = id.child_text("UploadId").unwrap();
    let part = format!("PUT /bkt/a%20b?partNumber=1&uploadId={id}");
    let etag = world.call(&part).body("part").ok().await;
    let document = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        etag.header("etag")
    );
    let line = format!("POST /bkt/a%20b?uploadId={id}");
    let call = world.call(&line).header(LAST, "close").body(document);
    let answer = listening.until_closed(&call.raw()).await;
    let location = "<Location>https://s3.test:9000/bkt/a%20b</Location>";
    assert!(answer.contains(location), "{answer}");
}

#[tokio::test]
async fn w_01_chunks_within_chunks_over_tls_are_followed_by_the_next_request() {
    let listening = Listening::new(Limits::default()).await;
    for chunk_len in [7, 1 << 20] {
        let put = listening.world.call("PUT /bkt/chunked").body("123456789");
        let get = listening.world.call("GET /bkt/chunked");
        let get = get.header(LAST, "close").raw();
        let sent = [put.chunked("y/Q5Jg==", chunk_len), get].concat();
        let answer = listening.until_closed(&sent).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(answer.ends_with("123456789"), "{answer}");
    }
}

#[tokio::test]
async fn s_59_http_where_tls_is_expected_is_told_so() {
    let listening = Listening::new(Limits::default()).await;
    for request in [
        listening.world.call("GET /bkt/k").raw(),
        listening.world.call("PUT /bkt/k").body("x").raw(),
        b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
    ] {
        let answer = listening.plain_until_closed(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("<Code>BadRequest</Code>"), "{answer}");
        let told = "Client sent an HTTP request to an HTTPS server.";
        assert!(answer.contains(told), "{answer}");
    }
    assert!(!listening.has("k").await);
    assert_eq!(
        cut_handshakes(&listening.world.transport.traffic),
        "Counter(3)"
    );
}

#[tokio::test]
async fn s_59_a_60_handshakes_that_fail_or_never_end_are_cut_and_counted() {
    let limits = Limits {
        handshake: Duration::from_millis(100),
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    // Silence, half a record, and a record of garbage.
    for bytes in [b"".as_slice(), b"\x16\x03\x01\x02\x00\x01", &[22; 600]] {
        let mut stream = listening.plain().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        // An alert at most.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }
    listening.until_nobody_is_connected().await;
    let traffic = &listening.world.transport.traffic;
    assert_eq!(cut_handshakes(traffic), "Counter(3)");
}

#[tokio::test]
async fn s_59_who_only_looks_whether_the_port_is_open_is_not_counted() {
    let listening = Listening::new(Limits::default()).await;
    drop(listening.plain().await);
    let get = listening.world.call("GET /bkt/k").header(LAST, "close");
    assert!(listening.until_closed(&get.raw()).await.contains("404"));
    listening.until_nobody_is_connected().await;
    let traffic = &listening.world.transport.traffic;
    assert_eq!(cut_handshakes(traffic), "Counter(0)");
}

#[tokio::test]
async fn s_59_a_changed_pair_is_shown_to_new_connections_and_old_ones_go_on() {
    let listening = Listening::new(Limits::default()).await;
    let shown = |stream: &TlsStream<TcpStream>| {
        let (_, session) = stream.get_ref();
        session.peer_certificates().unwrap()[0].to_vec()
    };
    let mut old = listening.connect().await;
    let folder = listening.files.key.parent().unwrap();
    listening.authority.issue_into(folder, &["localhost"], 90);
    listening.certificate.clone().reload().await;
    let new = listening.connect().await;
    assert_ne!(shown(&new), shown(&old));
    std::fs::write(&listening.files.key, "no key").unwrap();
    listening.certificate.clone().reload().await;
    assert_eq!(shown(&listening.connect().await), shown(&new));
    let get = listening.world.call("GET /bkt/k").header(LAST, "close");
    old.write_all(&get.raw()).await.unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

/// The end of the TCP connection, and TLS's own before the body's.
#[tokio::test]
async fn s_59_a_body_that_breaks_off_leaves_nothing() {
    let listening = Listening::new(Limits::default()).await;
    let put = listening.world.call("PUT /bkt/k").body("x".repeat(100_000));
    let put = put.raw();
    for orderly in [false, true] {
        let mut stream = listening.connect().await;
        stream.write_all(&put[..put.len() - 1]).await.unwrap();
        stream.flush().await.unwrap();
        match orderly {
            true => stream.shutdown().await.unwrap(),
            false => stream.get_mut().0.shutdown().await.unwrap(),
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains("200 OK"), "{answer}");
        drop(stream);
        listening.until_nobody_is_connected().await;
        assert!(!listening.has("k").await);
    }
}

#[tokio::test]
async fn r_11_an_answer_over_tls_that_is_not_taken_is_cut_off_and_lets_go() {
    let limits = Limits {
        pace: Pace {
            bytes: 32 << 10,
            window: Duration::from_millis(100),
        },
        ..Limits::default()
    };
    let listening = Listening::new(limits).await;
    let size = 64 << 20;
    let body = vec![b'x'; size];
    listening.world.call("PUT /bkt/k").body(body).ok().await;
    let mut stream = listening.connect().await;
    let get = listening.world.call("GET /bkt/k").raw();
    stream.write_all(&get).await.unwrap();
    let traffic = listening.world.transport.traffic.clone();
    while traffic.requests.get() == 0 {
        tokio::task::yield_now().await;
    }
    // Nothing is read here, and the request ends all the same.
    while traffic.requests.get() > 0 || traffic.connections.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = Vec::new();
    assert!(stream.read_to_end(&mut bytes).await.is_err());
    assert!(bytes.len() < size, "{} bytes", bytes.len());
}

#[tokio::test]
async fn s_59_two_ports_share_one_server() {
    let world = World::new().await.and_bucket().await;
    let mut ports = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(listener.local_addr().unwrap());
        ports.push(Port {
            listener,
            tls: None,
            services: world.services(Vec::new()),
        });
    }
    let serve = connection::serve(world.transport.clone(), ports, std::future::pending());
    let task = tokio::spawn(serve);
    let get = world.call("GET /bkt/k").header(LAST, "close").raw();
    for address in addresses.iter().chain(&addresses) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&get).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    task.abort();
}
