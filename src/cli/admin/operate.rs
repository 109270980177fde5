//! The questions and orders of an operator to a running server about its disks.
//!
//! Endpoint and keys are the server's own: from flags, from the configuration it reads as well, or
//! from the names that S3 clients read. Exit codes: 0 done, 1 refused or not reached.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ask::Server;
use super::{show, workers};
use crate::cli::endpoint::Endpoint;
use crate::cli::exit::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::cli::say::say;
use crate::config::{Environment, Keys, Layer, load};
use drystone_http::tls::client::Trust;

/// The server, the keys to sign with, and the form of the answer.
#[derive(Args)]
#[command(next_help_heading = "Server to ask")]
pub struct Reach {
    /// The server's URL [default: AWS_ENDPOINT_URL, or the configured address]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,

    /// CA certificates to trust beside the system's, for an https:// URL [default: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// The file with the root keys, such as the one beside the server's first disk
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// The server's TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the server's JSON instead of sentences
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
pub enum DiskVerb {
    /// List every disk that is or was part of the store
    Ls(Reach),
    /// Put an empty directory in the place of a lost disk, and rebuild its shards
    Replace {
        /// The lost disk's directory, or the beginning of its id
        old: String,
        /// The empty directory [default: the lost disk's own]
        new: Option<PathBuf>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Set how long a disk may be offline before it is removed
    RemoveAfter {
        /// The time in seconds; 3600 at first, 0 is never
        seconds: u64,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Subcommand)]
pub enum HealVerb {
    /// Pause healing
    Pause(Reach),
    /// Resume healing
    Resume(Reach),
    /// Limit the bytes that healing reads and writes in a second
    Rate {
        /// The limit; 0 is none
        bytes_per_second: u64,
        #[command(flatten)]
        reach: Reach,
    },
}

#[derive(Subcommand)]
pub enum ScrubVerb {
    /// Show the progress
    Status(Reach),
    /// Begin a pass now, with the first shard
    Start(Reach),
    /// Pause scrubbing
    Pause(Reach),
    /// Resume scrubbing
    Resume(Reach),
    /// Set the time within which every shard is read again
    Period {
        /// The time in seconds; 1209600 at first, 0 is never
        seconds: u64,
        #[command(flatten)]
        reach: Reach,
    },
}

pub(super) fn scrub(verb: &ScrubVerb, environment: &Environment) -> ExitCode {
    let show = |answer: &Value| show::scrub(&answer["scrub"]);
    let set = |reach: &Reach, body: Value| {
        ask(reach, environment, show, |server| {
            server.post("settings", &body)
        })
    };
    match verb {
        ScrubVerb::Status(reach) => ask(reach, environment, show, |server| server.get("status")),
        ScrubVerb::Start(reach) => ask(reach, environment, show, |server| {
            server.post("scrub/start", &json!({}))
        }),
        ScrubVerb::Pause(reach) => set(reach, json!({ "scrub_paused": true })),
        ScrubVerb::Resume(reach) => set(reach, json!({ "scrub_paused": false })),
        ScrubVerb::Period { seconds, reach } => {
            set(reach, json!({ "scrub_period_seconds": seconds }))
        }
    }
}

pub(super) fn status(reach: &Reach, environment: &Environment) -> ExitCode {
    ask(reach, environment, show::status, |server| {
        server.get("status")
    })
}

pub(super) fn workers(reach: &Reach, environment: &Environment) -> ExitCode {
    ask(reach, environment, workers::show, |server| {
        server.get("workers")
    })
}

pub(super) fn disk(verb: &DiskVerb, environment: &Environment) -> ExitCode {
    match verb {
        DiskVerb::Ls(reach) => {
            let show = |answer: &Value| show::disks(&answer["disks"]);
            ask(reach, environment, show, |server| server.get("disks"))
        }
        DiskVerb::Replace { old, new, reach } => {
            let new = new.as_ref().map(|new| absolute(new));
            let body = json!({ "old": named(old), "new": new });
            ask(reach, environment, show::replaced, |server| {
                server.post("disks/replace", &body)
            })
        }
        DiskVerb::RemoveAfter { seconds, reach } => set(
            reach,
            environment,
            &json!({ "remove_after_seconds": seconds }),
        ),
    }
}

pub(super) fn heal(verb: &HealVerb, environment: &Environment) -> ExitCode {
    match verb {
        HealVerb::Pause(reach) => set(reach, environment, &json!({ "heal_paused": true })),
        HealVerb::Resume(reach) => set(reach, environment, &json!({ "heal_paused": false })),
        HealVerb::Rate {
            bytes_per_second,
            reach,
        } => {
            let body = json!({ "heal_bytes_per_second": bytes_per_second });
            set(reach, environment, &body)
        }
    }
}

fn set(reach: &Reach, environment: &Environment, settings: &Value) -> ExitCode {
    ask(reach, environment, show::status, |server| {
        server.post("settings", settings)
    })
}

pub(super) fn ask(
    reach: &Reach,
    environment: &Environment,
    show: impl Fn(&Value),
    ask: impl Fn(&Server) -> Result<Value, String>,
) -> ExitCode {
    let server = match find(reach, environment) {
        Ok(server) => server,
        Err(problem) => return fail(EXIT_USAGE, &problem),
    };
    match ask(&server) {
        Err(problem) => return fail(EXIT_FAILED, &problem),
        Ok(answer) if reach.json => say!("{answer}"),
        Ok(answer) => show(&answer),
    }
    ExitCode::SUCCESS
}

/// Returns a directory as an absolute path, and the id of a disk as it is.
fn named(old: &str) -> String {
    let is_path = old.contains('/') || Path::new(old).exists();
    match is_path {
        true => absolute(Path::new(old)),
        false => old.to_owned(),
    }
}

fn absolute(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).display().to_string()
}

fn find(arguments: &Reach, environment: &Environment) -> Result<Server, String> {
    let mut flags = Layer::default();
    flags.server.keys_file = arguments.keys_file.clone();
    let config = load(arguments.config.clone(), environment, flags).map_err(|e| e.to_string())?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let given = arguments.endpoint.clone();
    let endpoint = match given.or_else(|| variable("AWS_ENDPOINT_URL")) {
        Some(url) => {
            let ca_file = arguments.ca_file.clone();
            Endpoint::parse(
                &url,
                ca_file.or_else(|| variable("AWS_CA_BUNDLE").map(PathBuf::from)),
            )?
        }
        None if arguments.ca_file.is_some() => {
            return Err(
                "--ca-file needs --endpoint: a server from a configuration is trusted by its \
                 certificate's file"
                    .to_owned(),
            );
        }
        None => Endpoint::of(&config.server, Trust::Pinned)?,
    };
    let has_file = config.server.keys_file.is_some() || !config.storage.directories.is_empty();
    let of_client = || {
        let access_key = variable("AWS_ACCESS_KEY_ID")?;
        let secret_key = variable("AWS_SECRET_ACCESS_KEY")?.into();
        Some(Keys {
            access_key,
            secret_key,
        })
    };
    let keys = match config
        .root
        .clone()
        .filter(|_| arguments.keys_file.is_none())
    {
        Some(keys) => keys,
        None if has_file => {
            let path = config.keys_file();
            Keys::load(&path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => of_client().ok_or(
            "no root keys: name their file with --keys-file, or set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY",
        )?,
    };
    Ok(Server {
        endpoint,
        keys,
        region: config.server.region,
    })
}
