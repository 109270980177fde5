//! THE TABLE: one row for each S3 operation.
//!
//! A row says everything about an operation: how a request for it is recognised, which rights it
//! needs, which body it accepts, which handler answers it. Routing, authorisation, logs and the
//! list of served operations derive from it. A row whose handler is `missing` answers 501 with its
//! name; one whose handler is `absent` has a column for the answer where nothing is set.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};

use crate::context::Context;
use crate::ops;
use crate::request::Request;
use crate::row::{Asks, BodyKind, Details, Mark, Node, Right, Row, Scope, Unset, When};
use drystone_iam::action::Action;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::query::Query;
use drystone_protocol::response::Response;

pub type Handler = fn(Arc<Context>, Request) -> BoxFuture<'static, Result<Response, S3Error>>;

/// Most settings.
const KIB_1024: BodyKind = BodyKind::Document(1 << 20);
/// A thousand keys of a kilobyte, and the elements around them.
const KIB_2048: BodyKind = BodyKind::Document(2 << 20);
/// Ten thousand parts with their checksums.
const KIB_4096: BodyKind = BodyKind::Document(4 << 20);
const NOTHING: BodyKind = BodyKind::Nothing;
const STREAM: BodyKind = BodyKind::Stream;
const FORM: BodyKind = BodyKind::Form;

/// An operation: its row and its handler.
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

/// Writes a row: name, method, scope, marks, action (and the one for a version), body, the columns
/// of [`Details`] that it does not leave out, handler.
macro_rules! operations {
    ($($name:ident $method:ident $scope:ident [$($mark:expr),*] $action:ident
        $(/ $version_action:ident)? $body:ident $({$($column:ident: $value:expr),+})?
        $($handler:ident)::+;)+) => {
        pub static OPERATIONS: &[Operation] = &[$(
            Operation {
                row: Row {
                    name: stringify!($name),
                    method: Method::$method,
                    scope: Scope::$scope,
                    marks: &[$($mark),*],
                    right: Right(&[Action::$action $(, Action::$version_action)?]),
                    body: $body,
                    details: Details { $($($column: $value,)+)? ..Details::NONE },
                },
                handler: |context, request| Box::pin(ops::$($handler)::+(context, request)),
            },
        )+];
    };
}

use Mark::{Header, Key, KeyIs};
use Node::{Element, Text};
use Unset::{Deleted, Document, Invalid, Refused};

/// Writing an object: with an ACL, tags or a lock it needs the rights to set these.
const WRITE_EXTRAS: &[(When, Right)] = &[
    (ACL, Right(&[Action::PutObjectAcl])),
    (
        When::AnyOf(&["x-amz-tagging"]),
        Right(&[Action::PutObjectTagging]),
    ),
    (
        When::AnyOf(&[
            "x-amz-object-lock-mode",
            "x-amz-object-lock-retain-until-date",
        ]),
        Right(&[Action::PutObjectRetention]),
    ),
    (
        When::AnyOf(&["x-amz-object-lock-legal-hold"]),
        Right(&[Action::PutObjectLegalHold]),
    ),
];
/// Making a bucket: with an ACL, a lock or an ownership rule it needs the rights to set these.
const CREATE_EXTRAS: &[(When, Right)] = &[
    (ACL, Right(&[Action::PutBucketAcl])),
    (LOCK, Right(&[Action::PutBucketVersioning])),
    (LOCK, Right(&[Action::PutBucketObjectLockConfiguration])),
    (
        When::AnyOf(&["x-amz-object-ownership"]),
        Right(&[Action::PutBucketOwnershipControls]),
    ),
];
/// Deleting a version, or shortening its retention, in spite of governance.
const BYPASS: &[(When, Right)] = &[(
    When::Is("x-amz-bypass-governance-retention", "true"),
    Right(&[Action::BypassGovernanceRetention]),
)];
/// Describing an object says as much as reading its head.
const READ_TOO: &[(When, Right)] = &[(
    When::Always,
    Right(&[Action::GetObject, Action::GetObjectVersion]),
)];
/// Reading the source of a copy.
const READ: Option<Right> = Some(Right(&[Action::GetObject, Action::GetObjectVersion]));
const ACL: When = When::AnyOf(&[
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
]);
const LOCK: When = When::Is("x-amz-bucket-object-lock-enabled", "true");

