//! A whole server over the reference store, without a socket: for the tests of operations.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use drystone_store::ObjectStore;
use drystone_store::accounts::Accounts as _;
use drystone_store::buckets::CreateBucket;
use drystone_store::env::{Env, SystemEnv};
use drystone_store::model::MemoryStore;
use drystone_store::types::{Account, AccountId};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use drystone_auth::authenticate::{Leniency, Verifier};
use drystone_auth::credentials::{AccessKey, Principal, Secret};
use drystone_auth::keys::FixedKeys;
use drystone_auth::sign::Signer;
use drystone_auth::v4::canonical::ServiceName;
use drystone_http::admission::Admission;
use drystone_http::connection::{self, Port};
use drystone_http::exchange::Findings;
use drystone_http::limits::Limits;
use drystone_http::prefix;
use drystone_http::request;
use drystone_http::scheme::Scheme;
use drystone_http::service::{Service, Services};
use drystone_http::traffic::Traffic;
use drystone_http::transport::Transport;
use drystone_protocol::ids::Ids;
use drystone_protocol::response::Response;
use drystone_protocol::xml;
use drystone_protocol::xml::read::Element;
use drystone_s3::context::Context;
use drystone_s3::keep_alive_interval::KeepAliveInterval;
use drystone_s3::operation;
use drystone_s3::service::S3Service;
use drystone_s3::settings::SettingsCache;

pub const REGION: &str = "us-east-1";
/// Each with an account of its own; the first is the operator.
const USERS: [&str; 3] = ["root", "alice", "bob"];

/// A store, and S3 over it.
pub struct World {
    pub store: Arc<dyn ObjectStore>,
    pub verifier: Arc<Verifier>,
    pub transport: Arc<Transport>,
    pub admission: Arc<Admission>,
    pub s3: Arc<S3Service>,
    prefix: String,
}

impl World {
    /// A store with the users' accounts and nothing in it.
    pub async fn new() -> World {
        World::limited(Limits::default()).await
    }

    /// The same, within other limits.
    pub async fn limited(limits: Limits) -> World {
        let store = MemoryStore::new(Arc::new(SystemEnv));
        let mut keys = Vec::new();
        for (number, user) in USERS.into_iter().enumerate() {
            let account = Account {
                id: AccountId(format!("{:012}", number + 1)),
                canonical_id: format!("{:064x}", number + 1),
                display_name: user.to_owned(),
            };
            store.put_account(account.clone()).await.unwrap();
            keys.push(AccessKey {
                id: user.to_owned(),
                secret: secret(user),
                principal: Arc::new(Principal {
                    user: user.to_owned(),
                    account,
                    is_operator: number == 0,
                }),
            });
        }
        let verifier = Verifier {
            keys: Arc::new(FixedKeys::new(keys).unwrap()),
            service: ServiceName::S3,
            leniency: Leniency {
                signature_v2: true,
                portless_host: true,
            },
        };
        let verifier = Arc::new(verifier);
        World::over(
            Arc::new(store),
            verifier,
            limits,
            "",
            KeepAliveInterval::DEFAULT,
        )
    }

    fn over(
        store: Arc<dyn ObjectStore>,
        verifier: Arc<Verifier>,
        limits: Limits,
        prefix: &str,
        keep_alive: KeepAliveInterval,
    ) -> World {
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let ids = Arc::new(Ids::new(env.clone()));
        let traffic = Arc::new(Traffic::new(operation::rows().map(|row| row.name)));
        let admission = Arc::new(Admission::new(&limits));
        let context = Arc::new(Context {
            store: store.clone(),
            env,
            ids: ids.clone(),
            region: REGION.to_owned(),
            path_prefix: prefix.to_owned(),
            keep_alive,
            settings: SettingsCache::default(),
        });
        let s3 = S3Service::new(
            context,
            verifier.clone(),
            admission.clone(),
            traffic.clone(),
            &limits,
        );
        let domains = ["s3.test".to_owned()];
        World {
            store,
            verifier,
            transport: Arc::new(Transport::new(limits, traffic, ids, &domains, prefix)),
            admission,
            s3: Arc::new(s3),
            prefix: prefix.to_owned(),
        }
    }

    /// A request as it enters.
    pub fn enter(&self, request: Request<Body>) -> request::Request {
        self.transport.enter(request, None, Scheme::Http)
    }

    /// Answers as S3 does.
    pub async fn answer(&self, request: Request<Body>) -> Response {
        self.s3.serve(self.enter(request)).await
    }

    /// S3, behind what is asked before it.
    pub fn services(&self, before: Vec<Arc<dyn Service>>) -> Services {
        let mut services = before;
        services.push(self.s3.clone());
        Arc::from(services)
    }

