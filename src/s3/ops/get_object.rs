//! GetObject, and the part of it that HeadObject shares: choosing the version, checking the
//! conditions, choosing the bytes, and the headers that describe them.

use std::sync::Arc;

use drystone_store::body::BodyReader;
use drystone_store::error::Error;
use drystone_store::objects::{ObjectHandle, ReadScope};
use drystone_store::types::{ByteRange, Checksum, Timestamp};
use drystone_store::uploads::PART_NUMBER_MAX;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::context::Context;
use crate::request::Request;
use crate::values::attributes;
use crate::values::checksum;
use crate::values::precondition::{self, READ, Verdict};
use crate::values::range::{self, Wanted};
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Body, Response};

const X_AMZ_MP_PARTS_COUNT: HeaderName = HeaderName::from_static("x-amz-mp-parts-count");

/// Query parameters of a signed request that replace a header of the answer.
const OVERRIDES: [(&str, HeaderName); 6] = [
    ("response-cache-control", header::CACHE_CONTROL),
    ("response-content-disposition", header::CONTENT_DISPOSITION),
    ("response-content-encoding", header::CONTENT_ENCODING),
    ("response-content-language", header::CONTENT_LANGUAGE),
    ("response-content-type", header::CONTENT_TYPE),
    ("response-expires", header::EXPIRES),
];

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    match open(&context, &request, scope).await? {
        Opened::NotModified(response) => Ok(response),
        Opened::Found {
            handle,
            range,
            mut response,
        } => {
            *response.body_mut() = body(handle, range, request.id()).await?;
            Ok(response)
        }
    }
}

/// The outcome of opening an object for GET or HEAD.
pub enum Opened {
    /// The client has it already; the answer is ready.
    NotModified(Response),
    Found {
        handle: Box<dyn ObjectHandle>,
        range: ByteRange,
        /// Without its body.
        response: Response,
    },
}

/// The bytes asked for.
struct Selection {
    range: ByteRange,
    is_partial: bool,
    /// The checksum of exactly these bytes.
    checksum: Option<Checksum>,
    parts_count: Option<u32>,
}

/// Returns the bytes that the request may turn out to ask for.
fn scope(request: &Request, part: Option<u16>) -> ReadScope {
    if let Some(number) = part {
        return ReadScope::Part(number);
    }
    // With `If-Range` the version decides whether the range applies.
    let range = request
        .header("range")
        .filter(|_| !request.headers.contains_key(header::IF_RANGE));
    let spec = range.and_then(range::parse);
    spec.map_or(ReadScope::Whole, ReadScope::Range)
}

/// Opens the object of a GET or HEAD. `scope` returns what is to be read, by the number of the part
/// that is asked for.
pub async fn open(
    context: &Context,
    request: &Request,
    scope: fn(&Request, Option<u16>) -> ReadScope,
) -> Result<Opened, S3Error> {
    let overrides = overrides(request)?;
    refuse_customer_key(&request.headers)?;
    let part = part_number(request)?;
    let bucket = request.bucket();
    let version = request.version()?;
    let handle = context
        .store
        .open_object(bucket.id, &request.key, version, scope(request, part))
        .await?;
    if let Some(answer) = unwanted(request, handle.as_ref(), context.env.now())? {
        return Ok(Opened::NotModified(answer));
    }
    let (version, object) = (handle.version(), handle.object());
    let selection = match part {
        Some(number) => select_part(handle.as_ref(), number).await?,
        None => select_range(request, handle.as_ref())?,
    };
    let mut response = response::empty(StatusCode::OK);
    if selection.is_partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    attributes::show(headers, version, object, bucket.versioning);
    show_selection(headers, &selection, object.size);
    if let Some(checksum) = &selection.checksum
        && checksum::is_asked_for(&request.headers)
    {
        let parts = if part.is_some() { 0 } else { object.etag.parts };
        checksum::set_headers(headers, checksum, parts);
    }
    headers.extend(overrides);
    Ok(Opened::Found {
        range: selection.range,
        handle,
        response,
    })
}

/// Returns the answer if the request's conditions say that the client does not want the version.
pub fn unwanted(
    request: &Request,
    handle: &dyn ObjectHandle,
    now: Timestamp,
) -> Result<Option<Response>, S3Error> {
    let (version, object) = (handle.version(), handle.object());
    match precondition::check(&request.headers, &READ, object.etag, version.modified, now) {
        Verdict::Holds => Ok(None),
        Verdict::Failed(name) => Err(precondition::failed(name)),
        Verdict::NotModified(_) => {
            let mut response = response::empty(StatusCode::NOT_MODIFIED);
            let versioning = request.bucket().versioning;
            attributes::show_unmodified(response.headers_mut(), version, object, versioning);
            Ok(Some(response))
        }
    }
}

