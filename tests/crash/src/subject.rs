//! The store under examination: it answers requests of S3. Either a server over HTTP, or a toy with
//! a fault planted in it.

use std::io;

use crate::history::Entry;
use crate::s3::{Answer, Client};
use crate::value::Value;

#[derive(Clone, Debug)]
pub enum Ask {
    Put {
        value: Value,
        if_match: Option<String>,
        if_none_match: bool,
    },
    /// `source`: a path.
    Copy {
        source: String,
    },
    CreateUpload,
    Part {
        upload: String,
        number: usize,
        value: Value,
    },
    Complete {
        upload: String,
        /// Entity tags.
        parts: Vec<String>,
        if_none_match: bool,
    },
    Abort {
        upload: String,
    },
    Get {
        version: Option<String>,
        /// First and last byte.
        range: Option<(usize, usize)>,
    },
    Head,
    Delete {
        version: Option<String>,
        if_match: Option<String>,
    },
    DeleteMany {
        keys: Vec<String>,
    },
    /// A listing of all pages; the key is the prefix.
    List {
        page: usize,
    },
    ListVersions {
        page: usize,
    },
}

#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub code: String,
    pub etag: Option<String>,
    pub version: Option<String>,
    pub body: Vec<u8>,
    pub entries: Vec<Entry>,
    pub upload: Option<String>,
}

pub trait Subject: Sync {
    /// Sends a request. An error means that its outcome is unknown.
    fn ask(&self, bucket: &str, key: &str, ask: &Ask) -> io::Result<Reply>;
}

/// A server over HTTP.
pub struct Remote(pub Client);

impl Subject for Remote {
    fn ask(&self, bucket: &str, key: &str, ask: &Ask) -> io::Result<Reply> {
        let path = format!("/{bucket}/{key}");
        let of_version = |version: &Option<String>| -> Vec<(&str, String)> {
            version.iter().map(|id| ("versionId", id.clone())).collect()
        };
        match ask {
            Ask::Put {
                value,
                if_match,
                if_none_match,
            } => {
                let mut headers: Vec<(&str, &str)> = Vec::new();
                headers.extend(if_match.iter().map(|etag| ("if-match", etag.as_str())));
                headers.extend(if_none_match.then_some(("if-none-match", "*")));
                self.call("PUT", &path, &[], &headers, &value.bytes())
            }
            Ask::Copy { source } => {
                let headers = [("x-amz-copy-source", source.as_str())];
                let mut reply = self.call("PUT", &path, &[], &headers, b"")?;
                reply.etag = element(&reply.body, "ETag").pop();
                Ok(reply)
            }
            Ask::CreateUpload => {
                let query = [("uploads", String::new())];
                let mut reply = self.call("POST", &path, &query, &[], b"")?;
                reply.upload = element(&reply.body, "UploadId").pop();
                Ok(reply)
            }
            Ask::Part {
                upload,
                number,
                value,
            } => {
                let query = [
                    ("partNumber", number.to_string()),
                    ("uploadId", upload.clone()),
                ];
                self.call("PUT", &path, &query, &[], &value.bytes())
            }
            Ask::Complete {
                upload,
                parts,
                if_none_match,
            } => self.complete(&path, upload, parts, *if_none_match),
            Ask::Abort { upload } => {
                let query = [("uploadId", upload.clone())];
                self.call("DELETE", &path, &query, &[], b"")
            }
            Ask::Get { version, range } => {
                let range = range.map(|(first, last)| format!("bytes={first}-{last}"));
                let headers: Vec<(&str, &str)> = range
                    .iter()
                    .map(|range| ("range", range.as_str()))
                    .collect();
                self.call("GET", &path, &of_version(version), &headers, b"")
            }
            Ask::Head => self.call("HEAD", &path, &[], &[], b""),
            Ask::Delete { version, if_match } => {
                let headers = if_match.iter().map(|etag| ("if-match", etag.as_str()));
                let headers: Vec<(&str, &str)> = headers.collect();
                self.call("DELETE", &path, &of_version(version), &headers, b"")
            }
            Ask::DeleteMany { keys } => self.delete_many(bucket, keys),
            Ask::List { page } => self.list(bucket, key, *page),
            Ask::ListVersions { page } => self.list_versions(bucket, key, *page),
        }
    }
}

