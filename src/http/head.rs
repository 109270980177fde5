//! The head of an HTTP/1 message and the framing of its body, judged strictly: pure.
//!
//! Two programs that read one message differently can be made to see different messages (A-28).
//! So whatever leaves room for doubt is refused here, before anything else has read it: bare line
//! feeds, folded lines, space before a colon, more than one length, a length beside chunks, any
//! transfer coding but `chunked`.

use http::{HeaderName, Method, Uri, header};

use drystone_protocol::error::Code;

/// Headers of one message: as many as fit into S3's 8 KiB, if they say anything.
pub const HEADERS_LEN_MAX: usize = 1024;
/// The line before a chunk, and the trailer after the last one.
const CHUNK_LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 << 10;

/// Headers of one value that signatures cover. Of two values one reader takes the first, another
/// both, so that one could be added to a signed request. No client sends two.
const SINGLE: [HeaderName; 3] = [
    header::CONTENT_TYPE,
    HeaderName::from_static("content-md5"),
    header::DATE,
];

/// How long the body is that follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
}

/// Where a head ends: past its first empty line. `from`: what was looked at before.
pub fn end(bytes: &[u8], from: usize) -> Option<usize> {
    // A bare line feed ends a line too, so that it is found and then refused.
    let from = from.saturating_sub(3);
    let mut line_start = bytes[..from].iter().rposition(|byte| *byte == b'\n');
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        if *byte != b'\n' {
            continue;
        }
        let start = line_start.map_or(0, |at| at + 1);
        if matches!(&bytes[start..at], b"" | b"\r") {
            return Some(at + 1);
        }
        line_start = Some(at);
    }
    None
}

/// Judges a whole head, its empty line included.
pub fn check(head: &[u8]) -> Result<Framing, Code> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Code::BadRequest)?;
    let mut lines = head.split(|byte| *byte == b'\n').peekable();
    let mut next = || {
        let line = lines.next()?;
        // All but the last bear the carriage return that stood before the line feed.
        Some(match lines.peek() {
            Some(_) => line.strip_suffix(b"\r").ok_or(Code::BadRequest),
            None => Ok(line),
        })
    };
    let first = next().ok_or(Code::BadRequest)??;
    let is_1_1 = check_request_line(first)?;
    let (mut lengths, mut codings, mut hosts, mut count) = (Vec::new(), Vec::new(), 0, 0);
    let mut singles = Vec::new();
    while let Some(line) = next() {
        let (name, value) = field(line?)?;
        count += 1;
        if count > HEADERS_LEN_MAX {
            return Err(Code::RequestHeaderSectionTooLarge);
        }
        match name {
            header::CONTENT_LENGTH => lengths.push(value),
            header::TRANSFER_ENCODING => codings.push(value),
            header::HOST => hosts += 1,
            name if singles.contains(&name) => return Err(Code::BadRequest),
            name if SINGLE.contains(&name) => singles.push(name),
            _ => {}
        }
    }
    if hosts > 1 || (is_1_1 && hosts == 0) {
        return Err(Code::BadRequest);
    }
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => digits(length).map(Framing::Length),
        ([], [coding]) if is_1_1 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err(Code::BadRequest),
    }
}

/// Whether it is of HTTP/1.1.
fn check_request_line(line: &[u8]) -> Result<bool, Code> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words.as_slice() else {
        return Err(Code::BadRequest);
    };
    Method::from_bytes(method).map_err(|_| Code::BadRequest)?;
    // A fragment is never sent; a reader that drops it means another key than one that doesn't.
    if target
        .iter()
        .any(|byte| *byte == b'#' || !(0x21..0x7f).contains(byte))
    {
        return Err(Code::InvalidURI);
    }
    Uri::try_from(*target).map_err(|_| Code::InvalidURI)?;
    match *version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        _ => Err(Code::BadRequest),
    }
}

fn field(line: &[u8]) -> Result<(HeaderName, &[u8]), Code> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or(Code::BadRequest)?);
    let value = &value[1..];
    // Folded lines begin with a space, which no name has.
    let name = HeaderName::from_bytes(name).map_err(|_| Code::BadRequest)?;
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    match value.iter().all(is_text) {
        // Of what counts as white space elsewhere, only blanks are text.
        true => Ok((name, value.trim_ascii())),
        false => Err(Code::BadRequest),
    }
}

fn digits(text: &[u8]) -> Result<u64, Code> {
    let text = std::str::from_utf8(text).map_err(|_| Code::BadRequest)?;
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| Code::BadRequest),
        false => Err(Code::BadRequest),
    }
}

