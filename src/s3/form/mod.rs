//! POST forms: an upload as a browser sends it, its parameters in fields before the file.
//!
//! [`Form::receive`] takes the fields, up to the file's first byte. From there on the file is a
//! body like another: it yields the file's bytes alone, and an error where the form is broken,
//! where it is not as long as it may be, or where the request ends before the form does. Who sent
//! it (`auth::post_form`) and what its policy allows ([`policy`]) is decided in between.

mod multipart;
pub mod policy;

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body as Source, Bytes};
use drystone_store::uploads::PART_SIZE_MAX_BYTES;
use http::{HeaderMap, header};
use http_body::Frame;

use self::multipart::{Event, Reader};
use crate::body;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::form_fields::Fields;

/// Everything before the file's first byte, as AWS bounds it. It bounds the number of fields too.
const FIELDS_BYTES_MAX: u64 = 20 << 10;
/// Before the file, bytes are looked at in pieces of this size: a large file behind the fields does
/// not pass through the reader at once.
const PIECE_BYTES: usize = 16 << 10;
/// The most bytes behind the file; nobody looks at them.
const REST_BYTES_MAX: u64 = 1 << 20;

/// A form whose fields are read and whose file is still to come.
#[derive(Debug)]
pub struct Form {
    pub fields: Fields,
    /// How long the file may be.
    pub allowed_len: RangeInclusive<u64>,
    source: Source,
    reader: Reader,
    /// How long the file is if nothing follows it.
    proposed_len: Option<u64>,
}

impl Form {
    /// Reads the fields of a request's body. All that comes behind the file is no field.
    pub async fn receive(headers: &HeaderMap, mut source: Source) -> Result<Form, S3Error> {
        let mut reader = Reader::new(content_type(headers)?)?;
        let mut fields = Fields::default();
        let mut open: Option<(String, Vec<u8>)> = None;
        let mut ahead = Bytes::new();
        loop {
            let event = reader.next_event()?;
            check_fields_len(reader.consumed())?;
            match event {
                Some(Event::Part(part)) if part.name.eq_ignore_ascii_case("file") => {
                    if let Some(name) = &part.filename {
                        fields.expand(name);
                    }
                    reader.push(&ahead);
                    let known = content_length(headers);
                    let around = reader.consumed() + reader.ending_len();
                    return Ok(Form {
                        fields,
                        allowed_len: 0..=PART_SIZE_MAX_BYTES,
                        source,
                        reader,
                        proposed_len: known.map(|len| len.saturating_sub(around)),
                    });
                }
                Some(Event::Part(part)) => open = Some((part.name, Vec::new())),
                Some(Event::Data(data)) => {
                    if let Some((_, value)) = &mut open {
                        value.extend_from_slice(&data);
                    }
                }
                Some(Event::PartEnd) => {
                    if let Some((name, value)) = open.take() {
                        let value = String::from_utf8(value).map_err(|_| multipart::malformed())?;
                        fields.push(&name, &value);
                    }
                }
                Some(Event::End) => return Err(no_file()),
                None => {
                    check_fields_len(reader.consumed() + reader.buffered())?;
                    if ahead.is_empty() {
                        let data = body::next_data(&mut source).await?;
                        ahead = data.ok_or_else(multipart::malformed)?;
                    }
                    reader.push(&ahead.split_to(ahead.len().min(PIECE_BYTES)));
                }
            }
        }
    }

    /// The file as a body of its own, beside the fields. One that is surely too long is refused
    /// before it has come.
    pub fn into_file(self) -> Result<(Option<Fields>, Source), S3Error> {
        let (least, most) = self.allowed_len.into_inner();
        let most = most.min(PART_SIZE_MAX_BYTES);
        let proposed = self.proposed_len.unwrap_or_default();
        if proposed > most + REST_BYTES_MAX {
            return Err(too_large(proposed, most));
        }
        let file = Source::new(File {
            source: self.source,
            reader: self.reader,
            allowed_len: least..=most,
            proposed_len: self.proposed_len,
            received: 0,
            rest: None,
        });
        Ok((Some(self.fields), file))
    }
}

fn content_type(headers: &HeaderMap) -> Result<&str, S3Error> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let kind = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    text.filter(|text| kind(text).eq_ignore_ascii_case("multipart/form-data"))
        .ok_or_else(|| {
            S3Error::new(Code::PreconditionFailed).with(
                "Condition",
                "Bucket POST must be of the enclosure-type multipart/form-data",
            )
        })
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

fn check_fields_len(len: u64) -> Result<(), S3Error> {
    // Two bytes stand in the reader before the first that came.
    if len <= FIELDS_BYTES_MAX + 2 {
        return Ok(());
    }
    Err(S3Error::new(Code::MaxPostPreDataLengthExceeded)
        .with("MaxPostPreDataLengthBytes", FIELDS_BYTES_MAX.to_string()))
}

fn too_large(proposed: u64, most: u64) -> S3Error {
    S3Error::new(Code::EntityTooLarge)
        .with("ProposedSize", proposed.to_string())
        .with("MaxSizeAllowed", most.to_string())
}

fn no_file() -> S3Error {
    let message = "POST requires exactly one file upload per request.";
    S3Error::invalid_argument(message, "file", "0")
}

/// The file's bytes on their way.
struct File {
    source: Source,
    reader: Reader,
    allowed_len: RangeInclusive<u64>,
    proposed_len: Option<u64>,
    received: u64,
    /// How much came behind the file; `None` while that lasts.
    rest: Option<u64>,
}

impl File {
    /// Takes what the reader holds: some of the file, or its end, or nothing yet.
    fn advance(&mut self) -> Result<Option<Bytes>, S3Error> {
        match self.reader.next_event()? {
            Some(Event::Data(data)) => {
                self.received += data.len() as u64;
                let most = *self.allowed_len.end();
                if self.received > most {
                    let proposed = self.proposed_len.unwrap_or_default().max(self.received);
                    return Err(too_large(proposed, most));
                }
                Ok(Some(data))
            }
            Some(_) => {
                let least = *self.allowed_len.start();
                if self.received < least {
                    return Err(S3Error::new(Code::EntityTooSmall)
                        .with("ProposedSize", self.received.to_string())
                        .with("MinSizeAllowed", least.to_string()));
                }
                self.rest = Some(self.reader.buffered());
                Ok(None)
            }
            None => Ok(None),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), S3Error> {
        match &mut self.rest {
            None => self.reader.push(data),
            Some(rest) => *rest += data.len() as u64,
        }
        match self.rest {
            Some(rest) if rest > REST_BYTES_MAX => Err(multipart::malformed()),
            _ => Ok(()),
        }
    }
}

impl http_body::Body for File {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.rest.is_none() {
                match self.advance() {
                    Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Err(error) => return Poll::Ready(Some(Err(error.into()))),
                    Ok(None) => {}
                }
            }
            let taken = match ready!(Pin::new(&mut self.source).poll_frame(cx)) {
                // The request is at its end, and so must the file be.
                None if self.rest.is_some() => return Poll::Ready(None),
                None => Err(multipart::malformed().into()),
                Some(Err(error)) => Err(BoxError::from(error)),
                Some(Ok(frame)) => match frame.data_ref() {
                    Some(data) => self.take(data).map_err(BoxError::from),
                    None => Ok(()),
                },
            };
            if let Err(error) = taken {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}
