//! DeleteObjects: up to a thousand keys in one command, each decided alone.

use std::sync::Arc;

use drystone_store::objects::{DELETE_LEN_MAX, DeleteObject, Deleted, WriteCondition};
use drystone_store::types::{Timestamp, VersionSelector};

use crate::context::Context;
use crate::request::{Request, parse_version};
use crate::rights;
use crate::values::precondition;
use drystone_iam::arn::Arn;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::names;
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml;
use drystone_protocol::xml::read::Element;
use drystone_protocol::xml::write::Writer;

/// One key of the request.
struct Item {
    key: String,
    version: Option<String>,
    condition: Condition,
}

/// A condition as the client wrote it. It is parsed when the item's turn comes, so that one bad
/// item fails alone.
struct Condition {
    etag: Option<String>,
    size: Option<String>,
    modified: Option<String>,
}

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let document = request.take_document().await?;
    if !document.has_digest {
        return Err(S3Error::new(Code::InvalidRequest)
            .message("Missing required header for this request: Content-MD5 OR x-amz-checksum-*"));
    }
    let root = xml::read::parse(&document.bytes, "Delete")?;
    let is_quiet = match root.child_text("Quiet").map(str::trim) {
        None => false,
        Some(text) if text.eq_ignore_ascii_case("true") => true,
        Some(text) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(S3Error::new(Code::MalformedXML)),
    };
    let items = items(&root)?;
    let outcomes = delete(&context, &request, &items).await?;
    let mut xml = Writer::document("DeleteResult");
    for (item, outcome) in items.iter().zip(outcomes) {
        match outcome {
            Ok(_) if is_quiet => {}
            Ok(deleted) => write_deleted(&mut xml, item, &deleted),
            Err(error) => write_error(&mut xml, item, &error),
        }
    }
    xml.close("DeleteResult");
    Ok(response::xml(xml))
}

fn items(root: &Element) -> Result<Vec<Item>, S3Error> {
    let malformed = || S3Error::new(Code::MalformedXML);
    let objects: Vec<&Element> = root.children("Object").collect();
    if !(1..=DELETE_LEN_MAX).contains(&objects.len()) {
        return Err(malformed());
    }
    let item = |object: &&Element| {
        let text = |name| object.child_text(name).map(str::to_owned);
        let key = text("Key")
            .filter(|key| !key.is_empty())
            .ok_or_else(malformed)?;
        Ok(Item {
            key,
            // An empty element names none: some clients send it for every key.
            version: text("VersionId").filter(|id| !id.is_empty()),
            condition: Condition {
                etag: text("ETag"),
                size: text("Size"),
                modified: text("LastModifiedTime"),
            },
        })
    };
    objects.iter().map(item).collect()
}

/// Deletes in one command the items that may be deleted. Returns an outcome for each item, in their
/// order.
async fn delete(
    context: &Context,
    request: &Request,
    items: &[Item],
) -> Result<Vec<Result<Deleted, S3Error>>, S3Error> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut commands = Vec::new();
    for item in items {
        match command(request, item) {
            Ok(command) => {
                commands.push(command);
                outcomes.push(None);
            }
            Err(error) => outcomes.push(Some(Err(error))),
        }
    }
    let mut decided = Vec::new().into_iter();
    if !commands.is_empty() {
        let results = context
            .store
            .delete_objects(request.bucket().id, commands)
            .await?;
        decided = results.into_iter();
    }
    let fill = |outcome: Option<Result<Deleted, S3Error>>| {
        outcome.unwrap_or_else(|| {
            let result = decided
                .next()
                .expect("the store answers for each key it is given");
            result.map_err(S3Error::from)
        })
    };
    Ok(outcomes.into_iter().map(fill).collect())
}

fn command(request: &Request, item: &Item) -> Result<DeleteObject, S3Error> {
    names::check_key(&item.key)?;
    let (bucket, settings) = (request.bucket(), &*request.settings);
    let resource = Arn::object(&bucket.name, &item.key);
    let row = request.operation;
    for action in row.actions(item.version.is_some(), &request.headers) {
        rights::check(request.decide(action, resource, Some((bucket, settings))))?;
    }
    let version = match &item.version {
        None => VersionSelector::Latest,
        Some(text) => parse_version(text).map_err(|_| S3Error::new(Code::NoSuchVersion))?,
    };
    Ok(DeleteObject {
        key: item.key.clone(),
        version,
        condition: condition(&item.condition)?,
    })
}

fn condition(condition: &Condition) -> Result<WriteCondition, S3Error> {
    let malformed = || S3Error::new(Code::MalformedXML);
    let size = |text: &String| text.trim().parse().map_err(|_| malformed());
    let modified = |text: &String| -> Result<Timestamp, S3Error> {
        response::parse_http_date(text)
            .or_else(|| response::parse_iso_date(text))
            .ok_or_else(malformed)
    };
    Ok(WriteCondition {
        if_match: condition.etag.as_deref().map(precondition::parse_tags),
        if_none_match: None,
        if_match_size: condition.size.as_ref().map(size).transpose()?,
        if_match_modified: condition.modified.as_ref().map(modified).transpose()?,
    })
}

fn write_deleted(xml: &mut Writer, item: &Item, deleted: &Deleted) {
    xml.open("Deleted");
    xml.text("Key", &item.key);
    if let Some(id) = &item.version {
        xml.text("VersionId", id);
    }
    if deleted.is_marker {
        xml.text("DeleteMarker", "true");
        if let Some(id) = deleted.version_id {
            xml.value("DeleteMarkerVersionId", id);
        }
    }
    xml.close("Deleted");
}

fn write_error(xml: &mut Writer, item: &Item, error: &S3Error) {
    xml.open("Error");
    xml.text("Key", &item.key);
    if let Some(id) = &item.version {
        xml.text("VersionId", id);
    }
    xml.text("Code", error.code().text());
    xml.text("Message", error.text());
    xml.close("Error");
}
