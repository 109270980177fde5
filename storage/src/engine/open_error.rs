//! Why a store is not opened.

use std::path::PathBuf;

use crate::db::Hindrance;
use crate::disk::identity::IdentityError;
use crate::raft::recovery::recover::Standstill;
use drystone_store::error::Error;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Directories(#[from] IdentityError),
    #[error("{}: {source}", dir.display())]
    Disk { dir: PathBuf, source: Error },
    #[error("{}: {hindrance}", dir.display())]
    Hindered { dir: PathBuf, hindrance: Hindrance },
    #[error("storage class {class}: {data}+{parity} is no geometry that {disks} disks can have")]
    Geometry {
        class: String,
        data: u8,
        parity: u8,
        disks: usize,
    },
    #[error("{up} of {given} disks are usable: {source}")]
    NoMajority {
        up: usize,
        given: usize,
        source: Standstill,
    },
    #[error(transparent)]
    Metadata(Standstill),
    #[error(transparent)]
    Store(#[from] Error),
}

/// A disk whose database may be whole, but cannot be used now. It is left out as it is.
pub(super) struct Hindered {
    pub dir: PathBuf,
    pub hindrance: Hindrance,
}

impl From<Hindered> for OpenError {
    fn from(hindered: Hindered) -> OpenError {
        let Hindered { dir, hindrance } = hindered;
        OpenError::Hindered { dir, hindrance }
    }
}
