//! A small S3 client for tests that need to count acknowledged requests: HTTP/1.1 on a plain
//! socket, and a SigV4 of its own, so that a mistake of the server is not repeated in the client.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');
const REGION: &str = "us-east-1";
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub struct Client {
    port: u16,
    access_key: String,
    secret_key: String,
    /// The difference between the server's clock and this machine's, in seconds.
    skew: Arc<AtomicI64>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// A complete request; [`Client::send`] needs only the usual parts.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Not yet percent-encoded.
    pub path: &'a str,
    pub query: &'a [(&'a str, String)],
    /// Names in lower case. All are signed.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the ETag without its quotes.
    pub fn etag(&self) -> Option<String> {
        self.header("etag").map(|etag| etag.replace('"', ""))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Returns the texts of all elements of this name.
    pub fn all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = self.text();
        let texts = text.split(&open).skip(1);
        texts
            .filter_map(|rest| rest.split_once(&close))
            .map(|(inner, _)| inner.to_owned())
            .collect()
    }
}

impl Client {
    pub fn new(port: u16, access_key: &str, secret_key: &str) -> Client {
        Client {
            port,
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            skew: Arc::default(),
        }
    }

    /// Signs with the time of a clock that is off by `skew` seconds.
    pub fn with_skew(self, skew: Arc<AtomicI64>) -> Client {
        Client { skew, ..self }
    }

    pub fn put(&self, path: &str, body: &[u8]) -> io::Result<Answer> {
        self.send("PUT", path, &[], body)
    }

    pub fn get(&self, path: &str) -> io::Result<Answer> {
        self.send("GET", path, &[], b"")
    }

    /// Returns every key of a bucket, page by page.
    pub fn list(&self, bucket: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let mut query = vec![("list-type", "2".to_owned())];
            query.extend(token.map(|token| ("continuation-token", token)));
            let page = self
                .send("GET", &format!("/{bucket}"), &query, b"")
                .unwrap()
                .expect(200);
            keys.extend(page.all("Key"));
            token = page.all("NextContinuationToken").pop();
            if token.is_none() {
                return keys;
            }
        }
    }

    pub fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.send_with(method, path, query, &[], body)
    }

    /// Sends a request with more headers than those that every request has.
    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        self.call(&Request {
            method,
            path,
            query,
            headers,
            body,
        })
    }

    pub fn call(&self, request: &Request) -> io::Result<Answer> {
        let mut stream = connect(self.port)?;
        stream.write_all(self.head(request).as_bytes())?;
        // A server that refuses may answer and close before it has read the body.
        let written = stream.write_all(request.body);
        read_answer(stream, request.method).map_err(|error| written.err().unwrap_or(error))
    }

    /// Sends a PUT except for the last byte of its body.
    pub fn begin_put(&self, path: &str, body: &[u8]) -> Begun {
        let mut stream = connect(self.port).unwrap();
        let head = self.head(&Request {
            method: "PUT",
            path,
            body,
            ..Request::default()
        });
        stream.write_all(head.as_bytes()).unwrap();
        let (last, first) = body.split_last().unwrap();
        stream.write_all(first).unwrap();
        Begun {
            stream,
            last: *last,
        }
    }

    /// Returns request line and headers, signed by SigV4.
    fn head(&self, request: &Request) -> String {
        let path = utf8_percent_encode(request.path, PATH).to_string();
        let query = canonical_query(request.query);
        let skew = time::Duration::seconds(self.skew.load(Ordering::Relaxed));
        let date = (OffsetDateTime::now_utc() + skew)
            .format(format_description!(
                "[year][month][day]T[hour][minute][second]Z"
            ))
            .unwrap();
        let hash = hex::encode(Sha256::digest(request.body));
        let mut headers: BTreeMap<&str, &str> = BTreeMap::new();
        headers.extend(request.headers.iter().copied());
        let host = format!("127.0.0.1:{}", self.port);
        headers.extend([
            ("host", host.as_str()),
            ("x-amz-date", &date),
            ("x-amz-content-sha256", &hash),
        ]);
        let target = format!("{path}\n{query}");
        let authorization = self.sign(request.method, &target, &headers, &date, &hash);
        let mark = if query.is_empty() { "" } else { "?" };
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!(
            "{} {path}{mark}{query} HTTP/1.1\r\n{lines}Connection: close\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n",
            request.method,
            request.body.len()
        )
    }

    fn sign(
        &self,
        method: &str,
        target: &str,
        headers: &BTreeMap<&str, &str>,
        date: &str,
        hash: &str,
    ) -> String {
        let names = headers.keys().copied().collect::<Vec<_>>().join(";");
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\n"))
            .collect();
        let request = format!("{method}\n{target}\n{headers}\n{names}\n{hash}");
        let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
        let request = hex::encode(Sha256::digest(request));
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{request}");
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for step in scope.split('/') {
            key = hmac(&key, step);
        }
        let signature = hex::encode(hmac(&key, &text));
        let credential = format!("{}/{scope}", self.access_key);
        format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, \
             Signature={signature}"
        )
    }
}

/// A PUT whose last byte has not been sent.
pub struct Begun {
    stream: TcpStream,
    last: u8,
}

impl Begun {
    pub fn finish(mut self) -> io::Result<Answer> {
        self.stream.write_all(&[self.last])?;
        read_answer(self.stream, "PUT")
    }
}

/// Sends a request without credentials.
pub fn anonymous(port: u16, method: &str, target: &str) -> io::Result<Answer> {
    let mut stream = connect(port)?;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    read_answer(stream, method)
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn canonical_query(query: &[(&str, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort();
    pairs.join("&")
}

/// Returns the value of Content-MD5, for requests that must have it.
pub fn content_md5(body: &[u8]) -> String {
    BASE64_STANDARD.encode(Md5::digest(body))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Reads the whole answer; an incomplete one is an error.
fn read_answer(stream: TcpStream, method: &str) -> io::Result<Answer> {
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader)?;
    let empty = method == "HEAD" || status == 204 || status == 304;
    let body = match headers.get("content-length") {
        _ if empty => Vec::new(),
        Some(length) => {
            let mut body = vec![0; length.parse().map_err(io::Error::other)?];
            reader.read_exact(&mut body)?;
            body
        }
        None => read_chunks(&mut reader)?,
    };
    Ok(Answer {
        status,
        headers,
        body,
    })
}

fn read_line(reader: &mut impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_head(reader: &mut impl io::BufRead) -> io::Result<(u16, BTreeMap<String, String>)> {
    let line = read_line(reader)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {line}")))?;
    let mut headers = BTreeMap::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
}

fn read_chunks(reader: &mut impl io::BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let length = usize::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        read_line(reader)?;
        if length == 0 {
            return Ok(body);
        }
    }
}
