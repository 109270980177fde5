//! Buckets and their settings.

use drystone_protocol::response::{iso_date, parse_http_date};
use drystone_world::World;

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn s_02_a_bucket_is_made_once() {
    let world = World::new().await;
    let made = world.call("PUT /mine").ok().await;
    assert_eq!(
        (made.status.as_u16(), made.header("location")),
        (200, "/mine")
    );
    // W-15: rclone waits for exactly this.
    let again = world.call("PUT /mine").error().await;
    assert_eq!(again, code(409, "BucketAlreadyOwnedByYou"));
    let others = world.call("PUT /mine").by("bob").error().await;
    assert_eq!(others, code(409, "BucketAlreadyExists"));
    let nobody = world.call("PUT /other").by("").error().await;
    assert_eq!(nobody, code(403, "AccessDenied"));
}

#[tokio::test]
async fn s_02_where_a_bucket_is_made_and_with_what() {
    let world = World::new().await;
    let constraint = |region: &str| {
        format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
             <LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    for (name, given, shown, region) in [
        ("none", "", "", "us-east-1"),
        ("named", "us-east-1", "", "us-east-1"),
        ("far", "eu-central-1", "eu-central-1", "eu-central-1"),
        ("old", "EU", "EU", "eu-west-1"),
        ("own", "garage", "garage", "garage"),
    ] {
        let put = world.call(&format!("PUT /{name}"));
        put.body(constraint(given)).ok().await;
        let location = world.call(&format!("GET /{name}?location")).ok().await;
        assert_eq!(location.xml("LocationConstraint").text, shown);
        let head = world.call(&format!("HEAD /{name}")).ok().await;
        assert_eq!(head.header("x-amz-bucket-region"), region);
        assert_eq!(
            head.header("x-amz-bucket-arn"),
            format!("arn:aws:s3:::{name}")
        );
    }
    for (body, expected) in [
        ("<X/>".to_owned(), "MalformedXML"),
        ("nonsense".to_owned(), "MalformedXML"),
        (
            "<CreateBucketConfiguration><X/></CreateBucketConfiguration>".into(),
            "MalformedXML",
        ),
        (constraint("a b"), "InvalidLocationConstraint"),
        (constraint(&"a".repeat(65)), "InvalidLocationConstraint"),
    ] {
        let refused = world.call("PUT /bad").body(body).error().await;
        assert_eq!(refused, code(400, expected));
    }
    for (name, value, expected) in [
        (
            "x-amz-bucket-object-lock-enabled",
            "true",
            (501, "NotImplemented"),
        ),
        (
            "x-amz-bucket-object-lock-enabled",
            "x",
            (400, "InvalidArgument"),
        ),
        (
            "x-amz-object-ownership",
            "ObjectWriter",
            (501, "NotImplemented"),
        ),
        ("x-amz-object-ownership", "x", (400, "InvalidArgument")),
        (
            "x-amz-acl",
            "public-read",
            (400, "InvalidBucketAclWithObjectOwnership"),
        ),
        (
            "x-amz-grant-read",
            "id=1",
            (400, "InvalidBucketAclWithObjectOwnership"),
        ),
    ] {
        let refused = world.call("PUT /bad").header(name, value).error().await;
        assert_eq!(refused, code(expected.0, expected.1), "{name}: {value}");
    }
    assert_eq!(
        world.call("GET /bad").error().await,
        code(404, "NoSuchBucket")
    );
    let tags = "<CreateBucketConfiguration><LocationConstraint>x</LocationConstraint><Tags><Tag>\
                <Key>a</Key><Value>1</Value></Tag></Tags></CreateBucketConfiguration>";
    let made = world.call("PUT /tagged").body(tags).ok().await;
    assert_eq!(made.header("x-amz-bucket-arn"), "arn:aws:s3:::tagged");
    let kept = world.call("GET /tagged?tagging").ok().await;
    assert!(
        std::str::from_utf8(kept.bytes())
            .unwrap()
            .contains("<Key>a</Key><Value>1</Value>")
    );
    let none = "<CreateBucketConfiguration><Tags></Tags></CreateBucketConfiguration>";
    world.call("PUT /untagged").body(none).ok().await;
    assert_eq!(
        world.call("GET /untagged?tagging").error().await,
        code(404, "NoSuchTagSet")
    );
    let bad = tags.replace("<Key>a", "<Key>a,b");
    let refused = world.call("PUT /bad").body(bad).error().await;
    assert_eq!(refused, code(400, "InvalidTag"));
    let passes = world
        .call("PUT /good")
        .header("x-amz-acl", "private")
        .header("x-amz-bucket-object-lock-enabled", "false")
        .header("x-amz-object-ownership", "BucketOwnerEnforced");
    passes.ok().await;
}

#[tokio::test]
async fn s_03_buckets_are_listed_in_pages_to_their_owner_alone() {
    let world = World::new().await;
    for name in ["aaa", "bbb", "bbc", "ccc"] {
        world.call(&format!("PUT /{name}")).ok().await;
    }
    world.call("PUT /bobs").by("bob").ok().await;
    let list = async |query: &str| {
        let answer = world.call(&format!("GET /{query}")).ok().await;
        let root = answer.xml("ListAllMyBucketsResult");
        let buckets = root.child("Buckets").unwrap().children("Bucket");
        let names: Vec<_> = buckets
            .map(|bucket| bucket.child_text("Name").unwrap().to_owned())
            .collect();
        let token = root.child_text("ContinuationToken").map(str::to_owned);
        (names.join(" "), token)
    };
    assert_eq!(list("").await, ("aaa bbb bbc ccc".to_owned(), None));
    assert_eq!(list("?prefix=bb").await, ("bbb bbc".to_owned(), None));
    assert_eq!(list("?bucket-region=eu-west-1").await.0, "");
    assert_eq!(list("?bucket-region=us-east-1").await.0, "aaa bbb bbc ccc");
    let (names, token) = list("?max-buckets=3").await;
    assert_eq!(names, "aaa bbb bbc");
    let token = token.unwrap();
    let rest = list(&format!("?max-buckets=3&continuation-token={token}")).await;
    assert_eq!(rest, ("ccc".to_owned(), None));
    assert_eq!(list("?max-buckets=4").await.1, None);

    let owner = world.call("GET /").ok().await.xml("ListAllMyBucketsResult");
    let owner = owner.child("Owner").unwrap();
    assert_eq!(owner.child_text("ID"), Some(format!("{:064x}", 2).as_str()));
    assert_eq!(owner.child_text("DisplayName"), Some("alice"));
    // a token is its owner's.
    for (user, query) in [
        ("bob", format!("continuation-token={token}")),
        ("alice", "continuation-token=forged".to_owned()),
        ("alice", "max-buckets=0".to_owned()),
        ("alice", "max-buckets=10001".to_owned()),
    ] {
        let refused = world.call(&format!("GET /?{query}")).by(user).error().await;
        assert_eq!(refused, code(400, "InvalidArgument"), "{user} {query}");
    }
    assert_eq!(
        world.call("GET /").by("").error().await,
        code(403, "AccessDenied")
    );
}

#[tokio::test]
async fn s_03_where_a_bucket_is_can_be_read_off_its_answers() {
    let world = World::with_bucket().await;
    let region = "x-amz-bucket-region";
    for line in ["HEAD /bkt", "GET /bkt", "GET /bkt?list-type=2"] {
        let answer = world.call(line).ok().await;
        assert_eq!(answer.header(region), "us-east-1", "{line}");
    }
    // Asked for alone it is told to everybody.
    for user in ["bob", ""] {
        let refused = world.call("HEAD /bkt").by(user).send().await;
        assert_eq!(
            (refused.status.as_u16(), refused.header(region)),
            (403, "us-east-1")
        );
        let refused = world.call("GET /bkt").by(user).send().await;
        assert_eq!((refused.status.as_u16(), refused.header(region)), (403, ""));
    }
}

#[tokio::test]
async fn s_14_a_listing_has_the_time_that_head_has() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let listed = world.call("GET /bkt").ok().await.xml("ListBucketResult");
    let listed = listed.child("Contents").unwrap().child_text("LastModified");
    let head = world.call("HEAD /bkt/k").ok().await;
    let head = parse_http_date(head.header("last-modified")).unwrap();
    assert_eq!(listed, Some(iso_date(head).as_str()));
}

