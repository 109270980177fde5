//! The checked configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use drystone_http::network::Network;
use drystone_http::tls;
use drystone_store::crash::CrashAt;
use drystone_store::types::Account;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::address::Address;
use super::error::{Error, invalid};
use super::keys::{Keys, Secret};

/// The maximum number of shards of a stripe.
pub const SHARDS_MAX: u8 = 32;
/// The name of the state file in its folder.
const STATE_FILE: &str = "store";
/// The label that the token for the metrics is made from, with root's secret.
const METRICS_TOKEN_LABEL: &[u8] = b"metrics token";

/// Everything that decides how a node runs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub server: Server,
    /// `None`: keys are to be generated and kept in [`Server::keys_file`].
    pub root: Option<Keys>,
    /// The first account: the operator's.
    pub root_user: User,
    /// Everyone else.
    pub users: Vec<User>,
    pub storage: Storage,
    /// Findings that change nothing, for the log.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Server {
    pub address: Address,
    /// The certificate and key for TLS at `address`. Without them HTTP is plain there.
    pub tls: Option<tls::Files>,
    /// The address for plain HTTP beside TLS.
    pub plain_address: Option<Address>,
    pub region: String,
    /// Host names in front of which a bucket's name may be the first label.
    pub domains: Vec<String>,
    /// The prefix that a proxy puts in front of all paths: empty, or such as `/s3`.
    pub path_prefix: String,
    /// Whether Signature Version 2 is accepted too: old clients send nothing else.
    pub signature_v2: bool,
    /// Whether a signature over the host without its port is accepted: git-annex sends no other.
    pub portless_host: bool,
    /// The maximum number of requests in progress; by default it depends on the machine.
    pub requests: Option<usize>,
    /// The memory that requests may hold together; by default a part of the machine's.
    pub memory_bytes: Option<u64>,
    /// The connections that one client may have; by default a part of all.
    pub client_connections: Option<usize>,
    /// The proxies, whose connections are not limited: each speaks for many clients.
    pub trusted_proxies: Vec<Network>,
    pub metrics: Metrics,
    /// The bearer token for the metrics; otherwise made from root's secret.
    pub metrics_token: Option<Secret>,
    /// The file for generated root keys.
    pub keys_file: Option<PathBuf>,
    /// The file that the port is written to once the server listens.
    pub port_file: Option<PathBuf>,
}

/// A principal: a name, its keys and its account.
#[derive(Clone, Debug)]
pub struct User {
    pub name: String,
    /// The user's keys. Those of root are empty until they are known.
    pub keys: Keys,
    pub account: Account,
}

#[derive(Clone, Debug)]
pub struct Storage {
    pub directories: Vec<PathBuf>,
    /// The folder of the state file.
    pub state_dir: Option<PathBuf>,
    /// A new store is created on empty disks, even if the state file knows one.
    pub new_store: bool,
    /// An empty file system that is mounted in the place of a lost disk replaces it.
    pub replace_by_mounts: bool,
    /// The memory that the disks' databases may use together; by default a part of the machine's.
    pub metadata_memory_bytes: Option<u64>,
    /// Geometry by storage class; the geometry of a class without an entry depends on the number of
    /// disks.
    pub classes: BTreeMap<String, Geometry>,
    /// The crash point at which the process ends itself: for tests.
    pub crash_at: Option<CrashAt>,
}

/// The access that reading the metrics needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// The token must be sent.
    Token,
    Public,
    /// There are no metrics.
    Off,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metrics::Token => "token",
            Metrics::Public => "public",
            Metrics::Off => "off",
        })
    }
}

impl FromStr for Metrics {
    type Err = Error;

    fn from_str(text: &str) -> Result<Metrics, Error> {
        match text {
            "token" => Ok(Metrics::Token),
            "public" => Ok(Metrics::Public),
            "off" => Ok(Metrics::Off),
            _ => invalid(format!(
                "metrics {text:?}: expected \"token\", \"public\" or \"off\""
            )),
        }
    }
}

/// The number of data and parity shards of a stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub data: u8,
    pub parity: u8,
}

impl Config {
    /// Refuses root keys, wherever they come from, that are too short, or well known where others
    /// can reach the server.
    pub fn check_root(&self, keys: &Keys) -> Result<(), Error> {
        let server = &self.server;
        let mut addresses = std::iter::once(&server.address).chain(&server.plain_address);
        addresses.try_for_each(|address| keys.check(address))
    }
}

impl Server {
    /// Returns the bearer token for the metrics: the configured one, or one derived from root's
    /// secret, which it does not reveal.
    pub fn metrics_token(&self, root: &Secret) -> Secret {
        if let Some(token) = &self.metrics_token {
            return token.clone();
        }
        let mac = Hmac::<Sha256>::new_from_slice(root.expose().as_bytes());
        let mut mac = mac.expect("a key of any length is accepted");
        mac.update(METRICS_TOKEN_LABEL);
        Secret::from(hex::encode(mac.finalize().into_bytes()))
    }
}

impl Config {
    /// Returns the file for generated root keys: beside the first disk and named after it, as a
    /// disk holds nothing but the store's files.
    pub fn keys_file(&self) -> PathBuf {
        let path = self.server.keys_file.clone();
        path.unwrap_or_else(|| self.beside_first_disk(".keys"))
    }

    /// Returns the file in which the store's directories are noted.
    pub fn state_file(&self) -> PathBuf {
        match &self.storage.state_dir {
            Some(dir) => dir.join(STATE_FILE),
            None => self.beside_first_disk(".state"),
        }
    }

    fn beside_first_disk(&self, suffix: &str) -> PathBuf {
        let mut path = self.storage.directories[0].clone();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        path.set_file_name(name);
        path
    }
}

impl FromStr for Geometry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Geometry, Error> {
        let parts = text.split_once('+').and_then(|(data, parity)| {
            let data: u8 = data.trim().parse().ok()?;
            let parity: u8 = parity.trim().parse().ok()?;
            Some(Geometry { data, parity })
        });
        match parts {
            Some(geometry)
                if geometry.data > 0
                    && u16::from(geometry.data) + u16::from(geometry.parity)
                        <= u16::from(SHARDS_MAX) =>
            {
                Ok(geometry)
            }
            _ => invalid(format!(
                "{text:?}: expected data and parity shards, such as \"4+2\", \
                 together at most {SHARDS_MAX}"
            )),
        }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}
