//! Tests HTTPS of a real server: the requests of clients, and changes of its certificate.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use drystone_auth::credentials::Secret;
use drystone_auth::sign::Signer;
use drystone_http::tls::Files;
use drystone_http::tls::client::{Client, Stream, Trust};
use drystone_store::env::{Env as _, SystemEnv};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};

use crate::clients;
use crate::server::{ACCESS_KEY, Disks, SECRET_KEY, Server, command, eventually, skipped};
use drystone_authority::Authority;

const TIMEOUT: Duration = Duration::from_secs(60);
const NAMES: [&str; 3] = ["localhost", "*.s3.localhost", "127.0.0.1"];

/// A server with a certificate, and the CA that issued it.
struct Secure {
    server: Server,
    authority: Authority,
    files: Files,
    /// The CA's certificate.
    ca_file: PathBuf,
}

impl Secure {
    fn fresh(disks: usize, variables: &[(&str, &str)]) -> Secure {
        let disks = Disks::fresh(disks);
        let authority = Authority::new();
        let (certificate, key) = authority.issue_into(disks.folder(), &NAMES, 90);
        let files = Files { certificate, key };
        let ca_file = disks.folder().join("ca.pem");
        fs::write(&ca_file, authority.pem()).unwrap();
        let of_tls = variables_of(&files);
        let of_tls = of_tls.iter().map(|(name, value)| (*name, value.as_str()));
        let variables: Vec<_> = variables.iter().copied().chain(of_tls).collect();
        Secure {
            server: Server::configured(disks, &variables),
            authority,
            files,
            ca_file,
        }
    }

    fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.server.port)
    }

    fn connect(&self) -> Stream {
        self.connect_to("localhost")
    }

    /// Connects as if the name resolved to the server.
    fn connect_to(&self, name: &str) -> Stream {
        let trust = Trust::Authorities(Some(self.ca_file.clone()));
        let stream = TcpStream::connect(("127.0.0.1", self.server.port)).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Client::new(trust).unwrap().over(stream, name).unwrap()
    }

    /// Sends bytes and reads to the connection's end, which TLS has to announce.
    fn exchange(&self, bytes: &[u8]) -> String {
        until_end(self.connect(), bytes)
    }

    fn get(&self, path: &str) -> String {
        self.exchange(&request("GET", path, "localhost", b""))
    }

    /// Runs `drystone` with this server's configuration.
    fn ask(&self, words: &[&str]) -> Output {
        let address = format!("127.0.0.1:{}", self.server.port);
        let mut command = command();
        command
            .args(words)
            .env("DRYSTONE_ADDRESS", address)
            .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
            .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
            .envs(variables_of(&self.files));
        command.output().unwrap()
    }

    fn shown(&self) -> Vec<u8> {
        leaf(&self.connect())
    }
}

fn variables_of(files: &Files) -> [(&'static str, String); 2] {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ("DRYSTONE_TLS_CERTIFICATE", text(&files.certificate)),
        ("DRYSTONE_TLS_KEY", text(&files.key)),
    ]
}

fn until_end(mut stream: Stream, bytes: &[u8]) -> String {
    stream.write_all(bytes).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn leaf(stream: &Stream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn signer() -> Signer {
    let secret = Secret::from(SECRET_KEY);
    Signer::new(ACCESS_KEY, &secret, "us-east-1", SystemEnv.now()).unwrap()
}

fn parts(method: &str, path: &str, host: &str) -> Parts {
    let builder = Request::builder().method(method).uri(path);
    let request = builder.header("host", host).body(()).unwrap();
    request.into_parts().0
}

fn set(parts: &mut Parts, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).unwrap();
    parts.headers.insert(name, value);
}

fn head(parts: &Parts) -> String {
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri);
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head + "connection: close\r\n\r\n"
}

/// Returns a signed request, the last of its connection.
fn request(method: &str, path: &str, host: &str, body: &[u8]) -> Vec<u8> {
    let mut parts = parts(method, path, host);
    set(&mut parts, "content-length", &body.len().to_string());
    signer().sign_body(&mut parts, body).unwrap();
    [head(&parts).as_bytes(), body].concat()
}