impl Remote {
    fn call(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, String)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let answer = self.0.send_with(method, path, query, headers, body)?;
        Ok(reply(answer))
    }

    fn complete(
        &self,
        path: &str,
        upload: &str,
        parts: &[String],
        if_none_match: bool,
    ) -> io::Result<Reply> {
        let parts: String = parts
            .iter()
            .zip(1..)
            .map(|(etag, number)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let document = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let headers: &[(&str, &str)] = match if_none_match {
            true => &[("if-none-match", "*")],
            false => &[],
        };
        let query = [("uploadId", upload.to_owned())];
        let mut reply = self.call("POST", path, &query, headers, document.as_bytes())?;
        // A completion that fails late reports that in the body of a 200.
        if reply.status == 200
            && let Some(code) = element(&reply.body, "Code").pop()
        {
            reply.status = match code.as_str() {
                "PreconditionFailed" => 412,
                _ => 500,
            };
            reply.code = code;
        }
        reply.etag = element(&reply.body, "ETag").pop();
        Ok(reply)
    }

    fn delete_many(&self, bucket: &str, keys: &[String]) -> io::Result<Reply> {
        let keys: String = keys
            .iter()
            .map(|key| format!("<Object><Key>{key}</Key></Object>"))
            .collect();
        let document = format!("<Delete>{keys}</Delete>");
        let sum = crate::s3::content_md5(document.as_bytes());
        let query = [("delete", String::new())];
        let path = format!("/{bucket}");
        let headers = [("content-md5", sum.as_str())];
        let mut reply = self.call("POST", &path, &query, &headers, document.as_bytes())?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        reply.entries = blocks(&text, "Deleted")
            .map(|block| Entry {
                key: inner(block, "Key").unwrap_or_default(),
                etag: None,
                version: inner(block, "DeleteMarkerVersionId"),
            })
            .collect();
        Ok(reply)
    }

    fn list(&self, bucket: &str, prefix: &str, page: usize) -> io::Result<Reply> {
        let mut entries = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![
                ("list-type", "2".to_owned()),
                ("prefix", prefix.to_owned()),
                ("max-keys", page.to_string()),
            ];
            query.extend(token.map(|token| ("continuation-token", token)));
            let mut reply = self.call("GET", &format!("/{bucket}"), &query, &[], b"")?;
            if reply.status != 200 {
                return Ok(reply);
            }
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            entries.extend(blocks(&text, "Contents").map(entry));
            token = inner(&text, "NextContinuationToken");
            if token.is_none() {
                reply.entries = entries;
                return Ok(reply);
            }
        }
    }

    fn list_versions(&self, bucket: &str, prefix: &str, page: usize) -> io::Result<Reply> {
        let mut entries = Vec::new();
        let mut after: Option<(String, String)> = None;
        loop {
            let mut query = vec![
                ("versions", String::new()),
                ("prefix", prefix.to_owned()),
                ("max-keys", page.to_string()),
            ];
            if let Some((key, version)) = after {
                query.extend([("key-marker", key), ("version-id-marker", version)]);
            }
            let mut reply = self.call("GET", &format!("/{bucket}"), &query, &[], b"")?;
            if reply.status != 200 {
                return Ok(reply);
            }
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            // Versions and markers are mixed, in order.
            let text = text
                .replace("<DeleteMarker>", "<Version>")
                .replace("</DeleteMarker>", "</Version>");
            entries.extend(blocks(&text, "Version").map(entry));
            let key = inner(&text, "NextKeyMarker");
            let version = inner(&text, "NextVersionIdMarker").unwrap_or_default();
            let Some(key) = key else {
                reply.entries = entries;
                return Ok(reply);
            };
            after = Some((key, version));
        }
    }
}

fn reply(answer: Answer) -> Reply {
    let code = match answer.status {
        200..300 => None,
        _ => answer.all("Code").pop(),
    };
    Reply {
        status: answer.status,
        code: code.unwrap_or_default(),
        etag: answer.etag(),
        version: answer.header("x-amz-version-id").map(str::to_owned),
        body: answer.body,
        ..Reply::default()
    }
}

fn element(body: &[u8], name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(body).into_owned();
    inner(&text, name).into_iter().collect()
}

/// Returns the text of each element of this name.
fn blocks<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let blocks: Vec<&str> = text
        .split(&open)
        .skip(1)
        .map(|rest| rest.split_once(&close).map_or(rest, |(block, _)| block))
        .collect();
    blocks.into_iter()
}

fn inner(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (inner, _) = rest.split_once(&format!("</{name}>"))?;
    Some(
        inner
            .replace("&quot;", "")
            .replace("&#34;", "")
            .replace('"', ""),
    )
}

fn entry(block: &str) -> Entry {
    Entry {
        key: inner(block, "Key").unwrap_or_default(),
        etag: inner(block, "ETag"),
        version: inner(block, "VersionId"),
    }
}
