//! A request for a decision, and its condition keys.

use std::borrow::Cow;

use drystone_store::types::Tags;

use crate::action::Action;
use crate::arn::Arn;
use crate::facts::{BucketFacts, ObjectFacts, RequestFacts};
use drystone_auth::credentials::Principal;
use drystone_auth::identity::{Identity, SignaturePlace, SignatureVersion};

/// Everything that a decision may depend on.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The caller. The policies of a principal and of its session come with it.
    pub identity: &'a Identity,
    pub action: Action,
    pub resource: Arn<'a>,
    /// `None` where there is no bucket yet, or where the action is about none.
    pub bucket: Option<BucketFacts<'a>>,
    pub object: &'a dyn ObjectFacts,
    pub facts: RequestFacts<'a>,
}

impl<'a> Request<'a> {
    /// Looks up a condition key by its name, in any letter case. `None` if the request has no such
    /// key. Its value is computed when it is asked for, and not before.
    pub fn condition(&self, name: &str) -> Option<Cow<'a, str>> {
        let (service, key) = name.split_once(':')?;
        let service = service.to_ascii_lowercase();
        if let Some((kind, tag)) = key.split_once('/').filter(|_| service == "s3") {
            return self.tag(&kind.to_ascii_lowercase(), tag);
        }
        let key = key.to_ascii_lowercase();
        match service.as_str() {
            "aws" => self.global_condition(&key),
            "s3" => self.s3_condition(&key),
            _ => None,
        }
    }

    fn global_condition(&self, key: &str) -> Option<Cow<'a, str>> {
        let facts = &self.facts;
        match key {
            "sourceip" => facts
                .peer
                .map(|peer| peer.to_canonical().to_string().into()),
            "securetransport" => Some(facts.is_secure.to_string().into()),
            "epochtime" => Some(facts.now.seconds().to_string().into()),
            "useragent" => facts.texts.header("user-agent").map(Cow::from),
            "referer" => facts.texts.header("referer").map(Cow::from),
            "username" => self.principal().map(|who| who.user.as_str().into()),
            "principalaccount" => self.principal().map(|who| who.account.id.0.as_str().into()),
            "resourceaccount" => self.owner(),
            _ => None,
        }
    }

    fn s3_condition(&self, key: &str) -> Option<Cow<'a, str>> {
        let texts = self.facts.texts;
        let signing = self.facts.signing;
        match key {
            "resourceaccount" => self.owner(),
            "signatureversion" => signing.map(|signing| match signing.version {
                SignatureVersion::V2 => "AWS".into(),
                SignatureVersion::V4 => "AWS4-HMAC-SHA256".into(),
            }),
            "authtype" => signing.map(|signing| match signing.place {
                SignaturePlace::Header => "REST-HEADER".into(),
                SignaturePlace::Query => "REST-QUERY-STRING".into(),
                SignaturePlace::Form => "POST".into(),
            }),
            // In milliseconds.
            "signatureage" => {
                let signed_at = signing?.signed_at?;
                Some((self.facts.now.0 - signed_at.0).to_string().into())
            }
            "prefix" | "delimiter" | "max-keys" => texts.parameter(key).map(Cow::from),
            "versionid" => texts.parameter("versionId").map(Cow::from),
            _ if key.starts_with("x-amz-") => texts.header(key).map(Cow::from),
            _ => None,
        }
    }

    /// The value of a tag. The names of tags have a letter case.
    fn tag(&self, kind: &str, name: &str) -> Option<Cow<'a, str>> {
        let tags: &'a Tags = match kind {
            "existingobjecttag" => self.object.tags()?,
            "buckettag" => &self.bucket?.settings.tags,
            _ => return None,
        };
        let mut tags = tags.iter();
        let (_, value) = tags.find(|(tag, _)| tag == name)?;
        Some(value.as_str().into())
    }

    fn principal(&self) -> Option<&'a Principal> {
        self.identity.principal()
    }

    fn owner(&self) -> Option<Cow<'a, str>> {
        Some(self.bucket?.owner.0.as_str().into())
    }
}
