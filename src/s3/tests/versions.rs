//! Versions, markers and the null version, as clients see them.

use drystone_world::{Answer, World};

fn id(answer: &Answer) -> String {
    answer.header("x-amz-version-id").to_owned()
}

async fn put(world: &World, body: &'static str) -> String {
    id(&world.call("PUT /bkt/k").body(body).ok().await)
}

/// Ids and kinds of the versions of `k`, newest first.
async fn versions(world: &World) -> Vec<(String, String)> {
    let page = world.call("GET /bkt?versions").ok().await;
    let page = page.xml("ListVersionsResult");
    let entries = page
        .children
        .iter()
        .filter(|child| child.child("VersionId").is_some());
    let entry = |child: &drystone_protocol::xml::read::Element| {
        let id = child.child_text("VersionId").unwrap().to_owned();
        (id, child.name.clone())
    };
    entries.map(entry).collect()
}

#[tokio::test]
async fn s_30_suspending_and_enabling_again_keeps_all_but_the_null_version() {
    let world = World::with_bucket().await;
    assert_eq!(put(&world, "0").await, "", "never versioned");
    world.set_versioning("Enabled").await;
    let first = put(&world, "1").await;
    world.set_versioning("Suspended").await;
    assert_eq!(put(&world, "2").await, "");
    assert_eq!(put(&world, "3").await, "");
    world.set_versioning("Enabled").await;
    let last = put(&world, "4").await;
    let ids: Vec<_> = versions(&world)
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, [last.as_str(), "null", first.as_str()]);
    for (version, body) in [("null", "3"), (&first, "1"), (&last, "4")] {
        let got = world
            .call(&format!("GET /bkt/k?versionId={version}"))
            .ok()
            .await;
        assert_eq!(
            (got.bytes(), id(&got)),
            (body.as_bytes(), version.to_owned())
        );
    }
    // Suspended, a delete puts a marker in the null version's place, and repeating it another.
    world.set_versioning("Suspended").await;
    for _ in 0..2 {
        let deleted = world.call("DELETE /bkt/k").ok().await;
        assert_eq!(
            (deleted.header("x-amz-delete-marker"), id(&deleted)),
            ("true", "null".to_owned())
        );
    }
    let kinds = versions(&world).await;
    let expected = [
        ("null".to_owned(), "DeleteMarker".to_owned()),
        (last.clone(), "Version".to_owned()),
        (first.clone(), "Version".to_owned()),
    ];
    assert_eq!(kinds, expected);
    world.call("DELETE /bkt/k?versionId=null").ok().await;
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"4");
}

#[tokio::test]
async fn s_30_markers_answer_every_way_of_asking() {
    let world = World::with_bucket().await;
    world.set_versioning("Enabled").await;
    put(&world, "1").await;
    let marker = id(&world.call("DELETE /bkt/k").ok().await);
    for method in ["GET", "HEAD"] {
        let latest = world.call(&format!("{method} /bkt/k")).send().await;
        assert_eq!(latest.status, 404, "{method}");
        assert_eq!(latest.header("x-amz-delete-marker"), "true");
        assert_eq!(id(&latest), marker);
        let named = world
            .call(&format!("{method} /bkt/k?versionId={marker}"))
            .send()
            .await;
        assert_eq!(
            (named.status.as_u16(), named.header("allow")),
            (405, "DELETE")
        );
        assert_eq!(named.header("x-amz-delete-marker"), "true");
        assert!(named.header("last-modified").ends_with(" GMT"));
        if method == "HEAD" {
            assert!(named.bytes().is_empty());
        }
    }
    for line in [
        "GET /bkt/k?tagging",
        "PUT /bkt/k?tagging",
        "GET /bkt/k?attributes",
    ] {
        let body = "<Tagging><TagSet></TagSet></Tagging>";
        let call = || {
            world
                .call(line)
                .body(body)
                .header("x-amz-object-attributes", "ETag")
        };
        // A marker has tags as little as it has an object, which is said in another way.
        let latest = call().error().await;
        let expected = match line.ends_with("tagging") {
            true => (405, "MethodNotAllowed"),
            false => (404, "NoSuchKey"),
        };
        assert_eq!((latest.0, latest.1.as_str()), expected, "{line}");
        let named = format!("{line}&versionId={marker}");
        let named = world
            .call(&named)
            .body(body)
            .header("x-amz-object-attributes", "ETag");
        let refused = named.send().await;
        assert_eq!(refused.status, 405, "{line}");
        let error = refused.xml("Error");
        assert_eq!(error.child_text("Method"), line.split(' ').next());
        assert_eq!(error.child_text("ResourceType"), Some("DeleteMarker"));
    }
    // Nothing is there for a condition to match.
    let put_over = world
        .call("PUT /bkt/k")
        .header("if-match", "\"x\"")
        .error()
        .await;
    assert_eq!(put_over, (404, "NoSuchKey".to_owned()));
    let delete = world
        .call("DELETE /bkt/k")
        .header("if-match", "*")
        .error()
        .await;
    assert_eq!(delete, (404, "NoSuchKey".to_owned()));
    world
        .call("PUT /bkt/k")
        .header("if-none-match", "*")
        .body("2")
        .ok()
        .await;
    // A marker under a newer version stays one.
    let under = world
        .call(&format!("GET /bkt/k?versionId={marker}"))
        .send()
        .await;
    assert_eq!(under.status, 405);
}

