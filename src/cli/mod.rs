//! The command line: one file for each verb.
//!
//! Exit codes: 0 done; 1 failed; 2 the command line or the configuration is wrong; 74 the output
//! cannot be written; 128 + signal when a second signal ended the process at once, or when nobody
//! reads the output any more (SIGPIPE).

mod admin;
mod arguments;
mod config;
mod endpoint;
mod exit;
mod fsck;
mod healthcheck;
mod say;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Environment;
use crate::product;

#[derive(Parser)]
#[command(name = product::NAME, version = product::VERSION, about = env!("CARGO_PKG_DESCRIPTION"))]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve S3 from the disks
    Server(server::Arguments),
    /// Check the configuration
    #[command(subcommand)]
    Config(config::Verb),
    /// Operate a server
    #[command(subcommand)]
    Admin(admin::Verb),
    /// Ask a server on this machine whether it is ready; exit code 0 if so
    Healthcheck(healthcheck::Arguments),
    /// Check the disks of a stopped store, change nothing, and say what to do
    Fsck(fsck::Arguments),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod reference;
