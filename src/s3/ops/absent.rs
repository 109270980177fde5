//! Operations on settings that nobody can have set yet: they answer as S3 does without the setting.

use std::sync::Arc;

use drystone_store::objects::ReadScope;
use drystone_store::types::{Account, AccountId, BucketId, VersionSelector};
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use crate::row::{Node, Unset};
use crate::values::acl;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml;
use drystone_protocol::xml::write::Writer;

/// Answers as the operation's row says.
pub async fn answer(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    match request.operation.details.unset {
        Unset::NotImplemented => Err(S3Error::not_implemented(request.operation.name)),
        Unset::Refused(code) => Err(S3Error::new(code)),
        Unset::Invalid(message) => Err(S3Error::new(Code::InvalidRequest).message(message)),
        Unset::Deleted => Ok(response::empty(StatusCode::NO_CONTENT)),
        Unset::Document(root, content) => {
            let mut xml = Writer::document(root);
            content.iter().for_each(|node| write(&mut xml, node));
            xml.close(root);
            Ok(response::xml(xml))
        }
    }
}

fn write(xml: &mut Writer, node: &Node) {
    match node {
        Node::Text(element, text) => xml.text(element, text),
        Node::Element(element, content) => {
            xml.open(element);
            content.iter().for_each(|node| write(xml, node));
            xml.close(element);
        }
    }
}

/// GetBucketAcl and GetObjectAcl.
pub async fn read_acl(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let (bucket, version) = (request.bucket(), request.version()?);
    find_object(&context, bucket.id, &request.key, version).await?;
    let owner = bucket_owner(&context, &bucket.owner).await?;
    Ok(response::xml(acl::document(&owner)))
}

/// PutBucketAcl and PutObjectAcl, if they ask for the ACL that there is.
pub async fn write_acl(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let by_header = acl::check_headers(&request.headers)?;
    let document = request.take_document().await?;
    if !document.bytes.is_empty() {
        let root = xml::read::parse(&document.bytes, "AccessControlPolicy")
            .map_err(|_| S3Error::new(Code::MalformedACLError))?;
        let owner = bucket_owner(&context, &request.bucket().owner).await?;
        acl::check_document(&root, &owner)?;
    } else if !by_header {
        return Err(
            S3Error::new(Code::MissingSecurityHeader).with("MissingHeaderName", "x-amz-acl")
        );
    }
    let (bucket, version) = (request.bucket().id, request.version()?);
    find_object(&context, bucket, &request.key, version).await?;
    Ok(response::empty(StatusCode::OK))
}

/// Checks that the object is there, if the request names one.
async fn find_object(
    context: &Context,
    bucket: BucketId,
    key: &str,
    version: VersionSelector,
) -> Result<(), S3Error> {
    if !key.is_empty() {
        context
            .store
            .open_object(bucket, key, version, ReadScope::Nothing)
            .await?;
    }
    Ok(())
}

async fn bucket_owner(context: &Context, id: &AccountId) -> Result<Account, S3Error> {
    let known = context.store.account(id).await?;
    Ok(known.unwrap_or_else(|| Account {
        id: id.clone(),
        canonical_id: id.0.clone(),
        display_name: String::new(),
    }))
}
