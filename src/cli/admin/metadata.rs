//! `admin metadata`: the marks by which disks distrust each other's databases, and their lifting.
//!
//! Works on the disks of a stopped store, as a store whose disks are all marked cannot be started.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use drystone_storage::engine::marks::{self, Mark, MarkedFault, MarksError};
use drystone_store::env::SystemEnv;

use crate::cli::exit::{EXIT_FAILED, EXIT_USAGE, fail};
use crate::cli::say::say;
use crate::config;

#[derive(Subcommand)]
pub enum MetadataVerb {
    /// List the disks whose metadata the other disks do not trust any more
    Marks {
        /// All disks of the stopped store, as given to the server; `{1...4}` counts
        #[arg(value_name = "DIR", required = true)]
        directories: Vec<String>,
    },
    /// Trust the metadata of a disk again, whatever the other disks have noted of it
    Trust {
        /// The disk to trust: one of DIR
        disk: PathBuf,
        /// All disks of the stopped store, as given to the server; `{1...4}` counts
        #[arg(value_name = "DIR", required = true)]
        directories: Vec<String>,
    },
}

pub(super) fn run(verb: &MetadataVerb) -> ExitCode {
    let (MetadataVerb::Marks { directories } | MetadataVerb::Trust { directories, .. }) = verb;
    let directories = match config::directories(directories) {
        Ok(directories) => directories,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let env = Arc::new(SystemEnv);
    let done = match verb {
        MetadataVerb::Marks { .. } => marks::marks(env, &directories).map(|marks| list(&marks)),
        MetadataVerb::Trust { disk, .. } => {
            marks::lift(env, &directories, disk).map(|lifted| tell_lifted(&lifted))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ MarksError::OtherDisk { .. }) => fail(EXIT_USAGE, &error),
        Err(error) => fail(EXIT_FAILED, &error),
    }
}

fn list(marks: &[Mark]) {
    for mark in marks {
        let (of, by) = (mark.of.display(), mark.by.display());
        let why = match mark.fault {
            MarkedFault::Unwritable => "it failed to write; it is used if the others are too few",
            MarkedFault::Damaged => "it was damaged; it is not used",
        };
        say!("{of}: marked by {by}: {why}");
    }
    if marks.is_empty() {
        say!("No disk is marked.");
    }
}

fn tell_lifted(lifted: &[Mark]) {
    for mark in lifted {
        let (of, by) = (mark.of.display(), mark.by.display());
        say!("{of}: the mark on {by} is lifted");
    }
    say!(
        "The next start trusts this disk's metadata. If they are damaged after all, acknowledged \
         changes may be missing: run fsck before the start."
    );
}
