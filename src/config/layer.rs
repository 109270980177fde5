//! The settings from one source of the configuration: a file, the environment, or the flags.

use std::collections::BTreeMap;
use std::path::PathBuf;

use drystone_store::crash::CrashAt;

use super::keys::Secret;
use super::users::{RootLayer, UserLayer};

/// The settings from one source; `None` where it says nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    pub server: ServerLayer,
    pub root: RootLayer,
    pub users: Vec<UserLayer>,
    pub storage: StorageLayer,
    #[serde(skip)]
    pub warnings: Vec<String>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLayer {
    pub address: Option<String>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub plain_address: Option<String>,
    pub region: Option<String>,
    pub domains: Option<Vec<String>>,
    pub path_prefix: Option<String>,
    pub signature_v2: Option<bool>,
    pub portless_host: Option<bool>,
    pub requests: Option<usize>,
    pub memory: Option<String>,
    pub client_connections: Option<usize>,
    pub trusted_proxies: Option<Vec<String>>,
    pub metrics: Option<String>,
    pub metrics_token: Option<Secret>,
    pub keys_file: Option<PathBuf>,
    pub port_file: Option<PathBuf>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageLayer {
    pub directories: Option<Vec<String>>,
    pub classes: Option<BTreeMap<String, String>>,
    /// Set by the environment alone: a file would outlive the test that it was made for.
    #[serde(skip)]
    pub crash_at: Option<CrashAt>,
}

impl Layer {
    /// Returns this layer, with missing settings filled in from the one below.
    pub fn over(self, below: Layer) -> Layer {
        let mut warnings = below.warnings;
        warnings.extend(self.warnings);
        Layer {
            server: ServerLayer {
                address: self.server.address.or(below.server.address),
                tls_certificate: self.server.tls_certificate.or(below.server.tls_certificate),
                tls_key: self.server.tls_key.or(below.server.tls_key),
                plain_address: self.server.plain_address.or(below.server.plain_address),
                region: self.server.region.or(below.server.region),
                domains: self.server.domains.or(below.server.domains),
                path_prefix: self.server.path_prefix.or(below.server.path_prefix),
                signature_v2: self.server.signature_v2.or(below.server.signature_v2),
                portless_host: self.server.portless_host.or(below.server.portless_host),
                requests: self.server.requests.or(below.server.requests),
                memory: self.server.memory.or(below.server.memory),
                client_connections: self
                    .server
                    .client_connections
                    .or(below.server.client_connections),
                trusted_proxies: self.server.trusted_proxies.or(below.server.trusted_proxies),
                metrics: self.server.metrics.or(below.server.metrics),
                metrics_token: self.server.metrics_token.or(below.server.metrics_token),
                keys_file: self.server.keys_file.or(below.server.keys_file),
                port_file: self.server.port_file.or(below.server.port_file),
            },
            root: self.root.over(below.root),
            users: below.users.into_iter().chain(self.users).collect(),
            storage: StorageLayer {
                directories: self.storage.directories.or(below.storage.directories),
                classes: self.storage.classes.or(below.storage.classes),
                crash_at: self.storage.crash_at.or(below.storage.crash_at),
            },
            warnings,
        }
    }
}