    /// A store with alice's bucket `bkt`.
    pub async fn with_bucket() -> World {
        World::new().await.and_bucket().await
    }

    pub async fn and_bucket(self) -> World {
        let create = CreateBucket {
            name: "bkt".to_owned(),
            owner: AccountId(format!("{:012}", 2)),
            location: String::new(),
            settings: Vec::new(),
        };
        self.store.create_bucket(create).await.unwrap();
        self
    }

    /// Sets the versioning of alice's bucket `bkt`: `Enabled` or `Suspended`.
    pub async fn set_versioning(&self, status: &str) {
        let document =
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        self.call("PUT /bkt?versioning").body(document).ok().await;
    }

    pub fn below(self, prefix: &str) -> World {
        let limits = self.transport.limits;
        World::over(
            self.store,
            self.verifier,
            limits,
            prefix,
            KeepAliveInterval::DEFAULT,
        )
    }

    /// Makes every operation that may be late be so.
    pub fn kept_alive_from_the_start(self) -> World {
        let keep_alive = KeepAliveInterval {
            before: Duration::ZERO,
            ..KeepAliveInterval::DEFAULT
        };
        let limits = self.transport.limits;
        World::over(self.store, self.verifier, limits, &self.prefix, keep_alive)
    }

    /// A request by alice: `METHOD target`.
    pub fn call(&self, line: &str) -> Call<'_> {
        let (method, target) = line.split_once(' ').unwrap();
        let builder = Request::builder().method(method).uri(target);
        self.request(builder.body(Bytes::new()).unwrap())
    }

    /// Any request, by alice too.
    pub fn request(&self, mut request: Request<Bytes>) -> Call<'_> {
        request
            .headers_mut()
            .insert("host", HeaderValue::from_static("s3.test:9000"));
        Call {
            world: self,
            user: "alice",
            request,
        }
    }
}

/// The request line, the headers and the empty line.
fn head(parts: &http::request::Parts) -> Vec<u8> {
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri).into_bytes();
    for (name, value) in &parts.headers {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}

pub fn secret(user: &str) -> Secret {
    Secret::from(format!("{user}-secret"))
}

/// A request that is being made.
pub struct Call<'a> {
    world: &'a World,
    user: &'a str,
    request: Request<Bytes>,
}

impl<'a> Call<'a> {
    /// By another user; the empty name: by nobody.
    pub fn by(mut self, user: &'a str) -> Call<'a> {
        self.user = user;
        self
    }

    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Call<'a> {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.request.headers_mut().append(name, value);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Call<'a> {
        *self.request.body_mut() = body.into();
        self
    }

    pub fn set_host(&mut self, host: &'static str) {
        let headers = self.request.headers_mut();
        headers.insert("host", HeaderValue::from_static(host));
    }

    /// The body with its Content-MD5, as DeleteObjects wants it.
    pub fn document(self, body: &str) -> Call<'a> {
        use base64::Engine as _;
        use md5::Digest as _;
        let digest = md5::Md5::digest(body.as_bytes());
        let digest = base64::engine::general_purpose::STANDARD.encode(digest);
        self.header("content-md5", digest).body(body.to_owned())
    }

    fn sign(self) -> (http::request::Parts, Bytes) {
        let (mut parts, body) = self.request.into_parts();
        let length = HeaderValue::from(body.len());
        parts.headers.entry("content-length").or_insert(length);
        if !self.user.is_empty() {
            let now = SystemEnv.now();
            let signer = Signer::new(self.user, &secret(self.user), REGION, now).unwrap();
            signer.sign_body(&mut parts, &body).unwrap();
        }
        (parts, body)
    }

    /// As it goes over the wire, signed.
    pub fn raw(self) -> Vec<u8> {
        let (parts, body) = self.sign();
        [head(&parts), body.to_vec()].concat()
    }

    /// As awscli sends it over TLS: `aws-chunked` with a trailer, in HTTP's chunks of so many
    /// bytes and one with an extension, without a length.
    pub fn chunked(self, crc32: &str, chunk_len: usize) -> Vec<u8> {
        let (mut parts, body) = self.request.into_parts();
        let coding = HeaderValue::from_static("chunked");
        parts.headers.insert("transfer-encoding", coding);
        let signer = Signer::new(self.user, &secret(self.user), REGION, SystemEnv.now()).unwrap();
        let trailer = (
            HeaderName::from_static("x-amz-checksum-crc32"),
            crc32.to_owned(),
        );
        let body = signer.sign_unsigned_chunks(&mut parts, &body, 8192, trailer);
        let mut sent = head(&parts);
        for chunk in body.unwrap().chunks(chunk_len) {
            sent.extend(format!("{:X};x=y\r\n", chunk.len()).into_bytes());
            sent.extend([chunk, b"\r\n"].concat());
        }
        sent.extend(b"0\r\nx-other: ignored\r\n\r\n");
        sent
    }

