//! An object's attributes in headers: read for PUT, copy and upload, and shown by GET and HEAD.

use drystone_store::types::{
    Attributes, ObjectVersion, SystemMetadata, Tags, UserMetadata, Version, Versioning,
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::request::Request;
use crate::values::acl;
use crate::values::tags::{self, OBJECT_TAGS_MAX};
use drystone_protocol::encoded_word;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::query::Query;
use drystone_protocol::response::{self, X_AMZ_VERSION_ID};

const META_PREFIX: &str = "x-amz-meta-";
/// How many of an object's own metadata have a name that no header can have.
const X_AMZ_MISSING_META: HeaderName = HeaderName::from_static("x-amz-missing-meta");
/// Names (without prefix) and values of an object's own metadata together.
const META_BYTES_MAX: usize = 2 << 10;
const DEFAULT_CONTENT_TYPE: &str = "binary/octet-stream";

/// Kept with the object and given back as they came.
const SYSTEM: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
];

/// Headers that ask for what isn't there: how they begin, and the name of what they ask for.
const MISSING: [(&str, &str); 5] = [
    (
        "x-amz-copy-source-server-side-encryption",
        "Server-side encryption",
    ),
    ("x-amz-server-side-encryption", "Server-side encryption"),
    ("x-amz-object-lock-", "Object lock"),
    ("x-amz-write-offset-bytes", "Appending to objects"),
    ("x-amz-annotation-", "Object annotations"),
];

/// All that a PUT or the start of an upload says.
pub fn read(request: &Request) -> Result<Attributes, S3Error> {
    let headers = &request.headers;
    check_supported(headers)?;
    acl::check_headers(headers)?;
    Ok(Attributes {
        system: system(headers)?,
        user: user(headers)?,
        tags: tags(headers)?,
        storage_class: storage_class(headers)?.unwrap_or_default(),
        owner: request.object_owner(),
    })
}

/// 501 for a header whose meaning would be lost; 400 where AWS refuses what they ask for together.
pub fn check_supported(headers: &HeaderMap) -> Result<(), S3Error> {
    check_encryption(headers)?;
    for (prefix, feature) in MISSING {
        if headers.keys().any(|name| name.as_str().starts_with(prefix)) {
            return Err(S3Error::not_implemented(feature));
        }
    }
    Ok(())
}

