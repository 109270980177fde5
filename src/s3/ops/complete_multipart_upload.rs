//! CompleteMultipartUpload: the parts named become one object, in one step and without a copy.

use std::sync::Arc;

use drystone_store::checksum::DEFAULT;
use drystone_store::error::{Error, Refusal};
use drystone_store::objects::Written;
use drystone_store::types::{Checksum, ChecksumAlgorithm, ChecksumType, ETag, Upload, UploadId};
use drystone_store::uploads::{CompleteUpload, CompletedPart, PART_NUMBER_MAX};
use http::{HeaderMap, HeaderValue};

use crate::context::Context;
use crate::keep_alive;
use crate::ops::multipart::{bad_part_number, parse_part_number, upload_id};
use crate::request::Request;
use crate::values::checksum;
use crate::values::paging::Encoding;
use crate::values::precondition;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response};
use drystone_protocol::xml;
use drystone_protocol::xml::read::Element;
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let id = upload_id(&request)?;
    // These are the object's, not those of the document that is read next.
    let declared = take_checksums(&mut request.headers);
    let named = read_parts(&request.take_document().await?.bytes)?;
    check_order(&named, id)?;
    let finish = |context, request| finish(context, request, id, declared, named);
    keep_alive::answer(context, request, finish).await
}

async fn finish(
    context: Arc<Context>,
    request: Arc<Request>,
    id: UploadId,
    declared: Vec<(ChecksumAlgorithm, HeaderValue)>,
    named: Vec<NamedPart>,
) -> Result<Response, S3Error> {
    let (bucket, key) = (request.bucket(), request.key.as_str());
    let store = &*context.store;
    // A completed upload is no longer here, and its completion may be repeated.
    let upload = match store.upload(bucket.id, key, id).await {
        Ok(upload) => Some(upload),
        Err(Error::Refused(Refusal::NoSuchUpload)) => None,
        Err(error) => return Err(error.into()),
    };
    let checksum = object_checksum(&request, &declared, upload.as_ref(), named.len())?;
    if let Some(upload) = &upload {
        check_part_checksums(&named, upload)?;
    }
    let asked = CompleteUpload {
        key: key.to_owned(),
        upload: id,
        parts: matchable(&named, upload.is_some(), id)?,
        checksum,
        size: object_size(&request)?,
        condition: precondition::of_write(&request.headers),
    };
    let algorithm = asked.checksum.as_ref().map(|checksum| checksum.algorithm);
    let size = asked.size;
    let completed = store.complete_upload(bucket.id, asked).await;
    completed
        .map(|written| answer(&request, &written))
        .map_err(|error| match error {
            Error::Refused(Refusal::InvalidPart { number }) => invalid_part(&named, number, id),
            Error::Refused(Refusal::ChecksumMismatch) => bad_digest(algorithm),
            Error::Refused(Refusal::SizeMismatch { total, .. }) => other_size(size, total),
            other => other.into(),
        })
}

/// A part as the client names it.
#[derive(Debug)]
struct NamedPart {
    number: u16,
    /// As the client sent it.
    etag: String,
    checksum: Option<Checksum>,
}

fn malformed() -> S3Error {
    S3Error::new(Code::MalformedXML)
}

fn read_parts(document: &[u8]) -> Result<Vec<NamedPart>, S3Error> {
    let root = xml::read::parse(document, "CompleteMultipartUpload")?;
    let parts = root.children.len();
    if parts == 0 || parts > usize::from(PART_NUMBER_MAX) {
        return Err(malformed());
    }
    root.children.iter().map(read_part).collect()
}

fn read_part(part: &Element) -> Result<NamedPart, S3Error> {
    if part.name != "Part" {
        return Err(malformed());
    }
    let number = part.child_text("PartNumber").ok_or_else(malformed)?.trim();
    let etag = part.child_text("ETag").ok_or_else(malformed)?.trim();
    let number = match number.parse::<i64>() {
        Ok(..=0) => {
            let message = "PartNumber must be >= 1";
            return Err(S3Error::invalid_argument(message, "PartNumber", number));
        }
        Ok(_) => parse_part_number(number).ok_or_else(|| bad_part_number(number))?,
        Err(_) => return Err(malformed()),
    };
    Ok(NamedPart {
        number,
        etag: etag.to_owned(),
        checksum: read_checksum(part)?,
    })
}

