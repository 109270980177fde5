//! The settings from one source of the configuration: a file, the environment, or the flags.

use drystone_store::crash::CrashAt;

use super::environment::Environment;
use super::error::Error;
use super::kinds::{CrashPoint, Kind as _};
use super::settings::{CRASH_AT, RootLayer, ServerLayer, StorageLayer, TABLES, UserLayer};

/// The settings from one source; `None` where it says nothing.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    pub server: ServerLayer,
    pub root: RootLayer,
    pub users: Vec<UserLayer>,
    pub storage: StorageLayer,
    /// Only the environment has it: a file would outlive the test that it was made for.
    #[serde(skip)]
    pub crash_at: Option<CrashAt>,
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl Layer {
    /// Reads the settings that the environment has.
    pub(super) fn of_environment(environment: &Environment) -> Result<Layer, Error> {
        let settings = TABLES.iter().flat_map(|table| table.settings);
        let known: Vec<_> = settings
            .map(|setting| (setting.variable, setting.is_secret))
            .collect();
        Ok(Layer {
            server: ServerLayer::of_environment(environment)?,
            root: RootLayer::of_environment(environment)?,
            users: Vec::new(),
            storage: StorageLayer::of_environment(environment)?,
            crash_at: CrashPoint::read(environment, CRASH_AT)?,
            warnings: environment.not_understood(&known),
        })
    }

    /// Returns this layer; where it says nothing, the one below counts.
    pub fn over(self, below: Layer) -> Layer {
        let mut warnings = below.warnings;
        warnings.extend(self.warnings);
        Layer {
            server: self.server.over(below.server),
            root: self.root.over(below.root),
            users: below.users.into_iter().chain(self.users).collect(),
            storage: self.storage.over(below.storage),
            crash_at: self.crash_at.or(below.crash_at),
            warnings,
        }
    }
}
