//! PostObject: an upload by a form, as browsers send it.

use std::sync::Arc;

use drystone_store::body::Body as _;
use drystone_store::buckets::AdditionOf;
use drystone_store::objects::{PutObject, Written};
use http::{HeaderMap, StatusCode, header};

use crate::context::Context;
use crate::request::Request;
use crate::values::attributes;
use crate::values::checksum::{self, DEFAULT_ALGORITHM};
use crate::values::precondition;
use crate::values::tags::{self, OBJECT_TAGS_MAX};
use drystone_protocol::error::S3Error;
use drystone_protocol::form_fields::Fields;
use drystone_protocol::percent::encode_text;
use drystone_protocol::response::{self, Body, Response};
use drystone_protocol::xml;
use drystone_protocol::xml::write::Writer;

pub async fn handle(context: Arc<Context>, mut request: Request) -> Result<Response, S3Error> {
    let mut attributes = attributes::read(&request)?;
    let fields = request.form.take().unwrap_or_default();
    if let Some(tagging) = fields.get("tagging") {
        let root = xml::read::parse(tagging.as_bytes(), "Tagging")?;
        attributes.tags = tags::read(&root, OBJECT_TAGS_MAX)?;
    }
    let put = PutObject {
        key: request.key.clone(),
        attributes,
        condition: precondition::of_write(&request.headers),
    };
    let bucket = request.bucket().id;
    let mut body = request.take_file(DEFAULT_ALGORITHM)?;
    let of = AdditionOf::Object {
        key: request.key.clone(),
    };
    context
        .check_quota(request.bucket(), of, body.size_hint())
        .await?;
    let written = context.store.put_object(bucket, put, &mut body).await?;
    Ok(answer(&request, &fields, &written))
}

fn answer(request: &Request, fields: &Fields, written: &Written) -> Response {
    let etag = format!("\"{}\"", written.etag);
    let location = request.url_of(&encode_text(&request.key));
    let redirect = fields
        .get("success_action_redirect")
        .or_else(|| fields.get("redirect"))
        .and_then(|url| redirect(url, &request.bucket_name, &request.key, &etag));
    let mut response = match (redirect, fields.get("success_action_status")) {
        (Some(url), _) => {
            let mut response = response::empty(StatusCode::SEE_OTHER);
            response::set(&mut response, header::LOCATION, url);
            response
        }
        (None, Some("201")) => created(request, &location, &etag),
        (None, Some("200")) => response::empty(StatusCode::OK),
        (None, _) => response::empty(StatusCode::NO_CONTENT),
    };
    if !response.headers().contains_key(header::LOCATION) {
        response::set(&mut response, header::LOCATION, location);
    }
    response::set(&mut response, header::ETAG, etag);
    response::set_written_version(&mut response, written.version_id);
    if let Some(checksum) = &written.checksum {
        checksum::set_headers(response.headers_mut(), checksum, written.etag.parts);
    }
    response
}

/// The document of a 201, which is in no namespace.
fn created(request: &Request, location: &str, etag: &str) -> Response {
    let mut xml = Writer::new();
    xml.open("PostResponse");
    xml.text("Location", location);
    xml.text("Bucket", &request.bucket_name);
    xml.text("Key", &request.key);
    xml.text("ETag", etag);
    xml.close("PostResponse");
    let mut response = response::new(StatusCode::CREATED, Body::from(xml.finish()));
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, response::XML);
    response
}

/// The address that the browser goes to next, with what it wrote in the query. A text that is no
/// address, or is one within this server, counts as none.
fn redirect(url: &str, bucket: &str, key: &str, etag: &str) -> Option<String> {
    let lower = url.get(..8)?.to_ascii_lowercase();
    let is_absolute = lower.starts_with("http://") || lower == "https://";
    if !is_absolute || url.chars().any(char::is_control) {
        return None;
    }
    let form = |text: &str| encode_text(text).replace("%20", "+");
    let (place, fragment) = match url.split_once('#') {
        Some((place, fragment)) => (place, format!("#{fragment}")),
        None => (url, String::new()),
    };
    let joint = if place.contains('?') { '&' } else { '?' };
    let (bucket, key, etag) = (form(bucket), form(key), form(etag));
    Some(format!(
        "{place}{joint}bucket={bucket}&key={key}&etag={etag}{fragment}"
    ))
}

#[cfg(test)]
mod tests {
    use super::redirect;

    #[test]
    fn s_15_a_redirect_tells_what_was_written() {
        let to = |url| redirect(url, "b", "a/b c?é", "\"0f\"");
        let told = "bucket=b&key=a%2Fb+c%3F%C3%A9&etag=%220f%22";
        assert_eq!(to("http://h/x"), Some(format!("http://h/x?{told}")));
        assert_eq!(
            to("HTTPS://h?a=b c"),
            Some(format!("HTTPS://h?a=b c&{told}"))
        );
        assert_eq!(to("http://h#f"), Some(format!("http://h?{told}#f")));
        for nowhere in [
            "/x",
            "",
            "ftp://h/",
            "javascript:alert(1)",
            "http://h/\r\nX: y",
        ] {
            assert_eq!(to(nowhere), None, "{nowhere}");
        }
    }
}
