//! Responses and their common headers.

use axum::body::Body as AxumBody;
use drystone_store::types::{Timestamp, VersionId};
use http::{HeaderName, HeaderValue, StatusCode, header};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::macros::format_description;

use crate::xml::write::Writer;

pub type Body = AxumBody;
pub type Response = http::Response<Body>;

pub const XML: HeaderValue = HeaderValue::from_static("application/xml");
pub const X_AMZ_VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");
pub const X_AMZ_DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
pub const X_AMZ_BUCKET_REGION: HeaderName = HeaderName::from_static("x-amz-bucket-region");
pub const X_AMZ_BUCKET_ARN: HeaderName = HeaderName::from_static("x-amz-bucket-arn");
pub const X_AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");
pub const X_AMZ_ID_2: HeaderName = HeaderName::from_static("x-amz-id-2");

const HTTP_DATE: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const ISO_DATE: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].000Z");

pub fn new(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

pub fn empty(status: StatusCode) -> Response {
    new(status, Body::empty())
}

/// 200 with a finished document.
pub fn xml(document: Writer) -> Response {
    let mut response = new(StatusCode::OK, Body::from(document.finish()));
    response.headers_mut().insert(header::CONTENT_TYPE, XML);
    response
}

/// Sets a header to a text. One that no header can hold is left out: such a text never got past
/// the header that brought it.
pub fn set(response: &mut Response, name: HeaderName, value: impl AsRef<[u8]>) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_ref()) {
        response.headers_mut().insert(name, value);
    }
}

/// The id of a version that was just written. Of what goes into a suspended bucket S3 doesn't say
/// that it is `null`, though it says so when that is read.
pub fn set_written_version(response: &mut Response, id: Option<VersionId>) {
    if let Some(id @ VersionId::Ordered { .. }) = id {
        set(response, X_AMZ_VERSION_ID, id.to_string());
    }
}

fn moment(at: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(at.0) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, for headers.
pub fn http_date(at: Timestamp) -> String {
    moment(at).format(HTTP_DATE).unwrap_or_default()
}

/// `1994-11-06T08:49:37.000Z`, for XML: whole seconds, as in headers. Clients compare what a
/// listing says with what HEAD says.
pub fn iso_date(at: Timestamp) -> String {
    moment(at).format(ISO_DATE).unwrap_or_default()
}

/// The date formats of HTTP, and that of mail (with a zone), in whole seconds: what a condition
/// compares with.
pub fn parse_http_date(text: &str) -> Option<Timestamp> {
    const ASCTIME: &[BorrowedFormatItem<'static>] = format_description!(
        "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] \
         [year]"
    );
    let text = text.trim();
    let parsed = [HTTP_DATE, ASCTIME]
        .iter()
        .find_map(|format| time::PrimitiveDateTime::parse(text, format).ok())
        .map(time::PrimitiveDateTime::assume_utc)
        .or_else(|| OffsetDateTime::parse(text, &Rfc2822).ok())?;
    Some(Timestamp(parsed.unix_timestamp() * 1000))
}

/// Reads a date that `iso_date` wrote, with or without the fraction of a second.
pub fn parse_iso_date(text: &str) -> Option<Timestamp> {
    let parsed = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    i64::try_from(parsed.unix_timestamp_nanos() / 1_000_000)
        .ok()
        .map(Timestamp)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::types::Timestamp;

    use super::{http_date, iso_date, parse_http_date};

    #[test]
    fn s_14_dates_as_http_and_xml_write_them() {
        let at = Timestamp(784_111_777_123);
        assert_eq!(http_date(at), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(iso_date(at), "1994-11-06T08:49:37.000Z");
        let seconds = Some(Timestamp(784_111_777_000));
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), seconds);
        assert_eq!(parse_http_date("Sun Nov  6 08:49:37 1994"), seconds);
        assert_eq!(parse_http_date("Sun, 6 Nov 1994 09:49:37 +0100"), seconds);
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 -0000"), seconds);
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