#[track_caller]
fn assert_ok(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

fn told(output: &Output) -> String {
    let [out, told] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    format!("{out}{told}")
}

/// Runs a client's usual round, with verification on, which is its default.
fn round(round: &str, client: &str) {
    let Some(environment) = clients::environment_with(client) else {
        return skipped(&format!("{round} over HTTPS ({client} is not installed)"));
    };
    let secure = Secure::fresh(1, &[]);
    let script = clients::script(&environment, round);
    let (endpoint, ca_file) = (secure.endpoint(), Some(secure.ca_file.as_path()));
    clients::run(script, &environment, &secure.server, &endpoint, ca_file);
}

#[test]
fn s_05_w_01_awscli_over_https() {
    round("awscli", "aws");
}

#[test]
fn s_05_w_01_boto3_over_https() {
    round("boto3_round", "boto3");
}

#[test]
fn s_05_s3cmd_over_https() {
    round("s3cmd", "s3cmd");
}

#[test]
fn s_05_rclone_over_https() {
    round("rclone", "rclone");
}

#[test]
fn s_05_w_05_minio_py_over_https() {
    round("minio_py", "minio");
}

/// Over HTTPS the client sends another body than over HTTP; its own record of the request shows
/// this.
#[test]
fn w_01_awscli_sends_chunks_without_a_length_over_https() {
    let Some(environment) = clients::environment_with("aws") else {
        return skipped("what awscli sends over HTTPS (aws is not installed)");
    };
    let secure = Secure::fresh(1, &[]);
    assert_ok(&secure.exchange(&request("PUT", "/bkt", "localhost", b"")));
    let file = secure.server.disks.folder().join("file");
    fs::write(&file, "what awscli sends").unwrap();
    let mut aws = Command::new(environment.join("bin/aws"));
    aws.args(["--debug", "--endpoint-url", &secure.endpoint()]);
    aws.args(["s3api", "put-object", "--bucket", "bkt", "--key", "k"]);
    aws.args(["--body", file.to_str().unwrap()]);
    let (endpoint, ca_file) = (secure.endpoint(), Some(secure.ca_file.as_path()));
    let log = clients::run(aws, &environment, &secure.server, &endpoint, ca_file);
    let sent = log
        .lines()
        .find(|line| line.contains("Sending http request"));
    let sent = sent.unwrap_or(&log).to_lowercase();
    for line in [
        "'x-amz-content-sha256': b'streaming-unsigned-payload-trailer'",
        "'transfer-encoding': b'chunked'",
        "'content-encoding': b'aws-chunked'",
    ] {
        assert!(sent.contains(line), "{sent}");
    }
    assert!(!sent.contains("'content-length'"), "{sent}");
    assert!(secure.get("/bkt/k").ends_with("what awscli sends"));
}

#[test]
fn s_05_w_01_w_04_w_05_what_clients_send_over_tls_alone() {
    let secure = Secure::fresh(1, &[]);
    assert_eq!(secure.server.ready["tls"], true);
    assert_ok(&secure.exchange(&request("PUT", "/bkt", "localhost", b"")));
    // The trailer's CRC-32 is that of "123456789".
    let mut chunked = parts("PUT", "/bkt/chunked", "localhost");
    set(&mut chunked, "transfer-encoding", "chunked");
    let trailer = HeaderName::from_static("x-amz-checksum-crc32");
    let trailer = (trailer, "y/Q5Jg==".to_owned());
    let body = signer().sign_unsigned_chunks(&mut chunked, b"123456789", 8192, trailer);
    let body = body.unwrap();
    let signed = chunked.headers["authorization"].to_str().unwrap();
    assert!(signed.contains("transfer-encoding;"), "{signed}");
    let mut sent = head(&chunked).into_bytes();
    for chunk in body.chunks(5) {
        sent.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        sent.extend([chunk, b"\r\n"].concat());
    }
    sent.extend(b"0\r\n\r\n");
    assert_ok(&secure.exchange(&sent));
    assert!(secure.get("/bkt/chunked").ends_with("123456789"));

    let mut unsigned = parts("PUT", "/bkt/unsigned", "localhost");
    set(&mut unsigned, "content-length", "8");
    signer().sign(&mut unsigned, "UNSIGNED-PAYLOAD").unwrap();
    assert_ok(&secure.exchange(&[head(&unsigned).as_bytes(), b"unsigned"].concat()));
    assert!(secure.get("/bkt/unsigned").ends_with("unsigned"));
}

#[test]
fn s_05_the_host_names_the_bucket_over_tls() {
    let secure = Secure::fresh(1, &[("DRYSTONE_DOMAIN", "s3.localhost")]);
    assert_ok(&secure.exchange(&request("PUT", "/bkt", "localhost", b"")));
    let put = request("PUT", "/k", "bkt.s3.localhost", b"by its host");
    assert_ok(&until_end(secure.connect_to("bkt.s3.localhost"), &put));
    assert!(secure.get("/bkt/k").ends_with("by its host"));
}

#[test]
fn s_59_a_client_that_disconnects_within_a_body_leaves_nothing() {
    let secure = Secure::fresh(1, &[]);
    assert_ok(&secure.exchange(&request("PUT", "/bkt", "localhost", b"")));
    let put = request("PUT", "/bkt/k", "localhost", &vec![b'x'; 3 << 20]);
    let mut stream = secure.connect();
    stream.write_all(&put[..2 << 20]).unwrap();
    drop(stream);
    // The connection ended when no connection is open.
    eventually("the connection ended", || {
        let token = secure.ask(&["admin", "metrics-token"]);
        let token = String::from_utf8(token.stdout).unwrap();
        let get = format!(
            "GET /metrics HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
             Connection: close\r\n\r\n",
            token.trim()
        );
        let text = secure.exchange(get.as_bytes());
        assert!(text.contains("drystone_tls_certificate_unusable 0\n"));
        assert!(text.contains("drystone_tls_certificate_ends_seconds 1"));
        text.contains("drystone_s3_connections 1\n")
    });
    assert!(secure.get("/bkt/k").starts_with("HTTP/1.1 404"));
    assert!(!secure.get("/bkt?uploads").contains("<Upload>"));
}

#[test]
fn s_59_plain_http_is_refused_with_a_reason_and_served_where_configured() {
    let secure = Secure::fresh(1, &[("DRYSTONE_PLAIN_ADDRESS", "127.0.0.1:0")]);
    let ask = |port: u16| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let get = request("GET", "/", "localhost", b"");
        stream.write_all(&get).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let answer = ask(secure.server.port);
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(
        answer.contains("HTTP request to an HTTPS server"),
        "{answer}"
    );
    let plain = secure.server.ready["plain_port"].as_u64().unwrap();
    assert_ok(&ask(plain.try_into().unwrap()));
    // The operator's commands say what is wrong.
    let endpoint = format!("http://localhost:{}", secure.server.port);
    let told = told(&secure.ask(&["admin", "status", "--endpoint", &endpoint]));
    assert!(told.contains("use https://"), "{told}");
    let endpoint = format!("https://localhost:{plain}");
    let output = secure.ask(&["admin", "status", "--endpoint", &endpoint]);
    assert!(
        self::told(&output).contains("use http://"),
        "{}",
        self::told(&output)
    );
}

#[test]
fn s_59_a_pair_that_does_not_fit_is_refused_with_a_sentence() {
    let disks = Disks::fresh(1);
    let authority = Authority::new();
    let (certificate, key) = authority.issue_into(disks.folder(), &NAMES, 90);
    let files = Files { certificate, key };
    let (_, stranger) = authority.issue(&NAMES, 90);
    fs::write(&files.key, stranger).unwrap();
    for verb in [&["server"][..], &["config", "check"]] {
        let mut command = command();
        command.args(verb).args(["--address", "127.0.0.1:0"]);
        command.arg(disks.argument()).envs(variables_of(&files));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb:?}");
        let told = told(&output);
        assert!(told.contains("does not belong"), "{told}");
        assert!(told.contains(files.key.to_str().unwrap()), "{told}");
        assert!(!disks.path(1).exists(), "nothing was touched");
    }
    // With a matching pair the command succeeds, and the key's file must be private.
    let (certificate, key) = authority.issue_into(disks.folder(), &NAMES, 90);
    let files = Files { certificate, key };
    let check = || {
        let mut command = command();
        command.args(["config", "check"]).envs(variables_of(&files));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        told(&output)
    };
    assert!(!check().contains("warning"), "{}", check());
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(check().contains("every user of this machine can read"));
}

