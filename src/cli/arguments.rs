//! The flags that configure a server.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, Environment, Error, Layer, load};

/// The flags that configure a server, with those that name the configuration file.
#[derive(Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArguments {
    /// The address to listen at; without HOST all interfaces, with port 0 any free port
    /// [default: :9000]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// A TOML file; environment and flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The file to keep root keys in when none are given
    /// [default: beside the first DIR, as DIR.keys]
    #[arg(long, value_name = "FILE")]
    pub keys_file: Option<PathBuf>,

    /// A file to write the port to once the server listens
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// The folder for what is noted outside the disks
    /// [default: a file beside the first DIR, as DIR.state]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// The disks: directories, each on a disk of its own; `{1...4}` counts
    #[arg(value_name = "DIR")]
    pub directories: Vec<String>,
}

impl ConfigArguments {
    pub fn load(self, environment: &Environment) -> Result<Config, Error> {
        let mut flags = Layer::default();
        flags.server.address = self.address;
        flags.server.keys_file = self.keys_file;
        flags.server.port_file = self.port_file;
        flags.storage.state_dir = self.state_dir;
        flags.storage.directories = match self.directories {
            none if none.is_empty() => None,
            some => Some(some),
        };
        load(self.config, environment, flags)
    }
}
