//! Stands in for bindgen in the build of librocksdb-sys, the only crate that asks for it. It hands
//! out the bindings that `generate.sh` wrote into `rocksdb.rs`, if they are of the same header.
//! So no build needs libclang, which no compiler brings along.

use std::path::Path;
use std::{fs, io};

/// The bindings, and in their first line the hash of the header that they were generated from.
const BINDINGS: &str = include_str!("rocksdb.rs");

/// Answers to what librocksdb-sys asks of bindgen's builder. `generate.sh` passes the same options
/// to bindgen itself, so they are not looked at here.
#[derive(Debug, Default)]
pub struct Builder {
    header: String,
}

impl Builder {
    #[must_use]
    pub fn header(self, header: impl Into<String>) -> Self {
        let header = header.into();
        Self { header }
    }

    #[must_use]
    pub fn derive_debug(self, _derive: bool) -> Self {
        self
    }

    #[must_use]
    pub fn blocklist_type(self, _name: impl AsRef<str>) -> Self {
        self
    }

    #[must_use]
    pub fn ctypes_prefix(self, _prefix: impl Into<String>) -> Self {
        self
    }

    #[must_use]
    pub fn size_t_is_usize(self, _is_usize: bool) -> Self {
        self
    }

    /// Fails with what to do if the header is another one than the bindings'.
    pub fn generate(self) -> Result<Bindings, String> {
        let header = fs::read(&self.header).map_err(|error| format!("{}: {error}", self.header))?;
        let hash = format!("{:016x}", fnv_1a(&header));
        let first = BINDINGS.lines().next().unwrap_or_default();
        if first.ends_with(&hash) {
            return Ok(Bindings);
        }
        let header = self.header;
        Err(format!(
            "deploy/bindgen/rocksdb.rs is not of {header} ({hash}): run deploy/bindgen/generate.sh"
        ))
    }
}

/// The bindings that are kept here.
#[derive(Debug)]
pub struct Bindings;

impl Bindings {
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        fs::write(path, BINDINGS)
    }
}

/// Tells two versions of a header apart; nobody forges one.
fn fnv_1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
