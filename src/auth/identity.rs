//! The identity that a request speaks for, and the verification of its body.

use std::sync::Arc;

use drystone_store::types::Timestamp;

use crate::credentials::Principal;
use crate::v4::chunks::SignatureChain;

/// The identity that a request speaks for.
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

/// The coding of the body, and the hash or signatures that it must match.
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

impl Payload {
    pub fn is_chunked(&self) -> bool {
        matches!(self, Payload::SignedChunks { .. } | Payload::UnsignedChunks)
    }

    pub fn may_have_trailer(&self) -> bool {
        match self {
            Payload::UnsignedChunks => true,
            Payload::SignedChunks { trailer, .. } => *trailer,
            Payload::Sha256(_) | Payload::Unsigned => false,
        }
    }

    /// Returns the hash that the body must have, or the signatures that its chunks must have.
    pub fn into_expectations(self) -> (Option<[u8; 32]>, Option<SignatureChain>) {
        match self {
            Payload::Sha256(hash) => (Some(hash), None),
            Payload::SignedChunks { chain, .. } => (None, Some(chain)),
            Payload::Unsigned | Payload::UnsignedChunks => (None, None),
        }
    }
}

/// The facts about a request's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    pub version: SignatureVersion,
    pub place: SignaturePlace,
    /// The time of signing; `None` where the request does not say it (links and forms by Version
    /// 2).
    pub signed_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVersion {
    V2,
    V4,
}

/// The part of a request that its signature stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignaturePlace {
    Header,
    Query,
    Form,
}

#[derive(Debug)]
pub struct Authenticated {
    pub identity: Identity,
    pub payload: Payload,
    /// `None` without credentials.
    pub signing: Option<Signing>,
}
