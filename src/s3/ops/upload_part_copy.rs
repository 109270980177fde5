//! UploadPartCopy: a part whose bytes come from an object, without travelling to the client.

use std::sync::Arc;

use drystone_store::buckets::AdditionOf;
use drystone_store::objects::ReadScope;
use drystone_store::types::{ByteRange, RangeSpec};
use drystone_store::uploads::PART_SIZE_MAX_BYTES;

use crate::body::HashingBody;
use crate::context::Context;
use crate::keep_alive;
use crate::ops::multipart::{part_number, upload_id};
use crate::request::Request;
use crate::values::checksum;
use crate::values::copy_source::CopySource;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Response, iso_date};
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, request: Request) -> Result<Response, S3Error> {
    keep_alive::answer(context, request, copy).await
}

async fn copy(context: Arc<Context>, request: Arc<Request>) -> Result<Response, S3Error> {
    let number = part_number(&request)?;
    let id = upload_id(&request)?;
    let bucket = request.bucket().id;
    let source = CopySource::read(&request.headers)?;
    let upload = context.store.upload(bucket, &request.key, id).await?;
    let header = request.header("x-amz-copy-source-range");
    let source = source.open(&context, &request, scope(header)).await?;
    let size = source.handle.object().size;
    let range = range(header, size)?;
    let of = AdditionOf::Part { upload: id, number };
    context
        .check_quota(request.bucket(), of, Some(range.len()))
        .await?;
    // The store computes the checksum itself, so none can be missing.
    let algorithm = upload
        .checksum
        .map_or(checksum::DEFAULT_ALGORITHM, |(algorithm, _)| algorithm);
    let reader = source.handle.read(range).await?;
    let mut body = HashingBody::new(reader, range.len(), algorithm).with_crc64nvme();
    let part = context
        .store
        .upload_part(bucket, &request.key, id, number, &mut body)
        .await?;

    let mut xml = Writer::document("CopyPartResult");
    xml.text("LastModified", &iso_date(part.modified));
    xml.text("ETag", &format!("\"{}\"", part.etag));
    // It is there for the whole object's. It is shown only if the upload asked for one.
    if let Some(checksum) = part.checksum.as_ref().filter(|_| upload.checksum.is_some()) {
        checksum::write(&mut xml, checksum, 0);
    }
    xml.close("CopyPartResult");
    let mut response = response::xml(xml);
    source.show(&mut response);
    Ok(response)
}

/// Returns what to open the source for, whose size is not known yet.
fn scope(header: Option<&str>) -> ReadScope {
    match header.and_then(first_and_last) {
        Some((first, last)) => ReadScope::Range(RangeSpec::Between(first, last)),
        None => ReadScope::Whole,
    }
}

/// The bytes that the header names; without a header, all of them.
fn range(header: Option<&str>, size: u64) -> Result<ByteRange, S3Error> {
    let range = match header.filter(|text| !text.is_empty()) {
        None => ByteRange {
            start: 0,
            end: size,
        },
        Some(text) => within(text, size)?,
    };
    if range.len() > PART_SIZE_MAX_BYTES {
        return Err(S3Error::new(Code::InvalidRequest).message(format!(
            "The specified copy source is larger than the maximum allowable size for a copy \
             source: {PART_SIZE_MAX_BYTES}"
        )));
    }
    Ok(range)
}

fn within(text: &str, size: u64) -> Result<ByteRange, S3Error> {
    let Some((first, last)) = first_and_last(text) else {
        return Err(S3Error::invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
             and last are the zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            text,
        ));
    };
    if last < size {
        return Ok(ByteRange {
            start: first,
            end: last + 1,
        });
    }
    if first >= size {
        return Err(S3Error::new(Code::InvalidRequest)
            .message("The specified copy range is invalid for the source object size"));
    }
    let message = format!("Range specified is not valid for source object of size: {size}");
    let name = "x-amz-copy-source-range";
    Err(S3Error::invalid_argument(message, name, text))
}

fn first_and_last(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use drystone_store::types::ByteRange;

    use super::range;
    use drystone_protocol::error::Code;

    #[test]
    fn s_20_copy_source_ranges() {
        let size = 6 << 20;
        let bytes = |start, end| Some(ByteRange { start, end });
        for (header, size, expected) in [
            (None, 7, bytes(0, 7)),
            (None, 0, bytes(0, 0)),
            (Some(""), 7, bytes(0, 7)),
            (Some("bytes=0-0"), 7, bytes(0, 1)),
            (Some("bytes=2-6"), 7, bytes(2, 7)),
        ] {
            assert_eq!(range(header, size).ok(), expected, "{header:?}");
        }
        for (header, size, code) in [
            ("0-2", 7, Code::InvalidArgument),
            ("bytes=0", 7, Code::InvalidArgument),
            ("bytes=-2", 7, Code::InvalidArgument),
            ("bytes=2-", 7, Code::InvalidArgument),
            ("bytes=+1-2", 7, Code::InvalidArgument),
            ("bytes=5-2", 7, Code::InvalidArgument),
            ("bytes=hello-world", 7, Code::InvalidArgument),
            ("bytes=0-2,3-5", 7, Code::InvalidArgument),
            ("bytes=0-99999999999999999999", 7, Code::InvalidArgument),
            ("bytes=0-21", 5, Code::InvalidArgument),
            ("bytes=5-21", 5, Code::InvalidRequest),
            ("bytes=0-0", 0, Code::InvalidRequest),
            ("bytes=0-18446744073709551615", size, Code::InvalidArgument),
            ("bytes=0-6291456", size, Code::InvalidArgument),
        ] {
            let found = range(Some(header), size).map_err(|error| error.code());
            assert_eq!(found, Err(code), "{header}");
        }
    }
}
