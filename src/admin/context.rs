//! What the operator's API works with, and whom it obeys.

use std::sync::Arc;

use drystone_store::env::Env;
use drystone_store::operator::Operator;
use drystone_store::store::ObjectStore;
use http::header;

use crate::admin::document::Refused;
use drystone_auth::authenticate::Verifier;
use drystone_auth::identity::Payload;
use drystone_auth::v4::canonical;
use drystone_http::request::Head;
use drystone_http::tls;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::ids::Ids;

pub struct Context {
    pub operator: Arc<dyn Operator>,
    pub store: Arc<dyn ObjectStore>,
    pub verifier: Arc<Verifier>,
    pub env: Arc<dyn Env>,
    pub ids: Arc<Ids>,
    /// The certificate, where TLS is spoken.
    pub certificate: Option<Arc<tls::Live>>,
}

impl Context {
    /// Admits only the operator's own key, and only what the header signs.
    pub async fn admit(&self, head: &Head) -> Result<Payload, Refused> {
        let denied = || Refused::from(S3Error::new(Code::AccessDenied));
        let authorization = head.headers.get(header::AUTHORIZATION);
        let signed = authorization.is_some_and(|value| {
            let scheme = canonical::ALGORITHM.as_bytes();
            value.as_bytes().starts_with(scheme)
        });
        if !signed {
            return Err(denied());
        }
        let who = self.verifier.authenticate(head, self.env.now()).await?;
        match who.identity.principal() {
            Some(principal) if principal.is_operator => Ok(who.payload),
            _ => Err(denied()),
        }
    }
}
