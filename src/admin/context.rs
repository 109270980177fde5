//! The context of the operator's API, and the check of the operator's key.

use std::sync::Arc;

use drystone_store::ObjectStore;
use drystone_store::env::Env;
use drystone_store::operator::Operator;
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
    /// Admits only the operator's own key, and only a signature in the header. The record of the
    /// exchange gets the caller and the decision.
    pub async fn admit(&self, head: &Head) -> Result<Payload, Refused> {
        let decided = |reason| head.exchange.note(|found| found.decision = Some(reason));
        let denied = |reason| {
            decided(reason);
            Refused::from(S3Error::new(Code::AccessDenied))
        };
        let authorization = head.headers.get(header::AUTHORIZATION);
        let signed = authorization.is_some_and(|value| {
            let scheme = canonical::ALGORITHM.as_bytes();
            value.as_bytes().starts_with(scheme)
        });
        if !signed {
            return Err(denied("denied: no signature in the header"));
        }
        let who = self.verifier.authenticate(head, self.env.now()).await?;
        let Some(principal) = who.identity.principal() else {
            return Err(denied("denied: anonymous"));
        };
        let caller = (principal.account.id.0.clone(), principal.user.clone());
        head.exchange.note(|found| found.caller = Some(caller));
        if !principal.is_operator {
            return Err(denied("denied: not the operator"));
        }
        decided("allowed: operator");
        Ok(who.payload)
    }
}
