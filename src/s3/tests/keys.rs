//! Keys are opaque: whatever a key looks like, it names itself and nothing else, by every way that
//! a key can come.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use drystone_protocol::xml::write::Writer;
use drystone_world::World;

/// Keys that other stores took for paths, escapes or the ends of strings.
const TRICKY: [&str; 20] = [
    "../x",
    "a/../../b/x",
    "%2e%2e%2f",
    "%252e",
    "..%5c",
    "\\..\\",
    "a//b",
    "/x",
    "//",
    ".",
    "..",
    "a/./b",
    "a/",
    "a",
    "a.",
    "a ",
    "a+b",
    "a b",
    "k?versionId=null",
    "k#f&x=1",
];

fn encode(key: &str) -> String {
    utf8_percent_encode(key, NON_ALPHANUMERIC).to_string()
}

/// One object for each key, with the key as its bytes.
async fn filled(keys: &[&str]) -> World {
    let world = World::with_bucket().await;
    for key in keys {
        let put = world.call(&format!("PUT /bkt/{}", encode(key)));
        put.body(key.to_string()).ok().await;
    }
    world
}

/// All keys, by a listing that can carry any.
async fn listed(world: &World, query: &str) -> Vec<String> {
    let line = format!("GET /bkt?encoding-type=url&{query}");
    let page = world.call(&line).ok().await.xml("ListBucketResult");
    let keys = page.children("Contents").map(|entry| {
        let key = entry.child_text("Key").unwrap().replace('+', " ");
        percent_decode_str(&key).decode_utf8().unwrap().into_owned()
    });
    keys.collect()
}

fn sorted(keys: &[&str]) -> Vec<String> {
    let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    keys.sort();
    keys
}

/// A DeleteObjects document that names these keys.
fn delete_document(keys: &[&str]) -> String {
    let mut xml = Writer::document("Delete");
    for key in keys {
        xml.open("Object");
        xml.text("Key", key);
        xml.close("Object");
    }
    xml.close("Delete");
    xml.finish()
}

#[tokio::test]
async fn a_20_s_04_tricky_keys_are_stored_read_and_listed_verbatim() {
    let world = filled(&TRICKY).await;
    for key in TRICKY {
        let got = world.call(&format!("GET /bkt/{}", encode(key))).ok().await;
        assert_eq!(got.bytes(), key.as_bytes());
    }
    assert_eq!(listed(&world, "").await, sorted(&TRICKY));
    for key in TRICKY {
        let line = format!("DELETE /bkt/{}", encode(key));
        world.call(&line).ok().await;
        let left = listed(&world, "").await;
        assert!(!left.contains(&key.to_owned()), "{key} is gone");
    }
    assert!(
        listed(&world, "").await.is_empty(),
        "and none before its turn"
    );
}

#[tokio::test]
async fn a_20_a_key_as_it_stands_in_the_path_is_not_normalized() {
    // As a client sends them that encodes nothing.
    let world = World::with_bucket().await;
    for (sent, key) in [
        ("../x", "../x"),
        ("a/../b", "a/../b"),
        ("a//b", "a//b"),
        ("/x", "/x"),
        ("%2e%2e%2fy", "../y"),
        ("..%5c", "..\\"),
        ("a;v=1", "a;v=1"),
        ("a+b", "a+b"),
        ("a%2Bc", "a+c"),
    ] {
        world.call(&format!("PUT /bkt/{sent}")).body("x").ok().await;
        assert_eq!(listed(&world, "").await, [key], "{sent}");
        world
            .call(&format!("DELETE /bkt/{}", encode(key)))
            .ok()
            .await;
    }
}

