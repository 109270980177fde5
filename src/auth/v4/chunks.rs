//! `aws-chunked` bodies: framing, and the chain of chunk signatures.
//!
//! [`Decoder`] accepts the bytes as they arrive, in pieces of any size, and returns the data with
//! the marks between it. It does no I/O, copies no data and holds at most one line, so a chunk of
//! any declared size costs nothing. [`SignatureChain`] computes what each chunk must be signed
//! with.
//!
//! Data is passed on before its chunk's signature is known to be right: the hash runs along, and
//! nothing of a body becomes visible before its end, which is an error if any signature was wrong.

use bytes::{Buf as _, Bytes};

use crate::v4::canonical::{AmzDate, EMPTY_SHA256, Scope, SigningKey, same_signature};
use drystone_protocol::error::{Code, S3Error};

/// A chunk header or trailer line is at most this long.
const LINE_LEN_MAX: usize = 1024;
/// A trailer has at most this many lines, blank ones included.
const TRAILER_LINES_MAX: usize = 16;
/// Line ends that some clients add after the trailer.
const SLACK_LEN_MAX: usize = 4;

const TRAILER_SIGNATURE: &str = "x-amz-trailer-signature";

/// Signs chunk after chunk, each with the signature before it.
#[derive(Clone, Debug)]
pub struct SignatureChain {
    key: SigningKey,
    date: String,
    scope: String,
    previous: String,
}

impl SignatureChain {
    /// `seed`: the signature of the request's headers.
    pub fn new(key: SigningKey, date: &AmzDate, scope: &Scope, seed: String) -> SignatureChain {
        SignatureChain {
            key,
            date: date.as_str().to_owned(),
            scope: scope.to_string(),
            previous: seed,
        }
    }

    /// The signature of the next chunk, whose data has this SHA-256.
    pub fn sign_chunk(&mut self, sha256: &[u8; 32]) -> &str {
        self.advance(&format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{}",
            self.date,
            self.scope,
            self.previous,
            hex::encode(sha256)
        ))
    }

    /// The signature of the trailer: `name:value\n` for each of its headers.
    pub fn sign_trailer(&mut self, sha256: &[u8; 32]) -> &str {
        self.advance(&format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}\n{}",
            self.date,
            self.scope,
            self.previous,
            hex::encode(sha256)
        ))
    }

    /// Checks the signature of the next chunk.
    pub fn verify_chunk(&mut self, sha256: &[u8; 32], provided: &str) -> Result<(), S3Error> {
        match same_signature(self.sign_chunk(sha256), provided) {
            true => Ok(()),
            false => Err(S3Error::new(Code::SignatureDoesNotMatch)),
        }
    }

    pub fn verify_trailer(&mut self, sha256: &[u8; 32], provided: &str) -> Result<(), S3Error> {
        match same_signature(self.sign_trailer(sha256), provided) {
            true => Ok(()),
            false => Err(S3Error::new(Code::SignatureDoesNotMatch)),
        }
    }

    fn advance(&mut self, string_to_sign: &str) -> &str {
        self.previous = self.key.sign(string_to_sign);
        &self.previous
    }
}

/// The pieces that a body is made of, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Some of a chunk's data; never empty.
    Data(Bytes),
    /// A chunk ended, the last one of no data included. The signature is empty where chunks are
    /// not signed.
    ChunkEnd { signature: String },
    /// The trailer ended, and with it the body.
    End(Trailer),
}

/// Headers that came after the data.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// In order of arrival; names in lower case.
    pub headers: Vec<(String, String)>,
    /// `x-amz-trailer-signature`.
    pub signature: Option<String>,
}

impl Trailer {
    /// The text that its signature covers.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.headers {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        }
        out
    }
}

/// Takes an `aws-chunked` body apart.
#[derive(Debug)]
pub struct Decoder {
    signed: bool,
    /// A trailer may follow the last chunk.
    trailing: bool,
    /// Data still to come, by the length the client declared.
    remaining: u64,
    state: State,
    input: Bytes,
    line: Vec<u8>,
    signature: String,
    trailer: Trailer,
    trailer_lines: usize,
    slack: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Data { left: u64 },
    DataEnd,
    Trailer,
    Done,
}

impl Decoder {
    /// `decoded_length`: the data's length as the client declares it.
    pub fn new(signed: bool, trailing: bool, decoded_length: u64) -> Decoder {
        Decoder {
            signed,
            trailing,
            remaining: decoded_length,
            state: State::Header,
            input: Bytes::new(),
            line: Vec::new(),
            signature: String::new(),
            trailer: Trailer::default(),
            trailer_lines: 0,
            slack: 0,
        }
    }

    /// Feeds it the next piece of the body. The piece before must be used up: `next_event` returned
    /// `None`.
    pub fn push(&mut self, input: Bytes) {
        assert!(self.input.is_empty(), "a piece was pushed over another");
        self.input = input;
    }

