//! Parameters that all multipart operations read.

use drystone_store::types::UploadId;
use drystone_store::uploads::PART_NUMBER_MAX;

use crate::request::Request;
use drystone_protocol::error::{Code, S3Error};

/// Reads the id of the upload. An id that was never given out names no upload, in any form.
pub fn upload_id(request: &Request) -> Result<UploadId, S3Error> {
    let text = request.query.get("uploadId").unwrap_or_default();
    text.parse().map_err(|_| S3Error::new(Code::NoSuchUpload))
}

pub fn part_number(request: &Request) -> Result<u16, S3Error> {
    let text = request.query.get("partNumber").unwrap_or_default();
    parse_part_number(text).ok_or_else(|| bad_part_number(text))
}

/// `None` for a text that cannot be the number of a part.
pub fn parse_part_number(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|n| (1..=PART_NUMBER_MAX).contains(n))
}

pub fn bad_part_number(text: &str) -> S3Error {
    S3Error::invalid_argument(
        format!("Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive"),
        "partNumber",
        text,
    )
}