    /// The head of a request whose body comes in HTTP's own chunks, and is not signed.
    pub fn of_chunks(self) -> Vec<u8> {
        let (mut parts, _) = self.request.into_parts();
        let coding = HeaderValue::from_static("chunked");
        parts.headers.insert("transfer-encoding", coding);
        let signer = Signer::new(self.user, &secret(self.user), REGION, SystemEnv.now()).unwrap();
        signer.sign(&mut parts, "UNSIGNED-PAYLOAD").unwrap();
        head(&parts)
    }

    pub async fn send(self) -> Answer {
        let world = self.world;
        let (parts, body) = self.sign();
        let request = Request::from_parts(parts, Body::from(body));
        Call::answer(world, request).await
    }

    /// Sends with a body that the signature doesn't cover, in place of the bytes given.
    pub async fn send_unsigned(self, body: Body) -> Answer {
        let (mut parts, _) = self.request.into_parts();
        let now = SystemEnv.now();
        let signer = Signer::new(self.user, &secret(self.user), REGION, now).unwrap();
        signer.sign(&mut parts, "UNSIGNED-PAYLOAD").unwrap();
        Call::answer(self.world, Request::from_parts(parts, body)).await
    }

    /// Signs and sends as through a proxy that takes the prefix off.
    pub async fn send_stripped(self, prefix: &str) -> Answer {
        let world = self.world;
        let (mut parts, body) = self.sign();
        let path = parts.uri.path().strip_prefix(prefix).unwrap();
        parts.uri = prefix::with_path(&parts.uri, path).unwrap();
        Call::answer(world, Request::from_parts(parts, Body::from(body))).await
    }

    async fn answer(world: &World, request: Request<Body>) -> Answer {
        let response = world.answer(request).await;
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: to_bytes(body, usize::MAX)
                .await
                .map_err(|error| error.to_string()),
        }
    }

    /// Sends, and gives what the record of the exchange says when the answer is there.
    pub async fn findings(self) -> Findings {
        let world = self.world;
        let (parts, body) = self.sign();
        let request = world.enter(Request::from_parts(parts, Body::from(body)));
        let exchange = request.head.exchange.clone();
        let _answer = world.s3.serve(request).await;
        exchange.findings()
    }

    /// Sends, and wants a 2xx.
    pub async fn ok(self) -> Answer {
        let line = format!("{} {}", self.request.method(), self.request.uri());
        let answer = self.send().await;
        assert!(answer.status.is_success(), "{line}: {answer:?}");
        answer
    }

    /// Sends, and wants an error: its status and code.
    pub async fn error(self) -> (u16, String) {
        let line = format!("{} {}", self.request.method(), self.request.uri());
        let answer = self.send().await;
        let status = answer.status.as_u16();
        assert!(status >= 300, "{line}: {answer:?}");
        let code = match &answer.body {
            Ok(body) if body.is_empty() => String::new(),
            _ => answer.xml("Error").child_text("Code").unwrap().to_owned(),
        };
        (status, code)
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// An error when the body broke off.
    pub body: Result<Bytes, String>,
}

impl Answer {
    /// A header's text; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub fn bytes(&self) -> &[u8] {
        self.body.as_ref().unwrap()
    }

    pub fn xml(&self, root: &str) -> Element {
        xml::read::parse(self.bytes(), root).unwrap()
    }
}

/// A world that listens; it stops with its owner.
pub struct Listening {
    pub world: World,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    pub async fn new(limits: Limits) -> Listening {
        Listening::to(World::limited(limits).await.and_bucket().await).await
    }

    /// S3 alone.
    pub async fn to(world: World) -> Listening {
        Listening::behind(Vec::new(), world).await
    }

    /// S3 behind other services.
    pub async fn behind(before: Vec<Arc<dyn Service>>, world: World) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ports = vec![Port {
            listener,
            tls: None,
            services: world.services(before),
        }];
        let serve = connection::serve(world.transport.clone(), ports, std::future::pending());
        let task = tokio::spawn(serve);
        Listening {
            world,
            address,
            task,
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects from another address of this machine, such as 127.0.0.2.
    pub async fn connect_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((address, 0))).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Sends it all and reads until the server ends the connection.
    pub async fn until_closed(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that refuses need not take it all.
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }

    /// As `until_closed`, with the client's side ended first.
    pub async fn ended(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await
    }

    pub async fn has(&self, key: &str) -> bool {
        let get = self.world.call(&format!("GET /bkt/{key}")).send().await;
        get.status == 200
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer whose length is declared: its head and its body.
pub async fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap();
    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8_lossy(&body).into_owned())
}
