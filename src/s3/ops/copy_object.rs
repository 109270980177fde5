//! CopyObject: a new version with the bytes of another, which never travel to the client.
//!
//! Within a bucket and a class the new version shares the source's bytes; anything else is written
//! from the source's reader.

use std::sync::Arc;

use drystone_store::buckets::AdditionOf;
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::{PutObject, ReadScope, Written};
use drystone_store::types::{Attributes, ByteRange, ChecksumAlgorithm, ChecksumType};
use drystone_store::uploads::PART_SIZE_MAX_BYTES;

use crate::body::HashingBody;
use crate::context::Context;
use crate::keep_alive;
use crate::request::Request;
use crate::values::acl;
use crate::values::attributes;
use crate::values::checksum::{self, DEFAULT_ALGORITHM};
use crate::values::copy_source::{CopySource, OpenSource};
use crate::values::precondition;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response, X_AMZ_VERSION_ID};
use drystone_protocol::xml::write::Writer;

/// The number of attempts to open a source that is replaced while it is linked.
const LINK_ATTEMPTS_MAX: usize = 5;

/// The treatment of the source's metadata, or of its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Copy,
    Replace,
}

/// The options that the request names.
struct CopyOptions {
    metadata: Directive,
    tagging: Directive,
    storage_class: Option<String>,
    algorithm: Option<ChecksumAlgorithm>,
}

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    keep_alive::answer(context, request, copy).await
}

async fn copy(context: Arc<Context>, request: Arc<Request>) -> Result<Response, S3Error> {
    let source = CopySource::read(&request.headers)?;
    attributes::check_supported(&request.headers)?;
    acl::check_headers(&request.headers)?;
    let options = CopyOptions {
        metadata: directive(
            &request,
            "x-amz-metadata-directive",
            "Unknown metadata directive.",
        )?,
        tagging: directive(
            &request,
            "x-amz-tagging-directive",
            "Unknown tagging directive.",
        )?,
        storage_class: attributes::storage_class(&request.headers)?,
        algorithm: checksum::requested_algorithm(&request.headers)?,
    };
    check_changes_something(&request, &source, &options)?;
    let mut attempts = 1;
    let (opened, written) = loop {
        let opened = source.open(&context, &request, ReadScope::Whole).await?;
        match write(&context, &request, &opened, &options).await {
            Err(Error::Refused(Refusal::Conflict)) if attempts < LINK_ATTEMPTS_MAX => attempts += 1,
            result => break (opened, result?),
        }
    };
    Ok(answer(&opened, &written))
}

fn directive(
    request: &Request,
    header: &'static str,
    unknown: &'static str,
) -> Result<Directive, S3Error> {
    match request.header(header) {
        None | Some("COPY") => Ok(Directive::Copy),
        Some("REPLACE") => Ok(Directive::Replace),
        Some(other) => Err(S3Error::invalid_argument(unknown, header, other)),
    }
}

/// A copy onto itself must change something; an old version put on top is a change.
fn check_changes_something(
    request: &Request,
    source: &CopySource,
    options: &CopyOptions,
) -> Result<(), S3Error> {
    let is_onto_itself = source.bucket == request.bucket().name
        && source.key == request.key
        && source.version == drystone_store::types::VersionSelector::Latest;
    let changes = options.metadata == Directive::Replace
        || options.tagging == Directive::Replace
        || options.storage_class.is_some()
        || options.algorithm.is_some()
        || request
            .headers
            .contains_key("x-amz-website-redirect-location");
    if is_onto_itself && !changes {
        return Err(S3Error::new(Code::InvalidRequest).message(
            "This copy request is illegal because it is trying to copy an object to itself \
             without changing the object's metadata, storage class, website redirect location or \
             encryption attributes.",
        ));
    }
    Ok(())
}

fn merged(
    request: &Request,
    source: &Attributes,
    options: &CopyOptions,
) -> Result<Attributes, S3Error> {
    let headers = &request.headers;
    let redirect = "x-amz-website-redirect-location";
    let said = attributes::system(headers)?;
    let (system, user) = match options.metadata {
        Directive::Replace => (said, attributes::user(headers)?),
        // All but the redirect, which belongs to the object it was given to.
        Directive::Copy => {
            let kept = source
                .system
                .iter()
                .filter(|(name, _)| name != redirect)
                .cloned();
            let said = said.into_iter().filter(|(name, _)| name == redirect);
            (kept.chain(said).collect(), source.user.clone())
        }
    };
    let tags = match options.tagging {
        Directive::Replace => attributes::tags(headers)?,
        Directive::Copy => source.tags.clone(),
    };
    Ok(Attributes {
        system,
        user,
        tags,
        // STANDARD unless another is named, whatever the source has.
        storage_class: options.storage_class.clone().unwrap_or_default(),
        owner: request.object_owner(),
    })
}

async fn write(
    context: &Context,
    request: &Request,
    source: &OpenSource,
    options: &CopyOptions,
) -> Result<Written, Error> {
    let object = source.handle.object();
    if object.size > PART_SIZE_MAX_BYTES {
        let error = S3Error::new(Code::InvalidRequest).message(format!(
            "The specified copy source is larger than the maximum allowable size for a copy \
             source: {PART_SIZE_MAX_BYTES}"
        ));
        return Err(error.into());
    }
    let put = PutObject {
        key: request.key.clone(),
        attributes: merged(request, &object.attributes, options)?,
        condition: precondition::of_write(&request.headers),
    };
    let bucket = request.bucket().id;
    let has_checksum = |algorithm| {
        let has = object.checksum.as_ref();
        has.is_some_and(|has| has.algorithm == algorithm && has.kind == ChecksumType::FullObject)
    };
    let shares_bytes = source.bucket.id == bucket
        && object.attributes.storage_class == put.attributes.storage_class
        && options.algorithm.is_none_or(has_checksum);
    if shares_bytes {
        return context
            .store
            .link_object(bucket, source.handle.as_ref(), put)
            .await;
    }
    let of = AdditionOf::Object {
        key: put.key.clone(),
    };
    context
        .check_quota(request.bucket(), of, Some(object.size))
        .await?;
    let whole = ByteRange {
        start: 0,
        end: object.size,
    };
    let kept = object.checksum.as_ref().map(|checksum| checksum.algorithm);
    let algorithm = options.algorithm.or(kept).unwrap_or(DEFAULT_ALGORITHM);
    let reader = source.handle.read(whole).await?;
    let mut body = HashingBody::new(reader, object.size, algorithm);
    context.store.put_object(bucket, put, &mut body).await
}

fn answer(source: &OpenSource, written: &Written) -> Response {
    let mut xml = Writer::document("CopyObjectResult");
    xml.text("LastModified", &response::iso_date(written.modified));
    xml.text("ETag", &format!("\"{}\"", written.etag));
    if let Some(checksum) = &written.checksum {
        checksum::write(&mut xml, checksum, written.etag.parts);
        xml.text("ChecksumType", checksum.kind.name());
    }
    xml.close("CopyObjectResult");
    let mut response = response::xml(xml);
    // Unlike a PUT, a copy into a suspended bucket says that it is `null`.
    if let Some(id) = written.version_id {
        response::set(&mut response, X_AMZ_VERSION_ID, id.to_string());
    }
    source.show(&mut response);
    response
}
