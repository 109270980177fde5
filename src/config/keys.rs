//! Access keys: the rules for a pair, and the file for generated ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rand::RngExt as _;

use super::address::Address;
use super::error::Error;
pub use drystone_auth::credentials::Secret;

const ACCESS_KEY_LEN_MIN: usize = 3;
const ACCESS_KEY_LEN_MAX: usize = 128;
const SECRET_KEY_LEN_MIN: usize = 8;
const SECRET_KEY_LEN_MAX: usize = 128;

const GENERATED_ACCESS_KEY_LEN: usize = 20;
const GENERATED_SECRET_KEY_LEN: usize = 40;
const UPPER_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const LETTERS_AND_DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Passwords that stand in other servers' manuals: everyone tries them first.
const WELL_KNOWN: [&str; 6] = [
    "minioadmin",
    "minio123",
    "rustfsadmin",
    "password",
    "changeme",
    "12345678",
];

/// Names under which clients read keys, so that the file can be sourced by a shell.
const ACCESS_KEY_NAME: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY_NAME: &str = "AWS_SECRET_ACCESS_KEY";

/// The keys that a principal signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub access_key: String,
    pub secret_key: Secret,
}

impl Keys {
    /// Refuses keys that are too short to protect anything, and a well-known pair on an address
    /// that other machines can reach.
    pub(super) fn check(&self, address: &Address) -> Result<(), Error> {
        let Keys { access_key, .. } = self;
        let secret = self.secret_key.expose();
        let lengths = ACCESS_KEY_LEN_MIN..=ACCESS_KEY_LEN_MAX;
        let plain = |c: char| c.is_ascii_graphic() && !"/,=\"'\\".contains(c);
        if !lengths.contains(&access_key.len()) || !access_key.chars().all(plain) {
            return Err(Error::Invalid(format!(
                "access key {access_key:?}: expected {ACCESS_KEY_LEN_MIN} to {ACCESS_KEY_LEN_MAX} \
                 letters, digits or signs other than / , = quotes and backslash"
            )));
        }
        if !(SECRET_KEY_LEN_MIN..=SECRET_KEY_LEN_MAX).contains(&secret.len()) {
            return Err(Error::Invalid(format!(
                "the secret key of {access_key} must have \
                 {SECRET_KEY_LEN_MIN} to {SECRET_KEY_LEN_MAX} characters"
            )));
        }
        let is_known = WELL_KNOWN
            .iter()
            .any(|known| secret.eq_ignore_ascii_case(known));
        let guessable = secret == access_key || is_known;
        if guessable && !address.is_loopback() {
            return Err(Error::Invalid(format!(
                "the secret key of {access_key} is one that everybody knows, and {address} can be \
                 reached from other machines: set another one, or listen on 127.0.0.1"
            )));
        }
        Ok(())
    }

    /// Reads the keys in the file.
    pub fn load(path: &Path) -> io::Result<Keys> {
        let text = fs::read_to_string(path)?;
        if fs::metadata(path)?.mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "keys file is readable by others");
        }
        parse(&text).ok_or_else(|| {
            let message = format!("no {ACCESS_KEY_NAME}= and {SECRET_KEY_NAME}= in it");
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    /// Reads the keys in the file, or generates them and writes the file if there is none. Returns
    /// whether they are new.
    pub fn load_or_generate(path: &Path) -> io::Result<(Keys, bool)> {
        match Keys::load(path) {
            Ok(keys) => Ok((keys, false)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let keys = Keys::generate();
                keys.keep(path)?;
                Ok((keys, true))
            }
            Err(error) => Err(error),
        }
    }

    fn generate() -> Keys {
        let mut rng = rand::rng();
        let mut text = |alphabet: &[u8], len: usize| -> String {
            let letter = |_| char::from(alphabet[rng.random_range(0..alphabet.len())]);
            (0..len).map(letter).collect()
        };
        Keys {
            access_key: text(UPPER_AND_DIGITS, GENERATED_ACCESS_KEY_LEN),
            secret_key: Secret::from(text(LETTERS_AND_DIGITS, GENERATED_SECRET_KEY_LEN)),
        }
    }

    /// Writes a temporary file and renames it: power that goes before the rename leaves no keys
    /// file and a temporary one, which the next start overwrites.
    fn keep(&self, path: &Path) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = Path::new(&temporary);
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder)?;
        // A leftover may have other permissions than those requested here.
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)?;
        writeln!(file, "{ACCESS_KEY_NAME}={}", self.access_key)?;
        writeln!(file, "{SECRET_KEY_NAME}={}", self.secret_key.expose())?;
        file.sync_all()?;
        fs::rename(temporary, path)?;
        File::open(folder)?.sync_all()
    }
}

/// Reads the lines as a shell does that sources the file: with `export` or without, and with quotes
/// around a value or without.
fn parse(text: &str) -> Option<Keys> {
    let value = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        let value = lines.find_map(|line| {
            let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
            line.strip_prefix(name)?.strip_prefix('=')
        })?;
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value))
    };
    Some(Keys {
        access_key: value(ACCESS_KEY_NAME)?.to_owned(),
        secret_key: Secret::from(value(SECRET_KEY_NAME)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_46_generated_keys_differ_are_kept_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/keys");
        let (keys, new) = Keys::load_or_generate(&path).unwrap();
        assert!(new);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            Keys::load_or_generate(&path).unwrap(),
            (keys.clone(), false)
        );
        let (other, _) = Keys::load_or_generate(&folder.path().join("keys")).unwrap();
        assert_ne!(keys.access_key, other.access_key);
        assert_ne!(keys.secret_key, other.secret_key);
        let public: Address = ":9000".parse().unwrap();
        keys.check(&public).unwrap();
    }

    #[test]
    fn a_keys_file_is_read_as_a_shell_reads_it() {
        for (access, secret) in [
            ("AWS_ACCESS_KEY_ID=abc", "AWS_SECRET_ACCESS_KEY=x='y\""),
            (
                "AWS_ACCESS_KEY_ID=\"abc\"",
                "AWS_SECRET_ACCESS_KEY=\"x='y\"\"",
            ),
            (
                "  export AWS_ACCESS_KEY_ID='abc' ",
                "export AWS_SECRET_ACCESS_KEY='x='y\"'",
            ),
        ] {
            let keys = parse(&format!("# keys\n{access}\n{secret}\r\n"));
            let keys = keys.map(|keys| (keys.access_key, keys.secret_key.expose().to_owned()));
            assert_eq!(
                keys,
                Some(("abc".to_owned(), "x='y\"".to_owned())),
                "{secret}"
            );
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let keys = Keys::generate();
        assert!(!format!("{keys:?}").contains(keys.secret_key.expose()));
    }

    #[test]
    fn a_broken_keys_file_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, "AWS_ACCESS_KEY_ID=abc\n").unwrap();
        assert!(Keys::load_or_generate(&path).is_err());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "AWS_ACCESS_KEY_ID=abc\n"
        );
    }
}