#[test]
fn s_59_sighup_reads_the_pair_again_and_connections_go_on() {
    let secure = Secure::fresh(1, &[]);
    let old = secure.connect();
    let first = leaf(&old);
    let folder = secure.server.disks.folder();
    secure.authority.issue_into(folder, &NAMES, 5);
    secure.server.signal("HUP");
    eventually("the new certificate is shown", || secure.shown() != first);
    assert!(until_end(old, &request("GET", "/", "localhost", b"")).contains("200 OK"));
    let status = secure.ask(&["admin", "status"]);
    assert!(status.status.success(), "{}", told(&status));
    assert!(told(&status).contains("the TLS certificate expires on"));

    // The server keeps its certificate when the new key is bad, and reports the bad key.
    let second = secure.shown();
    fs::write(&secure.files.key, "no key").unwrap();
    secure.server.signal("HUP");
    eventually("the bad pair is told of", || {
        let status = secure.ask(&["admin", "status"]);
        assert!(status.status.success(), "{}", told(&status));
        told(&status).contains("no private key is in it")
    });
    assert_eq!(secure.shown(), second);
    assert!(secure.ask(&["healthcheck"]).status.success());
}

/// The certificate changes without a signal to the server.
#[test]
fn s_59_a_changed_pair_is_found_without_a_signal() {
    let secure = Secure::fresh(1, &[]);
    let first = secure.shown();
    let folder = secure.server.disks.folder();
    secure.authority.issue_into(folder, &NAMES, 90);
    eventually("the new certificate is shown", || secure.shown() != first);
}

