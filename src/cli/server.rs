//! `server`: starts the server, announces that it is ready, and ends it on a signal.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::app::App;
use crate::cli::arguments::ConfigArguments;
use crate::cli::exit::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::config::{Config, Environment, Keys};
use crate::{product, telemetry};
use drystone_http::tls;

#[derive(Args)]
pub(super) struct Arguments {
    /// Accepted for scripts that give it, and ignored: there is no console yet
    #[arg(long, value_name = "HOST:PORT")]
    console_address: Option<String>,

    /// Create a new store on disks that are all empty, although a store is known in their place
    #[arg(long)]
    new_store: bool,

    #[command(flatten)]
    config: ConfigArguments,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("root keys: {}: {source}", path.display())]
    Keys {
        path: std::path::PathBuf,
        source: io::Error,
    },
    #[error("root keys: {}: {source}", path.display())]
    RefusedKeys {
        path: std::path::PathBuf,
        source: crate::config::Error,
    },
    #[error(transparent)]
    Start(#[from] crate::app::Error),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

pub(super) fn run(arguments: Arguments, environment: &Environment) -> ExitCode {
    if let Err(error) = telemetry::start(environment.log(), environment.log_format()) {
        return fail(EXIT_USAGE, &error);
    }
    let console = arguments.console_address;
    let mut config = match arguments.config.load(environment) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    config.storage.new_store = arguments.new_store;
    if config.storage.directories.is_empty() {
        let example = "server ./data, or server /mnt/disk{1...4}";
        return fail(
            EXIT_USAGE,
            &format_args!("no disks are given; for example: {example}"),
        );
    }
    for warning in &config.warnings {
        warn!("{warning}");
    }
    if let Some(address) = console {
        warn!(%address, "there is no console yet: nothing listens on the console address");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(EXIT_FAILED, &error),
    };
    match runtime.block_on(serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ (Error::RefusedKeys { .. } | Error::Start(crate::app::Error::Tls(_)))) => {
            fail(EXIT_USAGE, &error)
        }
        Err(error) => fail(EXIT_FAILED, &error),
    }
}

async fn serve(config: &Config) -> Result<(), Error> {
    let mut signals = Signals::listen().map_err(|source| io_error("signals", source))?;
    let hangup = signal(SignalKind::hangup()).map_err(|source| io_error("signals", source))?;
    let node = tokio::select! {
        node = start(config) => node?,
        name = signals.next() => {
            info!(signal = name.name(), "stopped before it was ready");
            return Ok(());
        }
    };
    let stop = async {
        let name = signals.next().await;
        info!(
            signal = name.name(),
            "stopping; a second signal stops at once"
        );
        tokio::spawn(async move {
            let name = signals.next().await;
            warn!(signal = name.name(), "stopped at once");
            std::process::exit(128 + name.number());
        });
    };
    tokio::spawn(reload(hangup, node.certificate()));
    node.run(stop).await;
    info!("stopped");
    Ok(())
}

/// Reads the certificate again on SIGHUP. SIGHUP never ends the process, even without a
/// certificate: programs that renew certificates send it to every server that may have one. The
/// only exception is the SIGHUP of a closed terminal, which [`Signals`] handles.
async fn reload(mut hangup: Signal, certificate: Option<Arc<tls::Live>>) {
    while hangup.recv().await.is_some() {
        match &certificate {
            Some(certificate) => certificate.clone().reload().await,
            None => info!("SIGHUP has no effect: there is no certificate to read again"),
        }
    }
}

/// Does everything up to the ready line.
async fn start(config: &Config) -> Result<App, Error> {
    let root = root_keys(config)?;
    let node = App::start(config, root).await?;
    announce(config, &node).await?;
    Ok(node)
}

/// Returns the configured root keys, or those in the keys file, which the first start creates.
fn root_keys(config: &Config) -> Result<Keys, Error> {
    if let Some(keys) = &config.root {
        return Ok(keys.clone());
    }
    let path = config.keys_file();
    let (keys, new) = Keys::load_or_generate(&path).map_err(|source| Error::Keys {
        path: path.clone(),
        source,
    })?;
    if let Err(source) = config.check_root(&keys) {
        return Err(Error::RefusedKeys { path, source });
    }
    let path = path.display();
    match new {
        true => info!(%path, "root keys were generated and are kept in this file"),
        false => info!(%path, "root keys are read from this file"),
    }
    Ok(keys)
}

/// Announces to scripts and people that requests are answered from now on: the port file, the line
/// that MinIO's start scripts wait for, and the ready line.
async fn announce(config: &Config, node: &App) -> Result<(), Error> {
    let address = node.address();
    let health = node.health().await;
    if let Some(path) = &config.server.port_file {
        write_whole(path, &format!("{}\n", address.port()))
            .map_err(|source| io_error(&path.display().to_string(), source))?;
    }
    // A log that cannot be written does not stop the server.
    let _ = writeln!(
        io::stderr(),
        "Status:         {} Online, {} Offline.",
        health.disks_online,
        health.disks_offline
    );
    let mut ready = serde_json::json!({
        "event": "ready",
        "address": address.to_string(),
        "port": address.port(),
        "pid": std::process::id(),
        "version": product::VERSION,
        "disks": config.storage.directories.len(),
    });
    ready["tls"] = node.certificate().is_some().into();
    if let Some(plain) = node.plain_address() {
        ready["plain_address"] = plain.to_string().into();
        ready["plain_port"] = plain.port().into();
    }
    if let Some(at) = config.storage.crash_at {
        ready["crash_at"] = at.to_string().into();
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{ready}")
        .and_then(|()| out.flush())
        .map_err(|source| io_error("standard output", source))
}

/// Writes a file so that its readers never see half of it. It describes a running process, so it
/// need not survive a power cut and is not synced.
fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    File::create(&temporary)?.write_all(content.as_bytes())?;
    fs::rename(&temporary, path)
}

fn io_error(what: &str, source: io::Error) -> Error {
    Error::Io {
        what: what.to_owned(),
        source,
    }
}

/// The signals that ask the server to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Whether the process runs on a terminal, whose closing ends it.
    on_terminal: bool,
}

#[derive(Clone, Copy)]
struct Received(SignalKind);

impl Signals {
    fn listen() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            on_terminal: io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Received {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Received(SignalKind::terminate()),
                _ = self.interrupt.recv() => return Received(SignalKind::interrupt()),
                _ = self.hangup.recv() => {
                    if self.on_terminal && !io::stdin().is_terminal() {
                        return Received(SignalKind::hangup());
                    }
                }
            }
        }
    }
}

impl Received {
    fn name(self) -> &'static str {
        match self.0 {
            kind if kind == SignalKind::terminate() => "SIGTERM",
            kind if kind == SignalKind::hangup() => "SIGHUP",
            _ => "SIGINT",
        }
    }

    fn number(self) -> i32 {
        self.0.as_raw_value()
    }
}
