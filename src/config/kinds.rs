//! The kinds of settings: the type of a value, and how a variable of the environment gives it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use drystone_store::crash::CrashAt;

use super::environment::{Environment, Variable};
use super::error::Error;
use super::keys::Secret;

pub trait Kind {
    type Value;
    /// The form of a value, for the reference pages.
    const FORM: &'static str;
    /// Whether the variable may name a file with the value instead, as `…_FILE`.
    const IS_SECRET: bool = false;

    /// Returns the value that the environment has, if it has one.
    fn read(environment: &Environment, variable: Variable) -> Result<Option<Self::Value>, Error>;
}

/// A text of any form.
pub enum Text {}
/// A host, which may be empty, and a port.
pub enum HostPort {}
/// A number of bytes, as people write it.
pub enum Size {}
/// A path of a file.
pub enum File {}
/// A list whose entries a variable separates by commas.
pub enum CommaList {}
/// A list whose entries a variable separates by spaces.
pub enum SpaceList {}
pub enum Number {}
pub enum Switch {}
/// A text that is never shown.
pub enum SecretText {}
/// The access that reading the metrics needs.
pub enum MetricsAccess {}
/// Numbers of data and parity shards by storage class. No variable gives them.
pub enum Geometries {}
/// A crash point of the storage, with the passing at which the process ends.
pub enum CrashPoint {}

impl Kind for Text {
    type Value = String;
    const FORM: &'static str = "text";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<String>, Error> {
        Ok(environment.text(variable).map(str::to_owned))
    }
}

impl Kind for HostPort {
    type Value = String;
    const FORM: &'static str = "`HOST:PORT`";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<String>, Error> {
        Text::read(environment, variable)
    }
}

impl Kind for Size {
    type Value = String;
    const FORM: &'static str = "bytes: a number, or one with KiB, MiB, GiB, TiB or PiB, as text";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<String>, Error> {
        Text::read(environment, variable)
    }
}

impl Kind for File {
    type Value = PathBuf;
    const FORM: &'static str = "path";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<PathBuf>, Error> {
        Ok(environment.text(variable).map(PathBuf::from))
    }
}

impl Kind for CommaList {
    type Value = Vec<String>;
    const FORM: &'static str = "list; in the variable separated by commas";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<Vec<String>>, Error> {
        let list = environment.text(variable);
        Ok(list.map(|list| {
            let entries = list.split(',').map(str::trim);
            let entries = entries.filter(|entry| !entry.is_empty());
            entries.map(str::to_owned).collect()
        }))
    }
}

impl Kind for SpaceList {
    type Value = Vec<String>;
    const FORM: &'static str = "list; in the variable separated by spaces";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<Vec<String>>, Error> {
        let list = environment.text(variable);
        Ok(list.map(|list| list.split_whitespace().map(str::to_owned).collect()))
    }
}

impl Kind for Number {
    type Value = usize;
    const FORM: &'static str = "number";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<usize>, Error> {
        parsed(environment, variable, |_| "expected a number".to_owned())
    }
}

impl Kind for Switch {
    type Value = bool;
    const FORM: &'static str = "`true` or `false`";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<bool>, Error> {
        parsed(environment, variable, |_| {
            "expected true or false".to_owned()
        })
    }
}

impl Kind for SecretText {
    type Value = Secret;
    const FORM: &'static str = "text";
    const IS_SECRET: bool = true;

    fn read(environment: &Environment, variable: Variable) -> Result<Option<Secret>, Error> {
        environment.secret(variable)
    }
}

impl Kind for MetricsAccess {
    type Value = String;
    const FORM: &'static str = "`token`, `public` or `off`";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<String>, Error> {
        // MinIO's name for a token.
        let own = |value| if value == "jwt" { "token" } else { value };
        Ok(environment.text(variable).map(own).map(str::to_owned))
    }
}

impl Kind for Geometries {
    type Value = BTreeMap<String, String>;
    const FORM: &'static str = "table: a class and data + parity, as in `STANDARD = \"4+2\"`";

    fn read(_: &Environment, _: Variable) -> Result<Option<Self::Value>, Error> {
        Ok(None)
    }
}

impl Kind for CrashPoint {
    type Value = CrashAt;
    const FORM: &'static str = "name of a point, or `NAME:NTH`";

    fn read(environment: &Environment, variable: Variable) -> Result<Option<CrashAt>, Error> {
        parsed(environment, variable, |error: <CrashAt as FromStr>::Err| {
            error.to_string()
        })
    }
}

fn parsed<T: FromStr>(
    environment: &Environment,
    variable: Variable,
    message: impl FnOnce(T::Err) -> String,
) -> Result<Option<T>, Error> {
    let Some((name, value)) = environment.find(variable) else {
        return Ok(None);
    };
    let parsed = value.parse().map_err(|error| Error::Variable {
        name,
        message: message(error),
    });
    parsed.map(Some)
}
