//! One signed request to a server and its answer.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use drystone_storage::env::{Env as _, SystemEnv};
use http::Request;
use serde_json::Value;

use crate::auth::sign::Signer;
use crate::config::{Address, Keys};

/// Replacing a disk waits for the metadata.
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

pub(super) struct Endpoint {
    host: String,
    port: u16,
    /// What a proxy serves it below; empty, or such as `/s3`.
    prefix: String,
}

pub(super) struct Server {
    pub endpoint: Endpoint,
    pub keys: Keys,
    pub region: String,
}

impl Endpoint {
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let wrong = || format!("{url:?} is no endpoint; for example http://localhost:9000");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str().is_some_and(|scheme| scheme != "http") {
            return Err(format!("{url}: only http:// is spoken here"));
        }
        let host = uri.host().ok_or_else(wrong)?.to_owned();
        let port = uri.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Endpoint { host, port, prefix })
    }

    /// A server on all interfaces is asked on loopback.
    pub fn of(address: &Address) -> Endpoint {
        let host = match address.host.as_str() {
            "" | "0.0.0.0" | "::" => "localhost",
            host => host,
        };
        Endpoint {
            host: host.to_owned(),
            port: address.port,
            prefix: String::new(),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let host = self.host.trim_matches(['[', ']']);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
        for socket in (host, self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&socket, TIMEOUT) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Server {
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", path, body.to_string().as_bytes())
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, String> {
        let Endpoint { host, port, prefix } = &self.endpoint;
        let at = format!("{host}:{port}");
        let path = format!("{prefix}/_admin/v1/{path}");
        let request = Request::builder().method(method).uri(&path);
        let request = request.header("host", &at).body(());
        let (mut parts, ()) = request.map_err(|e| e.to_string())?.into_parts();
        let (access_key, secret) = (&self.keys.access_key, &self.keys.secret_key);
        let signer = Signer::new(access_key, secret, &self.region, SystemEnv.now());
        let signed = signer.and_then(|signer| signer.sign_body(&mut parts, body));
        signed.map_err(|e| e.to_string())?;
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        for (name, value) in &parts.headers {
            let value = value.to_str().map_err(|e| e.to_string())?;
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        ));
        let answer = self.exchange(&[head.as_bytes(), body].concat());
        let answer = answer.map_err(|error| format!("{at}: {error}"))?;
        read_answer(&answer).ok_or_else(|| format!("{at}: the answer is not one of this server"))?
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.endpoint.connect()?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(request)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The document of an answer, or what the server refused and why.
fn read_answer(answer: &[u8]) -> Option<Result<Value, String>> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let document: Value = serde_json::from_str(body).ok()?;
    Some(match status {
        200 => Ok(document),
        _ => Err(document["error"]["message"].as_str()?.to_owned()),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_documents_or_the_reason_of_a_refusal() {
        let good = read_answer(b"HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"x\":1}");
        assert_eq!(good.unwrap().unwrap()["x"], 1);
        let refused = b"HTTP/1.1 409 Conflict\r\n\r\n{\"error\":{\"message\":\"it works\"}}";
        assert_eq!(read_answer(refused).unwrap().unwrap_err(), "it works");
        assert!(read_answer(b"SSH-2.0\r\n").is_none());
    }

    #[test]
    fn endpoints_are_urls_of_http() {
        let parsed = Endpoint::parse("http://store.test:9001").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("store.test", 9001));
        assert_eq!(Endpoint::parse("localhost:9000").unwrap().port, 9000);
        assert_eq!(parsed.prefix, "");
        let below = Endpoint::parse("http://store.test/s3/").unwrap();
        assert_eq!((below.prefix.as_str(), below.port), ("/s3", 80));
        assert!(Endpoint::parse("https://store.test").is_err());
        assert!(Endpoint::parse("").is_err());
    }
}
