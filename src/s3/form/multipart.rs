//! `multipart/form-data` (RFC 7578, RFC 2046) taken apart as it comes: pure, no I/O.
//!
//! Bytes go in by [`Reader::push`], parts come out by [`Reader::next_event`]. When it wants more,
//! the reader keeps a beginning of a delimiter, the padding behind one, or a part's head, and each
//! of them has a bound. A part's bytes are given out as they come.

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem::{self, Finder};

use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::percent::Decoded;

/// A boundary's length, by RFC 2046.
const BOUNDARY_LEN_MAX: usize = 70;
/// Blanks behind a delimiter, which nobody sends.
const PADDING_LEN_MAX: usize = 64;
/// The headers of a part.
const PART_HEAD_BYTES_MAX: usize = 64 << 10;

/// The content of a part's headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    /// As sent; `None` where there is none, which is not the same as an empty one.
    pub filename: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Part(Part),
    /// Some of the part's bytes, never none.
    Data(Bytes),
    PartEnd,
    /// The last delimiter; what follows means nothing.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    /// Just behind a delimiter, which ends a part if one is open.
    Line {
        part: bool,
    },
    Head,
    Body,
    /// Behind the last delimiter, of which nothing is said yet.
    Last,
    End,
}

#[derive(Debug)]
pub struct Reader {
    /// A line break, two dashes and the boundary.
    delimiter: Finder<'static>,
    buffer: BytesMut,
    consumed: u64,
    state: State,
}

impl Reader {
    /// `content_type`: the request's.
    pub fn new(content_type: &str) -> Result<Reader, S3Error> {
        let boundary = boundary(content_type).ok_or_else(malformed)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Ok(Reader {
            delimiter: Finder::new(&delimiter).into_owned(),
            // The first delimiter may stand at the very beginning, without its line break.
            buffer: BytesMut::from(&b"\r\n"[..]),
            consumed: 0,
            state: State::Preamble,
        })
    }

    pub fn push(&mut self, input: &[u8]) {
        self.buffer.extend_from_slice(input);
    }

    /// How many bytes were taken so far (and the two that stand before the first).
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// How many were pushed and are still to be looked at.
    pub fn buffered(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Length of the shortest end that a body can have.
    pub fn ending_len(&self) -> u64 {
        self.delimiter.needle().len() as u64 + 2
    }

    /// The next event; `None` when more input is needed, and always behind the end.
    pub fn next_event(&mut self) -> Result<Option<Event>, S3Error> {
        loop {
            match self.state {
                State::Preamble => match self.delimiter.find(&self.buffer) {
                    Some(at) => {
                        self.consume(at + self.delimiter.needle().len());
                        self.state = State::Line { part: false };
                    }
                    None => {
                        self.consume(self.certain_len());
                        return Ok(None);
                    }
                },
                State::Line { part } => match self.end_of_delimiter()? {
                    None => return Ok(None),
                    Some(next) => {
                        self.state = next;
                        if part {
                            return Ok(Some(Event::PartEnd));
                        }
                    }
                },
                State::Head => {
                    let Some(len) = memmem::find(&self.buffer, b"\r\n\r\n") else {
                        return match self.buffer.len() > PART_HEAD_BYTES_MAX {
                            true => Err(malformed()),
                            false => Ok(None),
                        };
                    };
                    let part = read_head(&self.buffer[..len])?;
                    self.consume(len + 4);
                    self.state = State::Body;
                    return Ok(Some(Event::Part(part)));
                }
                State::Body => {
                    let data = self.body();
                    if data.is_some() || self.state == State::Body {
                        return Ok(data);
                    }
                }
                State::Last => {
                    self.state = State::End;
                    return Ok(Some(Event::End));
                }
                State::End => {
                    self.consume(self.buffer.len());
                    return Ok(None);
                }
            }
        }
    }

    /// Two dashes end it all; padding and a line break begin a part's head. Anything else, as a
    /// line that merely begins like a delimiter, must not stand in a well-formed body.
    fn end_of_delimiter(&mut self) -> Result<Option<State>, S3Error> {
        if self.buffer.starts_with(b"--") {
            self.consume(2);
            return Ok(Some(State::Last));
        }
        let is_padding = |byte: &&u8| matches!(**byte, b' ' | b'\t');
        let padding = self.buffer.iter().take_while(is_padding).count();
        if padding > PADDING_LEN_MAX {
            return Err(malformed());
        }
        match &self.buffer[padding..] {
            [b'\r', b'\n', ..] => {
                self.consume(padding + 2);
                Ok(Some(State::Head))
            }
            [] | [b'\r'] => Ok(None),
            [b'-'] if padding == 0 => Ok(None),
            _ => Err(malformed()),
        }
    }

    fn body(&mut self) -> Option<Event> {
        let len = match self.delimiter.find(&self.buffer) {
            Some(0) => {
                self.consume(self.delimiter.needle().len());
                self.state = State::Line { part: true };
                return None;
            }
            Some(at) => at,
            None => self.certain_len(),
        };
        if len == 0 {
            return None;
        }
        self.consumed += len as u64;
        Some(Event::Data(self.buffer.split_to(len).freeze()))
    }

    /// How much of the buffer is surely no beginning of a delimiter. One has a single carriage
    /// return, its first byte, so only the last in the buffer can begin it.
    fn certain_len(&self) -> usize {
        match memchr::memrchr(b'\r', &self.buffer) {
            Some(at) if self.delimiter.needle().starts_with(&self.buffer[at..]) => at,
            _ => self.buffer.len(),
        }
    }

    fn consume(&mut self, len: usize) {
        self.buffer.advance(len);
        self.consumed += len as u64;
    }
}

pub fn malformed() -> S3Error {
    S3Error::new(Code::MalformedPOSTRequest)
}

/// The boundary that a Content-Type names; `None` for one that cannot be.
fn boundary(content_type: &str) -> Option<String> {
    let (_, parameters) = content_type.split_once(';')?;
    let boundary = parameter(parameters, "boundary")?;
    let visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    let is_valid = (1..=BOUNDARY_LEN_MAX).contains(&boundary.len())
        && boundary.bytes().all(visible)
        && !boundary.ends_with(' ');
    is_valid.then_some(boundary)
}

/// A part's headers: of them only Content-Disposition counts here.
fn read_head(head: &[u8]) -> Result<Part, S3Error> {
    let head = std::str::from_utf8(head).map_err(|_| malformed())?;
    let mut disposition = None;
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or_else(malformed)?;
        // A continued line is as good as a header without a name.
        if name.is_empty() || name.starts_with([' ', '\t']) {
            return Err(malformed());
        }
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some()
        {
            return Err(malformed());
        }
    }
    let (kind, parameters) = disposition
        .and_then(|value| value.split_once(';'))
        .ok_or_else(malformed)?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(malformed());
    }
    let filename = parameter(parameters, "filename")
        .or_else(|| extended(&parameter(parameters, "filename*")?));
    Ok(Part {
        name: parameter(parameters, "name").ok_or_else(malformed)?,
        filename,
    })
}