fn read_checksum(part: &Element) -> Result<Option<Checksum>, S3Error> {
    let named = part.children.iter().filter_map(|child| {
        let algorithm: ChecksumAlgorithm = child.name.strip_prefix("Checksum")?.parse().ok()?;
        Some((algorithm, child.text.trim()))
    });
    let named: Vec<_> = named.filter(|(_, text)| !text.is_empty()).collect();
    let invalid = |value: String| {
        let message = "Invalid Base64 or multiple checksums present in request";
        S3Error::invalid_argument(message, "Checksum", value)
    };
    match named.as_slice() {
        [] => Ok(None),
        // A part has only the checksum of all its bytes.
        [(algorithm, text)] => match checksum::parse_value(*algorithm, text) {
            None => Err(invalid((*text).to_owned())),
            found => Ok(found),
        },
        several => {
            let pair = |(algorithm, text): &(_, _)| format!("{algorithm}:{text};");
            Err(invalid(several.iter().map(pair).collect()))
        }
    }
}

fn check_order(parts: &[NamedPart], upload: UploadId) -> Result<(), S3Error> {
    if parts.is_sorted_by(|a, b| a.number < b.number) {
        return Ok(());
    }
    Err(S3Error::new(Code::InvalidPartOrder).with("UploadId", upload.to_string()))
}

