//! The metadata that is kept beside an object's bytes.

use drystone_world::World;

#[tokio::test]
async fn a_26_metadata_never_becomes_a_header_of_its_own() {
    let world = World::with_bucket().await;
    // "\r\nx-evil: 1" and a NUL, as words that RFC 2047 lets a header carry.
    world
        .call("PUT /bkt/k")
        .header("x-amz-meta-a", "=?UTF-8?B?DQp4LWV2aWw6IDE=?=")
        .header("x-amz-meta-b", "=?UTF-8?Q?=00=0D=0A?=")
        .body("x")
        .ok()
        .await;
    let got = world.call("GET /bkt/k").ok().await;
    assert_eq!(got.header("x-evil"), "");
    assert_eq!(got.header("x-amz-meta-a"), "=?UTF-8?Q?=0D=0Ax-evil:_1?=");
    assert_eq!(got.header("x-amz-meta-b"), "=?UTF-8?B?AA0K?=");
}

#[tokio::test]
async fn a_26_two_kib_of_metadata_are_counted_as_text() {
    let world = World::with_bucket().await;
    let put = |len: usize| {
        // Three bytes each as a word, two as text.
        let value = format!("=?UTF-8?B?{}?=", base64_of(&"é".repeat(len)));
        world.call("PUT /bkt/k").header("x-amz-meta-name", value)
    };
    put(1022).ok().await;
    let over = put(1023).send().await;
    let error = over.xml("Error");
    assert_eq!(error.child_text("Code"), Some("MetadataTooLarge"));
    assert_eq!(error.child_text("Size"), Some("2050"));
    assert_eq!(error.child_text("MaxSizeAllowed"), Some("2048"));
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn s_10_system_metadata_is_given_back_as_it_came() {
    let world = World::with_bucket().await;
    let disposition = "attachment; filename=\"te—st é.pdf\"";
    world
        .call("PUT /bkt/k")
        .header("content-disposition", disposition)
        .header("expires", "0")
        .header("content-language", "de, en")
        .body("x")
        .ok()
        .await;
    let got = world.call("HEAD /bkt/k").ok().await;
    assert_eq!(
        got.headers["content-disposition"].as_bytes(),
        disposition.as_bytes()
    );
    assert_eq!(got.header("expires"), "0");
    assert_eq!(got.header("content-language"), "de, en");
    for redirect in ["/a", "http://h/", "https://h/"] {
        let put = world.call("PUT /bkt/r");
        put.header("x-amz-website-redirect-location", redirect)
            .ok()
            .await;
        let got = world.call("HEAD /bkt/r").ok().await;
        assert_eq!(got.header("x-amz-website-redirect-location"), redirect);
    }
    let put = world.call("PUT /bkt/r");
    let put = put.header("x-amz-website-redirect-location", "ftp://h/");
    let refused = put.error().await;
    assert_eq!(refused, (400, "InvalidRedirectLocation".to_owned()));
}

#[tokio::test]
async fn s_10_storage_classes_are_kept_and_unknown_ones_refused() {
    let world = World::with_bucket().await;
    for class in [
        "REDUCED_REDUNDANCY",
        "STANDARD_IA",
        "ONEZONE_IA",
        "INTELLIGENT_TIERING",
        "GLACIER_IR",
    ] {
        let put = world
            .call("PUT /bkt/k")
            .header("x-amz-storage-class", class);
        put.body("x").ok().await;
        let got = world.call("HEAD /bkt/k").ok().await;
        assert_eq!(got.header("x-amz-storage-class"), class);
        let listed = world.call("GET /bkt").ok().await.xml("ListBucketResult");
        let entry = listed.child("Contents").unwrap();
        assert_eq!(entry.child_text("StorageClass"), Some(class));
    }
    for line in ["PUT /bkt/k", "POST /bkt/k?uploads"] {
        for class in ["OUTPOSTS", "standard", "MINE"] {
            let put = world
                .call(line)
                .header("x-amz-storage-class", class)
                .send()
                .await;
            let error = put.xml("Error");
            assert_eq!(put.status, 400, "{line} {class}");
            assert_eq!(error.child_text("Code"), Some("InvalidStorageClass"));
            assert_eq!(error.child_text("StorageClassRequested"), Some(class));
        }
    }
}

#[tokio::test]
async fn a_27_a_header_asked_for_in_the_query_stays_one_header() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").body("x").ok().await;
    let message = "Header value cannot be represented using ISO-8859-1.";
    for value in ["a%0d%0ab:c", "a%0ab", "%E2%80%94"] {
        let line = format!("GET /bkt/k?response-content-disposition={value}");
        let answer = world.call(&line).send().await;
        assert_eq!(answer.status, 400, "{value}");
        let error = answer.xml("Error");
        assert_eq!(
            error.child_text("ArgumentName"),
            Some("response-content-disposition")
        );
        assert_eq!(error.child_text("Message"), Some(message));
    }
    let nul = world.call("GET /bkt/k?response-expires=%00").send().await;
    assert_eq!(nul.status, 400);
    let latin1 = world
        .call("GET /bkt/k?response-content-disposition=%C3%A9")
        .ok()
        .await;
    assert_eq!(latin1.headers["content-disposition"].as_bytes(), b"\xe9");
}

#[tokio::test]
async fn s_06_the_empty_set_of_tags_is_none() {
    let world = World::with_bucket().await;
    let tags = |tag: &str| format!("<Tagging><TagSet>{tag}</TagSet></Tagging>");
    let one = tags("<Tag><Key>k</Key><Value></Value></Tag>");
    world.call("PUT /bkt?tagging").body(one.clone()).ok().await;
    world.call("GET /bkt?tagging").ok().await;
    world.call("PUT /bkt?tagging").body(tags("")).ok().await;
    let none = world.call("GET /bkt?tagging").error().await;
    assert_eq!(none, (404, "NoSuchTagSet".to_owned()));
}

#[tokio::test]
async fn s_16_another_document_is_no_tagging() {
    let world = World::with_bucket().await;
    world.call("PUT /bkt/k").ok().await;
    for body in [
        "<NotTagging/>",
        "<NotTagging><TagSet/></NotTagging>",
        "<Tagging/>",
        "<Tagging><NotTagSet/></Tagging>",
        "<Tagging><TagSet><NotTag/></TagSet></Tagging>",
    ] {
        for line in ["PUT /bkt/k?tagging", "PUT /bkt?tagging"] {
            let (status, code) = world.call(line).document(body).error().await;
            assert_eq!(
                (status, code.as_str()),
                (400, "MalformedXML"),
                "{line} {body}"
            );
        }
    }
}
