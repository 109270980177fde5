//! CreateBucket.

use std::sync::Arc;

use drystone_store::buckets::CreateBucket;
use drystone_store::error::{Error, Refusal};
use drystone_store::types::BucketSetting;
use http::{StatusCode, header};

use crate::context::Context;
use crate::request::Request;
use crate::values::acl;
use crate::values::tags::{self, BUCKET_TAGS_MAX};
use drystone_iam::arn::Arn;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::names;
use drystone_protocol::response::{self, Response, X_AMZ_BUCKET_ARN};
use drystone_protocol::xml;

/// No region's name is longer.
const LOCATION_LEN_MAX: usize = 64;

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    check_headers(&request)?;
    check_reserved(&request.bucket_name, &context.path_prefix)?;
    let options = read(&request.take_document().await?.bytes)?;
    let owner = request.account();
    let created = context.store.create_bucket(CreateBucket {
        name: request.bucket_name.clone(),
        owner: owner.clone(),
        location: options.location,
        settings: options.settings,
    });
    let bucket = created.await.map_err(|error| match error {
        Error::Refused(Refusal::BucketExists { owner: of }) if of == owner => {
            S3Error::new(Code::BucketAlreadyOwnedByYou)
        }
        other => other.into(),
    })?;
    let mut response = response::empty(StatusCode::OK);
    let location = format!("{}/{}", context.path_prefix, bucket.name);
    response::set(&mut response, header::LOCATION, location);
    let arn = Arn::bucket(&bucket.name).to_string();
    response::set(&mut response, X_AMZ_BUCKET_ARN, arn);
    Ok(response)
}

/// Refuses the names of the server's own paths, and the beginning of its path prefix: what is below
/// the prefix is another bucket's.
fn check_reserved(name: &str, path_prefix: &str) -> Result<(), S3Error> {
    let prefix = path_prefix.split('/').nth(1);
    match names::is_own_path(name) || prefix == Some(name) {
        true => Err(names::reserved()),
        false => Ok(()),
    }
}

/// Refuses headers for things that buckets cannot have here.
fn check_headers(request: &Request) -> Result<(), S3Error> {
    if let Some(lock) = request.header("x-amz-bucket-object-lock-enabled") {
        match lock {
            _ if lock.eq_ignore_ascii_case("false") => {}
            _ if lock.eq_ignore_ascii_case("true") => {
                return Err(S3Error::not_implemented("Object Lock"));
            }
            _ => {
                let name = "x-amz-bucket-object-lock-enabled";
                return Err(S3Error::invalid_argument("Invalid Argument", name, lock));
            }
        }
    }
    match request.header("x-amz-object-ownership") {
        None | Some("BucketOwnerEnforced") => {}
        Some(ownership @ ("BucketOwnerPreferred" | "ObjectWriter")) => {
            let feature = format!("Object ownership {ownership}");
            return Err(S3Error::not_implemented(&feature));
        }
        Some(other) => {
            let name = "x-amz-object-ownership";
            return Err(S3Error::invalid_argument(
                "Invalid x-amz-object-ownership header: ",
                name,
                other,
            ));
        }
    }
    if request
        .header("x-amz-bucket-namespace")
        .is_some_and(|namespace| namespace != "global")
    {
        return Err(S3Error::not_implemented(
            "Account-regional bucket namespaces",
        ));
    }
    // At creation the refusal names the ownership, which excludes an ACL.
    acl::check_headers(&request.headers)
        .map(drop)
        .map_err(|error| match error.code() {
            Code::AccessControlListNotSupported => {
                S3Error::new(Code::InvalidBucketAclWithObjectOwnership)
            }
            _ => error,
        })
}

/// The options that the request's document names.
#[derive(Default)]
struct BucketOptions {
    /// As given; any region is accepted.
    location: String,
    settings: Vec<(BucketSetting, Vec<u8>)>,
}

fn read(document: &[u8]) -> Result<BucketOptions, S3Error> {
    let mut options = BucketOptions::default();
    if document.is_empty() {
        return Ok(options);
    }
    let root = xml::read::parse(document, "CreateBucketConfiguration")?;
    let mut location = "";
    for child in &root.children {
        match child.name.as_str() {
            "LocationConstraint" => location = child.text.trim(),
            "Bucket" | "Location" => {
                return Err(S3Error::not_implemented("Directory buckets"));
            }
            "Tags" => {
                let tags = tags::read_set(child, BUCKET_TAGS_MAX)?;
                if !tags.is_empty() {
                    let document = tags::document(&tags).finish().into_bytes();
                    options.settings.push((BucketSetting::Tagging, document));
                }
            }
            _ => return Err(S3Error::new(Code::MalformedXML)),
        }
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if location.len() > LOCATION_LEN_MAX || !location.bytes().all(plain) {
        let error = S3Error::new(Code::InvalidLocationConstraint);
        return Err(error.with("LocationConstraint", location));
    }
    location.clone_into(&mut options.location);
    Ok(options)
}
