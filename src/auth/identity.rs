//! Who a request speaks for, and how its body is to be verified.

use std::sync::Arc;

use crate::auth::credentials::Principal;
use crate::auth::v4::chunks::SignatureChain;

/// Who a request speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The request bore no credentials at all.
    Anonymous,
    Principal(Arc<Principal>),
}

impl Identity {
    pub fn principal(&self) -> Option<&Principal> {
        match self {
            Identity::Anonymous => None,
            Identity::Principal(principal) => Some(principal),
        }
    }
}

/// How the body comes, and what it must match.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Raw bytes with this SHA-256.
    Sha256([u8; 32]),
    /// Raw bytes that the signature does not cover.
    Unsigned,
    /// `aws-chunked`; each chunk, and the trailer if there is one, is signed.
    SignedChunks {
        chain: SignatureChain,
        trailer: bool,
    },
    /// `aws-chunked` without signatures, with a trailer.
    UnsignedChunks,
}

#[derive(Debug)]
pub struct Authenticated {
    pub identity: Identity,
    pub payload: Payload,
}
