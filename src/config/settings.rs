//! The settings: one table that gives the layers, the variables of the environment, the lines of
//! `config check`, and the reference page.
//!
//! A new setting is a row here, a field of the [`Config`], and its check where the layers become
//! one. The comment of a row is what the reference page says about it.

use super::checked::Config;
use super::environment::{CONFIG, Environment, LOG, LOG_FORMAT, Variable};
use super::error::Error;
use super::keys::Secret;
use super::kinds::{
    CommaList, CrashPoint, File, Geometries, HostPort, Kind, MetricsAccess, Number, SecretText,
    Size, SpaceList, Switch, Text,
};

/// A setting, as the reference page and `config check` show it.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The key in the file's table. It is empty if only the environment has the setting.
    pub key: &'static str,
    /// The form of a value.
    pub form: &'static str,
    pub variable: Variable,
    /// Whether a variable may name a file with the value instead.
    pub is_secret: bool,
    /// The default in Markdown; empty if there is none.
    pub default: &'static str,
    /// The lines of its description.
    pub meaning: &'static [&'static str],
    /// Returns the lines that `config check` prints; never a secret.
    pub show: fn(&Config) -> Vec<String>,
}

/// A table of the file, or the variables that the file has no keys for.
pub struct Table {
    /// As it opens in the file; empty for variables alone.
    pub heading: &'static str,
    pub settings: &'static [Setting],
}

/// Everything that can be set, in the order in which it is shown.
pub const TABLES: &[Table] = &[
    Table {
        heading: "[server]",
        settings: SERVER,
    },
    Table {
        heading: "[storage]",
        settings: STORAGE,
    },
    Table {
        heading: "",
        settings: PROCESS,
    },
    Table {
        heading: "[root]",
        settings: ROOT,
    },
    Table {
        heading: "[[users]]",
        settings: USERS,
    },
];

pub(super) const CRASH_AT: Variable = Variable(&["CRASH_AT"]);

