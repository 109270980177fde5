//! A certificate with its chain and its key: read from PEM files, and found to fit together.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A chain of a dozen certificates is a tenth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Past every certificate's end.
const FAR_FUTURE: Duration = Duration::from_secs(1 << 40);

/// Where certificate and key stand; they may be one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's own certificate, then those that it was signed by.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{}: {message}", path.display())]
    Unusable { path: PathBuf, message: String },
    #[error(
        "the key in {} does not belong to the first certificate in {}: name a matching pair, with \
         the server's own certificate first",
        key.display(), certificate.display()
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
}

/// The content of the two files.
pub(super) struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate that can be shown.
pub struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// When clients trust the certificate; `None` only if its fields don't show it.
    pub(super) valid: Option<Range<SystemTime>>,
}

impl Files {
    pub(super) fn read(&self) -> Result<Content, Error> {
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
        })
    }

    /// Whether any user of the machine can read the key. A group may: systems have one for this.
    pub fn key_is_public(&self) -> bool {
        let mode = std::fs::metadata(&self.key).map(|of| of.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o007 != 0)
    }
}

impl Content {
    /// The same for the same bytes; it tells nothing of the key.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.certificate.len() as u64).to_le_bytes());
        digest.update(&self.certificate);
        digest.update(&self.key);
        digest.finalize().into()
    }
}

impl Pair {
    /// Reads the files and checks all that a server needs of them.
    pub fn load(files: &Files) -> Result<Pair, Error> {
        Pair::parse(files, &files.read()?, &super::provider())
    }

    pub(super) fn parse(
        files: &Files,
        content: &Content,
        provider: &CryptoProvider,
    ) -> Result<Pair, Error> {
        let path = &files.certificate;
        let chain = certificates(path, &content.certificate)?;
        let key = key(&files.key, &content.key)?;
        let unusable = |path: &Path, message: String| Error::Unusable {
            path: path.to_owned(),
            message,
        };
        // Checked here, as a key that can't be used would be told of as the certificate's fault.
        let signing = provider.key_provider.load_private_key(key);
        let signing = signing.map_err(|error| unusable(&files.key, told(&error)))?;
        ParsedCertificate::try_from(&chain[0]).map_err(|error| unusable(path, told(&error)))?;
        let valid = valid(&chain[0], provider);
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(Error::Mismatch {
                    certificate: path.clone(),
                    key: files.key.clone(),
                });
            }
            Err(error) => return Err(unusable(path, told(&error))),
        }
        Ok(Pair {
            certified: Arc::new(certified),
            valid,
        })
    }

    /// The day and time after which clients refuse the certificate.
    pub fn end(&self) -> String {
        let end = self.valid.as_ref().map(|valid| valid.end);
        let text = end.and_then(|end| OffsetDateTime::from(end).format(&Rfc3339).ok());
        text.unwrap_or_else(|| "an unknown day".to_owned())
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut start = file.take(FILE_BYTES_MAX + 1);
    start.read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::Unusable {
            path: path.to_owned(),
            message: format!("it is longer than {FILE_BYTES_MAX} bytes: name a PEM file"),
        });
    }
    Ok(bytes)
}

/// The certificates of a PEM file in their order, at least one.
pub(super) fn certificates(
    path: &Path,
    bytes: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = |message: String| Error::Unusable {
        path: path.to_owned(),
        message,
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let all = all.map_err(|error| unusable(broken(&error)))?;
    match all.is_empty() {
        false => Ok(all),
        true => Err(unusable(
            "no certificate is in it: name a PEM file, which has BEGIN CERTIFICATE in a line"
                .to_owned(),
        )),
    }
}

fn key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let is_encrypted = bytes.windows(9).any(|text| text == b"ENCRYPTED");
        let message = match error {
            pem::Error::NoItemsFound if is_encrypted => {
                "the key is encrypted: store it without a passphrase, readable by the server alone"
                    .to_owned()
            }
            pem::Error::NoItemsFound => "no private key is in it: name a PEM file, which has \
                                         BEGIN PRIVATE KEY or the like in a line"
                .to_owned(),
            error => broken(&error),
        };
        Error::Unusable {
            path: path.to_owned(),
            message,
        }
    })
}