#[tokio::test]
async fn a_21_tricky_keys_in_documents_sources_prefixes_and_tags() {
    let world = filled(&TRICKY).await;
    for key in TRICKY {
        // The source once encoded, with what is reserved in it and with as little as clients do.
        for (number, source) in [
            format!("bkt/{}", encode(key)),
            encode(&format!("bkt/{key}")),
            format!(
                "/bkt/{}",
                encode(key).replace("%2F", "/").replace("%2E", ".")
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let copy = world.call(&format!("PUT /bkt/copy-{number}"));
            copy.header("x-amz-copy-source", &source).ok().await;
            let got = world.call(&format!("GET /bkt/copy-{number}")).ok().await;
            assert_eq!(got.bytes(), key.as_bytes(), "{source}");
        }
        let only: Vec<_> = TRICKY
            .into_iter()
            .filter(|other| other.starts_with(key))
            .collect();
        let found = listed(&world, &format!("prefix={}", encode(key))).await;
        assert_eq!(found, sorted(&only), "prefix {key}");
        let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>1</Value></Tag></TagSet></Tagging>";
        let line = format!("PUT /bkt/{}?tagging", encode(key));
        world.call(&line).body(tags).ok().await;
        let tagged = world.call(&format!("HEAD /bkt/{}", encode(key))).ok().await;
        assert_eq!(tagged.header("x-amz-tagging-count"), "1", "{key}");
    }
    for copy in ["copy-0", "copy-1", "copy-2"] {
        world.call(&format!("DELETE /bkt/{copy}")).ok().await;
    }
    // Named in a document, each goes alone.
    for (number, key) in TRICKY.into_iter().enumerate() {
        let document = delete_document(&[key]);
        let deleted = world
            .call("POST /bkt?delete")
            .document(&document)
            .ok()
            .await;
        let deleted = deleted.xml("DeleteResult");
        let named = deleted.child("Deleted").unwrap().child_text("Key").unwrap();
        assert_eq!(named, key);
        assert_eq!(listed(&world, "").await.len(), TRICKY.len() - number - 1);
    }
}

#[tokio::test]
async fn a_21_a_source_decoded_twice_would_be_another_object() {
    let world = filled(&["../k", "%2e%2e/k", "%252e", "secret"]).await;
    for (source, bytes) in [
        ("bkt/%252e%252e/k", "%2e%2e/k"),
        ("bkt/%2e%2e/k", "../k"),
        ("bkt/%25252e", "%252e"),
    ] {
        let copy = world.call("PUT /bkt/copy");
        copy.header("x-amz-copy-source", source).ok().await;
        let got = world.call("GET /bkt/copy").ok().await;
        assert_eq!(got.bytes(), bytes.as_bytes(), "{source}");
    }
    for (source, code) in [
        ("", "InvalidArgument"),
        ("bkt/%2e%2e/secret", "NoSuchKey"),
        ("bkt/%2e%2e/%2e%2e/other/k", "NoSuchKey"),
        ("bkt/secret%3FversionId=null", "NoSuchKey"),
        ("bkt/secret?versionId=%6eull2", "InvalidArgument"),
        ("%2e%2e/secret", "InvalidArgument"),
        ("bkt/%ff", "InvalidArgument"),
        ("bkt/%e9%", "InvalidArgument"),
    ] {
        let copy = world.call("PUT /bkt/copy");
        let (_, answer) = copy.header("x-amz-copy-source", source).error().await;
        assert_eq!(answer, code, "{source:?}");
    }
    let raw = world.call("PUT /bkt/copy");
    let raw = raw.header("x-amz-copy-source", b"bkt/\xe9").error().await;
    assert_eq!(raw, (400, "InvalidArgument".to_owned()));
    let version = world.call("PUT /bkt/copy");
    let version = version.header("x-amz-copy-source", "bkt/secret?versionId=%6eull");
    version.ok().await;
}

#[tokio::test]
async fn a_23_keys_of_every_length_and_every_character() {
    let world = World::with_bucket().await;
    for key in [
        "k".repeat(1024),
        "é".repeat(512),
        format!("{}/{}", "a".repeat(511), "b".repeat(512)),
    ] {
        let path = format!("/bkt/{}", encode(&key));
        world.call(&format!("PUT {path}")).body("x").ok().await;
        world.call(&format!("GET {path}")).ok().await;
        assert_eq!(listed(&world, "").await, [key]);
        world.call(&format!("DELETE {path}")).ok().await;
    }
    let too_long = (400, "KeyTooLongError".to_owned());
    for key in ["k".repeat(1025), format!("{}é", "k".repeat(1023))] {
        let path = format!("/bkt/{}", encode(&key));
        assert_eq!(world.call(&format!("PUT {path}")).error().await, too_long);
        assert_eq!(world.call(&format!("GET {path}")).error().await, too_long);
    }
    for invalid in ["%ff", "%C3", "%ED%A0%80", "%C0%AF", "%F4%90%80%80"] {
        let put = world.call(&format!("PUT /bkt/{invalid}")).error().await;
        assert_eq!(put, (400, "InvalidURI".to_owned()), "{invalid}");
    }
}

#[tokio::test]
async fn a_23_characters_that_xml_cannot_carry_are_listed_encoded() {
    let mut keys: Vec<String> = (0..0x20u8).map(|c| format!("c{}", char::from(c))).collect();
    let odd = [
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{fffe}",
        "\u{ffff}",
        "\u{fffd}",
        "\u{202e}gpj.exe",
        "é",
        "e\u{301}",
        "👑",
        "\u{10ffff}",
        "&<>\"'",
        "]]>",
    ];
    keys.extend(odd.map(str::to_owned));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let world = filled(&keys).await;
    // NFC and NFD are two keys; the order is that of the bytes, beyond the first plane too.
    assert_eq!(listed(&world, "").await, sorted(&keys));
    assert_eq!(listed(&world, "list-type=2").await, sorted(&keys));
    for key in keys {
        let got = world.call(&format!("GET /bkt/{}", encode(key))).ok().await;
        assert_eq!(got.bytes(), key.as_bytes());
    }
    // What XML can carry is there without the encoding as well.
    let plain = world.call("GET /bkt?prefix=%26").ok().await;
    let plain = plain.xml("ListBucketResult");
    let entry = plain.child("Contents").unwrap();
    assert_eq!(entry.child_text("Key"), Some("&<>\"'"));
}
