//! TLS: the certificate that the server shows, read again while it runs, and how a client asks.
//!
//! [`Live`] holds one certificate, from two PEM files, and makes the acceptor that shows it.
//! [`client`] asks a server whose certificate it trusts. The protocol over either is for others:
//! `http::connection` puts the acceptor between socket and gate, `cli` asks. TLS 1.2 and 1.3 are
//! spoken, below HTTP/1.1 alone.

pub mod client;
mod live;
mod pair;

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

pub use live::Live;
pub use pair::{Error, Files, Pair};

/// All that a client may choose by ALPN.
const ALPN: &[u8] = b"http/1.1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