/// Nothing of the content is repeated: it may be a key.
fn broken(error: &pem::Error) -> String {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly",
        _ => "a section is not base64",
    };
    format!("{what}: the PEM file is damaged or cut off")
}

fn told(error: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return error.to_string();
    };
    match other.to_string() {
        version if version.contains("Version") => {
            "the certificate is not of X.509 version 3, which clients expect: have one made with \
             a subject alternative name"
                .to_owned()
        }
        other => other,
    }
}

/// A verifier reads this first, and tells of it when it is asked about a time outside.
pub(super) fn valid(
    leaf: &CertificateDer<'_>,
    provider: &CryptoProvider,
) -> Option<Range<SystemTime>> {
    let leaf = ParsedCertificate::try_from(leaf).ok()?;
    let refused_at = |time: Duration| {
        let refused = verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &RootCertStore::empty(),
            &[],
            UnixTime::since_unix_epoch(time),
            provider.signature_verification_algorithms.all,
        );
        let bound = match refused {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::ExpiredContext {
                    not_after: bound, ..
                }
                | CertificateError::NotValidYetContext {
                    not_before: bound, ..
                },
            )) => Duration::from_secs(bound.as_secs()),
            _ => return None,
        };
        SystemTime::UNIX_EPOCH.checked_add(bound)
    };
    Some(refused_at(Duration::ZERO)?..refused_at(FAR_FUTURE)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use drystone_authority::Authority;

    fn load(certificate: &str, key: &str) -> Result<Pair, String> {
        let folder = tempfile::tempdir().unwrap();
        let files = Files {
            certificate: folder.path().join("certificate.pem"),
            key: folder.path().join("key.pem"),
        };
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        Pair::load(&files).map_err(|error| error.to_string())
    }

    #[test]
    fn s_59_a_pair_is_checked_and_its_end_known() {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost"], 30);
        let pair = load(&certificate, &key).unwrap();
        let left = pair.valid.unwrap().end.duration_since(SystemTime::now());
        let days = left.unwrap().as_secs_f64() / 86_400.0;
        assert!((29.5..30.5).contains(&days), "{days}");
        // The chain may follow, and one file may hold it all.
        let whole = format!("{certificate}{}{key}", authority.pem());
        assert_eq!(load(&whole, &whole).unwrap().certified.cert.len(), 2);
    }

    #[test]
    fn s_59_what_is_wrong_with_the_files_is_told() {
        let authority = Authority::new();
        let (certificate, key) = authority.issue(&["localhost"], 30);
        let (_, other) = authority.issue(&["localhost"], 30);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n\
                         -----END ENCRYPTED PRIVATE KEY-----\n";
        let chain_first = format!("{}{certificate}", authority.pem());
        let cut = &certificate[..certificate.len() / 2];
        for (certificate, key, told) in [
            (certificate.as_str(), other.as_str(), "does not belong"),
            (&chain_first, &key, "certificate first"),
            (&key, &key, "certificate.pem: no certificate"),
            (&certificate, &certificate, "key.pem: no private key"),
            (&certificate, "", "key.pem: no private key"),
            (&certificate, encrypted, "without a passphrase"),
            (cut, &key, "certificate.pem: a section has no end"),
        ] {
            let error = load(certificate, key).err().unwrap();
            assert!(error.contains(told), "{error}");
            let body = key.lines().nth(1).unwrap_or("none");
            assert!(!error.contains(body), "{error}");
        }
        let files = Files {
            certificate: "/not/there".into(),
            key: "/not/there".into(),
        };
        let error = Pair::load(&files).err().unwrap().to_string();
        assert!(error.starts_with("/not/there: "), "{error}");
    }
}
