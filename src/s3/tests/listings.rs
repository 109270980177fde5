//! Listings of keys and versions.

use drystone_protocol::xml::read::Element;
use drystone_world::{Answer, World};

async fn world(keys: &[&str]) -> World {
    let world = World::with_bucket().await;
    for key in keys {
        world.call(&format!("PUT /bkt/{key}")).body("x").ok().await;
    }
    world
}

/// The texts of `path` (one level down) in every child of this name.
fn texts(root: &Element, child: &str, path: &str) -> String {
    let found = root
        .children(child)
        .map(|child| child.child_text(path).unwrap());
    found.collect::<Vec<_>>().join(" ")
}

fn names(root: &Element) -> String {
    let names = root.children.iter().map(|child| child.name.as_str());
    names.collect::<Vec<_>>().join(" ")
}

async fn list(world: &World, query: &str) -> Element {
    let root = if query.contains("versions") {
        "ListVersionsResult"
    } else {
        "ListBucketResult"
    };
    let answer: Answer = world.call(&format!("GET /bkt?{query}")).ok().await;
    assert_eq!(answer.header("content-type"), "application/xml");
    answer.xml(root)
}

/// Name, message and value of the argument that is refused.
async fn refused(world: &World, query: &str) -> String {
    let answer = world.call(&format!("GET /bkt?{query}")).send().await;
    assert_eq!(answer.status.as_u16(), 400, "{query}");
    let error = answer.xml("Error");
    assert_eq!(error.child_text("Code"), Some("InvalidArgument"), "{query}");
    let part = |name| error.child_text(name).unwrap().to_owned();
    [part("ArgumentName"), part("Message"), part("ArgumentValue")].join(" | ")
}

#[tokio::test]
async fn s_14_w_09_the_first_version_of_listing() {
    let world = world(&["a", "b/1", "b/2", "c"]).await;
    let all = list(&world, "").await;
    assert_eq!(texts(&all, "Contents", "Key"), "a b/1 b/2 c");
    assert_eq!(
        names(&all),
        "Name Prefix Marker MaxKeys IsTruncated Contents Contents Contents Contents"
    );
    assert_eq!(
        names(all.child("Contents").unwrap()),
        "Key LastModified ETag ChecksumAlgorithm ChecksumType Size Owner StorageClass"
    );
    let first = all.child("Contents").unwrap();
    assert_eq!(
        first.child_text("ETag"),
        Some("\"9dd4e461268c8034f5c8564e155c67a6\"")
    );
    assert_eq!(first.child_text("Size"), Some("1"));
    assert_eq!(first.child_text("StorageClass"), Some("STANDARD"));
    let owner = first.child("Owner").unwrap();
    assert_eq!(owner.child_text("DisplayName"), Some("alice"));

    // Without a delimiter the client goes on from the last key itself.
    let page = list(&world, "max-keys=2").await;
    assert_eq!(texts(&page, "Contents", "Key"), "a b/1");
    assert_eq!(page.child_text("IsTruncated"), Some("true"));
    assert_eq!(page.child_text("NextMarker"), None);
    let page = list(&world, "max-keys=2&marker=b/1").await;
    assert_eq!(texts(&page, "Contents", "Key"), "b/2 c");
    assert_eq!(page.child_text("IsTruncated"), Some("false"));

    let page = list(&world, "max-keys=2&delimiter=/").await;
    assert_eq!(texts(&page, "Contents", "Key"), "a");
    assert_eq!(texts(&page, "CommonPrefixes", "Prefix"), "b/");
    assert_eq!(page.child_text("NextMarker"), Some("b/"));
    let page = list(&world, "delimiter=/&marker=b/").await;
    assert_eq!(texts(&page, "Contents", "Key"), "c");
    assert_eq!(texts(&page, "CommonPrefixes", "Prefix"), "");
    let page = list(&world, "prefix=b/&delimiter=").await;
    assert_eq!(texts(&page, "Contents", "Key"), "b/1 b/2");
    assert_eq!(page.child_text("Delimiter"), None);
}

