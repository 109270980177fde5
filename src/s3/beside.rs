//! What is served beside S3 on its port, by others.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::Request;

use crate::s3::response::Response;
use crate::s3::server::Server;

/// Answers what is its own.
#[async_trait]
pub trait Beside: Send + Sync + 'static {
    /// Anything else comes back as it was, for S3.
    async fn answer(
        &self,
        server: &Arc<Server>,
        request: Request<Body>,
    ) -> Result<Response, Request<Body>>;
}