/// The value of a parameter in `; name=token; name="quoted string"`. Where the list stops making
/// sense nothing more is found.
fn parameter(list: &str, wanted: &str) -> Option<String> {
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start_matches([' ', '\t']);
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

/// Reads up to the closing quote; gives what stands behind it too. A backslash escapes a quote or
/// a backslash and is itself before anything else: there are clients that send paths unescaped.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

/// `UTF-8''percent-encoded`, which forms should not have and some libraries send.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, encoded) = rest.split_once('\'')?;
    let decoded = Decoded::read(encoded);
    let is_text = decoded.is_utf8() && charset.eq_ignore_ascii_case("utf-8");
    is_text.then(|| decoded.text().to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Event, Part, Reader, boundary};

    const TYPE: &str = "multipart/form-data; boundary=bb";

    /// Name, file name and bytes.
    type Read = (String, Option<String>, Vec<u8>);

    /// The parts of a body that comes in pieces of this size.
    fn read_in(body: &[u8], size: usize) -> Result<Vec<Read>, String> {
        let mut reader = Reader::new(TYPE).unwrap();
        let mut parts = Vec::new();
        let mut open: Option<(Part, Vec<u8>)> = None;
        let mut pieces = body.chunks(size);
        loop {
            match reader.next_event().map_err(|error| error.to_string())? {
                Some(Event::Part(part)) => open = Some((part, Vec::new())),
                Some(Event::Data(data)) => open.as_mut().unwrap().1.extend_from_slice(&data),
                Some(Event::PartEnd) => {
                    let (part, data) = open.take().unwrap();
                    parts.push((part.name, part.filename, data));
                }
                Some(Event::End) => return Ok(parts),
                None => reader.push(pieces.next().ok_or("cut off")?),
            }
        }
    }

    /// However the bytes are cut up, the outcome is one and the same.
    fn read(body: &[u8]) -> Result<Vec<Read>, String> {
        let whole = read_in(body, body.len().max(1));
        for size in [1, 2, 3, 5, 7, 11] {
            assert_eq!(read_in(body, size), whole, "{size}");
        }
        whole
    }

    fn one(head: &str) -> Option<(String, Option<String>)> {
        let body = format!("--bb\r\n{head}\r\n\r\nx\r\n--bb--");
        let mut parts = read(body.as_bytes()).ok()?;
        let (name, filename, data) = parts.pop().unwrap();
        assert_eq!(data, b"x");
        Some((name, filename))
    }

    #[test]
    fn s_15_parts_come_out_as_they_went_in() {
        let body =
            b"ignored\r\n--bb \t\r\ncontent-disposition: Form-Data; name=a\r\n\r\n\r\n--bb\r\n\
            Content-Type: text/plain\r\nContent-Disposition: form-data; name=\"file\"; \
            filename=\"f\"\r\nX: y\r\n\r\n\r\n--b\r\n\r\n--\r\r\n--bb--\r\nignored too";
        let parts = read(body).unwrap();
        assert_eq!(parts[0], ("a".into(), None, Vec::new()));
        let data = b"\r\n--b\r\n\r\n--\r".to_vec();
        assert_eq!(parts[1], ("file".into(), Some("f".into()), data));
        assert_eq!(parts.len(), 2);
        assert_eq!(read(b"--bb--").unwrap(), []);
    }

    #[test]
    fn s_15_names_are_quoted_in_many_ways() {
        let named = |name: &str, file: Option<&str>| Some((name.into(), file.map(Into::into)));
        let head = |rest: &str| one(&format!("Content-Disposition: form-data; {rest}"));
        assert_eq!(head("name=a"), named("a", None));
        assert_eq!(head("NAME = \"a b\" ; x=y"), named("a b", None));
        assert_eq!(head(r#"name="a;\"b\"=\\""#), named(r#"a;"b"=\"#, None));
        assert_eq!(head("filename=\"\"; name=f"), named("f", Some("")));
        let windows = r#"name="f"; filename="C:\dir\x.txt""#;
        assert_eq!(head(windows), named("f", Some(r"C:\dir\x.txt")));
        let both = "name=f; filename*=UTF-8''%e2%82%ac.txt";
        assert_eq!(head(both), named("f", Some("€.txt")));
        assert_eq!(head("name=\"€\"; filename=\"ü\""), named("€", Some("ü")));
        assert_eq!(one("Content-Disposition: attachment; name=a"), None);
        for bad in ["filename=a", "name", "name=\"a", ""] {
            assert_eq!(head(bad), None, "{bad}");
        }
    }

    #[test]
    fn s_15_what_is_no_form_is_malformed() {
        let head = "Content-Disposition: form-data; name=a";
        for body in [
            format!("--bbb\r\n{head}\r\n\r\nx\r\n--bb--"),
            format!("--bb\n{head}\n\nx\n--bb--"),
            format!("--bb\r\n{head}\r\n{head}\r\n\r\nx\r\n--bb--"),
            format!("--bb\r\n{head}\r\n folded: x\r\n\r\nx\r\n--bb--"),
            format!("--bb\r\n{head}\r\nno header\r\n\r\nx\r\n--bb--"),
            format!("--bb\r\n{head}\r\n\r\nx\r\n--bb-x"),
            format!("--bb\r\n{head}\r\n\r\nx\r\n--bbx"),
            "--bb\r\n\r\n\r\nx\r\n--bb--".to_owned(),
            format!("--bb\r\n{head}\r\n\r\nx"),
            String::new(),
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(read(b"--bb\r\nContent-Disposition: form-data; name=\xff\r\n\r\n").is_err());
    }

    /// However long the input is, only a part's bytes are ever many.
    #[test]
    fn a_60_a_reader_keeps_little_whatever_comes() {
        let part = &b"--bb\r\nContent-Disposition: form-data; name=a\r\n\r\nx"[..];
        for (start, endless) in [
            (&b""[..], &b"no delimiter"[..]),
            (b"--bb", b" "),
            (b"--bb", b"\t \t"),
            (b"--bb\r\n", b"X: y\r\n"),
            (b"--bb\r\n", b"z"),
            (part, b"y"),
            (part, b"\r"),
            (part, b"\r\n--b"),
            (&[part, &b"\r\n--bb"[..]].concat(), b"    "),
            (&[part, &b"\r\n--bb--"[..]].concat(), b"rest"),
        ] {
            let mut reader = Reader::new(TYPE).unwrap();
            reader.push(start);
            let mut refused = false;
            for _ in 0..3000 {
                refused = loop {
                    match reader.next_event() {
                        Ok(Some(_)) => {}
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
                let kept = reader.buffered();
                assert!(kept < 65 << 10, "{kept} bytes of {endless:?}");
                if refused {
                    break;
                }
                reader.push(&endless.repeat(50));
            }
            assert_eq!(refused, b" \tXz".contains(&endless[0]), "{endless:?}");
        }
    }

    #[test]
    fn s_15_boundaries() {
        for (parameters, expected) in [
            ("boundary=a", Some("a")),
            (
                "charset=utf-8; BOUNDARY=\"a b'()+_,-./:=?\"",
                Some("a b'()+_,-./:=?"),
            ),
            ("boundary=--a", Some("--a")),
            ("boundary=\"a \"", None),
            ("boundary=", None),
            ("boundary=é", None),
            ("", None),
        ] {
            let found = boundary(&format!("multipart/form-data; {parameters}"));
            assert_eq!(found.as_deref(), expected, "{parameters}");
        }
        let long = "b".repeat(71);
        assert!(Reader::new(&format!("multipart/form-data; boundary={long}")).is_err());
        assert!(Reader::new(&format!("multipart/form-data; boundary={}", &long[1..])).is_ok());
        assert!(Reader::new("multipart/form-data").is_err());
    }
}
