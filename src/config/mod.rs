//! Configuration: TOML, then environment, then flags.
//!
//! Each of the three is read into a [`Layer`]; a later one overrides an earlier one.
//! [`Layer::resolve`] checks the whole and returns a [`Config`], or a sentence that says what to
//! change. Nothing here opens a disk or a port: `config check` runs all of it.

mod address;
mod ellipsis;
mod environment;
mod error;
mod file;
mod keys;
mod layer;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use drystone_store::crash::CrashAt;

use self::error::invalid;
use drystone_http::network::Network;
use drystone_http::tls;
use drystone_protocol::names;

pub use address::Address;
pub use environment::Environment;
pub use error::Error;
pub use keys::{Keys, Secret};
pub use layer::Layer;
pub use users::User;

/// S3's own port among the servers that scripts know.
const DEFAULT_ADDRESS: &str = ":9000";
const DEFAULT_REGION: &str = "us-east-1";
/// The maximum number of disks of a node.
const DIRECTORIES_LEN_MAX: usize = 256;
/// The maximum number of shards of a stripe.
pub const SHARDS_MAX: u8 = 32;
/// The maximum number of requests in progress.
const REQUESTS_MAX: usize = 65_536;
/// The least memory that serves a few large uploads.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
const PREFIX_LEN_MAX: usize = 256;
const METRICS_TOKEN_LEN_MIN: usize = 16;
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

#[derive(Clone, Debug)]
pub struct Storage {
    pub directories: Vec<PathBuf>,
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

/// Loads file, environment and flags, in this order.
pub fn load(
    file: Option<PathBuf>,
    environment: &Environment,
    flags: Layer,
) -> Result<Config, Error> {
    let file = match file.or_else(|| environment.config_file()) {
        Some(path) => file::read(&path)?,
        None => Layer::default(),
    };
    flags.over(environment.layer()?.over(file)).resolve()
}

impl Layer {
    fn resolve(self) -> Result<Config, Error> {
        let address: Address = self
            .server
            .address
            .as_deref()
            .unwrap_or(DEFAULT_ADDRESS)
            .parse()?;
        let tls = checked_tls(self.server.tls_certificate, self.server.tls_key)?;
        let plain_address = checked_plain(self.server.plain_address, &address, tls.is_some())?;
        let region = self
            .server
            .region
            .unwrap_or_else(|| DEFAULT_REGION.to_owned());
        let directories = directories(&self.storage.directories.unwrap_or_default())?;
        let (root, root_user) = self.root.resolve()?;
        let users = users::resolve(self.users, root.as_ref(), &root_user)?;
        for user in root.iter().chain(users.iter().map(|user| &user.keys)) {
            for address in std::iter::once(&address).chain(&plain_address) {
                user.check(address)?;
            }
        }
        Ok(Config {
            server: Server {
                address,
                tls,
                plain_address,
                region: checked_region(region)?,
                domains: self
                    .server
                    .domains
                    .unwrap_or_default()
                    .into_iter()
                    .map(checked_domain)
                    .collect::<Result<_, _>>()?,
                path_prefix: checked_prefix(self.server.path_prefix.unwrap_or_default())?,
                signature_v2: self.server.signature_v2.unwrap_or(true),
                portless_host: self.server.portless_host.unwrap_or(true),
                requests: self.server.requests.map(checked_requests).transpose()?,
                memory_bytes: self.server.memory.map(checked_memory).transpose()?,
                client_connections: self
                    .server
                    .client_connections
                    .map(checked_client_connections)
                    .transpose()?,
                trusted_proxies: self
                    .server
                    .trusted_proxies
                    .unwrap_or_default()
                    .iter()
                    .map(|proxy| checked_proxy(proxy))
                    .collect::<Result<_, _>>()?,
                metrics: self
                    .server
                    .metrics
                    .map_or(Ok(Metrics::Token), |s| s.parse())?,
                metrics_token: self.server.metrics_token.map(checked_token).transpose()?,
                keys_file: self.server.keys_file,
                port_file: self.server.port_file,
            },
            root,
            root_user,
            users,
            storage: Storage {
                directories,
                classes: classes(self.storage.classes.unwrap_or_default())?,
                crash_at: self.storage.crash_at,
            },
            warnings: self.warnings,
        })
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
        let mut mac = mac.expect("a key of any length is taken");
        mac.update(METRICS_TOKEN_LABEL);
        Secret::from(hex::encode(mac.finalize().into_bytes()))
    }
}

impl Config {
    /// Refuses root keys, wherever they come from, that are too short, or well known where others
    /// can reach the server.
    pub fn check_root(&self, keys: &Keys) -> Result<(), Error> {
        let server = &self.server;
        let mut addresses = std::iter::once(&server.address).chain(&server.plain_address);
        addresses.try_for_each(|address| keys.check(address))
    }

    /// Returns the file for generated root keys: beside the first disk and named after it, as a
    /// disk holds nothing but the store's files.
    pub fn keys_file(&self) -> PathBuf {
        if let Some(path) = &self.server.keys_file {
            return path.clone();
        }
        let mut path = self.storage.directories[0].clone();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".keys");
        path.set_file_name(name);
        path
    }
}

