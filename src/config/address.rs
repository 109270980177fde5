//! The address to listen on, as people write it: `HOST:PORT`.

use std::fmt;
use std::str::FromStr;

use super::error::{Error, invalid};

/// An address to listen on. An empty host means all interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Returns whether it means all of the machine's addresses.
    pub fn is_any(&self) -> bool {
        matches!(self.host.as_str(), "" | "0.0.0.0" | "::")
    }

    /// Returns whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let port: u16 = port.parse().ok()?;
            let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            let host = match bracketed {
                Some(ip) => ip.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
                None if host.contains(':') => return None,
                None => host.to_owned(),
            };
            Some(Address { host, port })
        });
        match parsed {
            Some(address) => Ok(address),
            None => invalid(format!(
                "address {text:?}: expected HOST:PORT, such as 127.0.0.1:9000, [::1]:9000 or :9000"
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
