//! Configuration: TOML, then environment, then flags.
//!
//! Each of the three is read into a [`Layer`]; a later one overrides an earlier one.
//! [`Layer::resolve`] checks the whole and returns a [`Config`], or a sentence that says what to
//! change. Nothing here opens a disk or a port: `config check` runs all of it.

mod address;
mod checked;
mod ellipsis;
mod environment;
mod error;
mod file;
mod keys;
mod kinds;
mod layer;
mod settings;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;

use drystone_http::network::Network;
use drystone_http::tls;
use drystone_protocol::names;

use self::error::invalid;

pub use address::Address;
pub use checked::{Config, Geometry, Metrics, SHARDS_MAX, Server, Storage, User};
pub use environment::Environment;
pub use error::Error;
pub use keys::{Keys, Secret};
pub use layer::Layer;
pub use settings::{Setting, TABLES, Table};

/// S3's own port among the servers that scripts know.
const DEFAULT_ADDRESS: &str = ":9000";
const DEFAULT_REGION: &str = "us-east-1";
/// The maximum number of disks of a node.
const DIRECTORIES_LEN_MAX: usize = 256;
/// The maximum number of requests in progress.
const REQUESTS_MAX: usize = 65_536;
/// The least memory that serves a few large uploads.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// The least memory that the disks' databases work with.
pub const METADATA_MEMORY_BYTES_MIN: u64 = 64 << 20;
const PREFIX_LEN_MAX: usize = 256;
const METRICS_TOKEN_LEN_MIN: usize = 16;

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
    flags
        .over(Layer::of_environment(environment)?.over(file))
        .resolve()
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
        let (root, root_user) = users::resolve_root(self.root)?;
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
                memory_bytes: self
                    .server
                    .memory
                    .map(|text| checked_memory("memory", MEMORY_BYTES_MIN, &text))
                    .transpose()?,
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
                state_dir: self.storage.state_dir,
                new_store: false,
                replace_by_mounts: self.storage.replace_by_mounts.unwrap_or(true),
                metadata_memory_bytes: self
                    .storage
                    .metadata_memory
                    .map(|text| checked_memory("metadata_memory", METADATA_MEMORY_BYTES_MIN, &text))
                    .transpose()?,
                classes: classes(self.storage.classes.unwrap_or_default())?,
                crash_at: self.crash_at,
            },
            warnings: self.warnings,
        })
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

/// Parses a size as people write it: a number, and a unit of 1024 bytes or its powers.
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

fn checked_memory(key: &str, min: u64, text: &str) -> Result<u64, Error> {
    match bytes(text).filter(|bytes| *bytes >= min) {
        Some(bytes) => Ok(bytes),
        None => invalid(format!(
            "{key} {text:?}: expected {}MiB or more, such as 512MiB or 4GiB",
            min >> 20
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

#[cfg(test)]
mod tests;
