//! The environment: our own names, and those that scripts written for MinIO set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::keys::Secret;
use crate::product::ENVIRONMENT_PREFIX;

const ALIAS_PREFIX: &str = "MINIO_";
/// The folder where containers find mounted secrets; a relative name in `*_FILE` is looked for
/// there too.
const SECRETS_DIRECTORY: &str = "/run/secrets";

/// The names of a variable: our own without its prefix, then aliases. The first that is set counts.
/// A setting that only the file has has no names.
#[derive(Clone, Copy, Debug)]
pub struct Variable(pub &'static [&'static str]);

pub(super) const CONFIG: Variable = Variable(&["CONFIG"]);
pub(super) const LOG: Variable = Variable(&["LOG"]);
pub(super) const LOG_FORMAT: Variable = Variable(&["LOG_FORMAT"]);

/// The variables that may concern us, as they were at start.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    pub fn config_file(&self) -> Option<PathBuf> {
        self.text(CONFIG).map(PathBuf::from)
    }

    /// The filter for the log, as `tracing` writes it.
    pub fn log(&self) -> Option<&str> {
        self.text(LOG)
    }

    /// `text` or `json`.
    pub fn log_format(&self) -> Option<&str> {
        self.text(LOG_FORMAT)
    }

    /// Returns a variable's value. One that is set to nothing counts as not set, as start scripts
    /// write it so.
    pub(super) fn text(&self, variable: Variable) -> Option<&str> {
        self.find(variable).map(|(_, value)| value)
    }

    /// Returns the name by which a variable is set, and its value.
    pub(super) fn find(&self, variable: Variable) -> Option<(String, &str)> {
        variable.names().find_map(|name| {
            let value = self.0.get(&name)?.expose();
            (!value.is_empty()).then_some((name, value))
        })
    }

    /// Returns a variable's value, or the content of the file that its `_FILE` namesake names. One
    /// that is set to nothing has a value here, which is refused later: an empty password must not
    /// silently become a generated one.
    pub(super) fn secret(&self, variable: Variable) -> Result<Option<Secret>, Error> {
        for name in variable.names() {
            let file_name = format!("{name}_FILE");
            let file = self.0.get(&file_name).filter(|v| !v.expose().is_empty());
            match (self.0.get(&name), file) {
                (Some(_), Some(_)) => {
                    let message = format!("{file_name} is set too; set one of them");
                    return Err(Error::Variable { name, message });
                }
                (Some(value), None) => return Ok(Some(value.clone())),
                (None, Some(file)) => return read_secret(&file_name, file.expose()).map(Some),
                (None, None) => {}
            }
        }
        Ok(None)
    }

    /// Returns a sentence for each variable that looks like one of ours and is none. `known` has
    /// all of ours, and whether each is a secret.
    pub(super) fn not_understood(&self, known: &[(Variable, bool)]) -> Vec<String> {
        let is_known = |name: &str| {
            let stem = name.strip_suffix("_FILE");
            known.iter().any(|(variable, is_secret)| {
                let mut names = variable.names();
                names.any(|own| own == name || (*is_secret && stem == Some(own.as_str())))
            })
        };
        let unknown = self.0.keys().filter(|name| !is_known(name));
        unknown
            .map(|name| format!("environment variable {name} is not understood and has no effect"))
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Environment {
        let ours =
            |name: &str| name.starts_with(ENVIRONMENT_PREFIX) || name.starts_with(ALIAS_PREFIX);
        Environment(
            variables
                .into_iter()
                .filter(|(name, _)| ours(name))
                .map(|(name, value)| (name, Secret::from(value)))
                .collect(),
        )
    }
}

impl Variable {
    /// The whole names, in the order of their precedence.
    pub fn names(self) -> impl Iterator<Item = String> {
        let (own, aliases) = self.0.split_at(self.0.len().min(1));
        let own = own.iter().map(|own| format!("{ENVIRONMENT_PREFIX}{own}"));
        own.chain(aliases.iter().map(|alias| (*alias).to_owned()))
    }
}

fn read_secret(variable: &str, file: &str) -> Result<Secret, Error> {
    let given = Path::new(file);
    let read = std::fs::read_to_string(given).or_else(|error| {
        if given.is_absolute() {
            return Err(error);
        }
        std::fs::read_to_string(Path::new(SECRETS_DIRECTORY).join(given)).map_err(|_| error)
    });
    match read {
        Ok(text) => Ok(Secret::from(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(Error::Variable {
            name: variable.to_owned(),
            message: format!("{file}: {error}"),
        }),
    }
}
