//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Address;

/// Connections that wait to be accepted.
const BACKLOG_LEN_MAX: i32 = 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{address} is in use by another program: stop it, or choose another --address")]
    Taken { address: Address },
    #[error("{address}: ports below 1024 need more privileges: choose another --address")]
    Privileged { address: Address },
    #[error("{address}: {source}")]
    Listen { address: Address, source: io::Error },
}

/// Listens, ready for the runtime; returns the address with the port that it got.
pub fn listen_for_tokio(address: &Address) -> Result<(SocketAddr, tokio::net::TcpListener), Error> {
    let failed = |source| Error::Listen {
        address: address.clone(),
        source,
    };
    let listener = listen(address)?;
    let at = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    Ok((at, listener))
}

/// Listens on the first of the host's addresses that works. Without a host it listens on every
/// interface, by IPv6 and IPv4 if the machine has both.
fn listen(address: &Address) -> Result<TcpListener, Error> {
    let failed = |source: io::Error| {
        let address = address.clone();
        match source.kind() {
            io::ErrorKind::AddrInUse => Error::Taken { address },
            io::ErrorKind::PermissionDenied => Error::Privileged { address },
            _ => Error::Listen { address, source },
        }
    };
    let candidates: Vec<SocketAddr> = if address.host.is_empty() {
        let any = [
            std::net::IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED),
            std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED),
        ];
        any.into_iter()
            .map(|ip| SocketAddr::new(ip, address.port))
            .collect()
    } else {
        let host = (address.host.as_str(), address.port);
        host.to_socket_addrs().map_err(failed)?.collect()
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for candidate in candidates {
        match listen_on(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(failed(error)),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // A restarted server gets its port again while old connections linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_LEN_MAX)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told() {
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let first = listen(&any).unwrap();
        let port = first.local_addr().unwrap().port();
        let same = Address { port, ..any };
        let error = listen(&same).unwrap_err();
        assert!(matches!(error, Error::Taken { .. }), "{error}");
        drop(first);
        listen(&same).unwrap();
    }

    #[test]
    fn without_a_host_both_families_are_served() {
        let listener = listen(&":0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }
}
