//! `admin`: what the operator of a server asks and does.

mod metrics_token;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::Environment;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Print the bearer token that GET /metrics wants; takes the arguments of `server`
    MetricsToken(super::ConfigArguments),
}

pub(super) fn run(verb: Verb, environment: &Environment) -> ExitCode {
    match verb {
        Verb::MetricsToken(arguments) => metrics_token::run(arguments, environment),
    }
}
