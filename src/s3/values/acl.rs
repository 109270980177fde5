//! The one ACL there is: the bucket's owner has full control.
//!
//! Buckets are BucketOwnerEnforced, as AWS makes them, so ACLs decide nothing. What says the same
//! as that one ACL passes, everything else is refused and never taken silently.

use drystone_store::types::Account;
use http::HeaderMap;

use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::xml::read::Element;
use drystone_protocol::xml::write::{Writer, XSI};

/// The canned ACLs that AWS knows.
const CANNED: [&str; 8] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
];

/// `x-amz-acl` and `x-amz-grant-*`. Tells whether there was one.
pub fn check_headers(headers: &HeaderMap) -> Result<bool, S3Error> {
    let refused = || S3Error::new(Code::AccessControlListNotSupported);
    if headers
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-grant-"))
    {
        return Err(refused());
    }
    let Some(value) = headers.get("x-amz-acl") else {
        return Ok(false);
    };
    match value.to_str().unwrap_or_default() {
        "" | "private" | "bucket-owner-full-control" => Ok(true),
        known if CANNED.contains(&known) => Err(refused()),
        other => Err(S3Error::invalid_argument(
            "Invalid Argument",
            "x-amz-acl",
            other,
        )),
    }
}

/// An `AccessControlPolicy` as a client sends it must say what holds anyway.
pub fn check_document(root: &Element, owner: &Account) -> Result<(), S3Error> {
    let malformed = || S3Error::new(Code::MalformedACLError);
    let list = root.child("AccessControlList").ok_or_else(malformed)?;
    let mut grants = Vec::new();
    for grant in list.children("Grant") {
        let grantee = grant.child("Grantee").ok_or_else(malformed)?;
        let permission = grant.child_text("Permission").ok_or_else(malformed)?;
        grants.push((grantee.child_text("ID"), permission));
    }
    let owners = (Some(owner.canonical_id.as_str()), "FULL_CONTROL");
    let owner_matches = root
        .child("Owner")
        .and_then(|owner| owner.child_text("ID"))
        .is_none_or(|id| id == owner.canonical_id);
    if grants == [owners] && owner_matches {
        Ok(())
    } else {
        Err(S3Error::new(Code::AccessControlListNotSupported))
    }
}

/// The `AccessControlPolicy` of everything that `owner` has.
pub fn document(owner: &Account) -> Writer {
    let mut xml = Writer::document("AccessControlPolicy");
    xml.open("Owner");
    write_account(&mut xml, owner);
    xml.close("Owner");
    xml.open("AccessControlList");
    xml.open("Grant");
    xml.open_with(
        "Grantee",
        &[("xmlns:xsi", XSI), ("xsi:type", "CanonicalUser")],
    );
    write_account(&mut xml, owner);
    xml.close("Grantee");
    xml.text("Permission", "FULL_CONTROL");
    xml.close("Grant");
    xml.close("AccessControlList");
    xml.close("AccessControlPolicy");
    xml
}

/// Writes the content of an `Owner`, an `Initiator` or a `Grantee`.
pub fn write_account(xml: &mut Writer, account: &Account) {
    xml.text("ID", &account.canonical_id);
    xml.text("DisplayName", &account.display_name);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::types::{Account, AccountId};
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{check_document, check_headers, document};
    use drystone_protocol::error::Code;
    use drystone_protocol::xml;

    #[test]
    fn w_16_the_canned_acls_that_say_what_holds_pass() {
        let check = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_static(value);
            headers.insert(HeaderName::from_static(name), value);
            check_headers(&headers).map_err(|error| error.code())
        };
        assert!(!check_headers(&HeaderMap::new()).unwrap());
        assert_eq!(check("x-amz-acl", "private"), Ok(true));
        assert_eq!(check("x-amz-acl", "bucket-owner-full-control"), Ok(true));
        let refused = Err(Code::AccessControlListNotSupported);
        assert_eq!(check("x-amz-acl", "public-read"), refused);
        assert_eq!(check("x-amz-grant-read", "id=1"), refused);
        assert_eq!(check("x-amz-acl", "publicread"), Err(Code::InvalidArgument));
    }

    #[test]
    fn w_16_an_acl_that_is_read_can_be_written_back() {
        let account = |id: &str| Account {
            id: AccountId("000000000001".into()),
            canonical_id: id.into(),
            display_name: "n".into(),
        };
        let written = document(&account("c")).finish();
        let root = xml::read::parse(written.as_bytes(), "AccessControlPolicy").unwrap();
        assert!(check_document(&root, &account("c")).is_ok());
        let error = check_document(&root, &account("d")).unwrap_err();
        assert_eq!(error.code(), Code::AccessControlListNotSupported);
    }
}
