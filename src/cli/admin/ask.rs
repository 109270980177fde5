//! One signed request to a server and its answer.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use drystone_store::env::{Env as _, SystemEnv};
use http::Request;
use serde_json::Value;

use crate::cli::endpoint::Endpoint;
use crate::config::Keys;
use drystone_auth::sign::Signer;

/// How long to wait for an answer; replacing a disk waits for the metadata.
const TIMEOUT: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

pub(super) struct Server {
    pub endpoint: Endpoint,
    pub keys: Keys,
    pub region: String,
}

impl Server {
    pub fn get(&self, path: &str) -> Result<Value, String> {
        self.ask("GET", path, &[])
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.ask("POST", path, body.to_string().as_bytes())
    }

    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, String> {
        let at = self.endpoint.authority();
        let prefix = &self.endpoint.prefix;
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
        read_answer(&answer).ok_or_else(|| match is_plain_to_tls(&answer) {
            true => format!("{at}: the server speaks TLS; use https://"),
            false => format!("{at}: the answer is not from a server of this kind"),
        })?
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = self.endpoint.connect(TIMEOUT)?;
        connection.write_all(request)?;
        let mut answer = Vec::new();
        connection.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// Returns the document of an answer, or the server's reason to refuse.
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

/// Returns whether plain HTTP was sent to a TLS port. Servers of every make answer with this text.
fn is_plain_to_tls(answer: &[u8]) -> bool {
    let told = b"HTTP request to an HTTPS server";
    answer.windows(told.len()).any(|text| text == told)
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
}
