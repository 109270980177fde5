//! The transport: connections, TLS, framing, limits. It knows neither S3 nor signatures.
//!
//! A [`connection`] hands each request to the [`service`]s of its port, in their order, until one
//! answers it.

pub mod admission;
pub mod connection;
pub mod exchange;
pub mod gate;
pub mod head;
pub mod limits;
pub mod network;
pub mod pace;
pub mod prefix;
pub mod request;
pub mod scheme;
mod seats;
pub mod service;
pub mod tls;
pub mod traffic;
pub mod transport;
pub mod wire;