#[tokio::test]
async fn s_03_only_an_empty_bucket_is_deleted() {
    let world = World::with_bucket().await;
    world.call("POST /bkt/m?uploads").ok().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    assert_eq!(
        world.call("DELETE /bkt").error().await,
        code(409, "BucketNotEmpty")
    );
    world.call("DELETE /bkt/k").ok().await;
    // An upload that has not ended goes with it, as on AWS.
    let deleted = world.call("DELETE /bkt").ok().await;
    assert_eq!(deleted.status.as_u16(), 204);
    for line in ["DELETE /bkt", "GET /bkt", "GET /bkt?location", "PUT /bkt/k"] {
        assert_eq!(
            world.call(line).error().await,
            code(404, "NoSuchBucket"),
            "{line}"
        );
    }
    assert_eq!(world.call("HEAD /bkt").error().await, code(404, ""));
}

#[tokio::test]
async fn s_30_versioning_is_switched() {
    let world = World::with_bucket().await;
    let status = async || {
        let answer = world.call("GET /bkt?versioning").ok().await;
        let root = answer.xml("VersioningConfiguration");
        root.child_text("Status").unwrap_or_default().to_owned()
    };
    let put = |content: &str| {
        let body = format!("<VersioningConfiguration>{content}</VersioningConfiguration>");
        world.call("PUT /bkt?versioning").body(body)
    };
    assert_eq!(status().await, "");
    put("<Status>Enabled</Status>").ok().await;
    assert_eq!(status().await, "Enabled");
    put("<Status>Suspended</Status><MfaDelete>Disabled</MfaDelete>")
        .ok()
        .await;
    assert_eq!(status().await, "Suspended");
    for (content, expected) in [
        ("", (400, "IllegalVersioningConfigurationException")),
        ("<Status>enabled</Status>", (400, "MalformedXML")),
        ("<Status></Status>", (400, "MalformedXML")),
        ("<MfaDelete>Enabled</MfaDelete>", (501, "NotImplemented")),
        (
            "<Status>Enabled</Status><MfaDelete>x</MfaDelete>",
            (400, "MalformedXML"),
        ),
    ] {
        assert_eq!(
            put(content).error().await,
            code(expected.0, expected.1),
            "{content}"
        );
    }
    assert_eq!(status().await, "Suspended");
}

