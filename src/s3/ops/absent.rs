//! Settings that nobody can have set yet, read and deleted as S3 does it where there are none.

use std::sync::Arc;

use drystone_store::types::{Account, AccountId, BucketId, VersionSelector};
use http::StatusCode;

use crate::context::Context;
use crate::request::Request;
use crate::values::acl;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml;
use drystone_protocol::xml::write::Writer;

/// Reading a document that isn't there, or deleting one of several by an id that none has.
pub async fn no_document(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let code = match request.operation.name {
        "GetBucketCors" => Code::NoSuchCORSConfiguration,
        "GetBucketEncryption" => Code::ServerSideEncryptionConfigurationNotFoundError,
        "GetBucketLifecycleConfiguration" => Code::NoSuchLifecycleConfiguration,
        "GetBucketPolicy" | "GetBucketPolicyStatus" => Code::NoSuchBucketPolicy,
        "GetBucketReplication" => Code::ReplicationConfigurationNotFoundError,
        "GetBucketWebsite" => Code::NoSuchWebsiteConfiguration,
        "GetObjectLockConfiguration" => Code::ObjectLockConfigurationNotFoundError,
        "GetPublicAccessBlock" => Code::NoSuchPublicAccessBlockConfiguration,
        "GetBucketAnalyticsConfiguration"
        | "GetBucketIntelligentTieringConfiguration"
        | "GetBucketInventoryConfiguration"
        | "GetBucketMetricsConfiguration"
        | "DeleteBucketAnalyticsConfiguration"
        | "DeleteBucketIntelligentTieringConfiguration"
        | "DeleteBucketInventoryConfiguration"
        | "DeleteBucketMetricsConfiguration" => Code::NoSuchConfiguration,
        other => unreachable!("{other} has something to read"),
    };
    Err(S3Error::new(code))
}

/// Reading a document that S3 always has, in the state it has before anyone sets it.
pub async fn initial_document(_: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let (root, content): (_, &[(&str, &str)]) = match request.operation.name {
        "GetBucketAbac" => ("AbacStatus", &[("Status", "Disabled")]),
        "GetBucketAccelerateConfiguration" => ("AccelerateConfiguration", &[]),
        "GetBucketLogging" => ("BucketLoggingStatus", &[]),
        "GetBucketNotificationConfiguration" => ("NotificationConfiguration", &[]),
        "GetBucketRequestPayment" => ("RequestPaymentConfiguration", &[("Payer", "BucketOwner")]),
        "ListBucketAnalyticsConfigurations" => ("ListBucketAnalyticsConfigurationResult", LAST),
        "ListBucketIntelligentTieringConfigurations" => {
            ("ListBucketIntelligentTieringConfigurationsResult", LAST)
        }
        "ListBucketInventoryConfigurations" => ("ListInventoryConfigurationsResult", LAST),
        "ListBucketMetricsConfigurations" => ("ListMetricsConfigurationsResult", LAST),
        other => unreachable!("{other} has something to read"),
    };
    let mut xml = Writer::document(root);
    for (element, text) in content {
        xml.text(element, text);
    }
    xml.close(root);
    Ok(response::xml(xml))
}

const LAST: &[(&str, &str)] = &[("IsTruncated", "false")];

/// Deleting what isn't there is no error.
pub async fn nothing_to_delete(_: Arc<Context>, _: Request) -> Result<Response, S3Error> {
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// Every bucket is as AWS makes them.
pub async fn ownership_controls(_: Arc<Context>, _: Request) -> Result<Response, S3Error> {
    let mut xml = Writer::document("OwnershipControls");
    xml.open("Rule");
    xml.text("ObjectOwnership", "BucketOwnerEnforced");
    xml.close("Rule");
    xml.close("OwnershipControls");
    Ok(response::xml(xml))
}

/// Retention and legal hold of an object in a bucket that can't have a lock.
pub async fn no_lock(_: Arc<Context>, _: Request) -> Result<Response, S3Error> {
    let message = "Bucket is missing Object Lock Configuration";
    Err(S3Error::new(Code::InvalidRequest).message(message))
}

/// GetBucketAcl and GetObjectAcl.
pub async fn read_acl(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    let (bucket, version) = (request.bucket(), request.version()?);
    find_object(&context, bucket.id, &request.key, version).await?;
    let owner = bucket_owner(&context, &bucket.owner).await?;
    Ok(response::xml(acl::document(&owner)))
}

/// PutBucketAcl and PutObjectAcl, when they say what holds.
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

/// The object that the request names, if it names one, must be there.
async fn find_object(
    context: &Context,
    bucket: BucketId,
    key: &str,
    version: VersionSelector,
) -> Result<(), S3Error> {
    if !key.is_empty() {
        context.store.open_object(bucket, key, version).await?;
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
