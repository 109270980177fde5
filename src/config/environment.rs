//! The environment: our own names, and those that scripts written for MinIO set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::keys::Secret;
use super::layer::Layer;
use crate::product::ENVIRONMENT_PREFIX;

const ALIAS_PREFIX: &str = "MINIO_";
/// The folder where containers find mounted secrets; a relative name in `*_FILE` is looked for
/// there too.
const SECRETS_DIRECTORY: &str = "/run/secrets";

/// The variable's name without its prefix, and its aliases; the first that is set counts.
struct Variable(&'static str, &'static [&'static str]);

const ROOT_USER: Variable = Variable("ROOT_USER", &["MINIO_ROOT_USER", "MINIO_ACCESS_KEY"]);
const ROOT_PASSWORD: Variable = Variable(
    "ROOT_PASSWORD",
    &["MINIO_ROOT_PASSWORD", "MINIO_SECRET_KEY"],
);
const ADDRESS: Variable = Variable("ADDRESS", &["MINIO_ADDRESS"]);
const TLS_CERTIFICATE: Variable = Variable("TLS_CERTIFICATE", &[]);
const TLS_KEY: Variable = Variable("TLS_KEY", &[]);
const PLAIN_ADDRESS: Variable = Variable("PLAIN_ADDRESS", &[]);
const REGION: Variable = Variable("REGION", &["MINIO_REGION", "MINIO_SITE_REGION"]);
const DOMAIN: Variable = Variable("DOMAIN", &["MINIO_DOMAIN"]);
const PATH_PREFIX: Variable = Variable("PATH_PREFIX", &[]);
const SIGNATURE_V2: Variable = Variable("SIGNATURE_V2", &[]);
const PORTLESS_HOST: Variable = Variable("PORTLESS_HOST", &[]);
const REQUESTS: Variable = Variable("REQUESTS", &[]);
const MEMORY: Variable = Variable("MEMORY", &[]);
const CLIENT_CONNECTIONS: Variable = Variable("CLIENT_CONNECTIONS", &[]);
const TRUSTED_PROXIES: Variable = Variable("TRUSTED_PROXIES", &[]);
const METRICS: Variable = Variable("METRICS", &["MINIO_PROMETHEUS_AUTH_TYPE"]);
const METRICS_TOKEN: Variable = Variable("METRICS_TOKEN", &[]);
const VOLUMES: Variable = Variable("VOLUMES", &["MINIO_VOLUMES"]);
const KEYS_FILE: Variable = Variable("KEYS_FILE", &[]);
const PORT_FILE: Variable = Variable("PORT_FILE", &[]);
const CRASH_AT: Variable = Variable("CRASH_AT", &[]);
const CONFIG: Variable = Variable("CONFIG", &[]);
const LOG: Variable = Variable("LOG", &[]);
const LOG_FORMAT: Variable = Variable("LOG_FORMAT", &[]);

const PLAIN: [&Variable; 21] = [
    &ADDRESS,
    &TLS_CERTIFICATE,
    &TLS_KEY,
    &PLAIN_ADDRESS,
    &REGION,
    &DOMAIN,
    &PATH_PREFIX,
    &SIGNATURE_V2,
    &PORTLESS_HOST,
    &REQUESTS,
    &MEMORY,
    &CLIENT_CONNECTIONS,
    &TRUSTED_PROXIES,
    &METRICS,
    &VOLUMES,
    &KEYS_FILE,
    &PORT_FILE,
    &CRASH_AT,
    &CONFIG,
    &LOG,
    &LOG_FORMAT,
];
const SECRET: [&Variable; 3] = [&ROOT_USER, &ROOT_PASSWORD, &METRICS_TOKEN];

/// The variables that may concern us, as they were at start.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    pub fn config_file(&self) -> Option<PathBuf> {
        self.path(&CONFIG)
    }

    /// The filter for the log, as `tracing` writes it.
    pub fn log(&self) -> Option<&str> {
        self.plain(&LOG).map(|(_, value)| value)
    }

    /// `text` or `json`.
    pub fn log_format(&self) -> Option<&str> {
        self.plain(&LOG_FORMAT).map(|(_, value)| value)
    }

    pub(super) fn layer(&self) -> Result<Layer, Error> {
        let mut layer = Layer {
            warnings: self.not_understood(),
            ..Layer::default()
        };
        layer.root.user = self.secret(&ROOT_USER)?;
        layer.root.password = self.secret(&ROOT_PASSWORD)?;
        let owned = |(_, value): (String, &str)| value.to_owned();
        layer.server.address = self.plain(&ADDRESS).map(owned);
        layer.server.tls_certificate = self.path(&TLS_CERTIFICATE);
        layer.server.tls_key = self.path(&TLS_KEY);
        layer.server.plain_address = self.plain(&PLAIN_ADDRESS).map(owned);
        layer.server.region = self.plain(&REGION).map(owned);
        layer.server.domains = self.list(&DOMAIN);
        layer.server.path_prefix = self.plain(&PATH_PREFIX).map(owned);
        layer.server.signature_v2 = self.switch(&SIGNATURE_V2)?;
        layer.server.portless_host = self.switch(&PORTLESS_HOST)?;
        layer.server.requests = self.number(&REQUESTS)?;
        layer.server.memory = self.plain(&MEMORY).map(owned);
        layer.server.client_connections = self.number(&CLIENT_CONNECTIONS)?;
        layer.server.trusted_proxies = self.list(&TRUSTED_PROXIES);
        // MinIO's `jwt` requires a token.
        layer.server.metrics = self.plain(&METRICS).map(|(_, value)| match value {
            "jwt" => "token".to_owned(),
            value => value.to_owned(),
        });
        layer.server.metrics_token = self.secret(&METRICS_TOKEN)?;
        layer.server.keys_file = self.path(&KEYS_FILE);
        layer.server.port_file = self.path(&PORT_FILE);
        layer.storage.directories = self
            .plain(&VOLUMES)
            .map(|(_, list)| list.split_whitespace().map(str::to_owned).collect());
        layer.storage.crash_at = self
            .plain(&CRASH_AT)
            .map(|(name, value)| {
                let parsed = value.parse::<drystone_store::crash::CrashAt>();
                parsed.map_err(|error| Error::Variable {
                    name,
                    message: error.to_string(),
                })
            })
            .transpose()?;
        Ok(layer)
    }

    fn number(&self, variable: &Variable) -> Result<Option<usize>, Error> {
        let parse = |(name, value): (String, &str)| {
            value.parse().map_err(|_| Error::Variable {
                name,
                message: "expected a number".to_owned(),
            })
        };
        self.plain(variable).map(parse).transpose()
    }

    /// Texts with commas between them.
    fn list(&self, variable: &Variable) -> Option<Vec<String>> {
        let (_, list) = self.plain(variable)?;
        let texts = list.split(',').map(str::trim);
        let texts = texts.filter(|text| !text.is_empty());
        Some(texts.map(str::to_owned).collect())
    }

    fn switch(&self, variable: &Variable) -> Result<Option<bool>, Error> {
        let parse = |(name, value): (String, &str)| {
            value.parse().map_err(|_| Error::Variable {
                name,
                message: "expected true or false".to_owned(),
            })
        };
        self.plain(variable).map(parse).transpose()
    }

    /// Returns a variable and the name under which it was found. An empty one counts as not set:
    /// start scripts do that.
    fn plain(&self, variable: &Variable) -> Option<(String, &str)> {
        variable.names().find_map(|name| {
            let value = self.0.get(&name)?.expose();
            (!value.is_empty()).then_some((name, value))
        })
    }

    fn path(&self, variable: &Variable) -> Option<PathBuf> {
        self.plain(variable).map(|(_, path)| PathBuf::from(path))
    }

    /// Returns a variable, or the content of the file that its `_FILE` namesake names. An empty one
    /// counts as a value here and is refused later: an empty password must not silently become a
    /// generated one.
    fn secret(&self, variable: &Variable) -> Result<Option<Secret>, Error> {
        for name in variable.names() {
            let file_name = format!("{name}_FILE");
            let file = self.0.get(&file_name).filter(|v| !v.expose().is_empty());
            match (self.0.get(&name), file) {
                (Some(_), Some(_)) => {
                    let message = format!("{file_name} is set too; set one of them");
                    return Err(Error::Variable { name, message });
                }
                (Some(value), None) => return Ok(Some(value.clone())),
                (None, Some(file)) => return read_secret(&file_name, file.expose()).map(Some),
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// Returns a sentence for each variable that looks like ours and isn't.
    fn not_understood(&self) -> Vec<String> {
        let known = |name: &String| {
            let plain = |variable: &&Variable| variable.names().any(|n| n == *name);
            PLAIN.iter().chain(&SECRET).any(plain)
                || name.strip_suffix("_FILE").is_some_and(|stem| {
                    let stem_is = |variable: &&Variable| variable.names().any(|n| n == stem);
                    SECRET.iter().any(stem_is)
                })
        };
        let unknown = self.0.keys().filter(|name| !known(name));
        unknown
            .map(|name| format!("environment variable {name} is not understood and has no effect"))
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Environment {
        let ours =
            |name: &str| name.starts_with(ENVIRONMENT_PREFIX) || name.starts_with(ALIAS_PREFIX);
        Environment(
            variables
                .into_iter()
                .filter(|(name, _)| ours(name))
                .map(|(name, value)| (name, Secret::from(value)))
                .collect(),
        )
    }
}

impl Variable {
    fn names(&self) -> impl Iterator<Item = String> {
        let own = format!("{ENVIRONMENT_PREFIX}{}", self.0);
        std::iter::once(own).chain(self.1.iter().map(|alias| (*alias).to_owned()))
    }
}

fn read_secret(variable: &str, file: &str) -> Result<Secret, Error> {
    let given = Path::new(file);
    let read = std::fs::read_to_string(given).or_else(|error| {
        if given.is_absolute() {
            return Err(error);
        }
        std::fs::read_to_string(Path::new(SECRETS_DIRECTORY).join(given)).map_err(|_| error)
    });
    match read {
        Ok(text) => Ok(Secret::from(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(Error::Variable {
            name: variable.to_owned(),
            message: format!("{file}: {error}"),
        }),
    }
}
