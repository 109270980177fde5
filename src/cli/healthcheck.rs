//! `healthcheck`: for containers, whose image has no curl.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{ConfigArguments, EXIT_FAILED, EXIT_USAGE, fail};
use crate::config::{Address, Environment};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A status line is shorter.
const ANSWER_LEN_MAX: u64 = 1024;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> ExitCode {
    let address = match arguments.config.load(environment) {
        Ok(config) => config.server.address,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match ask(&address) {
        Ok(line) if line.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(line) => fail(EXIT_FAILED, &format_args!("not ready: {line}")),
        Err(error) => fail(EXIT_FAILED, &format_args!("{address}: {error}")),
    }
}

/// The status line of the readiness path. A server on all interfaces is asked on loopback.
fn ask(address: &Address) -> io::Result<String> {
    let host = match address.host.as_str() {
        "" | "0.0.0.0" | "::" => "localhost",
        host => host,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no such host");
    for socket in (host, address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, TIMEOUT) {
            Ok(stream) => return ask_on(stream, address),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn ask_on(mut stream: TcpStream, address: &Address) -> io::Result<String> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = "GET /health/ready HTTP/1.1\r\nHost: ";
    write!(stream, "{request}{address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LEN_MAX).read_to_end(&mut answer)?;
    let line = answer
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}