/// Every bucket's ownership is BucketOwnerEnforced.
#[tokio::test]
async fn s_14_objects_belong_to_the_owner_of_their_bucket() {
    let world = world(&[]).await;
    world.call("PUT /bkt/put").by("root").body("x").ok().await;
    let copy = world.call("PUT /bkt/copied").by("root");
    copy.header("x-amz-copy-source", "bkt/put").ok().await;
    let begun = world.call("POST /bkt/parts?uploads").by("root").ok().await;
    let begun = begun.xml("InitiateMultipartUploadResult");
    let upload = begun.child_text("UploadId").unwrap();
    let part = format!("PUT /bkt/parts?partNumber=1&uploadId={upload}");
    let part = world.call(&part).by("root").body("x").ok().await;
    let parts = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part>\
         </CompleteMultipartUpload>",
        part.header("etag")
    );
    let complete = format!("POST /bkt/parts?uploadId={upload}");
    world.call(&complete).by("root").body(parts).ok().await;
    let listed = list(&world, "").await;
    let owner = |object: &Element| {
        let owner = object.child("Owner").unwrap();
        owner.child_text("DisplayName").unwrap().to_owned()
    };
    let owners: Vec<String> = listed.children("Contents").map(owner).collect();
    assert_eq!(owners, ["alice"; 3]);
}

#[tokio::test]
async fn s_14_the_second_version_of_listing() {
    let world = world(&["a", "b/1", "b/2", "c"]).await;
    let page = list(&world, "list-type=2&max-keys=2&delimiter=/").await;
    assert_eq!(
        names(&page),
        "Name Prefix NextContinuationToken KeyCount MaxKeys Delimiter IsTruncated Contents \
         CommonPrefixes"
    );
    assert_eq!(page.child_text("KeyCount"), Some("2"));
    assert!(page.child("Contents").unwrap().child("Owner").is_none());
    let token = page.child_text("NextContinuationToken").unwrap();
    let query = format!("list-type=2&delimiter=/&continuation-token={token}&start-after=a");
    let rest = list(&world, &query).await;
    assert_eq!(texts(&rest, "Contents", "Key"), "c");
    assert_eq!(rest.child_text("ContinuationToken"), Some(token));
    assert_eq!(rest.child_text("StartAfter"), Some("a"));
    assert_eq!(rest.child_text("NextContinuationToken"), None);

    let page = list(&world, "list-type=2&start-after=b/1&fetch-owner=true").await;
    assert_eq!(texts(&page, "Contents", "Key"), "b/2 c");
    assert!(page.child("Contents").unwrap().child("Owner").is_some());
    let page = list(&world, "list-type=2&continuation-token=").await;
    assert_eq!(page.child_text("KeyCount"), Some("4"));
    assert_eq!(page.child_text("ContinuationToken"), Some(""));

    // a token is its bucket's.
    world.call("PUT /other").ok().await;
    let elsewhere = format!("GET /other?list-type=2&continuation-token={token}");
    let elsewhere = world.call(&elsewhere).error().await;
    assert_eq!(elsewhere, (400, "InvalidArgument".to_owned()));
    assert_eq!(
        refused(&world, "list-type=2&continuation-token=forged").await,
        "continuation-token | The continuation token provided is incorrect | forged"
    );
}

#[tokio::test]
async fn a_30_page_lengths_in_every_listing() {
    let world = world(&["a", "b"]).await;
    for (listing, parameter, shown) in [
        ("", "max-keys", "maxKeys"),
        ("list-type=2&", "max-keys", "maxKeys"),
        ("versions&", "max-keys", "maxKeys"),
        ("uploads&", "max-uploads", "max-uploads"),
    ] {
        let asked =
            async |value: &str| refused(&world, &format!("{listing}{parameter}={value}")).await;
        assert_eq!(
            asked("-1").await,
            format!("{shown} | Argument {shown} must be an integer between 0 and 2147483647 | -1")
        );
        for value in ["2147483648", "blah"] {
            assert_eq!(
                asked(value).await,
                format!(
                    "{parameter} | Provided {parameter} not an integer or within integer range \
                     | {value}"
                )
            );
        }
        assert_eq!(
            refused(&world, &format!("{listing}encoding-type=x")).await,
            "encoding-type | Invalid Encoding Method specified in Request | x"
        );
    }
    for listing in ["", "list-type=2", "versions"] {
        let page = list(&world, &format!("{listing}&max-keys=0")).await;
        assert_eq!(page.child_text("IsTruncated"), Some("false"), "{listing}");
        assert_eq!(page.child_text("MaxKeys"), Some("0"));
        assert!(page.child("Contents").is_none() && page.child("Version").is_none());
        let page = list(&world, &format!("{listing}&max-keys=5000")).await;
        assert_eq!(page.child_text("MaxKeys"), Some("1000"));
    }
}

