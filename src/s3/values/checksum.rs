//! `x-amz-checksum-*` on the wire: what a request declares, what a response shows, and which
//! algorithms and types go together.
//!
//! Values are computed while a body streams by (`body`) or combined from parts by storage.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::types::{Checksum, ChecksumAlgorithm, ChecksumType};
use http::{HeaderMap, HeaderName, HeaderValue};

use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::xml::write::Writer;

/// Stored with an object whose client sent no checksum of its own.
pub const DEFAULT_ALGORITHM: ChecksumAlgorithm = drystone_store::checksum::DEFAULT.0;

const PREFIX: &str = "x-amz-checksum-";
/// Headers with the prefix that hold no value.
const NO_VALUE: [&str; 3] = ["algorithm", "type", "mode"];

/// A checksum that a request declares for its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// Its value stands in a header.
    Value {
        algorithm: ChecksumAlgorithm,
        value: Vec<u8>,
    },
    /// Its value comes in the trailer.
    Trailer { algorithm: ChecksumAlgorithm },
}

impl Declared {
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        match self {
            Declared::Value { algorithm, .. } | Declared::Trailer { algorithm } => *algorithm,
        }
    }
}

/// The header, or trailer, with this algorithm's value.
pub fn header_name(algorithm: ChecksumAlgorithm) -> HeaderName {
    HeaderName::from_static(match algorithm {
        ChecksumAlgorithm::Crc32 => "x-amz-checksum-crc32",
        ChecksumAlgorithm::Crc32c => "x-amz-checksum-crc32c",
        ChecksumAlgorithm::Crc64Nvme => "x-amz-checksum-crc64nvme",
        ChecksumAlgorithm::Sha1 => "x-amz-checksum-sha1",
        ChecksumAlgorithm::Sha256 => "x-amz-checksum-sha256",
        ChecksumAlgorithm::Md5 => "x-amz-checksum-md5",
        ChecksumAlgorithm::Sha512 => "x-amz-checksum-sha512",
        ChecksumAlgorithm::XxHash3 => "x-amz-checksum-xxhash3",
        ChecksumAlgorithm::XxHash64 => "x-amz-checksum-xxhash64",
        ChecksumAlgorithm::XxHash128 => "x-amz-checksum-xxhash128",
    })
}