/// The ways to encrypt exclude each other, and each has its own words.
fn check_encryption(headers: &HeaderMap) -> Result<(), S3Error> {
    const METHOD: &str = "x-amz-server-side-encryption";
    const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
    const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    let text = |name| {
        headers
            .get(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let method = text(METHOD);
    let refused = |message| {
        let value = method.as_deref().unwrap_or_default();
        Err(S3Error::invalid_argument(message, METHOD, value))
    };
    let by_customer = headers
        .keys()
        .any(|name| name.as_str().starts_with(CUSTOMER));
    let by_kms = matches!(method.as_deref(), Some("aws:kms" | "aws:kms:dsse"));
    if method.is_some() && by_customer {
        return refused(
            "Server Side Encryption with Customer provided key is incompatible with the \
             encryption method specified",
        );
    }
    if method.as_deref().is_some_and(|method| method != "AES256") && !by_kms {
        return refused("The encryption method specified is not supported");
    }
    if headers.contains_key(KEY_ID) && !by_kms {
        return refused(
            "Server Side Encryption with AWS KMS managed key requires HTTP header \
             x-amz-server-side-encryption : aws:kms",
        );
    }
    Ok(())
}

pub fn system(headers: &HeaderMap) -> Result<SystemMetadata, S3Error> {
    let mut kept = SystemMetadata::new();
    for name in SYSTEM {
        let Some(value) = joined(headers, &HeaderName::from_static(name)) else {
            continue;
        };
        let value = String::from_utf8(value)
            .map_err(|_| S3Error::invalid_argument("Header is not valid UTF-8", "header", name))?;
        let value = match name {
            "content-encoding" => without_aws_chunked(&value),
            "x-amz-website-redirect-location" => redirect(value)?,
            _ => value,
        };
        if !value.is_empty() {
            kept.push((name.to_owned(), value));
        }
    }
    Ok(kept)
}

/// `aws-chunked` is how the body travels, not what the object is. Without it a value stays as it
/// came.
fn without_aws_chunked(value: &str) -> String {
    let is_of_travel = |coding: &&str| coding.eq_ignore_ascii_case("aws-chunked");
    let codings = || value.split(',').map(str::trim);
    if !codings().any(|coding| is_of_travel(&coding)) {
        return value.to_owned();
    }
    let kept: Vec<&str> = codings().filter(|coding| !is_of_travel(coding)).collect();
    kept.join(", ")
}

fn redirect(value: String) -> Result<String, S3Error> {
    if ["/", "http://", "https://"]
        .iter()
        .any(|start| value.starts_with(start))
    {
        Ok(value)
    } else {
        Err(S3Error::new(Code::InvalidRedirectLocation))
    }
}

pub fn user(headers: &HeaderMap) -> Result<UserMetadata, S3Error> {
    let mut kept = UserMetadata::new();
    let mut size = 0;
    for name in headers.keys() {
        let Some(short) = name.as_str().strip_prefix(META_PREFIX) else {
            continue;
        };
        let value = encoded_word::decode(&joined(headers, name).unwrap_or_default());
        size += short.len() + value.len();
        kept.push((short.to_owned(), value.into_bytes()));
    }
    if size > META_BYTES_MAX {
        return Err(S3Error::new(Code::MetadataTooLarge)
            .with("Size", size.to_string())
            .with("MaxSizeAllowed", META_BYTES_MAX.to_string()));
    }
    Ok(kept)
}

/// `x-amz-tagging`: tags in the form of a query.
pub fn tags(headers: &HeaderMap) -> Result<Tags, S3Error> {
    let Some(value) = headers.get("x-amz-tagging") else {
        return Ok(Tags::new());
    };
    let invalid = || {
        S3Error::invalid_argument(
            "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query \
             parameters without tag name duplicates.",
            "x-amz-tagging",
            String::from_utf8_lossy(value.as_bytes()),
        )
    };
    let text = value.to_str().map_err(|_| invalid())?;
    // Tags may not have one, and where it divides them something else was meant.
    if text.contains(',') {
        return Err(invalid());
    }
    let pairs = Query::parse(text);
    pairs.check().map_err(|_| invalid())?;
    let mut set: Tags = pairs
        .iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let repeats = |at: usize| set[..at].iter().any(|(key, _)| *key == set[at].0);
    let is_nameless = |(key, _): &(String, String)| key.is_empty();
    if (0..set.len()).any(repeats) || set.iter().any(is_nameless) {
        return Err(invalid());
    }
    tags::check(&set, OBJECT_TAGS_MAX)?;
    // A query has no order; given back, they stand in that of their keys.
    set.sort();
    Ok(set)
}

/// `x-amz-storage-class`; `None` where none is named. STANDARD is kept as the empty text.
pub fn storage_class(headers: &HeaderMap) -> Result<Option<String>, S3Error> {
    let Some(value) = headers.get("x-amz-storage-class") else {
        return Ok(None);
    };
    match value.to_str().unwrap_or_default() {
        "STANDARD" => Ok(Some(String::new())),
        class @ ("REDUCED_REDUNDANCY"
        | "STANDARD_IA"
        | "ONEZONE_IA"
        | "INTELLIGENT_TIERING"
        | "GLACIER_IR") => Ok(Some(class.to_owned())),
        class @ ("GLACIER" | "DEEP_ARCHIVE") => {
            Err(S3Error::not_implemented(&format!("Storage class {class}")))
        }
        class => Err(S3Error::new(Code::InvalidStorageClass).with("StorageClassRequested", class)),
    }
}

/// A header's values, several of one name joined as one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter();
    let mut all = values.next()?.as_bytes().to_vec();
    for value in values {
        all.push(b',');
        all.extend_from_slice(value.as_bytes());
    }
    Some(all)
}

/// Writes the headers by which HEAD and GET describe a version, whatever part of it is sent.
pub fn show(
    headers: &mut HeaderMap,
    version: &Version,
    object: &ObjectVersion,
    versioning: Versioning,
) {
    let mut set = |name: HeaderName, value: &[u8]| {
        // What came in by a header goes out by one.
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    };
    let attributes = &object.attributes;
    set(header::CONTENT_TYPE, DEFAULT_CONTENT_TYPE.as_bytes());
    for (name, value) in &attributes.system {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            set(name, value.as_bytes());
        }
    }
    let mut missing = 0;
    for (name, value) in &attributes.user {
        let value = String::from_utf8_lossy(value);
        match HeaderName::from_bytes(format!("{META_PREFIX}{name}").as_bytes()) {
            Ok(name) => set(name, encoded_word::encode(&value).as_bytes()),
            Err(_) => missing += 1,
        }
    }
    if missing > 0 {
        set(X_AMZ_MISSING_META, missing.to_string().as_bytes());
    }
    if !attributes.storage_class.is_empty() {
        set(
            HeaderName::from_static("x-amz-storage-class"),
            attributes.storage_class.as_bytes(),
        );
    }
    if !attributes.tags.is_empty() {
        let count = attributes.tags.len().to_string();
        set(
            HeaderName::from_static("x-amz-tagging-count"),
            count.as_bytes(),
        );
    }
    show_validators(headers, version, object, versioning);
}