/// Returns the directories that the command line and the file name.
pub fn directories(given: &[String]) -> Result<Vec<PathBuf>, Error> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for argument in given {
        if argument.starts_with("http://") || argument.starts_with("https://") {
            return invalid(format!(
                "{argument}: disks of other nodes are not supported yet; give local directories"
            ));
        }
        for directory in ellipsis::expand(argument, DIRECTORIES_LEN_MAX)? {
            let path = absolute(&directory)?;
            if path.file_name().is_none() {
                return invalid(format!(
                    "{directory}: a disk must be a directory of its own"
                ));
            }
            if directories.contains(&path) {
                return invalid(format!("{directory}: given twice; each disk is named once"));
            }
            directories.push(path);
        }
    }
    if directories.len() > DIRECTORIES_LEN_MAX {
        return invalid(format!(
            "{} disks are given; a node has at most {DIRECTORIES_LEN_MAX}",
            directories.len()
        ));
    }
    Ok(directories)
}

/// Makes the path absolute without looking at the disk, so that the storage judges a missing mount.
fn absolute(directory: &str) -> Result<PathBuf, Error> {
    let path = std::path::absolute(directory)
        .map_err(|error| Error::Invalid(format!("{directory:?}: {error}")))?;
    Ok(path.components().collect())
}

fn classes(given: BTreeMap<String, String>) -> Result<BTreeMap<String, Geometry>, Error> {
    given
        .into_iter()
        .map(|(class, geometry)| {
            let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            if class.is_empty() || !class.chars().all(plain) {
                return invalid(format!(
                    "storage.classes: {class:?} is no storage class; \
                     they are written like STANDARD or REDUCED_REDUNDANCY"
                ));
            }
            let geometry = geometry.parse().map_err(|error: Error| {
                Error::Invalid(format!("storage.classes: {class}: {error}"))
            })?;
            Ok((class, geometry))
        })
        .collect()
}

fn checked_region(region: String) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if region.is_empty() || region.len() > 64 || !region.chars().all(plain) {
        return invalid(format!(
            "region {region:?}: expected letters, digits and hyphens, such as {DEFAULT_REGION}"
        ));
    }
    Ok(region)
}

fn checked_tls(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<tls::Files>, Error> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(tls::Files { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => invalid("tls_certificate is set without tls_key: set both".to_owned()),
        (None, Some(_)) => invalid("tls_key is set without tls_certificate: set both".to_owned()),
    }
}

fn checked_plain(
    plain: Option<String>,
    address: &Address,
    has_tls: bool,
) -> Result<Option<Address>, Error> {
    let Some(plain) = plain else {
        return Ok(None);
    };
    let plain: Address = plain.parse()?;
    if !has_tls {
        return invalid(format!(
            "plain_address {plain}: without tls_certificate and tls_key {address} serves plain \
             HTTP already: set those, or leave plain_address out"
        ));
    }
    let same_host = plain.host == address.host || plain.is_any() || address.is_any();
    if same_host && plain.port == address.port && plain.port != 0 {
        return invalid(format!(
            "plain_address {plain}: {address} has this port: choose another"
        ));
    }
    Ok(Some(plain))
}

fn checked_requests(requests: usize) -> Result<usize, Error> {
    match requests {
        1..=REQUESTS_MAX => Ok(requests),
        _ => invalid(format!("requests: expected 1 to {REQUESTS_MAX}")),
    }
}

fn checked_client_connections(connections: usize) -> Result<usize, Error> {
    match connections {
        1.. => Ok(connections),
        0 => invalid("client_connections: expected 1 or more".to_owned()),
    }
}

fn checked_proxy(proxy: &str) -> Result<Network, Error> {
    let parsed = proxy.parse::<Network>();
    parsed.map_err(|error| Error::Invalid(format!("trusted_proxies: {error}")))
}

/// A size as people write it: a number, and a unit of 1024 bytes or its powers.
pub fn bytes(text: &str) -> Option<u64> {
    let units = [
        ("KiB", 10),
        ("MiB", 20),
        ("GiB", 30),
        ("TiB", 40),
        ("PiB", 50),
        ("", 0),
    ];
    units.iter().find_map(|(unit, shift)| {
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(1 << shift)
    })
}

fn checked_memory(text: String) -> Result<u64, Error> {
    match bytes(&text).filter(|bytes| *bytes >= MEMORY_BYTES_MIN) {
        Some(bytes) => Ok(bytes),
        None => invalid(format!(
            "memory {text:?}: expected 16MiB or more, such as 512MiB or 4GiB"
        )),
    }
}

fn checked_token(token: Secret) -> Result<Secret, Error> {
    let text = token.expose();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    match plain && text.len() >= METRICS_TOKEN_LEN_MIN {
        true => Ok(token),
        false => invalid(format!(
            "metrics_token: expected at least {METRICS_TOKEN_LEN_MIN} characters without spaces"
        )),
    }
}

fn checked_domain(domain: String) -> Result<String, Error> {
    let domain = domain.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if domain.len() > 253 || !domain.split('.').all(label) {
        return invalid(format!(
            "domain {domain:?}: expected a host name without scheme and port"
        ));
    }
    Ok(domain)
}

/// Returns the prefix without the slash at its end. Neither a bucket nor a prefix can have the name
/// of a path that is served beside buckets.
fn checked_prefix(prefix: String) -> Result<String, Error> {
    let trimmed = prefix.trim_end_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.chars().all(plain);
    let segments = trimmed.strip_prefix('/').map(|rest| rest.split('/'));
    if trimmed.len() > PREFIX_LEN_MAX || !segments.is_some_and(|mut all| all.all(segment)) {
        return invalid(format!(
            "path_prefix {prefix:?}: expected a path of letters, digits and - . _ ~, such as /s3"
        ));
    }
    let first = trimmed.split('/').nth(1).unwrap_or_default();
    if names::is_own_path(first) {
        return invalid(format!(
            "path_prefix {prefix:?}: the server itself answers there"
        ));
    }
    Ok(trimmed.to_owned())
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

#[cfg(test)]
mod tests;
