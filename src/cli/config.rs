//! `config check`: everything a start would refuse in the configuration, without a start.

use std::io;
use std::process::ExitCode;

use clap::Subcommand;

use super::say::say;
use crate::cli::arguments::ConfigArguments;
use crate::cli::exit::{EXIT_USAGE, fail};
use crate::config::{Config, Environment, Keys};
use drystone_http::tls;

#[derive(Subcommand)]
pub(super) enum Verb {
    /// Check file, environment and flags as `server` would, and show the result
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
    say!("address: {}", config.server.address);
    if let Some(files) = &config.server.tls {
        say!("certificate: {}", files.certificate.display());
        say!("certificate's key: {}", files.key.display());
    }
    if let Some(address) = &config.server.plain_address {
        say!("plain address: {address}");
    }
    say!("region: {}", config.server.region);
    for domain in &config.server.domains {
        say!("domain: {domain}");
    }
    if !config.server.path_prefix.is_empty() {
        say!("path prefix: {}", config.server.path_prefix);
    }
    let taken = ["AWS4-HMAC-SHA256 alone", "AWS4-HMAC-SHA256 and version 2"];
    say!(
        "signatures: {}",
        taken[usize::from(config.server.signature_v2)]
    );
    let hosts = ["with its port alone", "with or without its port"];
    say!(
        "signed host: {}",
        hosts[usize::from(config.server.portless_host)]
    );
    if let Some(requests) = config.server.requests {
        say!("requests: {requests}");
    }
    if let Some(bytes) = config.server.memory_bytes {
        say!("memory: {bytes}");
    }
    if let Some(connections) = config.server.client_connections {
        say!("connections of one client: {connections}");
    }
    for proxy in &config.server.trusted_proxies {
        say!("trusted proxy: {proxy}");
    }
    say!("metrics: {}", config.server.metrics);
    for directory in &config.storage.directories {
        say!("disk: {}", directory.display());
    }
    for (class, geometry) in &config.storage.classes {
        say!("storage class: {class} = {geometry}");
    }
    if let Some(at) = config.storage.crash_at {
        say!("crash at: {at}");
    }
    match &config.root {
        Some(keys) => say!("root: {}", keys.access_key),
        None => say!("root: keys are generated and kept"),
    }
    for user in &config.users {
        let account = &user.account.id.0;
        say!("user: {} of account {account}", user.name);
    }
    say!("the configuration is valid");
}