/// Writes the headers of a 304: what identifies the version, and how long it may be kept.
pub fn show_unmodified(
    headers: &mut HeaderMap,
    version: &Version,
    object: &ObjectVersion,
    versioning: Versioning,
) {
    for (name, value) in &object.attributes.system {
        let kept = [header::CACHE_CONTROL, header::EXPIRES];
        let name = kept.into_iter().find(|kept| kept.as_str() == name);
        if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    }
    show_validators(headers, version, object, versioning);
}

fn show_validators(
    headers: &mut HeaderMap,
    version: &Version,
    object: &ObjectVersion,
    versioning: Versioning,
) {
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, format!("\"{}\"", object.etag));
    set(header::LAST_MODIFIED, response::http_date(version.modified));
    if versioning != Versioning::Off {
        set(X_AMZ_VERSION_ID, version.id.to_string());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::types::{
        AccountId, Attributes, ETag, ObjectVersion, Timestamp, Version, VersionId, Versioning,
        WriteId,
    };
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{check_supported, storage_class, system, tags, user};
    use drystone_protocol::error::Code;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    #[test]
    fn s_10_aws_chunked_is_no_part_of_the_content_encoding() {
        let kept = |value| system(&headers(&[("content-encoding", value)])).unwrap();
        assert!(kept("aws-chunked").is_empty());
        assert_eq!(kept("gzip,aws-chunked")[0].1, "gzip");
        assert_eq!(kept("AWS-Chunked, gzip, br")[0].1, "gzip, br");
        assert_eq!(kept("gzip,br")[0].1, "gzip,br");
    }

    #[test]
    fn a_26_metadata_of_2_kib_is_the_most() {
        let (name, value) = ("n".repeat(48), "v".repeat(2000));
        let fits = headers(&[(&format!("x-amz-meta-{name}"), &value)]);
        assert_eq!(
            user(&fits).unwrap(),
            [(name.clone(), value.clone().into_bytes())]
        );
        let over = headers(&[(&format!("x-amz-meta-{name}n"), &value)]);
        assert_eq!(user(&over).unwrap_err().code(), Code::MetadataTooLarge);
    }

    #[test]
    fn s_10_metadata_keeps_its_text_and_joins_repeats() {
        let kept = user(&headers(&[("x-amz-meta-A", "é"), ("x-amz-meta-a", "2")])).unwrap();
        assert_eq!(kept, [("a".to_owned(), "é,2".as_bytes().to_vec())]);
    }

    #[test]
    fn s_10_metadata_that_no_header_can_name_is_counted() {
        let object = ObjectVersion {
            size: 0,
            etag: ETag {
                md5: [0; 16],
                parts: 0,
            },
            checksum: None,
            attributes: Attributes {
                user: vec![
                    ("a".to_owned(), b"1".to_vec()),
                    ("\u{e9}".to_owned(), b"2".to_vec()),
                    ("a b".to_owned(), b"3".to_vec()),
                ],
                ..Attributes::default()
            },
            write_id: WriteId([0; 16]),
        };
        let version = Version {
            key: "k".to_owned(),
            id: VersionId::Null,
            is_latest: true,
            modified: Timestamp(0),
            owner: AccountId::default(),
            object: Some(object.clone()),
        };
        let mut shown = HeaderMap::new();
        super::show(&mut shown, &version, &object, Versioning::Off);
        assert_eq!(shown["x-amz-missing-meta"], "2");
        assert_eq!(shown["x-amz-meta-a"], "1");
    }

    #[test]
    fn s_10_tags_in_a_header() {
        let read = |value: &str| tags(&headers(&[("x-amz-tagging", value)]));
        let expected = [("a", "1 2"), ("b", ""), ("c", "é")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(read("a=1+2&b&c=%C3%A9").unwrap(), expected);
        assert_eq!(read("a=1&a=2").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(read("a=1,b=2").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(read("a=%ff").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(read("=1").unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(read("&a=1&").unwrap(), [("a".to_owned(), "1".to_owned())]);
        let eleven: Vec<String> = (0..11).map(|n| format!("k{n}=v")).collect();
        assert!(read(&eleven.join("&")).is_err());
        assert!(read(&eleven[..10].join("&")).is_ok());
    }

    #[test]
    fn s_10_storage_classes() {
        let class = |value| storage_class(&headers(&[("x-amz-storage-class", value)]));
        assert_eq!(class("STANDARD").unwrap().unwrap(), "");
        assert_eq!(class("GLACIER_IR").unwrap().unwrap(), "GLACIER_IR");
        assert_eq!(class("GLACIER").unwrap_err().code(), Code::NotImplemented);
        assert_eq!(
            class("glacier").unwrap_err().code(),
            Code::InvalidStorageClass
        );
        assert_eq!(
            class("OUTPOSTS").unwrap_err().code(),
            Code::InvalidStorageClass
        );
        assert_eq!(storage_class(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn what_is_not_there_is_501_by_its_name() {
        for name in [
            "x-amz-server-side-encryption",
            "x-amz-server-side-encryption-customer-algorithm",
            "x-amz-object-lock-mode",
            "x-amz-write-offset-bytes",
        ] {
            let error = check_supported(&headers(&[(name, "AES256")])).unwrap_err();
            assert_eq!(error.code(), Code::NotImplemented);
        }
    }

    #[test]
    fn ways_to_encrypt_that_exclude_each_other_are_refused() {
        const METHOD: &str = "x-amz-server-side-encryption";
        const CUSTOMER: &str = "x-amz-server-side-encryption-customer-algorithm";
        const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
        for pairs in [
            &[(METHOD, "AES256"), (CUSTOMER, "AES256")][..],
            &[(METHOD, "aws:kms"), (CUSTOMER, "AES256")],
            &[(METHOD, "AES256"), (KEY_ID, "k")],
            &[(METHOD, "aes:kms")],
        ] {
            let error = check_supported(&headers(pairs)).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{pairs:?}");
        }
    }
}
