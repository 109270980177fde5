//! The command line: one file for each verb.
//!
//! Exit codes: 0 done; 1 it failed; 2 the command line or the configuration is wrong; 74 what it
//! tells cannot be written; 128 + signal when a second signal ended the process at once, or nobody
//! reads what it tells (SIGPIPE).

mod admin;
mod config;
mod endpoint;
mod fsck;
mod healthcheck;
mod say;
mod server;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Environment, Layer, load};
use crate::product;

const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

#[derive(Parser)]
#[command(name = product::NAME, version = product::VERSION, about = env!("CARGO_PKG_DESCRIPTION"))]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve S3 from one or more directories
    Server(server::Arguments),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Verb),
    /// Operate a server
    #[command(subcommand)]
    Admin(admin::Verb),
    /// Ask a server on this machine whether it is ready; exit code 0 if so
    Healthcheck(healthcheck::Arguments),
    /// Check the disks of a stopped store: what is whole, degraded or lost, and what to do
    Fsck(fsck::Arguments),
}

/// The flags that configure a server, with those that name the configuration file.
#[derive(Args)]
struct ConfigArguments {
    /// Where to listen; without HOST on all interfaces, with port 0 on any free port
    /// [default: :9000]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,

    /// A TOML file; environment and flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where root keys are kept when none are given [default: beside the first DIR, as DIR.keys]
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// A file to write the port into once the server listens
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,

    /// The disks: directories, each on a disk of its own; `{1...4}` counts
    #[arg(value_name = "DIR")]
    directories: Vec<String>,
}

impl ConfigArguments {
    fn load(self, environment: &Environment) -> Result<Config, crate::config::Error> {
        let mut flags = Layer::default();
        flags.server.address = self.address;
        flags.server.keys_file = self.keys_file;
        flags.server.port_file = self.port_file;
        flags.storage.directories = match self.directories {
            none if none.is_empty() => None,
            some => Some(some),
        };
        load(self.config, environment, flags)
    }
}

/// Runs the process.
pub fn main() -> ExitCode {
    let environment = Environment::of_process();
    match CommandLine::parse().verb {
        Verb::Server(arguments) => server::run(arguments, &environment),
        Verb::Config(verb) => config::run(verb, &environment),
        Verb::Admin(verb) => admin::run(verb, &environment),
        Verb::Healthcheck(arguments) => healthcheck::run(arguments, &environment),
        Verb::Fsck(arguments) => fsck::run(arguments),
    }
}

/// Says what is wrong, for a person.
fn fail(code: u8, problem: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "{}: {problem}", product::NAME);
    ExitCode::from(code)
}