#[tokio::test]
async fn s_06_bucket_tags() {
    let world = World::with_bucket().await;
    let read = async || world.call("GET /bkt?tagging").error().await;
    assert_eq!(read().await, code(404, "NoSuchTagSet"));
    let tags =
        "<Tagging><TagSet><Tag><Key>a &amp; b</Key><Value>c</Value></Tag></TagSet></Tagging>";
    let refused = world.call("PUT /bkt?tagging").body(tags).error().await;
    assert_eq!(refused, code(400, "InvalidTag"));
    let tags = tags.replace("&amp;", "+");
    let put = world.call("PUT /bkt?tagging").document(&tags).ok().await;
    assert_eq!(put.status.as_u16(), 204);
    let got = world.call("GET /bkt?tagging").ok().await.xml("Tagging");
    let tag = got.child("TagSet").unwrap().child("Tag").unwrap();
    assert_eq!(tag.child_text("Key"), Some("a + b"));
    assert_eq!(tag.child_text("Value"), Some("c"));
    for _ in 0..2 {
        let deleted = world.call("DELETE /bkt?tagging").ok().await;
        assert_eq!(deleted.status.as_u16(), 204);
    }
    assert_eq!(read().await, code(404, "NoSuchTagSet"));
}

#[tokio::test]
async fn w_18_settings_that_nobody_set_are_read_as_absent() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for (target, status, expected) in [
        ("bkt?policy", 404, "NoSuchBucketPolicy"),
        ("bkt?policyStatus", 404, "NoSuchBucketPolicy"),
        ("bkt?lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("bkt?cors", 404, "NoSuchCORSConfiguration"),
        ("bkt?website", 404, "NoSuchWebsiteConfiguration"),
        (
            "bkt?replication",
            404,
            "ReplicationConfigurationNotFoundError",
        ),
        (
            "bkt?encryption",
            404,
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        (
            "bkt?object-lock",
            404,
            "ObjectLockConfigurationNotFoundError",
        ),
        (
            "bkt?publicAccessBlock",
            404,
            "NoSuchPublicAccessBlockConfiguration",
        ),
        ("bkt?analytics&id=1", 404, "NoSuchConfiguration"),
        ("bkt?inventory&id=1", 404, "NoSuchConfiguration"),
        ("bkt/k?retention", 400, "InvalidRequest"),
        ("bkt/k?legal-hold", 400, "InvalidRequest"),
        ("bkt/none?acl", 404, "NoSuchKey"),
    ] {
        let refused = world.call(&format!("GET /{target}")).error().await;
        assert_eq!(refused, code(status, expected), "{target}");
    }
    for (target, root, content) in [
        ("bkt?accelerate", "AccelerateConfiguration", None),
        ("bkt?logging", "BucketLoggingStatus", None),
        ("bkt?notification", "NotificationConfiguration", None),
        ("bkt?abac", "AbacStatus", Some("Disabled")),
        (
            "bkt?requestPayment",
            "RequestPaymentConfiguration",
            Some("BucketOwner"),
        ),
        (
            "bkt?metrics",
            "ListMetricsConfigurationsResult",
            Some("false"),
        ),
    ] {
        let answer = world.call(&format!("GET /{target}")).ok().await.xml(root);
        let first = answer.children.first().map(|child| child.text.as_str());
        assert_eq!(first, content, "{target}");
    }
    let ownership = world.call("GET /bkt?ownershipControls").ok().await;
    let ownership = ownership.xml("OwnershipControls");
    let rule = ownership.child("Rule").unwrap();
    assert_eq!(
        rule.child_text("ObjectOwnership"),
        Some("BucketOwnerEnforced")
    );
    for setting in [
        "policy",
        "lifecycle",
        "cors",
        "website",
        "replication",
        "encryption",
    ] {
        let deleted = world.call(&format!("DELETE /bkt?{setting}")).ok().await;
        assert_eq!(deleted.status.as_u16(), 204);
        let put = world
            .call(&format!("PUT /bkt?{setting}"))
            .body("x")
            .error()
            .await;
        assert_eq!(put, code(501, "NotImplemented"), "{setting}");
    }
    let deleted = world.call("DELETE /bkt?metrics&id=1").error().await;
    assert_eq!(deleted, code(404, "NoSuchConfiguration"));
    let missing = world.call("GET /none?policy").error().await;
    assert_eq!(missing, code(404, "NoSuchBucket"));
}

#[tokio::test]
async fn w_16_the_acl_that_holds_is_read_and_may_be_set() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    for target in ["/bkt?acl", "/bkt/k?acl"] {
        let answer = world.call(&format!("GET {target}")).ok().await;
        let document = String::from_utf8(answer.bytes().to_vec()).unwrap();
        let root = answer.xml("AccessControlPolicy");
        let owner = root.child("Owner").unwrap();
        assert_eq!(owner.child_text("DisplayName"), Some("alice"));
        let grant = root
            .child("AccessControlList")
            .unwrap()
            .child("Grant")
            .unwrap();
        assert_eq!(grant.child_text("Permission"), Some("FULL_CONTROL"));

        let put = || world.call(&format!("PUT {target}"));
        put().header("x-amz-acl", "private").ok().await;
        put().document(&document).ok().await;
        let public = put().header("x-amz-acl", "public-read").error().await;
        assert_eq!(public, code(400, "AccessControlListNotSupported"));
        let other = document.replace("FULL_CONTROL", "READ");
        let other = put().document(&other).error().await;
        assert_eq!(other, code(400, "AccessControlListNotSupported"));
        assert_eq!(
            put().body("<x").error().await,
            code(400, "MalformedACLError")
        );
        assert_eq!(put().error().await, code(400, "MissingSecurityHeader"));
    }
}