/// Finds the end of a chunked body as its bytes go by.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    /// The bytes of the current chunk that are still to come.
    left: u64,
    /// The line that is going by; of a trailer all of it.
    line: Vec<u8>,
    trailer_bytes: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Data,
    /// The line end behind a chunk's data.
    DataEnd,
    Trailer,
    End,
}

/// The bytes are no chunks.
#[derive(Debug, PartialEq, Eq)]
pub struct NotChunked;

impl Chunks {
    /// How many of the bytes are of this body; all, unless it ends within them.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, NotChunked> {
        let mut taken = 0;
        while taken < bytes.len() && self.at != At::End {
            if self.at == At::Data {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let step = left.min(bytes.len() - taken);
                taken += step;
                self.left -= step as u64;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            self.line.push(bytes[taken]);
            taken += 1;
            if self.line.len() > CHUNK_LINE_BYTES_MAX.max(TRAILER_BYTES_MAX) {
                return Err(NotChunked);
            }
            if self.line.last() == Some(&b'\n') {
                let line = std::mem::take(&mut self.line);
                self.line_end(line.strip_suffix(b"\r\n").ok_or(NotChunked)?)?;
            }
        }
        Ok(taken)
    }

    pub fn is_ended(&self) -> bool {
        self.at == At::End
    }

    fn line_end(&mut self, line: &[u8]) -> Result<(), NotChunked> {
        match self.at {
            At::Size => {
                self.left = chunk_size(line)?;
                self.at = if self.left == 0 {
                    At::Trailer
                } else {
                    At::Data
                };
            }
            At::DataEnd if line.is_empty() => self.at = At::Size,
            At::Trailer if line.is_empty() => self.at = At::End,
            At::Trailer => {
                self.trailer_bytes += line.len();
                field(line).map_err(|_| NotChunked)?;
                if self.trailer_bytes > TRAILER_BYTES_MAX {
                    return Err(NotChunked);
                }
            }
            At::DataEnd | At::Data | At::End => return Err(NotChunked),
        }
        Ok(())
    }
}

