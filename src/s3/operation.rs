//! THE TABLE: one row for each S3 operation.
//!
//! A row says all there is about an operation: how a request for it is recognised, which right it
//! needs, what body it takes and who answers it. Routing, authorisation, logs and the list of what
//! Drystone does derive from it. A row whose handler is `missing` answers 501 with its name.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};

use crate::context::Context;
use crate::ops;
use crate::request::Request;
use crate::row::{BodyKind, Mark, Row, Scope};
use drystone_protocol::error::S3Error;
use drystone_protocol::query::Query;
use drystone_protocol::response::Response;

pub type Handler = fn(Arc<Context>, Request) -> BoxFuture<'static, Result<Response, S3Error>>;

/// Most settings.
const KIB_1024: BodyKind = BodyKind::Document(1 << 20);
/// A thousand keys of a kilobyte, and what stands around them.
const KIB_2048: BodyKind = BodyKind::Document(2 << 20);
/// Ten thousand parts with their checksums.
const KIB_4096: BodyKind = BodyKind::Document(4 << 20);
const NOTHING: BodyKind = BodyKind::Nothing;
const STREAM: BodyKind = BodyKind::Stream;
const FORM: BodyKind = BodyKind::Form;

/// An operation: its row, and who answers it.
#[derive(Debug)]
pub struct Operation {
    pub row: Row,
    pub handler: Handler,
}

/// All rows, in their order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    OPERATIONS.iter().map(|operation| &operation.row)
}

/// The methods that go with what the request names, for `Allow`.
pub fn methods(scope: Scope, query: &Query) -> Vec<&'static str> {
    let names = |row: &Row| match row.marks.first() {
        Some(Mark::Key(key)) => query.has(key),
        _ => false,
    };
    let of_scope = || rows().filter(|row| row.scope == scope);
    let subresource = of_scope().any(names);
    let mut methods: Vec<&str> = of_scope()
        .filter(|row| match subresource {
            true => names(row),
            false => !matches!(row.marks.first(), Some(Mark::Key(_) | Mark::KeyIs(..))),
        })
        .map(|row| row.method.as_str())
        .collect();
    methods.sort_unstable();
    methods.dedup();
    methods
}

/// The row for a request: the first that it has all the marks of. `None`: S3 has no such
/// operation, as the method does not go with the sub-resource that the query names.
pub fn find(
    method: &Method,
    scope: Scope,
    query: &Query,
    headers: &HeaderMap,
) -> Option<&'static Operation> {
    let of_scope = || OPERATIONS.iter().filter(|row| row.row.scope == scope);
    let found = of_scope().find(|operation| operation.row.is_meant_by(method, query, headers))?;
    // A plain row is not meant when the query names a sub-resource: DELETE of `?acl` must
    // not delete the bucket.
    let is_plain = !found
        .row
        .marks
        .iter()
        .any(|mark| !matches!(mark, Mark::Header(_)));
    let names_subresource = || {
        of_scope()
            .filter_map(|operation| operation.row.marks.first())
            .any(|mark| matches!(mark, Mark::Key(key) if query.has(key)))
    };
    (!is_plain || !names_subresource()).then_some(found)
}

/// Writes a row: name, method, scope, marks, action (and the one for a version), body, handler.
macro_rules! operations {
    ($($name:ident $method:ident $scope:ident [$($mark:expr),*] $action:literal
        $(/ $version_action:literal)? $body:ident $($handler:ident)::+;)+) => {
        pub static OPERATIONS: &[Operation] = &[$(
            Operation {
                row: Row {
                    name: stringify!($name),
                    method: Method::$method,
                    scope: Scope::$scope,
                    marks: &[$($mark),*],
                    actions: &[$action $(, $version_action)?],
                    body: $body,
                },
                handler: |context, request| Box::pin(ops::$($handler)::+(context, request)),
            },
        )+];
    };
}

use Mark::{Header, Key, KeyIs};