/// The list is at its end.
const LAST: &[Node] = &[Text("IsTruncated", "false")];
/// Every bucket is as AWS makes them.
const OWNERSHIP: &[Node] = &[Element(
    "Rule",
    &[Text("ObjectOwnership", "BucketOwnerEnforced")],
)];
const NO_LOCK: &str = "Bucket is missing Object Lock Configuration";

// Of rows with the same method and scope the first that matches is taken, so those with more marks
// come first. The first mark of a row names its sub-resource.
operations! {
    ListBuckets GET Service [] ListAllMyBuckets NOTHING list_buckets::handle;

    GetBucketAbac GET Bucket [Key("abac")] GetBucketAbac NOTHING
        {unset: Document("AbacStatus", &[Text("Status", "Disabled")])} absent::answer;
    PutBucketAbac PUT Bucket [Key("abac")] PutBucketAbac KIB_1024 missing::handle;
    GetBucketAccelerateConfiguration GET Bucket [Key("accelerate")]
        GetAccelerateConfiguration NOTHING
        {unset: Document("AccelerateConfiguration", &[])} absent::answer;
    PutBucketAccelerateConfiguration PUT Bucket [Key("accelerate")]
        PutAccelerateConfiguration KIB_1024 missing::handle;
    GetBucketAcl GET Bucket [Key("acl")] GetBucketAcl NOTHING absent::read_acl;
    PutBucketAcl PUT Bucket [Key("acl")] PutBucketAcl KIB_1024 absent::write_acl;
    GetBucketAnalyticsConfiguration GET Bucket [Key("analytics"), Key("id")]
        GetAnalyticsConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    ListBucketAnalyticsConfigurations GET Bucket [Key("analytics")]
        GetAnalyticsConfiguration NOTHING
        {unset: Document("ListBucketAnalyticsConfigurationResult", LAST)} absent::answer;
    PutBucketAnalyticsConfiguration PUT Bucket [Key("analytics")]
        PutAnalyticsConfiguration KIB_1024 missing::handle;
    DeleteBucketAnalyticsConfiguration DELETE Bucket [Key("analytics")]
        PutAnalyticsConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    GetBucketCors GET Bucket [Key("cors")]
        GetBucketCORS NOTHING {unset: Refused(Code::NoSuchCORSConfiguration)} absent::answer;
    PutBucketCors PUT Bucket [Key("cors")] PutBucketCORS KIB_1024 missing::handle;
    DeleteBucketCors DELETE Bucket [Key("cors")]
        PutBucketCORS NOTHING {unset: Deleted} absent::answer;
    GetBucketEncryption GET Bucket [Key("encryption")] GetEncryptionConfiguration NOTHING
        {unset: Refused(Code::ServerSideEncryptionConfigurationNotFoundError)} absent::answer;
    PutBucketEncryption PUT Bucket [Key("encryption")]
        PutEncryptionConfiguration KIB_1024 missing::handle;
    DeleteBucketEncryption DELETE Bucket [Key("encryption")]
        PutEncryptionConfiguration NOTHING {unset: Deleted} absent::answer;
    GetBucketIntelligentTieringConfiguration GET Bucket [Key("intelligent-tiering"), Key("id")]
        GetIntelligentTieringConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    ListBucketIntelligentTieringConfigurations GET Bucket [Key("intelligent-tiering")]
        GetIntelligentTieringConfiguration NOTHING
        {unset: Document("ListBucketIntelligentTieringConfigurationsResult", LAST)} absent::answer;
    PutBucketIntelligentTieringConfiguration PUT Bucket [Key("intelligent-tiering")]
        PutIntelligentTieringConfiguration KIB_1024 missing::handle;
    DeleteBucketIntelligentTieringConfiguration DELETE Bucket [Key("intelligent-tiering")]
        PutIntelligentTieringConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    GetBucketInventoryConfiguration GET Bucket [Key("inventory"), Key("id")]
        GetInventoryConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    ListBucketInventoryConfigurations GET Bucket [Key("inventory")]
        GetInventoryConfiguration NOTHING
        {unset: Document("ListInventoryConfigurationsResult", LAST)} absent::answer;
    PutBucketInventoryConfiguration PUT Bucket [Key("inventory")]
        PutInventoryConfiguration KIB_1024 missing::handle;
    DeleteBucketInventoryConfiguration DELETE Bucket [Key("inventory")]
        PutInventoryConfiguration NOTHING
        {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    GetBucketLifecycleConfiguration GET Bucket [Key("lifecycle")] GetLifecycleConfiguration NOTHING
        {unset: Refused(Code::NoSuchLifecycleConfiguration)} absent::answer;
    PutBucketLifecycleConfiguration PUT Bucket [Key("lifecycle")]
        PutLifecycleConfiguration KIB_1024 missing::handle;
    DeleteBucketLifecycle DELETE Bucket [Key("lifecycle")]
        PutLifecycleConfiguration NOTHING {unset: Deleted} absent::answer;
    GetBucketLocation GET Bucket [Key("location")]
        GetBucketLocation NOTHING get_bucket_location::handle;
    GetBucketLogging GET Bucket [Key("logging")]
        GetBucketLogging NOTHING {unset: Document("BucketLoggingStatus", &[])} absent::answer;
    PutBucketLogging PUT Bucket [Key("logging")] PutBucketLogging KIB_1024 missing::handle;
    GetBucketMetadataConfiguration GET Bucket [Key("metadataConfiguration")]
        GetBucketMetadataTableConfiguration NOTHING missing::handle;
    CreateBucketMetadataConfiguration POST Bucket [Key("metadataConfiguration")]
        CreateBucketMetadataTableConfiguration KIB_1024 missing::handle;
    DeleteBucketMetadataConfiguration DELETE Bucket [Key("metadataConfiguration")]
        DeleteBucketMetadataTableConfiguration NOTHING missing::handle;
    UpdateBucketMetadataInventoryTableConfiguration PUT Bucket [Key("metadataInventoryTable")]
        UpdateBucketMetadataInventoryTableConfiguration KIB_1024 missing::handle;
    UpdateBucketMetadataJournalTableConfiguration PUT Bucket [Key("metadataJournalTable")]
        UpdateBucketMetadataJournalTableConfiguration KIB_1024 missing::handle;
    GetBucketMetadataTableConfiguration GET Bucket [Key("metadataTable")]
        GetBucketMetadataTableConfiguration NOTHING missing::handle;
    CreateBucketMetadataTableConfiguration POST Bucket [Key("metadataTable")]
        CreateBucketMetadataTableConfiguration KIB_1024 missing::handle;
    DeleteBucketMetadataTableConfiguration DELETE Bucket [Key("metadataTable")]
        DeleteBucketMetadataTableConfiguration NOTHING missing::handle;
    GetBucketMetricsConfiguration GET Bucket [Key("metrics"), Key("id")]
        GetMetricsConfiguration NOTHING {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    ListBucketMetricsConfigurations GET Bucket [Key("metrics")] GetMetricsConfiguration NOTHING
        {unset: Document("ListMetricsConfigurationsResult", LAST)} absent::answer;
    PutBucketMetricsConfiguration PUT Bucket [Key("metrics")]
        PutMetricsConfiguration KIB_1024 missing::handle;
    DeleteBucketMetricsConfiguration DELETE Bucket [Key("metrics")]
        PutMetricsConfiguration NOTHING {unset: Refused(Code::NoSuchConfiguration)} absent::answer;
    GetBucketNotificationConfiguration GET Bucket [Key("notification")]
        GetBucketNotification NOTHING
        {unset: Document("NotificationConfiguration", &[])} absent::answer;
    PutBucketNotificationConfiguration PUT Bucket [Key("notification")]
        PutBucketNotification KIB_1024 missing::handle;
    GetObjectLockConfiguration GET Bucket [Key("object-lock")]
        GetBucketObjectLockConfiguration NOTHING
        {unset: Refused(Code::ObjectLockConfigurationNotFoundError)} absent::answer;
    PutObjectLockConfiguration PUT Bucket [Key("object-lock")]
        PutBucketObjectLockConfiguration KIB_1024 missing::handle;
    GetBucketOwnershipControls GET Bucket [Key("ownershipControls")]
        GetBucketOwnershipControls NOTHING
        {unset: Document("OwnershipControls", OWNERSHIP)} absent::answer;
    PutBucketOwnershipControls PUT Bucket [Key("ownershipControls")]
        PutBucketOwnershipControls KIB_1024 missing::handle;
    DeleteBucketOwnershipControls DELETE Bucket [Key("ownershipControls")]
        PutBucketOwnershipControls NOTHING missing::handle;
    GetBucketPolicy GET Bucket [Key("policy")]
        GetBucketPolicy NOTHING {unset: Refused(Code::NoSuchBucketPolicy)} absent::answer;
    PutBucketPolicy PUT Bucket [Key("policy")] PutBucketPolicy KIB_1024 missing::handle;
    DeleteBucketPolicy DELETE Bucket [Key("policy")]
        DeleteBucketPolicy NOTHING {unset: Deleted} absent::answer;
    GetBucketPolicyStatus GET Bucket [Key("policyStatus")]
        GetBucketPolicyStatus NOTHING {unset: Refused(Code::NoSuchBucketPolicy)} absent::answer;
    GetPublicAccessBlock GET Bucket [Key("publicAccessBlock")] GetBucketPublicAccessBlock NOTHING
        {unset: Refused(Code::NoSuchPublicAccessBlockConfiguration)} absent::answer;
    PutPublicAccessBlock PUT Bucket [Key("publicAccessBlock")]
        PutBucketPublicAccessBlock KIB_1024 missing::handle;
    DeletePublicAccessBlock DELETE Bucket [Key("publicAccessBlock")]
        PutBucketPublicAccessBlock NOTHING {unset: Deleted} absent::answer;
    GetBucketReplication GET Bucket [Key("replication")] GetReplicationConfiguration NOTHING
        {unset: Refused(Code::ReplicationConfigurationNotFoundError)} absent::answer;
    PutBucketReplication PUT Bucket [Key("replication")]
        PutReplicationConfiguration KIB_1024 missing::handle;
    DeleteBucketReplication DELETE Bucket [Key("replication")]
        PutReplicationConfiguration NOTHING {unset: Deleted} absent::answer;
    GetBucketRequestPayment GET Bucket [Key("requestPayment")] GetBucketRequestPayment NOTHING
        {unset: Document("RequestPaymentConfiguration", &[Text("Payer", "BucketOwner")])}
        absent::answer;
    PutBucketRequestPayment PUT Bucket [Key("requestPayment")]
        PutBucketRequestPayment KIB_1024 missing::handle;
    CreateSession GET Bucket [Key("session")] CreateSession NOTHING missing::handle;
    GetBucketTagging GET Bucket [Key("tagging")]
        GetBucketTagging NOTHING get_bucket_tagging::handle;
    PutBucketTagging PUT Bucket [Key("tagging")]
        PutBucketTagging KIB_1024 put_bucket_tagging::handle;
    DeleteBucketTagging DELETE Bucket [Key("tagging")]
        PutBucketTagging NOTHING delete_bucket_tagging::handle;
    GetBucketVersioning GET Bucket [Key("versioning")]
        GetBucketVersioning NOTHING get_bucket_versioning::handle;
    PutBucketVersioning PUT Bucket [Key("versioning")]
        PutBucketVersioning KIB_1024 put_bucket_versioning::handle;
    GetBucketWebsite GET Bucket [Key("website")]
        GetBucketWebsite NOTHING {unset: Refused(Code::NoSuchWebsiteConfiguration)} absent::answer;
    PutBucketWebsite PUT Bucket [Key("website")] PutBucketWebsite KIB_1024 missing::handle;
    DeleteBucketWebsite DELETE Bucket [Key("website")]
        DeleteBucketWebsite NOTHING {unset: Deleted} absent::answer;
    ListMultipartUploads GET Bucket [Key("uploads")]
        ListBucketMultipartUploads NOTHING list_multipart_uploads::handle;
    ListObjectVersions GET Bucket [Key("versions")]
        ListBucketVersions NOTHING list_object_versions::handle;
    DeleteObjects POST Bucket [Key("delete")] DeleteObject / DeleteObjectVersion KIB_2048
        {asks: Asks::PerItem, also: BYPASS} delete_objects::handle;
    ListenNotification GET Bucket [Key("events")] ListenBucketNotification NOTHING missing::handle;
    ListObjectsV2 GET Bucket [KeyIs("list-type", "2")] ListBucket NOTHING list_objects_v2::handle;
    ListObjects GET Bucket [] ListBucket NOTHING list_objects::handle;
    HeadBucket HEAD Bucket [] ListBucket NOTHING {denial_has_region: true} head_bucket::handle;
    CreateBucket PUT Bucket []
        CreateBucket KIB_1024 {also: CREATE_EXTRAS, makes_bucket: true} create_bucket::handle;
    DeleteBucket DELETE Bucket [] DeleteBucket NOTHING delete_bucket::handle;
    PostObject POST Bucket [] PutObject FORM {also: WRITE_EXTRAS} post_object::handle;

    GetObjectAcl GET Object [Key("acl")]
        GetObjectAcl / GetObjectVersionAcl NOTHING absent::read_acl;
    PutObjectAcl PUT Object [Key("acl")]
        PutObjectAcl / PutObjectVersionAcl KIB_1024 absent::write_acl;
    GetObjectAttributes GET Object [Key("attributes")]
        GetObjectAttributes / GetObjectVersionAttributes NOTHING
        {also: READ_TOO} get_object_attributes::handle;
    UpdateObjectEncryption PUT Object [Key("encryption")]
        UpdateObjectEncryption KIB_1024 missing::handle;
    GetObjectLegalHold GET Object [Key("legal-hold")]
        GetObjectLegalHold NOTHING {unset: Invalid(NO_LOCK)} absent::answer;
    PutObjectLegalHold PUT Object [Key("legal-hold")] PutObjectLegalHold KIB_1024 missing::handle;
    GetObjectRetention GET Object [Key("retention")]
        GetObjectRetention NOTHING {unset: Invalid(NO_LOCK)} absent::answer;
    PutObjectRetention PUT Object [Key("retention")]
        PutObjectRetention KIB_1024 {also: BYPASS} missing::handle;
    RenameObject PUT Object [Key("renameObject")] PutObject NOTHING missing::handle;
    RestoreObject POST Object [Key("restore")] RestoreObject KIB_1024 missing::handle;
    SelectObjectContent POST Object [Key("select")] GetObject KIB_1024 missing::handle;
    GetObjectTagging GET Object [Key("tagging")]
        GetObjectTagging / GetObjectVersionTagging NOTHING get_object_tagging::handle;
    PutObjectTagging PUT Object [Key("tagging")]
        PutObjectTagging / PutObjectVersionTagging KIB_1024 put_object_tagging::handle;
    DeleteObjectTagging DELETE Object [Key("tagging")]
        DeleteObjectTagging / DeleteObjectVersionTagging NOTHING delete_object_tagging::handle;
    GetObjectTorrent GET Object [Key("torrent")] GetObjectTorrent NOTHING missing::handle;
    CreateMultipartUpload POST Object [Key("uploads")]
        PutObject NOTHING {also: WRITE_EXTRAS} create_multipart_upload::handle;
    UploadPartCopy PUT Object [Key("uploadId"), Key("partNumber"), Header("x-amz-copy-source")]
        PutObject NOTHING {source: READ} upload_part_copy::handle;
    UploadPart PUT Object [Key("uploadId"), Key("partNumber")] PutObject STREAM upload_part::handle;
    CompleteMultipartUpload POST Object [Key("uploadId")]
        PutObject KIB_4096 complete_multipart_upload::handle;
    AbortMultipartUpload DELETE Object [Key("uploadId")]
        AbortMultipartUpload NOTHING abort_multipart_upload::handle;
    ListParts GET Object [Key("uploadId")] ListMultipartUploadParts NOTHING list_parts::handle;
    CopyObject PUT Object [Header("x-amz-copy-source")]
        PutObject NOTHING {also: WRITE_EXTRAS, source: READ} copy_object::handle;
    PutObject PUT Object [] PutObject STREAM {also: WRITE_EXTRAS} put_object::handle;
    GetObject GET Object [] GetObject / GetObjectVersion NOTHING get_object::handle;
    HeadObject HEAD Object [] GetObject / GetObjectVersion NOTHING head_object::handle;
    DeleteObject DELETE Object []
        DeleteObject / DeleteObjectVersion NOTHING {also: BYPASS} delete_object::handle;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{Action, Asks, Mark, Query, Scope, find, methods, rows};
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

    fn actions(line: &str, headers: &[(&'static str, &str)], names_version: bool) -> Vec<Action> {
        let row = rows().find(|row| row.name == line).unwrap();
        let headers = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_str(value).unwrap())
        });
        row.actions(names_version, &headers.collect()).collect()
    }

    #[test]
    fn a_32_headers_ask_for_rights_of_their_own() {
        use Action::{
            CreateBucket, GetObjectVersion, GetObjectVersionAttributes,
            PutBucketObjectLockConfiguration, PutBucketVersioning, PutObject, PutObjectAcl,
            PutObjectLegalHold, PutObjectRetention, PutObjectTagging,
        };
        let plain = actions("PutObject", &[], false);
        assert_eq!(plain, [PutObject]);
        let headers = [
            ("x-amz-tagging", "a=b"),
            ("x-amz-grant-read", "id=1"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-legal-hold", "ON"),
        ];
        let all = [
            PutObject,
            PutObjectAcl,
            PutObjectTagging,
            PutObjectRetention,
            PutObjectLegalHold,
        ];
        for name in ["PutObject", "CopyObject", "CreateMultipartUpload"] {
            assert_eq!(actions(name, &headers, false), all, "{name}");
        }
        let described = actions("GetObjectAttributes", &[], true);
        assert_eq!(described, [GetObjectVersionAttributes, GetObjectVersion]);
        let lock = [("x-amz-bucket-object-lock-enabled", "True")];
        let made = actions("CreateBucket", &lock, false);
        let rights = [
            CreateBucket,
            PutBucketVersioning,
            PutBucketObjectLockConfiguration,
        ];
        assert_eq!(made, rights);
    }

    /// Everything that names a version by its id asks for the right to versions, batches included.
    #[test]
    fn a_33_a_version_by_its_id_asks_for_a_right_of_its_own() {
        let of_versions = |name| {
            let of = |names_version| actions(name, &[], names_version);
            let (plain, version) = (of(false), of(true));
            let named: Vec<_> = version.iter().map(|action| action.name()).collect();
            assert_ne!(plain, version, "{name}");
            assert!(
                named.iter().all(|name| name.contains("Version")),
                "{named:?}"
            );
        };
        for name in [
            "GetObject",
            "HeadObject",
            "GetObjectAcl",
            "PutObjectAcl",
            "GetObjectAttributes",
            "GetObjectTagging",
            "PutObjectTagging",
            "DeleteObjectTagging",
            "DeleteObject",
            "DeleteObjects",
        ] {
            of_versions(name);
        }
        for row in rows().filter(|row| row.copies()) {
            let source = row.details.source.map(|right| right.action(true));
            assert_eq!(source, Some(Action::GetObjectVersion), "{}", row.name);
        }
    }

    #[test]
    fn a_32_a_batch_asks_for_each_item() {
        let rows = rows().filter(|row| row.details.asks == Asks::PerItem);
        let names: Vec<_> = rows.map(|row| row.name).collect();
        assert_eq!(names, ["DeleteObjects"]);
        let bypass = |value| [("x-amz-bypass-governance-retention", value)];
        let key = actions("DeleteObjects", &bypass("false"), false);
        assert_eq!(key, [Action::DeleteObject]);
        let version = actions("DeleteObjects", &bypass("true"), true);
        let both = [
            Action::DeleteObjectVersion,
            Action::BypassGovernanceRetention,
        ];
        assert_eq!(version, both);
    }

    #[test]
    fn a_32_the_source_of_a_copy_must_be_readable() {
        for row in rows() {
            let copies = row.marks.contains(&Mark::Header("x-amz-copy-source"));
            assert_eq!(row.copies(), copies, "{}", row.name);
            let source = row.details.source.map(|right| right.action(true));
            let expected = copies.then_some(Action::GetObjectVersion);
            assert_eq!(source, expected, "{}", row.name);
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