    /// The next event, `None` when more input is needed.
    pub fn next_event(&mut self) -> Result<Option<Event>, S3Error> {
        while !self.input.is_empty() {
            match self.state {
                State::Header => {
                    if let Some(line) = self.take_line()? {
                        self.chunk_header(&line)?;
                        if self.state == State::Trailer {
                            return Ok(Some(self.chunk_end()));
                        }
                    }
                }
                State::Data { left } => {
                    let len = self
                        .input
                        .len()
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.state = match left - len as u64 {
                        0 => State::DataEnd,
                        left => State::Data { left },
                    };
                    return Ok(Some(Event::Data(self.input.split_to(len))));
                }
                State::DataEnd => {
                    if let Some(line) = self.take_line()? {
                        if line != b"\r" {
                            return Err(malformed_chunk());
                        }
                        self.state = State::Header;
                        return Ok(Some(self.chunk_end()));
                    }
                }
                State::Trailer => {
                    if let Some(line) = self.take_line()?
                        && self.trailer_line(&line)?
                    {
                        return self.end().map(Some);
                    }
                }
                State::Done => self.skip_slack()?,
            }
        }
        Ok(None)
    }

    /// Ends the body. Returns the last event where the client left out the final line end.
    pub fn finish(&mut self) -> Result<Option<Event>, S3Error> {
        match self.state {
            State::Done => Ok(None),
            State::Trailer if self.line.is_empty() => self.end().map(Some),
            _ => Err(malformed_chunk()),
        }
    }

    /// A line without its LF; `None` until all of it is there.
    fn take_line(&mut self) -> Result<Option<Vec<u8>>, S3Error> {
        let end = self.input.iter().position(|byte| *byte == b'\n');
        let len = end.unwrap_or(self.input.len());
        if self.line.len() + len > LINE_LEN_MAX {
            return Err(malformed_chunk());
        }
        self.line.extend_from_slice(&self.input[..len]);
        self.input.advance(end.map_or(len, |end| end + 1));
        Ok(end.map(|_| std::mem::take(&mut self.line)))
    }

    /// `SIZE;chunk-signature=HEX\r`, or without signatures `SIZE\r`.
    fn chunk_header(&mut self, line: &[u8]) -> Result<(), S3Error> {
        let text = std::str::from_utf8(line).map_err(|_| malformed_chunk())?;
        let text = text.strip_suffix('\r').ok_or_else(malformed_chunk)?;
        let (size, extension) = text.split_once(';').unwrap_or((text, ""));
        let size = parse_size(size)?;
        if self.signed {
            let signature = extension.trim().strip_prefix("chunk-signature=");
            self.signature = signature.ok_or_else(malformed_chunk)?.to_owned();
        }
        self.remaining = self.remaining.checked_sub(size).ok_or_else(other_length)?;
        self.state = match size {
            0 if self.remaining > 0 => return Err(other_length()),
            0 => State::Trailer,
            left => State::Data { left },
        };
        Ok(())
    }

    fn chunk_end(&mut self) -> Event {
        Event::ChunkEnd {
            signature: std::mem::take(&mut self.signature),
        }
    }

    /// Reads a line of the trailer; true if it was the last.
    ///
    /// Lines end with CRLF. A lone LF is accepted too, and blank lines before the signature: AWS's
    /// page writes it so, and clients that follow the page send it.
    fn trailer_line(&mut self, line: &[u8]) -> Result<bool, S3Error> {
        self.trailer_lines += 1;
        if self.trailer_lines > TRAILER_LINES_MAX {
            return Err(malformed_trailer());
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(!self.owes_signature());
        }
        let text = std::str::from_utf8(line).map_err(|_| malformed_trailer())?;
        let (name, value) = text.split_once(':').ok_or_else(malformed_trailer)?;
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_owned());
        if !self.trailing || self.trailer.signature.is_some() {
            return Err(malformed_trailer());
        }
        match name == TRAILER_SIGNATURE {
            true => self.trailer.signature = Some(value),
            false => self.trailer.headers.push((name, value)),
        }
        Ok(false)
    }

    fn owes_signature(&self) -> bool {
        self.signed && self.trailing && self.trailer.signature.is_none()
    }

    fn end(&mut self) -> Result<Event, S3Error> {
        if self.owes_signature() {
            return Err(malformed_trailer());
        }
        self.state = State::Done;
        Ok(Event::End(std::mem::take(&mut self.trailer)))
    }

    fn skip_slack(&mut self) -> Result<(), S3Error> {
        self.slack += self.input.len();
        let blank = self.input.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
        if !blank || self.slack > SLACK_LEN_MAX {
            return Err(malformed_chunk());
        }
        self.input.clear();
        Ok(())
    }
}

/// One to sixteen hex digits, nothing else: no sign, no prefix, no space.
fn parse_size(text: &str) -> Result<u64, S3Error> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits || !(1..=16).contains(&text.len()) {
        return Err(malformed_chunk());
    }
    u64::from_str_radix(text, 16).map_err(|_| malformed_chunk())
}

/// A body that cannot be decoded or ends too early: one answer, as of S3.
fn malformed_chunk() -> S3Error {
    S3Error::new(Code::IncompleteBody).message("The request body terminated unexpectedly")
}

/// The chunks hold fewer or more bytes than the client said.
fn other_length() -> S3Error {
    S3Error::new(Code::IncompleteBody)
}

fn malformed_trailer() -> S3Error {
    S3Error::new(Code::MalformedTrailerError)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_05_e_the_final_chunk_comes_only_after_all_data() {
        let mut decoder = Decoder::new(false, true, 5);
        decoder.push(Bytes::from_static(b"0\r\n\r\n"));
        let error = decoder.next_event().unwrap_err();
        assert_eq!(error.code(), Code::IncompleteBody);
    }
}
