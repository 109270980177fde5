//! `admin metrics-token`: the bearer token for the metrics, for a scraper's configuration.
//!
//! Needs no server that runs, but root's keys: those that are set, or the file that keeps them.

use std::process::ExitCode;

use crate::cli::arguments::ConfigArguments;
use crate::cli::exit::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::cli::say::say;
use crate::config::{Config, Environment, Keys, Secret};

pub(super) fn run(arguments: ConfigArguments, environment: &Environment) -> ExitCode {
    let config = match arguments.load(environment) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match root_secret(&config) {
        Ok(secret) => {
            say!("{}", config.server.metrics_token(&secret).expose());
            ExitCode::SUCCESS
        }
        Err(problem) => fail(EXIT_FAILED, &problem),
    }
}

fn root_secret(config: &Config) -> Result<Secret, String> {
    if let Some(keys) = &config.root {
        return Ok(keys.secret_key.clone());
    }
    if config.server.keys_file.is_none() && config.storage.directories.is_empty() {
        return Err("no root keys are given: name the disks, or --keys-file".to_owned());
    }
    let path = config.keys_file();
    match Keys::load(&path) {
        Ok(keys) => Ok(keys.secret_key),
        Err(error) => Err(format!("root keys: {}: {error}", path.display())),
    }
}