// Of rows with the same method and scope the first that matches is taken, so those with more marks
// come first. The first mark of a row names its sub-resource.
operations! {
    ListBuckets GET Service [] "s3:ListAllMyBuckets" NOTHING list_buckets::handle;

    GetBucketAbac GET Bucket [Key("abac")] "s3:GetBucketAbac" NOTHING absent::initial_document;
    PutBucketAbac PUT Bucket [Key("abac")] "s3:PutBucketAbac" KIB_1024 missing::handle;
    GetBucketAccelerateConfiguration GET Bucket [Key("accelerate")]
        "s3:GetAccelerateConfiguration" NOTHING absent::initial_document;
    PutBucketAccelerateConfiguration PUT Bucket [Key("accelerate")]
        "s3:PutAccelerateConfiguration" KIB_1024 missing::handle;
    GetBucketAcl GET Bucket [Key("acl")] "s3:GetBucketAcl" NOTHING absent::read_acl;
    PutBucketAcl PUT Bucket [Key("acl")] "s3:PutBucketAcl" KIB_1024 absent::write_acl;
    GetBucketAnalyticsConfiguration GET Bucket [Key("analytics"), Key("id")]
        "s3:GetAnalyticsConfiguration" NOTHING absent::no_document;
    ListBucketAnalyticsConfigurations GET Bucket [Key("analytics")]
        "s3:GetAnalyticsConfiguration" NOTHING absent::initial_document;
    PutBucketAnalyticsConfiguration PUT Bucket [Key("analytics")]
        "s3:PutAnalyticsConfiguration" KIB_1024 missing::handle;
    DeleteBucketAnalyticsConfiguration DELETE Bucket [Key("analytics")]
        "s3:PutAnalyticsConfiguration" NOTHING absent::no_document;
    GetBucketCors GET Bucket [Key("cors")] "s3:GetBucketCORS" NOTHING absent::no_document;
    PutBucketCors PUT Bucket [Key("cors")] "s3:PutBucketCORS" KIB_1024 missing::handle;
    DeleteBucketCors DELETE Bucket [Key("cors")]
        "s3:PutBucketCORS" NOTHING absent::nothing_to_delete;
    GetBucketEncryption GET Bucket [Key("encryption")]
        "s3:GetEncryptionConfiguration" NOTHING absent::no_document;
    PutBucketEncryption PUT Bucket [Key("encryption")]
        "s3:PutEncryptionConfiguration" KIB_1024 missing::handle;
    DeleteBucketEncryption DELETE Bucket [Key("encryption")]
        "s3:PutEncryptionConfiguration" NOTHING absent::nothing_to_delete;
    GetBucketIntelligentTieringConfiguration GET Bucket [Key("intelligent-tiering"), Key("id")]
        "s3:GetIntelligentTieringConfiguration" NOTHING absent::no_document;
    ListBucketIntelligentTieringConfigurations GET Bucket [Key("intelligent-tiering")]
        "s3:GetIntelligentTieringConfiguration" NOTHING absent::initial_document;
    PutBucketIntelligentTieringConfiguration PUT Bucket [Key("intelligent-tiering")]
        "s3:PutIntelligentTieringConfiguration" KIB_1024 missing::handle;
    DeleteBucketIntelligentTieringConfiguration DELETE Bucket [Key("intelligent-tiering")]
        "s3:PutIntelligentTieringConfiguration" NOTHING absent::no_document;
    GetBucketInventoryConfiguration GET Bucket [Key("inventory"), Key("id")]
        "s3:GetInventoryConfiguration" NOTHING absent::no_document;
    ListBucketInventoryConfigurations GET Bucket [Key("inventory")]
        "s3:GetInventoryConfiguration" NOTHING absent::initial_document;
    PutBucketInventoryConfiguration PUT Bucket [Key("inventory")]
        "s3:PutInventoryConfiguration" KIB_1024 missing::handle;
    DeleteBucketInventoryConfiguration DELETE Bucket [Key("inventory")]
        "s3:PutInventoryConfiguration" NOTHING absent::no_document;
    GetBucketLifecycleConfiguration GET Bucket [Key("lifecycle")]
        "s3:GetLifecycleConfiguration" NOTHING absent::no_document;
    PutBucketLifecycleConfiguration PUT Bucket [Key("lifecycle")]
        "s3:PutLifecycleConfiguration" KIB_1024 missing::handle;
    DeleteBucketLifecycle DELETE Bucket [Key("lifecycle")]
        "s3:PutLifecycleConfiguration" NOTHING absent::nothing_to_delete;
    GetBucketLocation GET Bucket [Key("location")]
        "s3:GetBucketLocation" NOTHING get_bucket_location::handle;
    GetBucketLogging GET Bucket [Key("logging")]
        "s3:GetBucketLogging" NOTHING absent::initial_document;
    PutBucketLogging PUT Bucket [Key("logging")] "s3:PutBucketLogging" KIB_1024 missing::handle;
    GetBucketMetadataConfiguration GET Bucket [Key("metadataConfiguration")]
        "s3:GetBucketMetadataTableConfiguration" NOTHING missing::handle;
    CreateBucketMetadataConfiguration POST Bucket [Key("metadataConfiguration")]
        "s3:CreateBucketMetadataTableConfiguration" KIB_1024 missing::handle;
    DeleteBucketMetadataConfiguration DELETE Bucket [Key("metadataConfiguration")]
        "s3:DeleteBucketMetadataTableConfiguration" NOTHING missing::handle;
    UpdateBucketMetadataInventoryTableConfiguration PUT Bucket [Key("metadataInventoryTable")]
        "s3:UpdateBucketMetadataInventoryTableConfiguration" KIB_1024 missing::handle;
    UpdateBucketMetadataJournalTableConfiguration PUT Bucket [Key("metadataJournalTable")]
        "s3:UpdateBucketMetadataJournalTableConfiguration" KIB_1024 missing::handle;
    GetBucketMetadataTableConfiguration GET Bucket [Key("metadataTable")]
        "s3:GetBucketMetadataTableConfiguration" NOTHING missing::handle;
    CreateBucketMetadataTableConfiguration POST Bucket [Key("metadataTable")]
        "s3:CreateBucketMetadataTableConfiguration" KIB_1024 missing::handle;
    DeleteBucketMetadataTableConfiguration DELETE Bucket [Key("metadataTable")]
        "s3:DeleteBucketMetadataTableConfiguration" NOTHING missing::handle;
    GetBucketMetricsConfiguration GET Bucket [Key("metrics"), Key("id")]
        "s3:GetMetricsConfiguration" NOTHING absent::no_document;
    ListBucketMetricsConfigurations GET Bucket [Key("metrics")]
        "s3:GetMetricsConfiguration" NOTHING absent::initial_document;
    PutBucketMetricsConfiguration PUT Bucket [Key("metrics")]
        "s3:PutMetricsConfiguration" KIB_1024 missing::handle;
    DeleteBucketMetricsConfiguration DELETE Bucket [Key("metrics")]
        "s3:PutMetricsConfiguration" NOTHING absent::no_document;
    GetBucketNotificationConfiguration GET Bucket [Key("notification")]
        "s3:GetBucketNotification" NOTHING absent::initial_document;
    PutBucketNotificationConfiguration PUT Bucket [Key("notification")]
        "s3:PutBucketNotification" KIB_1024 missing::handle;
    GetObjectLockConfiguration GET Bucket [Key("object-lock")]
        "s3:GetBucketObjectLockConfiguration" NOTHING absent::no_document;
    PutObjectLockConfiguration PUT Bucket [Key("object-lock")]
        "s3:PutBucketObjectLockConfiguration" KIB_1024 missing::handle;
    GetBucketOwnershipControls GET Bucket [Key("ownershipControls")]
        "s3:GetBucketOwnershipControls" NOTHING absent::ownership_controls;
    PutBucketOwnershipControls PUT Bucket [Key("ownershipControls")]
        "s3:PutBucketOwnershipControls" KIB_1024 missing::handle;
    DeleteBucketOwnershipControls DELETE Bucket [Key("ownershipControls")]
        "s3:PutBucketOwnershipControls" NOTHING missing::handle;
    GetBucketPolicy GET Bucket [Key("policy")] "s3:GetBucketPolicy" NOTHING absent::no_document;
    PutBucketPolicy PUT Bucket [Key("policy")] "s3:PutBucketPolicy" KIB_1024 missing::handle;
    DeleteBucketPolicy DELETE Bucket [Key("policy")]
        "s3:DeleteBucketPolicy" NOTHING absent::nothing_to_delete;
    GetBucketPolicyStatus GET Bucket [Key("policyStatus")]
        "s3:GetBucketPolicyStatus" NOTHING absent::no_document;
    GetPublicAccessBlock GET Bucket [Key("publicAccessBlock")]
        "s3:GetBucketPublicAccessBlock" NOTHING absent::no_document;
    PutPublicAccessBlock PUT Bucket [Key("publicAccessBlock")]
        "s3:PutBucketPublicAccessBlock" KIB_1024 missing::handle;
    DeletePublicAccessBlock DELETE Bucket [Key("publicAccessBlock")]
        "s3:PutBucketPublicAccessBlock" NOTHING absent::nothing_to_delete;
    GetBucketReplication GET Bucket [Key("replication")]
        "s3:GetReplicationConfiguration" NOTHING absent::no_document;
    PutBucketReplication PUT Bucket [Key("replication")]
        "s3:PutReplicationConfiguration" KIB_1024 missing::handle;
    DeleteBucketReplication DELETE Bucket [Key("replication")]
        "s3:PutReplicationConfiguration" NOTHING absent::nothing_to_delete;
    GetBucketRequestPayment GET Bucket [Key("requestPayment")]
        "s3:GetBucketRequestPayment" NOTHING absent::initial_document;
    PutBucketRequestPayment PUT Bucket [Key("requestPayment")]
        "s3:PutBucketRequestPayment" KIB_1024 missing::handle;
    CreateSession GET Bucket [Key("session")] "s3express:CreateSession" NOTHING missing::handle;
    GetBucketTagging GET Bucket [Key("tagging")]
        "s3:GetBucketTagging" NOTHING get_bucket_tagging::handle;
    PutBucketTagging PUT Bucket [Key("tagging")]
        "s3:PutBucketTagging" KIB_1024 put_bucket_tagging::handle;
    DeleteBucketTagging DELETE Bucket [Key("tagging")]
        "s3:PutBucketTagging" NOTHING delete_bucket_tagging::handle;
    GetBucketVersioning GET Bucket [Key("versioning")]
        "s3:GetBucketVersioning" NOTHING get_bucket_versioning::handle;
    PutBucketVersioning PUT Bucket [Key("versioning")]
        "s3:PutBucketVersioning" KIB_1024 put_bucket_versioning::handle;
    GetBucketWebsite GET Bucket [Key("website")] "s3:GetBucketWebsite" NOTHING absent::no_document;
    PutBucketWebsite PUT Bucket [Key("website")] "s3:PutBucketWebsite" KIB_1024 missing::handle;
    DeleteBucketWebsite DELETE Bucket [Key("website")]
        "s3:DeleteBucketWebsite" NOTHING absent::nothing_to_delete;
    ListMultipartUploads GET Bucket [Key("uploads")]
        "s3:ListBucketMultipartUploads" NOTHING list_multipart_uploads::handle;
    ListObjectVersions GET Bucket [Key("versions")]
        "s3:ListBucketVersions" NOTHING list_object_versions::handle;
    DeleteObjects POST Bucket [Key("delete")] "s3:DeleteObject" KIB_2048 delete_objects::handle;
    ListenNotification GET Bucket [Key("events")]
        "s3:ListenBucketNotification" NOTHING missing::handle;
    ListObjectsV2 GET Bucket [KeyIs("list-type", "2")]
        "s3:ListBucket" NOTHING list_objects_v2::handle;
    ListObjects GET Bucket [] "s3:ListBucket" NOTHING list_objects::handle;
    HeadBucket HEAD Bucket [] "s3:ListBucket" NOTHING head_bucket::handle;
    CreateBucket PUT Bucket [] "s3:CreateBucket" KIB_1024 create_bucket::handle;
    DeleteBucket DELETE Bucket [] "s3:DeleteBucket" NOTHING delete_bucket::handle;
    PostObject POST Bucket [] "s3:PutObject" FORM post_object::handle;

    GetObjectAcl GET Object [Key("acl")]
        "s3:GetObjectAcl" / "s3:GetObjectVersionAcl" NOTHING absent::read_acl;
    PutObjectAcl PUT Object [Key("acl")]
        "s3:PutObjectAcl" / "s3:PutObjectVersionAcl" KIB_1024 absent::write_acl;
    GetObjectAttributes GET Object [Key("attributes")]
        "s3:GetObjectAttributes" / "s3:GetObjectVersionAttributes"
        NOTHING get_object_attributes::handle;
    UpdateObjectEncryption PUT Object [Key("encryption")]
        "s3:UpdateObjectEncryption" KIB_1024 missing::handle;
    GetObjectLegalHold GET Object [Key("legal-hold")]
        "s3:GetObjectLegalHold" NOTHING absent::no_lock;
    PutObjectLegalHold PUT Object [Key("legal-hold")]
        "s3:PutObjectLegalHold" KIB_1024 missing::handle;
    GetObjectRetention GET Object [Key("retention")]
        "s3:GetObjectRetention" NOTHING absent::no_lock;
    PutObjectRetention PUT Object [Key("retention")]
        "s3:PutObjectRetention" KIB_1024 missing::handle;
    RenameObject PUT Object [Key("renameObject")] "s3:PutObject" NOTHING missing::handle;
    RestoreObject POST Object [Key("restore")] "s3:RestoreObject" KIB_1024 missing::handle;
    SelectObjectContent POST Object [Key("select")] "s3:GetObject" KIB_1024 missing::handle;
    GetObjectTagging GET Object [Key("tagging")]
        "s3:GetObjectTagging" / "s3:GetObjectVersionTagging" NOTHING get_object_tagging::handle;
    PutObjectTagging PUT Object [Key("tagging")]
        "s3:PutObjectTagging" / "s3:PutObjectVersionTagging" KIB_1024 put_object_tagging::handle;
    DeleteObjectTagging DELETE Object [Key("tagging")]
        "s3:DeleteObjectTagging" / "s3:DeleteObjectVersionTagging"
        NOTHING delete_object_tagging::handle;
    GetObjectTorrent GET Object [Key("torrent")] "s3:GetObjectTorrent" NOTHING missing::handle;
    CreateMultipartUpload POST Object [Key("uploads")]
        "s3:PutObject" NOTHING create_multipart_upload::handle;
    UploadPartCopy PUT Object [Key("uploadId"), Key("partNumber"), Header("x-amz-copy-source")]
        "s3:PutObject" NOTHING upload_part_copy::handle;
    UploadPart PUT Object [Key("uploadId"), Key("partNumber")]
        "s3:PutObject" STREAM upload_part::handle;
    CompleteMultipartUpload POST Object [Key("uploadId")]
        "s3:PutObject" KIB_4096 complete_multipart_upload::handle;
    AbortMultipartUpload DELETE Object [Key("uploadId")]
        "s3:AbortMultipartUpload" NOTHING abort_multipart_upload::handle;
    ListParts GET Object [Key("uploadId")]
        "s3:ListMultipartUploadParts" NOTHING list_parts::handle;
    CopyObject PUT Object [Header("x-amz-copy-source")] "s3:PutObject" NOTHING copy_object::handle;
    PutObject PUT Object [] "s3:PutObject" STREAM put_object::handle;
    GetObject GET Object []
        "s3:GetObject" / "s3:GetObjectVersion" NOTHING get_object::handle;
    HeadObject HEAD Object []
        "s3:GetObject" / "s3:GetObjectVersion" NOTHING head_object::handle;
    DeleteObject DELETE Object []
        "s3:DeleteObject" / "s3:DeleteObjectVersion" NOTHING delete_object::handle;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use http::{HeaderMap, HeaderValue};

    use super::{Mark, Query, Scope, find, methods, rows};
    use drystone_auth::v2;

    #[test]
    fn what_is_allowed_is_what_the_table_has() {
        for (scope, query, expected) in [
            (Scope::Service, "", "GET"),
            (Scope::Bucket, "", "DELETE, GET, HEAD, POST, PUT"),
            (Scope::Bucket, "acl", "GET, PUT"),
            (Scope::Bucket, "delete", "POST"),
            (Scope::Object, "", "DELETE, GET, HEAD, PUT"),
            (Scope::Object, "uploadId=u", "DELETE, GET, POST, PUT"),
            (Scope::Object, "uploads", "POST"),
        ] {
            let query = Query::parse(query);
            let found = methods(scope, &query).join(", ");
            assert_eq!(found, expected, "{scope:?} {query:?}");
        }
    }

    #[test]
    fn names_are_unique_and_every_row_is_found_by_its_own_marks() {
        let names: HashSet<_> = rows().map(|row| row.name).collect();
        assert_eq!(names.len(), rows().count());
        for row in rows() {
            let mut query = Vec::new();
            let mut headers = HeaderMap::new();
            for mark in row.marks {
                match mark {
                    Mark::Key(key) => query.push((*key).to_owned()),
                    Mark::KeyIs(key, value) => query.push(format!("{key}={value}")),
                    Mark::Header(name) => {
                        headers.insert(*name, HeaderValue::from_static("x"));
                    }
                }
            }
            let query = Query::parse(&query.join("&"));
            let found = find(&row.method, row.scope, &query, &headers).unwrap();
            assert_eq!(found.row.name, row.name);
        }
    }

    /// A link by Signature Version 2 must not be turned into one for another operation.
    #[test]
    fn version_2_knows_every_subresource_of_the_table() {
        for mark in rows().flat_map(|row| row.marks) {
            if let Mark::Key(name) = mark {
                assert!(v2::is_known_subresource(name), "{name}");
            }
        }
    }
}