#[test]
fn s_59_sighup_without_a_certificate_ends_nothing() {
    let mut server = Server::fresh(1);
    server.signal("HUP");
    eventually("it is told", || {
        server.log().contains("SIGHUP has no effect")
    });
    assert!(server.client().get("/").unwrap().status == 200);
    assert!(server.stop().success());
}

#[test]
fn s_59_the_operator_asks_over_https_and_trusts_nobody_else() {
    let secure = Secure::fresh(1, &[]);
    let health = secure.ask(&["healthcheck"]);
    assert!(health.status.success(), "{}", told(&health));
    let endpoint = secure.endpoint();
    let ca_file = secure.ca_file.to_str().unwrap();
    for words in [
        &["admin", "status"][..],
        &[
            "admin",
            "status",
            "--endpoint",
            &endpoint,
            "--ca-file",
            ca_file,
        ],
    ] {
        let status = secure.ask(words);
        assert!(status.status.success(), "{}", told(&status));
        assert!(told(&status).contains("All is well."), "{}", told(&status));
    }
    let status = secure.ask(&["admin", "status", "--endpoint", &endpoint]);
    assert_eq!(status.status.code(), Some(1));
    assert!(told(&status).contains("--ca-file"), "{}", told(&status));
    // Another certificate by the same CA is not the configured one.
    let (other, _) = secure.authority.issue(&NAMES, 90);
    fs::write(&secure.files.certificate, other).unwrap();
    let status = secure.ask(&["admin", "status"]);
    assert_eq!(status.status.code(), Some(1));
    let sentence = "the server's certificate is not the one in";
    assert!(told(&status).contains(sentence), "{}", told(&status));
    assert!(secure.ask(&["healthcheck"]).status.success());
}