fn overrides(request: &Request) -> Result<HeaderMap, S3Error> {
    let mut headers = HeaderMap::new();
    for (parameter, name) in OVERRIDES {
        let Some(value) = request.query.get(parameter) else {
            continue;
        };
        if request.principal().is_none() {
            return Err(S3Error::new(Code::InvalidRequest).message(
                "Request specific response headers cannot be used for anonymous GET requests.",
            ));
        }
        // With a line break the client could add a header of its own.
        let latin1: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
        let represented = latin1.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
        let value = represented.ok_or_else(|| {
            let message = "Header value cannot be represented using ISO-8859-1.";
            S3Error::invalid_argument(message, parameter, value)
        })?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn refuse_customer_key(headers: &HeaderMap) -> Result<(), S3Error> {
    if headers.contains_key("x-amz-context-side-encryption-customer-algorithm") {
        return Err(S3Error::new(Code::InvalidRequest)
            .message("The encryption parameters are not applicable to this object."));
    }
    Ok(())
}

fn part_number(request: &Request) -> Result<Option<u16>, S3Error> {
    let Some(text) = request.query.get("partNumber") else {
        return Ok(None);
    };
    if request.headers.contains_key(header::RANGE) {
        return Err(S3Error::new(Code::InvalidRequest)
            .message("Cannot specify both Range header and partNumber query parameter"));
    }
    match text.parse() {
        Ok(number) if (1..=PART_NUMBER_MAX).contains(&number) => Ok(Some(number)),
        _ => Err(S3Error::invalid_argument(
            format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"),
            "partNumber",
            text,
        )),
    }
}

async fn select_part(handle: &dyn ObjectHandle, number: u16) -> Result<Selection, S3Error> {
    let object = handle.object();
    let count = handle.parts_count();
    let unsatisfiable = || {
        S3Error::new(Code::InvalidPartNumber)
            .with("ActualPartCount", count.max(1).to_string())
            .with("PartNumberRequested", number.to_string())
    };
    // An object that was written in one request counts as its only part.
    if count == 0 {
        let range = ByteRange {
            start: 0,
            end: object.size,
        };
        return match number {
            1 => Ok(Selection {
                range,
                is_partial: !range.is_empty(),
                checksum: object.checksum.clone(),
                parts_count: None,
            }),
            _ => Err(unsatisfiable()),
        };
    }
    let part = handle.part(number).await?.ok_or_else(unsatisfiable)?;
    let range = ByteRange {
        start: part.offset,
        end: part.offset + part.size,
    };
    // The part's value, under the type that the whole object has.
    let kind = object.checksum.as_ref().map(|checksum| checksum.kind);
    let checksum = part.checksum.map(|checksum| Checksum {
        kind: kind.unwrap_or(checksum.kind),
        ..checksum
    });
    Ok(Selection {
        range,
        is_partial: !range.is_empty(),
        checksum,
        parts_count: Some(count),
    })
}

fn select_range(request: &Request, handle: &dyn ObjectHandle) -> Result<Selection, S3Error> {
    let (version, object) = (handle.version(), handle.object());
    let header = request
        .header("range")
        .filter(|_| precondition::range_applies(&request.headers, object.etag, version.modified));
    let whole = ByteRange {
        start: 0,
        end: object.size,
    };
    match header.map_or(Wanted::Whole, |header| range::resolve(header, object.size)) {
        Wanted::Whole => Ok(Selection {
            range: whole,
            is_partial: false,
            checksum: object.checksum.clone(),
            parts_count: None,
        }),
        Wanted::Part(range) => Ok(Selection {
            range,
            is_partial: true,
            // It is the checksum of all bytes, so it is shown only where all are sent.
            checksum: object.checksum.clone().filter(|_| range == whole),
            parts_count: None,
        }),
        Wanted::Unsatisfiable => Err(S3Error::new(Code::InvalidRange)
            .with("RangeRequested", header.unwrap_or_default())
            .with("ActualObjectSize", object.size.to_string())
            .header(header::CONTENT_RANGE, format!("bytes */{}", object.size))),
    }
}

fn show_selection(headers: &mut HeaderMap, selection: &Selection, size: u64) {
    let ByteRange { start, end } = selection.range;
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(end - start));
    if selection.is_partial
        && let Ok(value) = HeaderValue::from_str(&format!("bytes {start}-{}/{size}", end - 1))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    if let Some(count) = selection.parts_count {
        headers.insert(X_AMZ_MP_PARTS_COUNT, HeaderValue::from(count));
    }
}

/// The body of the answer. The first piece is read before the status line is sent, so that damage
/// there is a clean error; damage that is found later breaks the connection.
async fn body(
    handle: Box<dyn ObjectHandle>,
    range: ByteRange,
    request_id: &str,
) -> Result<Body, S3Error> {
    if range.is_empty() {
        return Ok(Body::empty());
    }
    let mut reader = handle.read(range).await?;
    let Some(first) = reader.next().await? else {
        return Err(short(range.len()).into());
    };
    let left = range.len().checked_sub(first.len() as u64);
    let state = Reading {
        left: left.ok_or_else(|| short(0))?,
        reader,
        _handle: handle,
        request_id: request_id.to_owned(),
    };
    let rest = stream::try_unfold(state, Reading::next);
    let first = stream::once(std::future::ready(Ok::<_, Error>(first)));
    Ok(Body::from_stream(stream::StreamExt::chain(first, rest)))
}

struct Reading {
    reader: Box<dyn BodyReader>,
    /// Keeps the version readable.
    _handle: Box<dyn ObjectHandle>,
    left: u64,
    request_id: String,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(bytes::Bytes, Reading)>, Error> {
        let piece = match self.reader.next().await {
            Ok(Some(piece)) if piece.len() as u64 <= self.left => piece,
            Ok(None) if self.left == 0 => return Ok(None),
            Ok(_) => return Err(self.broken(short(self.left))),
            Err(error) => return Err(self.broken(error)),
        };
        self.left -= piece.len() as u64;
        Ok(Some((piece, self)))
    }

    fn broken(&self, error: Error) -> Error {
        tracing::error!(request = %self.request_id, %error, "body ended early");
        error
    }
}

/// The store gave fewer or more bytes than the range has.
fn short(left: u64) -> Error {
    Error::Corrupt(format!(
        "reader ended {left} bytes before the end of its range"
    ))
}
