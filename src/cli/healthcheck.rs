//! `healthcheck`: the readiness check for containers, whose image has no curl.
//!
//! It accepts any certificate. It neither sends nor receives secrets, and a certificate that has
//! expired or is being replaced must not end a server that works.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::endpoint::Endpoint;
use crate::cli::arguments::ConfigArguments;
use crate::cli::exit::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::config::Environment;
use drystone_http::tls::client::Trust;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A limit that no status line reaches.
const ANSWER_LEN_MAX: u64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> ExitCode {
    let server = match arguments.config.load(environment) {
        Ok(config) => config.server,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let endpoint = match Endpoint::of(&server, |_| Trust::Anybody) {
        Ok(endpoint) => endpoint,
        Err(problem) => return fail(EXIT_USAGE, &problem),
    };
    match ask(&endpoint) {
        Ok(line) if line.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(line) => fail(EXIT_FAILED, &format_args!("not ready: {line}")),
        Err(error) => {
            let at = endpoint.authority();
            fail(EXIT_FAILED, &format_args!("{at}: {error}"))
        }
    }
}

/// Returns the status line of the readiness path.
fn ask(endpoint: &Endpoint) -> io::Result<String> {
    let mut connection = endpoint.connect(TIMEOUT)?;
    let host = endpoint.authority();
    let request =
        format!("GET /health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    connection.take(ANSWER_LEN_MAX).read_to_end(&mut answer)?;
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}
