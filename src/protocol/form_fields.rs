//! The fields of a POST form, and what they stand for.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Code, S3Error};
use crate::names;

const FILENAME: &str = "${filename}";
const META_PREFIX: &str = "x-amz-meta-";

/// Fields that stand for headers of a PUT, beside those that begin with `x-amz-`.
const HEADERS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];
/// Fields with that beginning that stand for none: they are the signature's own.
const SIGNATURE: [&str; 5] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-signature",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As sent.
    pub name: String,
    /// In lower case: names are compared without regard to it.
    pub lower: String,
    pub value: String,
}

/// A form's fields in their order. Values of one name are joined by commas: what a policy is held
/// against is what counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

impl Fields {
    /// `name` is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|field| field.lower == name);
        found.map(|field| field.value.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.0.iter()
    }

    pub fn push(&mut self, name: &str, value: &str) {
        let lower = name.to_ascii_lowercase();
        match self.0.iter_mut().find(|field| field.lower == lower) {
            Some(field) => {
                field.value.push(',');
                field.value.push_str(value);
            }
            None => self.0.push(Field {
                name: name.to_owned(),
                lower,
                value: value.to_owned(),
            }),
        }
    }

    /// Puts the file's name, without any path, where the fields ask for it.
    pub fn expand(&mut self, filename: &str) {
        let name = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        for field in &mut self.0 {
            if field.value.contains(FILENAME) {
                field.value = field.value.replace(FILENAME, name);
            }
        }
    }

    /// The key to write to.
    pub fn key(&self) -> Result<&str, S3Error> {
        let key = self.get("key").ok_or_else(|| missing("key"))?;
        if key.is_empty() {
            let message = "User key must have a length greater than 0.";
            return Err(S3Error::invalid_argument(message, "key", ""));
        }
        names::check_key(key)?;
        Ok(key)
    }

    /// The fields as the headers of a PUT.
    pub fn headers(&self) -> Result<HeaderMap, S3Error> {
        let mut headers = HeaderMap::new();
        for field in &self.0 {
            let name = match field.lower.as_str() {
                "acl" => "x-amz-acl",
                // An algorithm beside no value promises one that never comes.
                "x-amz-checksum-algorithm" => "x-amz-sdk-checksum-algorithm",
                name if HEADERS.contains(&name) => name,
                name if SIGNATURE.contains(&name) => continue,
                name if name.starts_with("x-amz-") => name,
                _ => continue,
            };
            let invalid = || {
                let message = format!("The value of the field {} is not valid.", field.name);
                S3Error::new(Code::InvalidArgument)
                    .message(message)
                    .with("ArgumentName", &field.name)
                    .with("ArgumentValue", &field.value)
            };
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            // An empty field is what a browser makes of a control that nobody filled in.
            if field.value.is_empty() && !name.as_str().starts_with(META_PREFIX) {
                continue;
            }
            let value = HeaderValue::from_bytes(field.value.as_bytes()).map_err(|_| invalid())?;
            headers.append(name, value);
        }
        Ok(headers)
    }
}

/// A field that must be there and is not, or stands behind the file, where nobody looks.
pub fn missing(name: &'static str) -> S3Error {
    let message = format!(
        "Bucket POST must contain a field named '{name}'.  If it is specified, please check the \
         order of the fields."
    );
    S3Error::invalid_argument(message, name, "")
}
