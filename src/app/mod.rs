//! The composition root: store, accounts and server, started and stopped.
//!
//! The order of a start: the ports (so that a port in use is reported before anything is touched),
//! the certificate, the disks, the accounts, the server. The order of an end: no new connections,
//! the requests in progress, the disks.

mod listen;
mod machine;

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use drystone_storage::engine::{self as storage, OpenError, Options};
use drystone_store::ObjectStore;
use drystone_store::crash::Crash;
use drystone_store::env::{Env, SystemEnv};
use drystone_store::error::Error as StorageError;
use drystone_store::instance::{Health, Instance as _};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::admin;
use crate::admin::minio::{absent, quotas};
use crate::config::{self, Config, Keys, Secret, Server as Settings, User};
use crate::probes::health::Probes;
use crate::probes::metrics::{Access, Metrics};
use crate::product;
use drystone_auth::authenticate::{Leniency, Verifier};
use drystone_auth::credentials::{AccessKey, Principal};
use drystone_auth::keys::{DuplicateAccessKey, FixedKeys};
use drystone_auth::v4::canonical::ServiceName;
use drystone_http::admission::Admission;
use drystone_http::connection::{self, Port};
use drystone_http::limits::Limits;
use drystone_http::service::{Service, Services};
use drystone_http::tls;
use drystone_http::traffic::Traffic;
use drystone_http::transport::Transport;
use drystone_protocol::ids::Ids;
use drystone_protocol::names;
use drystone_s3::keep_alive_interval::KeepAliveInterval;
use drystone_s3::service::S3Service;
use drystone_s3::settings::SettingsCache;