/// Declares a table of which each source may say a part. A row is: its key, the kind of its value,
/// the names of its variable, its default, and the lines that `config check` prints.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        $layer:ident as $rows:ident;
        $(
            $(#[doc = $meaning:literal])+
            $key:ident: $kind:ident, [$($name:literal),*], $default:literal, $show:expr;
        )+
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Default, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $layer {
            $($(#[doc = $meaning])+ pub $key: Option<<$kind as Kind>::Value>,)+
        }

        impl $layer {
            pub(super) fn of_environment(environment: &Environment) -> Result<$layer, Error> {
                Ok($layer {
                    $($key: $kind::read(environment, Variable(&[$($name),*]))?,)+
                })
            }

            /// Returns these settings; where they say nothing, those below count.
            pub(super) fn over(self, below: $layer) -> $layer {
                $layer {
                    $($key: self.$key.or(below.$key),)+
                }
            }
        }

        const $rows: &[Setting] = &[
            $(Setting {
                key: stringify!($key),
                form: <$kind as Kind>::FORM,
                variable: Variable(&[$($name),*]),
                is_secret: <$kind as Kind>::IS_SECRET,
                default: $default,
                meaning: &[$($meaning),+],
                show: $show,
            }),+
        ];
    };
}

settings! {
    /// The table `[server]` of one source.
    ServerLayer as SERVER;

    /// The address to listen at; without a host all interfaces, with port 0 any free port.
    address: HostPort, ["ADDRESS", "MINIO_ADDRESS"], "`:9000`",
        |config| line("address", &config.server.address);

    /// The certificate's PEM file; together with `tls_key`, `address` speaks TLS.
    tls_certificate: File, ["TLS_CERTIFICATE"], "", |config| {
        let files = config.server.tls.iter();
        files.flat_map(|files| line("certificate", files.certificate.display())).collect()
    };

    /// The PEM file of the certificate's key.
    tls_key: File, ["TLS_KEY"], "", |config| {
        let files = config.server.tls.iter();
        files.flat_map(|files| line("certificate's key", files.key.display())).collect()
    };

    /// The address at which plain HTTP is served beside TLS.
    plain_address: HostPort, ["PLAIN_ADDRESS"], "",
        |config| lines("plain address", &config.server.plain_address);

    /// The region that buckets are in unless they name another.
    region: Text, ["REGION", "MINIO_REGION", "MINIO_SITE_REGION"], "`us-east-1`",
        |config| line("region", &config.server.region);

    /// Host names under which a bucket may be the first label (virtual-host style).
    domains: CommaList, ["DOMAIN", "MINIO_DOMAIN"], "",
        |config| lines("domain", &config.server.domains);

    /// The path below which a proxy serves the store, such as `/s3`.
    path_prefix: Text, ["PATH_PREFIX"], "", |config| {
        let prefix = Some(&config.server.path_prefix);
        lines("path prefix", prefix.filter(|prefix| !prefix.is_empty()))
    };

    /// Whether Signature Version 2 is accepted.
    signature_v2: Switch, ["SIGNATURE_V2"], "`true`", |config| {
        line("signatures", match config.server.signature_v2 {
            true => "AWS4-HMAC-SHA256 and version 2",
            false => "AWS4-HMAC-SHA256 alone",
        })
    };

    /// Whether a signature over the host without its port is accepted.
    portless_host: Switch, ["PORTLESS_HOST"], "`true`", |config| {
        line("signed host", match config.server.portless_host {
            true => "with or without its port",
            false => "with its port alone",
        })
    };

    /// The number of requests in progress at once, at most 65536.
    requests: Number, ["REQUESTS"], "by the machine, at most 1024",
        |config| lines("requests", config.server.requests);

    /// The memory that requests in progress may hold, such as `"2GiB"`; at least `"16MiB"`.
    memory: Size, ["MEMORY"], "a quarter of the machine's",
        |config| lines("memory", config.server.memory_bytes);

    /// The connections that one client address (IPv4, or a /64 of IPv6) may have.
    client_connections: Number, ["CLIENT_CONNECTIONS"], "a quarter of all, at least 256",
        |config| lines("connections of one client", config.server.client_connections);

    /// Addresses and networks, such as `"10.0.0.0/8"`, whose connections are not limited: proxies.
    trusted_proxies: CommaList, ["TRUSTED_PROXIES"], "",
        |config| lines("trusted proxy", &config.server.trusted_proxies);

    /// Access to `/metrics`: with the token, without, or not at all.
    metrics: MetricsAccess, ["METRICS", "MINIO_PROMETHEUS_AUTH_TYPE"], "`token`",
        |config| line("metrics", config.server.metrics);

    /// The bearer token for `/metrics`: at least 16 characters without spaces.
    metrics_token: SecretText, ["METRICS_TOKEN"], "derived from root's secret", nothing;

    /// The file in which generated root keys are kept.
    keys_file: File, ["KEYS_FILE"], "beside the first disk, as `DIR.keys`", nothing;

    /// A file to write the port to once the server listens.
    port_file: File, ["PORT_FILE"], "", nothing;
}

settings! {
    /// The table `[storage]` of one source.
    StorageLayer as STORAGE;

    /// The disks: directories, each on a disk of its own, at most 256; `{1...4}` counts.
    directories: SpaceList, ["VOLUMES", "MINIO_VOLUMES"], "", |config| {
        let directories = config.storage.directories.iter();
        lines("disk", directories.map(|directory| directory.display()))
    };

    /// The folder for what is noted outside the disks: the file `store`, which keeps a new store
    /// from being created while all disks are missing.
    state_dir: File, ["STATE_DIR"], "a file beside the first disk, `DIR.state`",
        |config| lines("state", config.storage.state_dir.iter().map(|dir| dir.display()));

    /// Whether an empty file system that is mounted in the place of a lost disk replaces it by
    /// itself.
    replace_by_mounts: Switch, ["REPLACE_BY_MOUNTS"], "`true`", |config| {
        line("empty mounts in the places of lost disks", match config.storage.replace_by_mounts {
            true => "replace them",
            false => "wait for an operator",
        })
    };

    /// The memory for caching and buffering metadata, of all disks together, such as `"512MiB"`; at
    /// least `"64MiB"`.
    metadata_memory: Size, ["METADATA_MEMORY"], "an eighth of the machine's, at most 16 GiB",
        |config| lines("metadata memory", config.storage.metadata_memory_bytes);

    /// The numbers of data and parity shards by storage class, together at most 32. A class that
    /// is not named is stored as STANDARD.
    classes: Geometries, [], "by the number of disks", |config| {
        let classes = config.storage.classes.iter();
        lines("storage class", classes.map(|(class, geometry)| format!("{class} = {geometry}")))
    };
}

settings! {
    /// The table `[root]` of one source: the operator.
    RootLayer as ROOT;

    /// Root's access key: 3 to 128 characters.
    user: SecretText, ["ROOT_USER", "MINIO_ROOT_USER", "MINIO_ACCESS_KEY"], "generated",
        |config| match &config.root {
            Some(keys) => line("root", &keys.access_key),
            None => line("root", "keys are generated and kept"),
        };

    /// Root's secret key: 8 to 128 characters.
    password: SecretText, ["ROOT_PASSWORD", "MINIO_ROOT_PASSWORD", "MINIO_SECRET_KEY"], "generated",
        nothing;

    /// The account that root belongs to: 12 digits.
    account: Text, [], "`000000000001`", nothing;

    /// The account's display name.
    display_name: Text, [], "`root`", nothing;

    /// The account's canonical id: 64 hexadecimal digits.
    canonical_id: Text, [], "derived from the account", nothing;
}

/// Declares what a file may hold any number of. A row is: its key, the type and form of its value,
/// and its default.
macro_rules! entries {
    (
        $(#[$attribute:meta])*
        $entry:ident as $rows:ident;
        $(
            $(#[doc = $meaning:literal])+
            $key:ident: $type:ty, $default:literal, $show:expr;
        )+
    ) => {
        $(#[$attribute])*
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $entry {
            $($(#[doc = $meaning])+ pub $key: $type,)+
        }

        const $rows: &[Setting] = &[
            $(Setting {
                key: stringify!($key),
                form: Text::FORM,
                variable: Variable(&[]),
                is_secret: false,
                default: $default,
                meaning: &[$($meaning),+],
                show: $show,
            }),+
        ];
    };
}

entries! {
    /// An entry of `[[users]]`.
    UserLayer as USERS;

    /// The user's name, which no other user has.
    name: String, "required", |config| {
        let users = config.users.iter();
        lines("user", users.map(|user| format!("{} of account {}", user.name, user.account.id.0)))
    };

    /// The access key: 3 to 128 characters, which no other user has.
    access_key: String, "required", nothing;

    /// The secret key: 8 to 128 characters.
    secret_key: Secret, "required", nothing;

    /// The account: 12 digits. Users of one account share its buckets.
    account: String, "required", nothing;

    /// The account's display name.
    display_name: Option<String>, "the account's first user's name", nothing;

    /// The account's canonical id: 64 hexadecimal digits.
    canonical_id: Option<String>, "derived from the account", nothing;
}

/// The variables that the file has no keys for.
const PROCESS: &[Setting] = &[
    Setting {
        variable: CONFIG,
        form: File::FORM,
        meaning: &["The configuration file."],
        ..ONLY_A_VARIABLE
    },
    Setting {
        variable: LOG,
        form: "filter, such as `debug` or `warn,openraft=info`",
        default: "`info,openraft=warn`",
        meaning: &["The events that are logged."],
        ..ONLY_A_VARIABLE
    },
    Setting {
        variable: LOG_FORMAT,
        form: "`text` or `json`",
        default: "`text`",
        meaning: &["The form of the log's lines."],
        ..ONLY_A_VARIABLE
    },
    Setting {
        variable: CRASH_AT,
        form: CrashPoint::FORM,
        meaning: &["The crash point at which the process ends: for tests."],
        show: |config| lines("crash at", config.storage.crash_at),
        ..ONLY_A_VARIABLE
    },
];

const ONLY_A_VARIABLE: Setting = Setting {
    key: "",
    form: "",
    variable: Variable(&[]),
    is_secret: false,
    default: "",
    meaning: &[],
    show: nothing,
};

fn nothing(_: &Config) -> Vec<String> {
    Vec::new()
}

fn line(label: &str, value: impl std::fmt::Display) -> Vec<String> {
    vec![format!("{label}: {value}")]
}

fn lines<T: std::fmt::Display>(label: &str, values: impl IntoIterator<Item = T>) -> Vec<String> {
    let values = values.into_iter();
    values.map(|value| format!("{label}: {value}")).collect()
}
