//! The address of a server, and the connection to it: plain, or TLS with a server that is trusted.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use crate::config;
use drystone_http::tls::client::{Client, Trust};

pub(super) struct Endpoint {
    host: String,
    port: u16,
    /// The prefix below which a proxy serves the server: empty, or such as `/s3`.
    pub prefix: String,
    tls: Option<Client>,
}

/// A connection to a server, with TLS or without.
pub(super) trait Connection: Read + Write {}

impl<T: Read + Write> Connection for T {}

impl Endpoint {
    /// Reads a URL. Over TLS, a server is trusted if a CA of the system or of the file certifies
    /// its name.
    pub fn parse(url: &str, ca_file: Option<PathBuf>) -> Result<Endpoint, String> {
        let wrong = || format!("{url:?} is not an endpoint; for example http://localhost:9000");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let (port, tls) = match uri.scheme_str() {
            None | Some("http") => (80, None),
            Some("https") => (443, Some(Client::new(Trust::Authorities(ca_file))?)),
            Some(_) => return Err(format!("{url}: only http:// and https:// are supported")),
        };
        Ok(Endpoint {
            host: uri.host().ok_or_else(wrong)?.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls,
        })
    }

    /// Returns the endpoint of the server with this configuration. If it speaks TLS, `trust`
    /// derives the trust from its certificate's file. A server on all interfaces is reached on
    /// loopback.
    pub fn of(
        server: &config::Server,
        trust: impl FnOnce(PathBuf) -> Trust,
    ) -> Result<Endpoint, String> {
        let host = match server.address.is_any() {
            true => "localhost",
            false => &server.address.host,
        };
        let file = server.tls.as_ref().map(|files| files.certificate.clone());
        Ok(Endpoint {
            host: host.to_owned(),
            port: server.address.port,
            prefix: String::new(),
            tls: file.map(|file| Client::new(trust(file))).transpose()?,
        })
    }

    /// Returns host and port as a `Host` header names them.
    pub fn authority(&self) -> String {
        let Endpoint { host, port, .. } = self;
        match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    /// Connects. `limit` applies to each wait separately.
    pub fn connect(&self, limit: Duration) -> io::Result<Box<dyn Connection>> {
        let host = self.host.trim_matches(['[', ']']);
        let stream = reach(host, self.port, limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(client) => Box::new(client.over(stream, host)?),
        })
    }
}

/// Connects to the first of the host's addresses that answers.
fn reach(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for socket in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, limit) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn s_59_endpoints_are_urls_of_http_and_https() {
        let parse = |url| Endpoint::parse(url, None);
        let parsed = parse("http://store.test:9001").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("store.test", 9001));
        assert!(parsed.tls.is_none());
        assert_eq!(parse("localhost:9000").unwrap().port, 9000);
        assert_eq!(parsed.prefix, "");
        let below = parse("http://store.test/s3/").unwrap();
        assert_eq!((below.prefix.as_str(), below.port), ("/s3", 80));
        let secure = parse("https://[::1]").unwrap();
        assert_eq!(secure.authority(), "[::1]:443");
        assert!(secure.tls.is_some());
        assert!(parse("ftp://store.test").is_err());
        assert!(parse("").is_err());
        let file = Some(PathBuf::from("/not/there"));
        assert!(Endpoint::parse("https://store.test", file).is_err());
    }
}
