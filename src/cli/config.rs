//! `config check`: reports everything that a start would refuse in the configuration.

use std::io;
use std::process::ExitCode;

use clap::Subcommand;

use super::say::say;
use crate::cli::arguments::ConfigArguments;
use crate::cli::exit::{EXIT_USAGE, fail};
use crate::config::{Config, Environment, Keys, TABLES};
use drystone_http::tls;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Check file, environment and flags as `server` would, and show the result without secrets
    Check(ConfigArguments),
}

pub(super) fn run(verb: Verb, environment: &Environment) -> ExitCode {
    let Verb::Check(arguments) = verb;
    match arguments.load(environment) {
        Ok(config) => {
            if let Err(error) = check_certificate(&config) {
                return fail(EXIT_USAGE, &error);
            }
            if let Err(problem) = check_keys_file(&config) {
                return fail(EXIT_USAGE, &problem);
            }
            show(&config);
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_USAGE, &error),
    }
}

/// Reads certificate and key as a start does.
fn check_certificate(config: &Config) -> Result<(), tls::Error> {
    let Some(files) = &config.server.tls else {
        return Ok(());
    };
    say!("certificate ends: {}", tls::Pair::load(files)?.end());
    if files.key_is_public() {
        let path = files.key.display();
        say!("warning: {path}: every user of this machine can read the TLS key");
    }
    Ok(())
}

/// Reads the keys file as a start would, where there is one.
fn check_keys_file(config: &Config) -> Result<(), String> {
    let has_path = config.server.keys_file.is_some() || !config.storage.directories.is_empty();
    if config.root.is_some() || !has_path {
        return Ok(());
    }
    let path = config.keys_file();
    let refused = |why: String| format!("root keys: {}: {why}", path.display());
    match Keys::load(&path) {
        Ok(keys) => {
            let checked = config.check_root(&keys);
            checked.map_err(|error| refused(error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Prints the configuration without secrets.
fn show(config: &Config) {
    for warning in &config.warnings {
        say!("warning: {warning}");
    }
    for setting in TABLES.iter().flat_map(|table| table.settings) {
        for line in (setting.show)(config) {
            say!("{line}");
        }
    }
    say!("the configuration is valid");
}
