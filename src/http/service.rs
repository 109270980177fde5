//! The services of a port: a list, asked in its order.

use std::sync::Arc;

use async_trait::async_trait;

use crate::request::Request;
use drystone_protocol::response::Response;

/// Answers the requests that are its own.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Answers the request, or passes it on as it came, for the next service.
    async fn answer(&self, request: Request) -> Result<Response, Request>;

    /// Whether it answers on connections past the bound as well, where all else gets 503.
    fn serves_when_full(&self) -> bool {
        false
    }
}

/// The services of a port, in the order in which they are asked.
pub type Services = Arc<[Arc<dyn Service>]>;
