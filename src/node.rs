//! The composition root: store, accounts and server, started and stopped.
//!
//! The order of a start: the ports (so that a taken one is told before anything is touched), the
//! certificate, the disks, the accounts, the server. The order of an end: no new connections, the
//! requests under way, the disks.

mod machine;

use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use drystone_storage::engine::{self as storage, OpenError, Options};
use drystone_store::crash::Crash;
use drystone_store::env::SystemEnv;
use drystone_store::error::Error as StorageError;
use drystone_store::store::{Health, ObjectStore};
use socket2::{Domain, Protocol, Socket, Type};

use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::admin::Admin;
use crate::auth::authenticate::Allowed;
use crate::auth::credentials::{AccessKey, Credentials, DuplicateAccessKey, Principal};
use crate::config::{self, Address, Config, Keys, Secret, Server as Settings, User};
use crate::product;
use crate::s3::connection::{self, Port};
use crate::s3::limits::Limits;
use crate::s3::metrics::{Access, Metrics};
use crate::s3::server::Server;
use crate::tls;

/// Connections that wait to be accepted.
const BACKLOG_LEN_MAX: i32 = 1024;
/// Requests under way when the node is told to stop have this long to finish.
const DRAIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{address} is taken by another program: stop that one, or choose another --address")]
    Taken { address: Address },
    #[error("{address}: ports below 1024 need more rights: choose another --address")]
    Privileged { address: Address },
    #[error("{address}: {source}")]
    Listen { address: Address, source: io::Error },
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Keys(#[from] DuplicateAccessKey),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Store(#[from] StorageError),
}

/// A node that is ready to answer requests.
pub struct Node {
    address: SocketAddr,
    plain_address: Option<SocketAddr>,
    ports: Vec<Port>,
    server: Arc<Server>,
}

impl Node {
    /// Returns once the store is open. From then on connections wait to be served by [`run`].
    ///
    /// [`run`]: Node::run
    pub async fn start(config: &Config, root: Keys) -> Result<Node, Error> {
        let (address, listener) = listen_for_tokio(&config.server.address)?;
        let plain = config.server.plain_address.as_ref();
        let plain = plain.map(listen_for_tokio).transpose()?;
        let certificate = config.server.tls.clone().map(tls::Live::open).transpose()?;
        let tls = certificate.as_ref().map(tls::Live::acceptor);
        let mut ports = vec![Port { listener, tls }];
        let mut plain_address = None;
        if let Some((address, listener)) = plain {
            plain_address = Some(address);
            ports.push(Port {
                listener,
                tls: None,
            });
        }
        let secret = root.secret_key.clone();
        let credentials = credentials(config, root)?;
        let store = open_store(config).await?;
        register_accounts(config, store.as_ref()).await?;
        let admin = Admin::new(store.clone());
        let server = Server::new(
            store,
            credentials,
            config.server.region.clone(),
            &config.server.domains,
            Allowed {
                signature_v2: config.server.signature_v2,
                portless_host: config.server.portless_host,
            },
            Arc::new(SystemEnv),
            limits(&config.server),
        );
        let server = server.with_metrics(metrics(&config.server, &secret));
        let server = server.with_path_prefix(&config.server.path_prefix);
        let server = server.with_certificate(certificate);
        let server = server.with_beside(Arc::new(admin));
        Ok(Node {
            address,
            plain_address,
            ports,
            server: Arc::new(server),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where plain HTTP is served beside TLS.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain_address
    }

    /// What TLS is spoken with, if it is.
    pub fn certificate(&self) -> Option<Arc<tls::Live>> {
        self.server.certificate.clone()
    }

    pub async fn health(&self) -> Health {
        self.server.store.health().await
    }

    /// Serves until `stop` ends, lets what is under way finish for a while, and closes the disks.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let store = self.server.store.clone();
        let (stopping, stopped) = oneshot::channel();
        let stop = async move {
            stop.await;
            // The receiver is only gone when serving has ended.
            let _ = stopping.send(());
        };
        let overdue = async move {
            let _ = stopped.await;
            sleep(DRAIN_MAX).await;
        };
        let certificate = self.server.certificate.clone();
        let renewed = async {
            match certificate {
                Some(certificate) => certificate.watch().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = connection::serve(self.server, self.ports, stop) => {}
            () = renewed => unreachable!("a certificate is watched for ever"),
            () = overdue => tracing::warn!("requests that were still under way are cut off"),
        }
        store.close().await;
    }
}

/// By the machine, unless the configuration says otherwise.
fn limits(config: &Settings) -> Limits {
    let mut limits = Limits::of(machine::memory_bytes(), machine::descriptors());
    limits.requests = config.requests.unwrap_or(limits.requests);
    limits.memory_bytes = config.memory_bytes.unwrap_or(limits.memory_bytes);
    tracing::info!(
        connections = limits.connections,
        requests = limits.requests,
        memory_mib = limits.memory_bytes >> 20,
        "limits"
    );
    limits
}

fn metrics(config: &Settings, root: &Secret) -> Metrics {
    Metrics {
        access: match config.metrics {
            config::Metrics::Token => Access::Token(config.metrics_token(root)),
            config::Metrics::Public => Access::Public,
            config::Metrics::Off => Access::Off,
        },
        prefix: product::NAME,
        version: product::VERSION,
    }
}

/// Root's and every user's keys.
fn credentials(config: &Config, root: Keys) -> Result<Credentials, DuplicateAccessKey> {
    let key = |user: &User, keys: Keys, is_operator: bool| AccessKey {
        id: keys.access_key,
        secret: keys.secret_key,
        principal: Arc::new(Principal {
            user: user.name.clone(),
            account: user.account.clone(),
            is_operator,
        }),
    };
    let users = config.users.iter();
    let users = users.map(|user| key(user, user.keys.clone(), false));
    Credentials::new(std::iter::once(key(&config.root_user, root, true)).chain(users))
}

async fn open_store(config: &Config) -> Result<Arc<storage::Engine>, OpenError> {
    let mut options = Options::new(config.storage.directories.clone());
    let classes = config.storage.classes.iter();
    options.classes = classes
        .map(|(class, geometry)| (class.clone(), (geometry.data, geometry.parity)))
        .collect();
    options.crash = config.storage.crash_at.map(Crash::at).unwrap_or_default();
    storage::Engine::open(options).await
}

/// Every account of the configuration becomes known to the store, or is brought up to date.
async fn register_accounts(config: &Config, store: &dyn ObjectStore) -> Result<(), StorageError> {
    let mut accounts = vec![&config.root_user.account];
    for user in &config.users {
        if !accounts.contains(&&user.account) {
            accounts.push(&user.account);
        }
    }
    for account in accounts {
        store.put_account(account.clone()).await?;
    }
    Ok(())
}

fn listen_for_tokio(address: &Address) -> Result<(SocketAddr, tokio::net::TcpListener), Error> {
    let failed = |source| Error::Listen {
        address: address.clone(),
        source,
    };
    let listener = listen(address)?;
    let at = listener.local_addr().map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    Ok((at, listener))
}

/// Listens on the first of the host's addresses that works. Without a host that is every
/// interface, by IPv6 and IPv4 where the machine has both.
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
    // A restarted server takes its port back while old connections linger.
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