/// Checks that the client declared the parts' checksums, of which a composite checksum is made.
fn check_part_checksums(parts: &[NamedPart], upload: &Upload) -> Result<(), S3Error> {
    let Some((algorithm, kind)) = upload.checksum else {
        return Ok(());
    };
    for part in parts {
        match &part.checksum {
            None if kind == ChecksumType::Composite => {
                return Err(S3Error::new(Code::InvalidRequest).message(format!(
                    "The upload was created using a {} checksum. The complete request must \
                     include the checksum for each part. It was missing for part {} in the \
                     request.",
                    algorithm.name().to_ascii_lowercase(),
                    part.number
                )));
            }
            Some(named) if named.algorithm != algorithm => {
                return Err(S3Error::new(Code::BadDigest).message(format!(
                    "The {} you specified for part {} did not match what we received.",
                    named.algorithm.name().to_ascii_lowercase(),
                    part.number
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The parts as the store compares them. A text that can't be the ETag of any part matches none:
/// if the upload is there, such a part is invalid.
fn matchable(
    parts: &[NamedPart],
    found: bool,
    upload: UploadId,
) -> Result<Vec<CompletedPart>, S3Error> {
    let part = |named: &NamedPart| {
        Some(CompletedPart {
            number: named.number,
            etag: part_etag(&named.etag)?,
            checksum: named.checksum.clone(),
        })
    };
    let matchable = |named| {
        part(named).ok_or_else(|| match found {
            true => invalid_part(parts, named.number, upload),
            false => S3Error::new(Code::NoSuchUpload),
        })
    };
    parts.iter().map(matchable).collect()
}

/// With quotes or without, in either letter case.
fn part_etag(text: &str) -> Option<ETag> {
    precondition::parse_tag(text).filter(|etag| etag.parts == 0)
}

fn invalid_part(parts: &[NamedPart], number: u16, upload: UploadId) -> S3Error {
    let named = parts.iter().find(|part| part.number == number);
    let etag = named.map_or("", |part| part.etag.trim_matches('"'));
    S3Error::new(Code::InvalidPart)
        .with("UploadId", upload.to_string())
        .with("PartNumber", number.to_string())
        .with("ETag", etag)
}

fn bad_digest(algorithm: Option<ChecksumAlgorithm>) -> S3Error {
    let name = algorithm.map_or("checksum", ChecksumAlgorithm::name);
    S3Error::new(Code::BadDigest).message(format!(
        "The {} you specified did not match the calculated checksum.",
        name.to_ascii_lowercase()
    ))
}

fn other_size(said: Option<u64>, total: u64) -> S3Error {
    S3Error::new(Code::InvalidRequest).message(format!(
        "The provided 'x-amz-mp-object-size' header value {} does not match what was computed: \
         {total}",
        said.unwrap_or_default()
    ))
}

fn take_checksums(headers: &mut HeaderMap) -> Vec<(ChecksumAlgorithm, HeaderValue)> {
    let taken = ChecksumAlgorithm::ALL.into_iter().filter_map(|algorithm| {
        let value = headers.remove(checksum::header_name(algorithm))?;
        Some((algorithm, value))
    });
    taken.collect()
}

/// The whole object's checksum, if the request has one.
fn object_checksum(
    request: &Request,
    declared: &[(ChecksumAlgorithm, HeaderValue)],
    upload: Option<&Upload>,
    parts: usize,
) -> Result<Option<Checksum>, S3Error> {
    let begun_with = upload.and_then(|upload| upload.checksum);
    let kind = checksum::requested_type(&request.headers)?;
    if let (Some(kind), Some(_)) = (kind, upload)
        && begun_with.is_none_or(|(_, expected)| expected != kind)
    {
        return Err(S3Error::new(Code::InvalidRequest).message(format!(
            "The upload was created using the {} checksum mode. The complete request must use \
             the same checksum mode.",
            begun_with.map_or("null", |(_, kind)| kind.name())
        )));
    }
    let (algorithm, text) = match declared {
        [] => return Ok(None),
        [(algorithm, value)] => (*algorithm, value.to_str().unwrap_or_default()),
        _ => {
            return Err(S3Error::new(Code::InvalidRequest).message(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not \
                 allowed.",
            ));
        }
    };
    // An upload that was begun without one has the default, and cannot be checked against another.
    let of_upload = upload.map(|_| begun_with.unwrap_or(DEFAULT));
    if of_upload.is_some_and(|(expected, _)| expected != algorithm) {
        return Err(match begun_with {
            Some((expected, _)) => bad_digest(Some(expected)),
            None => checksum::mismatch(None, Some(algorithm)),
        });
    }
    // `value-parts` is how a composite one is written.
    let (value, composite) = match text.rsplit_once('-') {
        Some((value, count)) if count == parts.to_string() => (value, true),
        Some(_) => return Err(bad_digest(Some(algorithm))),
        None => (text, false),
    };
    let kind = match of_upload {
        Some((_, kind)) => kind,
        None if composite => ChecksumType::Composite,
        None => algorithm.default_type(),
    };
    match checksum::decode(algorithm, value) {
        Some(value) => Ok(Some(Checksum {
            algorithm,
            kind,
            value,
        })),
        None => Err(bad_digest(Some(algorithm))),
    }
}

fn object_size(request: &Request) -> Result<Option<u64>, S3Error> {
    let Some(text) = request.header("x-amz-mp-object-size") else {
        return Ok(None);
    };
    let invalid = |how: &str| {
        let message = format!("Value for x-amz-mp-object-size header is {how}: '{text}'");
        S3Error::new(Code::InvalidRequest).message(message)
    };
    match text.parse::<i128>() {
        Ok(size) if size < 0 => Err(invalid("less than zero")),
        Ok(size) => u64::try_from(size)
            .map(Some)
            .map_err(|_| invalid("invalid")),
        Err(_) => Err(invalid("invalid")),
    }
}

fn answer(request: &Request, written: &Written) -> Response {
    let mut xml = Writer::document("CompleteMultipartUploadResult");
    xml.text("Location", &location(request));
    xml.text("Bucket", &request.bucket_name);
    xml.text("Key", &request.key);
    xml.text("ETag", &format!("\"{}\"", written.etag));
    if let Some(checksum) = &written.checksum {
        checksum::write(&mut xml, checksum, written.etag.parts);
        xml.text("ChecksumType", checksum.kind.name());
    }
    xml.close("CompleteMultipartUploadResult");
    let mut response = response::xml(xml);
    response::set_written_version(&mut response, written.version_id);
    response
}

/// The object's URL, as the client addressed it; a proxy that ended TLS says so.
fn location(request: &Request) -> String {
    request.url_of(&Encoding::Url.apply(&request.key).replace('+', "%20"))
}