#[tokio::test]
async fn w_10_a_23_names_encoded_for_the_url_and_not() {
    let keys = [
        "a%20b%2Bc/d%01%0D%0A",
        "%ED%95%9C%EA%B8%80",
        "e%26%3C%3E%22'",
    ];
    let world = world(&keys).await;
    for (query, shown) in [
        ("", "Contents"),
        ("list-type=2", "Contents"),
        ("versions", "Version"),
    ] {
        let page = list(&world, &format!("{query}&encoding-type=url")).await;
        assert_eq!(page.child_text("EncodingType"), Some("url"));
        assert_eq!(
            texts(&page, shown, "Key"),
            "a+b%2Bc/d%01%0D%0A e%26%3C%3E%22%27 %ED%95%9C%EA%B8%80"
        );
        // As AWS does, what XML can't carry goes out as a reference.
        let answer = world.call(&format!("GET /bkt?{query}")).ok().await;
        let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
        assert!(text.contains("<Key>a b+c/d&#x1;&#xd;&#xa;</Key>"), "{text}");
        assert!(text.contains("<Key>한글</Key>") && text.contains("<Key>e&amp;&lt;&gt;&quot;'<"));
    }
    let page = list(
        &world,
        "encoding-type=url&prefix=a%20b&delimiter=%2B&marker=a%20",
    )
    .await;
    assert_eq!(page.child_text("Prefix"), Some("a+b"));
    assert_eq!(page.child_text("Delimiter"), Some("%2B"));
    assert_eq!(page.child_text("Marker"), Some("a+"));
    assert_eq!(texts(&page, "CommonPrefixes", "Prefix"), "a+b%2B");
}

#[tokio::test]
async fn s_30_versions_are_listed_newest_first_with_both_markers() {
    let world = world(&["old"]).await;
    world.set_versioning("Enabled").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let put = world.call("PUT /bkt/k").body("x").ok().await;
        ids.insert(0, put.header("x-amz-version-id").to_owned());
    }
    world.call("DELETE /bkt/k").ok().await;
    world.call("PUT /bkt/p/q").body("x").ok().await;

    let all = list(&world, "versions&delimiter=/").await;
    assert_eq!(
        names(&all),
        "Name Prefix KeyMarker VersionIdMarker MaxKeys Delimiter IsTruncated DeleteMarker \
         Version Version Version Version CommonPrefixes"
    );
    assert_eq!(
        texts(&all, "Version", "VersionId"),
        format!("{} null", ids.join(" "))
    );
    assert_eq!(texts(&all, "Version", "IsLatest"), "false false false true");
    assert_eq!(texts(&all, "DeleteMarker", "IsLatest"), "true");
    assert_eq!(
        names(all.child("DeleteMarker").unwrap()),
        "Key VersionId IsLatest LastModified Owner"
    );
    assert_eq!(
        names(all.child("Version").unwrap()),
        "Key VersionId IsLatest LastModified ETag ChecksumAlgorithm ChecksumType Size Owner \
         StorageClass"
    );

    let page = list(&world, "versions&max-keys=2").await;
    assert_eq!(page.child_text("NextKeyMarker"), Some("k"));
    assert_eq!(
        page.child_text("NextVersionIdMarker"),
        Some(ids[0].as_str())
    );
    let query = format!(
        "versions&max-keys=2&key-marker=k&version-id-marker={}",
        ids[0]
    );
    let page = list(&world, &query).await;
    assert_eq!(texts(&page, "Version", "VersionId"), ids[1..].join(" "));
    let page = list(&world, "versions&key-marker=k").await;
    assert_eq!(texts(&page, "Version", "Key"), "old p/q");

    assert_eq!(
        refused(&world, &format!("versions&version-id-marker={}", ids[0])).await,
        format!(
            "version-id-marker | A version-id marker cannot be specified without a key marker. \
             | {}",
            ids[0]
        )
    );
    assert_eq!(
        refused(&world, "versions&key-marker=k&version-id-marker=x").await,
        "version-id-marker | Invalid version id specified | x"
    );
}