/// Hexadecimal digits, and perhaps an extension, which means nothing here.
fn chunk_size(line: &[u8]) -> Result<u64, NotChunked> {
    if line.len() > CHUNK_LINE_BYTES_MAX {
        return Err(NotChunked);
    }
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
    let extension = &line[size.len()..];
    let is_text = extension.iter().all(|byte| (b' '..0x7f).contains(byte));
    let text = std::str::from_utf8(size).map_err(|_| NotChunked)?;
    match u64::from_str_radix(text, 16) {
        Ok(size) if is_hex && is_text => Ok(size),
        _ => Err(NotChunked),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(lines: &[&str]) -> Result<Framing, Code> {
        check(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes())
    }

    #[test]
    fn a_28_what_has_one_meaning_passes() {
        let none = Ok(Framing::Length(0));
        assert_eq!(judge(&["GET / HTTP/1.1", "Host: h"]), none);
        assert_eq!(judge(&["GET http://h/b/k?x HTTP/1.1", "host:h"]), none);
        assert_eq!(judge(&["GET /b HTTP/1.0"]), none);
        assert_eq!(
            judge(&["OPTIONS * HTTP/1.1", "Host: h", "X: \t a b\u{e9} "]),
            none
        );
        let put = |header| judge(&["PUT /b/k HTTP/1.1", "Host: h", header]);
        assert_eq!(put("Content-Length: 05"), Ok(Framing::Length(5)));
        assert_eq!(put("transfer-encoding: Chunked"), Ok(Framing::Chunked));
    }

    #[test]
    fn a_28_what_could_mean_two_things_is_refused() {
        let bad = Err(Code::BadRequest);
        for headers in [
            &["Content-Length: 5", "Transfer-Encoding: chunked"][..],
            &["Transfer-Encoding: chunked", "Content-Length: 5"],
            &["Content-Length: 5", "Content-Length: 6"],
            &["Content-Length: 5", "Content-Length: 5"],
            &["Content-Length: 5,5"],
            &["Content-Length: 5 5"],
            &["Content-Length: +5"],
            &["Content-Length: -5"],
            &["Content-Length: 0x5"],
            &["Content-Length: 5\u{660}"],
            &["Content-Length: 18446744073709551616"],
            &["Content-Length:"],
            &["Content-Length : 5"],
            &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            &["Transfer-Encoding: chunked, identity"],
            &["Transfer-Encoding: identity, chunked"],
            &["Transfer-Encoding: gzip, chunked"],
            &["Transfer-Encoding: identity"],
            &["Transfer-Encoding: xchunked"],
            &["Transfer-Encoding: \"chunked\""],
            &["Transfer-Encoding:\u{b}chunked"],
            &["Transfer-Encoding: \u{c}chunked"],
            &["Transfer-Encoding"],
            &[" folded"],
            &["\tfolded"],
            &["X: a", " b"],
            &[": no name"],
            &["X: a\u{0}b"],
            &["X: a\rb"],
            &["X: a\u{7f}b"],
            &["X: a\nTransfer-Encoding: chunked"],
            &["Host: other"],
            &["Content-Type: image/png", "content-type: text/html"],
            &["Content-MD5: x", "Content-MD5: x"],
            &["Date: x", "Date: y"],
        ] {
            let lines = [&["PUT /b/k HTTP/1.1", "Host: h"][..], headers].concat();
            assert_eq!(judge(&lines), bad, "{headers:?}");
        }
        for line in [
            "GET / HTTP/1.1 ",
            "GET  / HTTP/1.1",
            " GET / HTTP/1.1",
            "GET /",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET / http/1.1",
            "G(T / HTTP/1.1",
            "",
        ] {
            assert_eq!(judge(&[line, "Host: h"]), bad, "{line:?}");
        }
        for target in ["/b#k", "/b/\u{e9}", "/b/\u{7f}", "b:k:l", "/b/\u{1}"] {
            let line = format!("GET {target} HTTP/1.1");
            assert_eq!(
                judge(&[&line, "Host: h"]),
                Err(Code::InvalidURI),
                "{target:?}"
            );
        }
        assert_eq!(judge(&["GET / HTTP/1.1"]), bad);
        assert_eq!(
            judge(&["GET / HTTP/1.0", "Transfer-Encoding: chunked"]),
            bad
        );
        assert_eq!(check(b"GET / HTTP/1.1\nHost: h\n\n"), bad);
        assert_eq!(check(b"GET / HTTP/1.1\r\nHost: h\n\r\n"), bad);
    }

    #[test]
    fn a_26_headers_are_counted() {
        let mut lines = vec!["GET / HTTP/1.1", "Host: h"];
        lines.resize(HEADERS_LEN_MAX + 1, "x: y");
        assert!(judge(&lines).is_ok());
        lines.push("x: y");
        assert_eq!(judge(&lines), Err(Code::RequestHeaderSectionTooLarge));
    }

    #[test]
    fn a_28_chunks_end_where_they_say() {
        let whole = b"5;x=y\r\nhello\r\n0A\r\n0123456789\r\n0\r\nx-t: 1\r\n\r\n";
        for split in 0..whole.len() {
            let mut chunks = Chunks::default();
            assert_eq!(chunks.take(&whole[..split]), Ok(split));
            let rest = [&whole[split..], b"GET /"].concat();
            assert_eq!(chunks.take(&rest), Ok(whole.len() - split));
            assert!(chunks.is_ended());
        }
        for bad in [
            "5\nhello",
            "\r\n",
            "+5\r\nhello",
            "-5\r\n",
            "0x5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5\r\nhello0\r\n",
            "5\r\nhelloxx\r\n",
            "5\r\nhello\n",
            "10000000000000000\r\n",
            "5;\u{1}\r\n",
            "0\r\nno header\r\n",
        ] {
            assert_eq!(
                Chunks::default().take(bad.as_bytes()),
                Err(NotChunked),
                "{bad:?}"
            );
        }
        let long = format!("5;{}\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX));
        assert_eq!(Chunks::default().take(long.as_bytes()), Err(NotChunked));
        let endless = "0".repeat(1 << 20);
        assert_eq!(Chunks::default().take(endless.as_bytes()), Err(NotChunked));
    }

    proptest! {
        /// However the bytes come, the end of a head is found at the same place.
        #[test]
        fn an_end_is_found_wherever_the_bytes_are_cut(text in "[a\r\n]{0,40}", cut in 0usize..40) {
            let bytes = text.as_bytes();
            let cut = cut.min(bytes.len());
            let whole = end(bytes, 0);
            if end(&bytes[..cut], 0).is_none() {
                prop_assert_eq!(end(bytes, cut), whole);
            }
        }

        #[test]
        fn nothing_panics(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&head);
            let _ = Chunks::default().take(&head);
        }
    }
}
