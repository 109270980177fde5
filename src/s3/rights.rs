//! Rights, as S3 answers about them.

use drystone_auth::identity::Identity;
use drystone_iam::authorize::{Decision, Resource, authorize};
use drystone_protocol::error::{Code, S3Error};

/// Refuses what `identity` may not do.
pub fn check(identity: &Identity, action: &str, resource: Resource<'_>) -> Result<(), S3Error> {
    let Decision::Deny(why) = authorize(identity, action, resource) else {
        return Ok(());
    };
    let user = identity
        .principal()
        .map(|principal| principal.user.as_str());
    tracing::debug!(action, ?resource, user, ?why, "denied");
    Err(S3Error::new(Code::AccessDenied))
}