#[tokio::test]
async fn s_30_an_old_version_is_restored_by_a_copy() {
    let world = World::with_bucket().await;
    world.set_versioning("Enabled").await;
    let first = put(&world, "1").await;
    put(&world, "2").await;
    world.call("DELETE /bkt/k").ok().await;
    let restored = world
        .call("PUT /bkt/k")
        .header("x-amz-copy-source", format!("bkt/k?versionId={first}"))
        .ok()
        .await;
    assert_eq!(restored.header("x-amz-copy-source-version-id"), first);
    assert_ne!(id(&restored), first);
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"1");
    assert_eq!(versions(&world).await.len(), 4);
    // Into a suspended bucket it becomes the null version, and says so.
    world.set_versioning("Suspended").await;
    let restored = world
        .call("PUT /bkt/k")
        .header("x-amz-copy-source", format!("bkt/k?versionId={first}"))
        .ok()
        .await;
    assert_eq!(id(&restored), "null");
}

#[tokio::test]
async fn s_30_delete_objects_removes_versions_and_makes_markers() {
    let world = World::with_bucket().await;
    world.set_versioning("Enabled").await;
    let (first, second) = (put(&world, "1").await, put(&world, "2").await);
    let delete = async |objects: String| {
        let document = format!("<Delete>{objects}</Delete>");
        let answer = world
            .call("POST /bkt?delete")
            .document(&document)
            .ok()
            .await;
        answer.xml("DeleteResult").children
    };
    let object =
        |version: &str| format!("<Object><Key>k</Key><VersionId>{version}</VersionId></Object>");
    let done = delete("<Object><Key>k</Key></Object><Object><Key>none</Key></Object>".into()).await;
    let markers: Vec<_> = done
        .iter()
        .map(|row| row.child_text("DeleteMarkerVersionId").unwrap().to_owned())
        .collect();
    assert_eq!(markers.len(), 2, "a marker for what never was there too");
    assert!(
        done.iter()
            .all(|row| row.child_text("DeleteMarker") == Some("true"))
    );
    assert!(done.iter().all(|row| row.child("VersionId").is_none()));

    let gone = "0".repeat(32);
    let done = delete([&markers[0], &first, &gone].map(|id| object(id)).concat()).await;
    let told = |row: usize, name: &str| done[row].child_text(name).map(str::to_owned);
    assert_eq!(told(0, "VersionId").as_ref(), Some(&markers[0]));
    assert_eq!(told(0, "DeleteMarkerVersionId").as_ref(), Some(&markers[0]));
    assert_eq!(told(1, "VersionId").as_ref(), Some(&first));
    assert_eq!(told(1, "DeleteMarker"), None);
    assert_eq!(
        done[2].name, "Deleted",
        "what is not there is removed with success"
    );
    let left: Vec<_> = versions(&world)
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(left, [second, markers[1].clone()]);
    assert_eq!(world.call("GET /bkt/k").ok().await.bytes(), b"2");
}