/// How long requests in progress may take after the server is asked to stop.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// The part of the machine's memory that metadata are cached and buffered in.
const METADATA_MEMORY_DIVISOR: u64 = 8;
const METADATA_MEMORY_BYTES_MAX: u64 = 16 << 30;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Keys(#[from] DuplicateAccessKey),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("{0}")]
    Store(#[from] StorageError),
}

/// A server that is ready to answer requests.
pub struct App {
    address: SocketAddr,
    plain_address: Option<SocketAddr>,
    ports: Vec<Port>,
    transport: Arc<Transport>,
    store: Arc<storage::Engine>,
    certificate: Option<Arc<tls::Live>>,
}

impl App {
    /// Starts the app and returns once the store is open. From then on connections wait to be
    /// served by [`run`].
    ///
    /// [`run`]: App::run
    pub async fn start(config: &Config, root: Keys) -> Result<App, Error> {
        let settings = &config.server;
        let (address, listener) = listen::listen_for_tokio(&settings.address)?;
        let plain = settings.plain_address.as_ref();
        let plain = plain.map(listen::listen_for_tokio).transpose()?;
        let certificate = settings.tls.clone().map(tls::Live::open).transpose()?;
        let secret = root.secret_key.clone();
        let keys = fixed_keys(config, root)?;
        let store = open_store(config).await?;
        register_accounts(config, store.as_ref()).await?;
        warn_of_reserved(&settings.path_prefix, store.as_ref()).await;
        let env: Arc<dyn Env> = Arc::new(SystemEnv);
        let limits = limits(settings);
        let ids = Arc::new(Ids::new(env.clone()));
        let traffic = Arc::new(Traffic::new(
            drystone_s3::operation::rows().map(|row| row.name),
        ));
        let transport = Transport::new(
            limits,
            traffic,
            ids,
            &settings.domains,
            &settings.path_prefix,
        )
        .trusting(&settings.trusted_proxies);
        let parts = Parts {
            verifier: Arc::new(Verifier {
                keys: Arc::new(keys),
                service: ServiceName::S3,
                leniency: Leniency {
                    signature_v2: settings.signature_v2,
                    portless_host: settings.portless_host,
                },
            }),
            admission: Arc::new(Admission::new(&limits)),
            store: store.clone(),
            env,
            certificate: certificate.clone(),
        };
        let services = services(settings, &secret, &transport, &parts);
        let tls = certificate.as_ref().map(tls::Live::acceptor);
        let mut ports = vec![Port {
            listener,
            tls,
            services: services.clone(),
        }];
        let mut plain_address = None;
        if let Some((address, listener)) = plain {
            plain_address = Some(address);
            ports.push(Port {
                listener,
                tls: None,
                services,
            });
        }
        Ok(App {
            address,
            plain_address,
            ports,
            transport: Arc::new(transport),
            store,
            certificate,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address for plain HTTP beside TLS.
    pub fn plain_address(&self) -> Option<SocketAddr> {
        self.plain_address
    }

    /// Returns the certificate, if the server speaks TLS.
    pub fn certificate(&self) -> Option<Arc<tls::Live>> {
        self.certificate.clone()
    }

    pub async fn health(&self) -> Health {
        self.store.health().await
    }

    /// Serves until `stop` ends, gives requests in progress a while to finish, and closes the
    /// disks.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let (stopping, stopped) = oneshot::channel();
        let stop = async move {
            stop.await;
            // The receiver is only dropped when serving has ended.
            let _ = stopping.send(());
        };
        let overdue = async move {
            let _ = stopped.await;
            sleep(DRAIN_MAX).await;
        };
        let certificate = self.certificate;
        let renewed = async {
            match certificate {
                Some(certificate) => certificate.watch().await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = connection::serve(self.transport, self.ports, stop) => {}
            () = renewed => unreachable!("a certificate is watched for ever"),
            () = overdue => tracing::warn!("requests still in progress are aborted"),
        }
        self.store.close().await;
    }
}

/// Returns the limits: those of the machine, unless the configuration sets others.
fn limits(config: &Settings) -> Limits {
    let mut limits = Limits::of(machine::memory_bytes(), machine::descriptors());
    limits.requests = config.requests.unwrap_or(limits.requests);
    limits.memory_bytes = config.memory_bytes.unwrap_or(limits.memory_bytes);
    limits.client_connections = config
        .client_connections
        .unwrap_or(limits.client_connections);
    tracing::info!(
        connections = limits.connections,
        client_connections = limits.client_connections,
        requests = limits.requests,
        memory_mib = limits.memory_bytes >> 20,
        "limits"
    );
    limits
}

/// The parts that the services share beside the transport.
struct Parts {
    verifier: Arc<Verifier>,
    admission: Arc<Admission>,
    store: Arc<storage::Engine>,
    env: Arc<dyn Env>,
    certificate: Option<Arc<tls::Live>>,
}

/// Returns all services of a port, in the order in which they are asked. S3 is last: every path may
/// be a bucket's.
fn services(settings: &Settings, root: &Secret, transport: &Transport, parts: &Parts) -> Services {
    let Parts {
        verifier,
        admission,
        store,
        env,
        certificate,
    } = parts;
    let metrics = Metrics {
        access: match settings.metrics {
            config::Metrics::Token => Access::Token(settings.metrics_token(root)),
            config::Metrics::Public => Access::Public,
            config::Metrics::Off => Access::Off,
        },
        prefix: product::NAME,
        version: product::VERSION,
        store: store.clone(),
        traffic: transport.traffic.clone(),
        admission: admission.clone(),
        certificate: certificate.clone(),
    };
    let operator = Arc::new(admin::context::Context {
        operator: store.clone(),
        store: store.clone(),
        verifier: verifier.clone(),
        env: env.clone(),
        ids: transport.ids.clone(),
        certificate: certificate.clone(),
    });
    let absent = absent::Absent {
        ids: transport.ids.clone(),
    };
    let context = drystone_s3::context::Context {
        store: store.clone(),
        env: env.clone(),
        ids: transport.ids.clone(),
        region: settings.region.clone(),
        path_prefix: settings.path_prefix.clone(),
        keep_alive: KeepAliveInterval::DEFAULT,
        settings: SettingsCache::default(),
    };
    let s3 = S3Service::new(
        Arc::new(context),
        verifier.clone(),
        admission.clone(),
        transport.traffic.clone(),
        &transport.limits,
    );
    let services: [Arc<dyn Service>; 6] = [
        Arc::new(Probes::new(store.clone())),
        Arc::new(metrics),
        Arc::new(admin::service::Admin::new(operator.clone())),
        Arc::new(quotas::Quotas::new(operator)),
        Arc::new(absent),
        Arc::new(s3),
    ];
    Arc::new(services)
}

/// Returns the keys of root and of every user.
fn fixed_keys(config: &Config, root: Keys) -> Result<FixedKeys, DuplicateAccessKey> {
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
    FixedKeys::new(std::iter::once(key(&config.root_user, root, true)).chain(users))
}

async fn open_store(config: &Config) -> Result<Arc<storage::Engine>, OpenError> {
    let mut options = Options::new(config.storage.directories.clone());
    options.state_file = Some(config.state_file());
    options.replace_by_mounts = config.storage.replace_by_mounts;
    options.new_store = config.storage.new_store;
    let classes = config.storage.classes.iter();
    options.classes = classes
        .map(|(class, geometry)| (class.clone(), (geometry.data, geometry.parity)))
        .collect();
    options.metadata_memory_bytes = metadata_memory_bytes(config);
    options.cores = machine::cores();
    options.descriptors = machine::descriptors();
    options.crash = config.storage.crash_at.map(Crash::at).unwrap_or_default();
    storage::Engine::open(options).await
}

/// Returns the memory that the disks' databases may use: a part of the machine's, unless the
/// configuration sets it.
fn metadata_memory_bytes(config: &Config) -> u64 {
    let of_machine = machine::memory_bytes() / METADATA_MEMORY_DIVISOR;
    let of_machine = of_machine.clamp(config::METADATA_MEMORY_BYTES_MIN, METADATA_MEMORY_BYTES_MAX);
    let bytes = config.storage.metadata_memory_bytes.unwrap_or(of_machine);
    tracing::info!(metadata_mib = bytes >> 20, "memory of the metadata");
    bytes
}

/// Registers every account of the configuration in the store, or updates it.
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

/// Warns of buckets whose names the server's own paths take. They were made by a version that knew
/// other paths, or before the prefix was set.
async fn warn_of_reserved(path_prefix: &str, store: &dyn ObjectStore) {
    let prefix = path_prefix.split('/').nth(1);
    for name in names::OWN_PATHS.into_iter().chain(prefix) {
        if names::is_bucket_name(name) && store.bucket(name).await.is_ok() {
            tracing::warn!(
                bucket = name,
                "the server itself answers under this bucket's name: the bucket is reached only \
                 by its host, as NAME.DOMAIN with `domains` set; copy its objects elsewhere"
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
