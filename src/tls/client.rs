//! The client's side: asking a server over TLS that is believed for a reason.

use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, InvalidMessage,
    RootCertStore, SignatureScheme, StreamOwned,
};

use super::{ALPN, pair};

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Which servers are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whose name was certified by an authority that the system knows, or that is in this file.
    Authorities(Option<PathBuf>),
    /// Who has the first certificate in this file, whatever its name and its end.
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
                builder.with_root_certificates(authorities(file.as_deref())?)
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

    /// What to do about a handshake that failed.
    fn explain(&self, error: io::Error) -> io::Error {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        let advice = match inner {
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                "no TLS is spoken there; ask with http://".to_owned()
            }
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                "the server's certificate is from an authority that is not known here; name the \
                 authority's certificate with --ca-file"
                    .to_owned()
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )) => match &self.trust {
                Trust::Pinned(file) => format!(
                    "the server's certificate is not the one in {}; if that was changed just now, \
                     ask again in ten seconds, else ask status with --endpoint and --ca-file",
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

fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    // Some of what a system has may be too old to be understood; the rest counts.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let Some(file) = file else {
        return Ok(roots);
    };
    for certificate in certificates(file)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(roots)
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