/// Returns the checksum that the headers declare for the body: at most one, by value or trailer.
pub fn declared(headers: &HeaderMap) -> Result<Option<Declared>, S3Error> {
    let value = declared_value(headers)?;
    let trailer = declared_trailer(headers)?;
    let found = match (value, trailer) {
        (Some(_), Some(_)) => return Err(more_than_one()),
        (value, trailer) => value.or(trailer),
    };
    // SDKs name the algorithm beside the value; on its own it promises a value that never comes.
    if let Some(named) = headers.get("x-amz-sdk-checksum-algorithm") {
        let named = algorithm_named(text(named), "x-amz-sdk-checksum-algorithm")?;
        match &found {
            None => {
                return Err(invalid(
                    "x-amz-sdk-checksum-algorithm specified, but no corresponding \
                     x-amz-checksum-* or x-amz-trailer headers were found.",
                ));
            }
            Some(declared) if declared.algorithm() != named => {
                return Err(invalid(
                    "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                ));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

fn declared_value(headers: &HeaderMap) -> Result<Option<Declared>, S3Error> {
    let Some((algorithm, value)) = header(headers)? else {
        return Ok(None);
    };
    let value = decode(algorithm, value).ok_or_else(|| {
        let name = header_name(algorithm);
        invalid(format!("Value for {name} header is invalid."))
    })?;
    Ok(Some(Declared::Value { algorithm, value }))
}

/// The checksum header there is, as text: a composite value has `-parts` at its end.
pub fn header(headers: &HeaderMap) -> Result<Option<(ChecksumAlgorithm, &str)>, S3Error> {
    let mut found = None;
    for (name, value) in headers {
        let Some(suffix) = name.as_str().strip_prefix(PREFIX) else {
            continue;
        };
        if NO_VALUE.contains(&suffix) {
            continue;
        }
        let algorithm = algorithm_of_header(suffix)?;
        if found.replace((algorithm, text(value))).is_some() {
            return Err(more_than_one());
        }
    }
    Ok(found)
}

fn declared_trailer(headers: &HeaderMap) -> Result<Option<Declared>, S3Error> {
    let mut found = None;
    let values = headers.get_all("x-amz-trailer").iter().map(text);
    let names = values.flat_map(|list| list.split(','));
    for name in names.map(str::trim).filter(|name| !name.is_empty()) {
        let lower = name.to_ascii_lowercase();
        let suffix = lower.strip_prefix(PREFIX).ok_or_else(|| {
            invalid("The value specified in the x-amz-trailer header is not supported")
        })?;
        let algorithm = algorithm_of_header(suffix)?;
        if found.replace(Declared::Trailer { algorithm }).is_some() {
            return Err(more_than_one());
        }
    }
    Ok(found)
}

fn algorithm_of_header(suffix: &str) -> Result<ChecksumAlgorithm, S3Error> {
    suffix.parse().map_err(|_| {
        invalid("The algorithm type you specified in x-amz-checksum- header is invalid.")
    })
}

/// A value as it is sent: base64 of exactly the algorithm's length.
pub fn decode(algorithm: ChecksumAlgorithm, text: &str) -> Option<Vec<u8>> {
    let value = BASE64.decode(text).ok()?;
    (value.len() == algorithm.value_len()).then_some(value)
}

/// The value as a checksum of all bytes.
pub fn parse_value(algorithm: ChecksumAlgorithm, text: &str) -> Option<Checksum> {
    Some(Checksum {
        algorithm,
        kind: ChecksumType::FullObject,
        value: decode(algorithm, text)?,
    })
}

/// Compares what was computed with what the client declared.
pub fn compare(computed: &Checksum, declared: &[u8]) -> Result<(), S3Error> {
    if computed.value == declared {
        return Ok(());
    }
    Err(S3Error::new(Code::BadDigest).message(format!(
        "The {} you specified did not match the calculated checksum.",
        computed.algorithm
    )))
}

/// The algorithm that a copy or an upload asks for by `x-amz-checksum-algorithm`.
pub fn requested_algorithm(headers: &HeaderMap) -> Result<Option<ChecksumAlgorithm>, S3Error> {
    headers
        .get("x-amz-checksum-algorithm")
        .map(|value| algorithm(text(value)))
        .transpose()
}

/// `x-amz-checksum-type`.
pub fn requested_type(headers: &HeaderMap) -> Result<Option<ChecksumType>, S3Error> {
    let Some(value) = headers.get("x-amz-checksum-type") else {
        return Ok(None);
    };
    [ChecksumType::FullObject, ChecksumType::Composite]
        .into_iter()
        .find(|kind| kind.name().eq_ignore_ascii_case(text(value)))
        .map(Some)
        .ok_or_else(|| invalid("Value for x-amz-checksum-type header is invalid."))
}

/// Returns the checksum that an upload's creator asks for its parts and the object made of them.
pub fn for_upload(
    headers: &HeaderMap,
) -> Result<Option<(ChecksumAlgorithm, ChecksumType)>, S3Error> {
    let kind = requested_type(headers)?;
    let Some(algorithm) = requested_algorithm(headers)? else {
        if kind.is_some() {
            return Err(invalid(
                "The x-amz-checksum-type header can only be used with the \
                 x-amz-checksum-algorithm header.",
            ));
        }
        return Ok(None);
    };
    let kind = kind.unwrap_or(algorithm.default_type());
    if !algorithm.supports(kind) {
        return Err(invalid(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.name(),
            algorithm.name().to_ascii_lowercase()
        )));
    }
    Ok(Some((algorithm, kind)))
}

/// Checks a part against its upload, and gives the algorithm to take. Parts of a composite
/// checksum must bring their own, since the client has to name them at completion. An upload that
/// was asked for none takes what comes, and the object gets the default one.
pub fn for_part(
    upload: Option<(ChecksumAlgorithm, ChecksumType)>,
    declared: Option<&Declared>,
) -> Result<ChecksumAlgorithm, S3Error> {
    let sent = declared.map(Declared::algorithm);
    match (upload, sent) {
        (None, sent) => Ok(sent.unwrap_or(DEFAULT_ALGORITHM)),
        (Some((expected, _)), Some(sent)) if sent != expected => {
            Err(mismatch(Some(expected), Some(sent)))
        }
        (Some((expected, ChecksumType::Composite)), None) => Err(mismatch(Some(expected), sent)),
        (Some((expected, _)), _) => Ok(expected),
    }
}

/// A request's checksum is of another algorithm than the upload's.
pub fn mismatch(expected: Option<ChecksumAlgorithm>, actual: Option<ChecksumAlgorithm>) -> S3Error {
    let lower = |algorithm: Option<ChecksumAlgorithm>| {
        let name = algorithm.map_or("null", ChecksumAlgorithm::name);
        name.to_ascii_lowercase()
    };
    invalid(format!(
        "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
        lower(expected),
        lower(actual)
    ))
}

/// `x-amz-checksum-mode: ENABLED`.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    headers
        .get("x-amz-checksum-mode")
        .is_some_and(|value| text(value).eq_ignore_ascii_case("ENABLED"))
}

/// A checksum's value as S3 shows it. A composite one tells its number of parts.
pub fn display(checksum: &Checksum, parts: u32) -> String {
    let value = BASE64.encode(&checksum.value);
    match checksum.kind {
        ChecksumType::Composite if parts > 0 => format!("{value}-{parts}"),
        _ => value,
    }
}

/// The value's element, as documents name it: `ChecksumCRC32`, ….
pub fn write(xml: &mut Writer, checksum: &Checksum, parts: u32) {
    let name = format!("Checksum{}", checksum.algorithm.name());
    xml.text(&name, &display(checksum, parts));
}

/// The value's header and `x-amz-checksum-type`.
pub fn set_headers(headers: &mut HeaderMap, checksum: &Checksum, parts: u32) {
    // Base64, a dash and digits are valid in a header.
    if let Ok(value) = HeaderValue::from_str(&display(checksum, parts)) {
        headers.insert(header_name(checksum.algorithm), value);
    }
    headers.insert(
        HeaderName::from_static("x-amz-checksum-type"),
        HeaderValue::from_static(checksum.kind.name()),
    );
}

/// An algorithm by its name in a header or document.
pub fn algorithm(text: &str) -> Result<ChecksumAlgorithm, S3Error> {
    algorithm_named(text, "x-amz-checksum-algorithm")
}

fn algorithm_named(text: &str, header: &str) -> Result<ChecksumAlgorithm, S3Error> {
    text.parse().map_err(|_| match header {
        "x-amz-sdk-checksum-algorithm" => {
            invalid("Value for x-amz-sdk-checksum-algorithm header is invalid.")
        }
        _ => invalid(
            "Checksum algorithm provided is unsupported. Please try again with any of the valid \
             types: [CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH128, XXHASH3, \
             XXHASH64]",
        ),
    })
}

fn more_than_one() -> S3Error {
    invalid("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> S3Error {
    S3Error::new(Code::InvalidRequest).message(message)
}

/// No value that counts has bytes beyond ASCII; one that has is no valid value.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("\u{fffd}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ChecksumAlgorithm::{Crc32, Crc64Nvme, Sha1, Sha256};
    use ChecksumType::{Composite, FullObject};

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn refused<T: std::fmt::Debug>(result: Result<T, S3Error>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest);
        error.text().to_owned()
    }

    #[test]
    fn w_01_a_value_or_a_trailer() {
        assert_eq!(declared(&headers(&[])).unwrap(), None);
        let unrelated = headers(&[
            ("x-amz-checksum-mode", "ENABLED"),
            ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-checksum-algorithm", "CRC32"),
        ]);
        assert_eq!(declared(&unrelated).unwrap(), None);
        let by_value = headers(&[
            ("x-amz-checksum-crc32", "AQIDBA=="),
            ("x-amz-sdk-checksum-algorithm", "crc32"),
        ]);
        let value = Declared::Value {
            algorithm: Crc32,
            value: vec![1, 2, 3, 4],
        };
        assert_eq!(declared(&by_value).unwrap(), Some(value));
        let by_trailer = headers(&[("x-amz-trailer", "X-Amz-Checksum-Crc64nvme")]);
        let trailer = Declared::Trailer {
            algorithm: Crc64Nvme,
        };
        assert_eq!(declared(&by_trailer).unwrap(), Some(trailer));
    }

    #[test]
    fn a_13_values_that_are_none() {
        for value in ["", "AQID", "AQIDBA", "AQIDBAU=", "!!!!", "é", "AQIDBA==-2"] {
            let text = refused(declared(&headers(&[("x-amz-checksum-crc32", value)])));
            assert_eq!(text, "Value for x-amz-checksum-crc32 header is invalid.");
        }
    }

    #[test]
    fn a_13_two_algorithms() {
        let sha1 = BASE64.encode([0; 20]);
        for lines in [
            [
                ("x-amz-checksum-crc32", "AQIDBA=="),
                ("x-amz-checksum-sha1", &*sha1),
            ],
            [
                ("x-amz-checksum-crc32", "AQIDBA=="),
                ("x-amz-checksum-crc32", "AQIDBA=="),
            ],
            [
                ("x-amz-checksum-crc32", "AQIDBA=="),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
            ],
            [
                ("x-amz-trailer", "x-amz-checksum-sha1"),
                ("x-amz-trailer", "x-amz-checksum-crc32"),
            ],
        ] {
            let text = refused(declared(&headers(&lines)));
            assert!(text.starts_with("Expecting a single x-amz-checksum- header."));
        }
    }

    #[test]
    fn a_13_an_algorithm_without_its_value() {
        let alone = headers(&[("x-amz-sdk-checksum-algorithm", "CRC32")]);
        assert!(refused(declared(&alone)).contains("no corresponding x-amz-checksum-*"));
        for algorithm in ["SHA1", "nothing"] {
            let other = headers(&[
                ("x-amz-sdk-checksum-algorithm", algorithm),
                ("x-amz-checksum-crc32", "AQIDBA=="),
            ]);
            assert_eq!(
                refused(declared(&other)),
                "Value for x-amz-sdk-checksum-algorithm header is invalid."
            );
        }
        let foreign = headers(&[("x-amz-trailer", "x-amz-meta-a")]);
        assert!(refused(declared(&foreign)).contains("x-amz-trailer"));
        let unknown = headers(&[("x-amz-checksum-crc16", "AQI=")]);
        assert!(refused(declared(&unknown)).contains("algorithm type"));
    }

    #[test]
    fn s_20_algorithm_and_type_of_an_upload() {
        let ask = |algorithm: &str, kind: &str| {
            let mut lines = Vec::new();
            if !algorithm.is_empty() {
                lines.push(("x-amz-checksum-algorithm", algorithm));
            }
            if !kind.is_empty() {
                lines.push(("x-amz-checksum-type", kind));
            }
            for_upload(&headers(&lines))
        };
        assert_eq!(ask("", "").unwrap(), None);
        assert_eq!(ask("CRC32", "").unwrap(), Some((Crc32, Composite)));
        assert_eq!(
            ask("crc32", "FULL_OBJECT").unwrap(),
            Some((Crc32, FullObject))
        );
        assert_eq!(ask("SHA256", "").unwrap(), Some((Sha256, Composite)));
        assert_eq!(ask("CRC64NVME", "").unwrap(), Some((Crc64Nvme, FullObject)));
        assert_eq!(
            refused(ask("SHA1", "FULL_OBJECT")),
            "The FULL_OBJECT checksum type cannot be used with the sha1 checksum algorithm."
        );
        assert_eq!(
            refused(ask("CRC64NVME", "COMPOSITE")),
            "The COMPOSITE checksum type cannot be used with the crc64nvme checksum algorithm."
        );
        assert!(refused(ask("", "COMPOSITE")).contains("can only be used with"));
        assert!(refused(ask("CRC32", "HALF")).contains("x-amz-checksum-type"));
        for algorithm in ["MD5", "sha512", "XXHASH3", "XXHASH64", "XXHASH128"] {
            assert_eq!(ask(algorithm, "").unwrap().unwrap().1, Composite);
            assert!(refused(ask(algorithm, "FULL_OBJECT")).contains("cannot be used"));
        }
        let every = "[CRC32, CRC32C, CRC64NVME, MD5, SHA1, SHA256, SHA512, XXHASH128, XXHASH3, \
                     XXHASH64]";
        assert!(refused(ask("ADLER", "")).contains(every));
    }

    #[test]
    fn s_20_parts_follow_their_upload() {
        let sent = |algorithm| Declared::Trailer { algorithm };
        assert_eq!(for_part(None, None).unwrap(), Crc64Nvme);
        assert_eq!(for_part(None, Some(&sent(Sha1))).unwrap(), Sha1);
        let full = Some((Crc32, FullObject));
        assert_eq!(for_part(full, None).unwrap(), Crc32);
        assert_eq!(for_part(full, Some(&sent(Crc32))).unwrap(), Crc32);
        assert_eq!(
            refused(for_part(full, Some(&sent(Sha1)))),
            "Checksum Type mismatch occurred, expected checksum Type: crc32, actual checksum \
             Type: sha1"
        );
        assert_eq!(
            refused(for_part(Some((Sha256, Composite)), None)),
            "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum \
             Type: null"
        );
    }

    #[test]
    fn s_11_checksums_in_a_response() {
        let mut shown = HeaderMap::new();
        let composite = Checksum {
            algorithm: Crc32,
            kind: Composite,
            value: vec![1, 2, 3, 4],
        };
        set_headers(&mut shown, &composite, 3);
        assert_eq!(shown["x-amz-checksum-crc32"], "AQIDBA==-3");
        assert_eq!(shown["x-amz-checksum-type"], "COMPOSITE");
        let full = Checksum {
            kind: FullObject,
            ..composite
        };
        assert_eq!(display(&full, 3), "AQIDBA==");
        let mut xml = Writer::new();
        write(&mut xml, &full, 3);
        assert!(
            xml.finish()
                .ends_with("<ChecksumCRC32>AQIDBA==</ChecksumCRC32>")
        );
        assert!(is_asked_for(&headers(&[(
            "x-amz-checksum-mode",
            "ENABLED"
        )])));
        assert!(!is_asked_for(&headers(&[])));
    }
}
