//! The client's side of TLS: connects only to a server that it has a reason to trust.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, InvalidMessage,
    RootCertStore, SignatureScheme, StreamOwned,
};

use super::{ALPN, pair};

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// The servers that are trusted.
#[derive(Clone, Debug)]
pub enum Trust {
    /// A server whose name is certified by an authority that the system or this file has, or whose
    /// own certificate is in the file.
    Authorities(Option<PathBuf>),
    /// The server with the first certificate in this file, whatever its name and its end.
    Pinned(PathBuf),
    /// Anybody: for what holds no secret and is told to nobody.
    Anybody,
}

/// How servers are asked.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    trust: Trust,
}

impl Client {
    pub fn new(trust: Trust) -> Result<Client, String> {
        let provider = super::provider();
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for both versions");
        let one = |leaf| Arc::new(One { leaf, provider });
        let mut config = match &trust {
            Trust::Authorities(file) => {
                let authorities = Authorities::new(file.as_deref(), builder.crypto_provider())?;
                let authorities = Arc::new(authorities);
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(authorities)
            }
            Trust::Pinned(file) => {
                let one = one(Some(certificates(file)?.swap_remove(0)));
                builder.dangerous().with_custom_certificate_verifier(one)
            }
            Trust::Anybody => {
                let one = one(None);
                builder.dangerous().with_custom_certificate_verifier(one)
            }
        }
        .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = Arc::new(config);
        Ok(Client { config, trust })
    }

    /// Shakes hands over a connection to this host.
    pub fn over(&self, mut stream: TcpStream, host: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.config.clone(), name);
        let mut connection = connection.map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut stream)
                .map_err(|error| self.explain(error))?;
        }
        Ok(StreamOwned::new(connection, stream))
    }

    /// Adds to the error of a failed handshake what to do about it.
    fn explain(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let advice = match inner {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                "the server does not speak TLS; use http://".to_owned()
            }
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                "the server's certificate is from an unknown CA; name the CA's certificate with \
                 --ca-file"
                    .to_owned()
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )) => match &self.trust {
                Trust::Pinned(file) => format!(
                    "the server's certificate is not the one in {}; if it was changed just now, \
                     try again in ten seconds, otherwise use --endpoint and --ca-file",
                    file.display()
                ),
                _ => return error,
            },
            _ => return error,
        };
        io::Error::new(error.kind(), advice)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = pair::read(file).and_then(|bytes| pair::certificates(file, &bytes));
    read.map_err(|error| error.to_string())
}

/// Believes as rustls does; and a server whose own certificate is in the file, by its name and
/// time, even if it bears the mark of an authority, as most do that people sign themselves.
#[derive(Debug)]
struct Authorities {
    all: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Authorities {
    fn new(file: Option<&Path>, provider: &Arc<CryptoProvider>) -> Result<Authorities, String> {
        let mut roots = RootCertStore::empty();
        // Some of what a system has may be too old to be understood; the rest counts.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let named = match file {
            Some(file) => certificates(file)?,
            None => Vec::new(),
        };
        for certificate in &named {
            let added = roots.add(certificate.clone());
            added.map_err(|error| format!("a CA certificate: {error}"))?;
        }
        let all = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let all = all.build().map_err(|_| {
            "this system trusts no CAs: name a CA's certificate with --ca-file".to_owned()
        })?;
        Ok(Authorities {
            all,
            named,
            provider: provider.clone(),
        })
    }
}

impl ServerCertVerifier for Authorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verdict = self
            .all
            .verify_server_cert(end_entity, chain, name, ocsp, now);
        if verdict.is_ok() || !self.named.contains(end_entity) {
            return verdict;
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        let valid = pair::valid(end_entity, &self.provider);
        if !valid.is_some_and(|valid| valid.contains(&time)) {
            return verdict;
        }
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.all
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.all
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.all.supported_verify_schemes()
    }
}

/// Believes whoever has this certificate and its key; or, without one, whoever has any.
#[derive(Debug)]
struct One {
    leaf: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for One {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.leaf.as_ref().is_none_or(|leaf| leaf == end_entity) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::pki_types::pem::PemObject as _;

    use super::*;
    use drystone_authority::Authority;

    /// Whether a client that was given the PEM `told` trusts the first certificate of `shown`.
    fn trusts(told: &str, shown: &str, name: &str, days: u64) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, told).unwrap();
        let authorities = Authorities::new(Some(&file), &crate::tls::provider()).unwrap();
        let shown = CertificateDer::from_pem_slice(shown.as_bytes()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let then = now.unwrap() + Duration::from_secs(days * 86_400);
        let then = UnixTime::since_unix_epoch(then);
        let verdict = authorities.verify_server_cert(&shown, &[], &name, &[], then);
        verdict.is_ok()
    }

    #[test]
    fn s_59_a_server_is_believed_for_its_authority_its_name_and_its_time() {
        let (authority, stranger) = (Authority::new(), Authority::new());
        let (shown, _) = authority.issue(&["s3.test"], 90);
        let told = authority.pem();
        assert!(trusts(&told, &shown, "s3.test", 0));
        assert!(!trusts(&told, &shown, "other.test", 0));
        assert!(!trusts(&told, &shown, "s3.test", 91));
        assert!(!trusts(&stranger.pem(), &shown, "s3.test", 0));
    }

    /// As `openssl req -x509` makes it.
    #[test]
    fn s_59_what_people_sign_themselves_is_believed_by_name_and_time_too() {
        let signed = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(90);
            let key = KeyPair::generate().unwrap();
            params.self_signed(&key).unwrap().pem()
        };
        let (shown, other) = (signed("s3.test"), signed("s3.test"));
        assert!(trusts(&shown, &shown, "s3.test", 0));
        assert!(!trusts(&shown, &shown, "other.test", 0));
        assert!(!trusts(&shown, &shown, "s3.test", 91));
        assert!(!trusts(&other, &shown, "s3.test", 0));
    }
}
