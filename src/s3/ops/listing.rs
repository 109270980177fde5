//! Elements that all listings write: owners, objects, common prefixes.

use std::collections::BTreeMap;

use drystone_store::ObjectStore;
use drystone_store::listings::ListedObject;
use drystone_store::types::{Account, AccountId, ChecksumAlgorithm, ChecksumType};

use crate::request::Request;
use crate::values::acl;
use crate::values::paging::{self, Encoding};
use drystone_protocol::error::S3Error;
use drystone_protocol::response::iso_date;
use drystone_protocol::xml::write::Writer;

/// The class of objects that name none.
pub const STANDARD: &str = "STANDARD";

pub fn storage_class(class: &str) -> &str {
    if class.is_empty() { STANDARD } else { class }
}

/// The parameters that every listing of a bucket has.
#[derive(Debug)]
pub struct Asked {
    pub encoding: Encoding,
    pub prefix: String,
    /// Empty for none.
    pub delimiter: String,
    pub max: usize,
}

impl Asked {
    /// `max` is the query's name for the page's length.
    pub fn read(request: &Request, max: &'static str) -> Result<Asked, S3Error> {
        Ok(Asked {
            encoding: Encoding::asked(request.query.get("encoding-type"))?,
            prefix: parameter(request, "prefix"),
            delimiter: parameter(request, "delimiter"),
            max: paging::page_len(max, request.query.get(max))?,
        })
    }
}

/// A parameter's text; one that is absent is empty.
pub fn parameter(request: &Request, name: &str) -> String {
    request.query.get(name).unwrap_or_default().to_owned()
}

/// The accounts that one page names, each looked up once.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<AccountId, Option<Account>>);

impl Owners {
    pub async fn look_up<'a>(
        store: &dyn ObjectStore,
        ids: impl Iterator<Item = &'a AccountId>,
    ) -> Result<Owners, S3Error> {
        let mut owners = BTreeMap::new();
        for id in ids {
            if !owners.contains_key(id) {
                owners.insert(id.clone(), store.account(id).await?);
            }
        }
        Ok(Owners(owners))
    }

    /// `element` is `Owner` or `Initiator`. An account that was removed shows its id alone.
    pub fn write(&self, xml: &mut Writer, element: &str, id: &AccountId) {
        match self.0.get(id).and_then(Option::as_ref) {
            Some(account) => {
                xml.open(element);
                acl::write_account(xml, account);
                xml.close(element);
            }
            None => {
                xml.open(element);
                xml.text("ID", &id.0);
                xml.close(element);
            }
        }
    }
}

/// A `Contents` of either version of ListObjects; `owners` where the listing shows them.
pub fn write_object(
    xml: &mut Writer,
    object: &ListedObject,
    encoding: Encoding,
    owners: Option<&Owners>,
) {
    xml.open("Contents");
    xml.text("Key", &encoding.apply(&object.key));
    xml.text("LastModified", &iso_date(object.modified));
    xml.text("ETag", &format!("\"{}\"", object.etag));
    write_checksum_kind(xml, object.checksum);
    xml.value("Size", object.size);
    if let Some(owners) = owners {
        owners.write(xml, "Owner", &object.owner);
    }
    xml.text("StorageClass", storage_class(&object.storage_class));
    xml.close("Contents");
}

pub fn write_checksum_kind(xml: &mut Writer, kind: Option<(ChecksumAlgorithm, ChecksumType)>) {
    if let Some((algorithm, kind)) = kind {
        xml.text("ChecksumAlgorithm", algorithm.name());
        xml.text("ChecksumType", kind.name());
    }
}

pub fn write_prefixes(xml: &mut Writer, prefixes: &[String], encoding: Encoding) {
    for prefix in prefixes {
        xml.open("CommonPrefixes");
        xml.text("Prefix", &encoding.apply(prefix));
        xml.close("CommonPrefixes");
    }
}

/// `Delimiter` and `EncodingType`, where they were asked for.
pub fn write_delimiter(xml: &mut Writer, delimiter: &str, encoding: Encoding) {
    if !delimiter.is_empty() {
        xml.text("Delimiter", &encoding.apply(delimiter));
    }
    if encoding == Encoding::Url {
        xml.text("EncodingType", "url");
    }
}
