//! Listings page by page: random keys, prefixes, delimiters and page lengths, compared with what
//! the reference says worked out by hand.

use std::collections::BTreeMap;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use drystone_protocol::xml::read::Element;
use drystone_world::World;

const CASES: u32 = 48;
/// No walk takes more pages; one that never ends fails its comparison.
const PAGES_MAX: usize = 300;
/// The pieces that keys, prefixes and delimiters are made of.
const PIECES: [&str; 12] = [
    "a", "b", "/", "//", "+", " ", "%2F", "é", "\u{1}", "\u{ffff}", "😀", "&<",
];

/// The parameters of every page.
#[derive(Clone, Debug)]
struct Asked {
    prefix: String,
    delimiter: String,
    after: String,
    max: usize,
    encoded: bool,
}

/// A line of a listing: a name, and beside a version's or an upload's its id. A common prefix has
/// none.
type Line = (String, Option<String>);

fn text(pieces: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = String> {
    vec(select(&PIECES[..]), pieces).prop_map(|pieces| pieces.concat())
}

fn asked() -> impl Strategy<Value = Asked> {
    let after = prop_oneof![2 => Just(String::new()), 1 => text(1..4)];
    let max = prop_oneof![4 => 1..6usize, 1 => Just(1000)];
    (text(0..3), text(0..3), after, max, any::<bool>()).prop_map(
        |(prefix, delimiter, after, max, encoded)| Asked {
            prefix,
            delimiter,
            after,
            max,
            encoded,
        },
    )
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

impl Asked {
    /// The lines in the order of the listing. `entries` has for each key the ids of its versions
    /// or uploads, or one empty id for the key itself.
    fn expected(&self, entries: &BTreeMap<String, Vec<String>>) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (key, ids) in entries {
            let Some(rest) = key.strip_prefix(&self.prefix).filter(|_| !ids.is_empty()) else {
                continue;
            };
            let cut = match self.delimiter.as_str() {
                "" => None,
                delimiter => rest.find(delimiter).map(|at| at + delimiter.len()),
            };
            if let Some(cut) = cut {
                let common = &key[..self.prefix.len() + cut];
                let given = *common <= *self.after || self.after.starts_with(common);
                let line = (common.to_owned(), None);
                if !given && lines.last() != Some(&line) {
                    lines.push(line);
                }
            } else if *key > self.after {
                lines.extend(ids.iter().map(|id| (key.clone(), Some(id.clone()))));
            }
        }
        lines
    }

    /// All pages of a listing. `markers` reads from a page what the next one is asked for.
    async fn walk(
        &self,
        world: &World,
        listing: &Listing,
        markers: impl Fn(&Self, &Element, &[Line]) -> String,
    ) -> Vec<Line> {
        let mut next = format!("{}={}", listing.first, encode(&self.after));
        let mut lines = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut query = format!(
                "{}&prefix={}&delimiter={}&{}={}&{next}",
                listing.query,
                encode(&self.prefix),
                encode(&self.delimiter),
                listing.max,
                self.max
            );
            if self.encoded {
                query.push_str("&encoding-type=url");
            }
            let page = world.call(&format!("GET /bkt?{query}")).ok().await;
            let page = page.xml(listing.root);
            assert_eq!(
                self.name(page.child_text("Prefix").unwrap_or_default()),
                self.prefix
            );
            let found = self.lines(&page, listing);
            let truncated = page.child_text("IsTruncated") == Some("true");
            assert!(found.len() == self.max || !truncated, "a full page");
            if !truncated {
                lines.extend(found);
                return lines;
            }
            next = markers(self, &page, &found);
            lines.extend(found);
        }
        panic!("a walk that does not end: {self:?}");
    }

    /// A name as it stands in the answer.
    fn name(&self, text: &str) -> String {
        match self.encoded {
            false => text.to_owned(),
            true => {
                let spaces = text.replace('+', " ");
                percent_decode_str(&spaces)
                    .decode_utf8()
                    .unwrap()
                    .into_owned()
            }
        }
    }

    /// Returns the entries of a page, sorted as the store does: entries of one name keep their
    /// order.
    fn lines(&self, page: &Element, listing: &Listing) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for child in &page.children {
            let name = |path| self.name(child.child_text(path).unwrap());
            if listing.entries.contains(&child.name.as_str()) {
                let id = child.child_text(listing.id).unwrap_or_default();
                lines.push((name("Key"), Some(id.to_owned())));
            } else if child.name == "CommonPrefixes" {
                lines.push((name("Prefix"), None));
            }
        }
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        lines
    }
}

/// How one of the listings is asked and read.
struct Listing {
    query: &'static str,
    /// The parameter that the walk begins with.
    first: &'static str,
    max: &'static str,
    root: &'static str,
    entries: &'static [&'static str],
    id: &'static str,
}

const V1: Listing = Listing {
    query: "",
    first: "marker",
    max: "max-keys",
    root: "ListBucketResult",
    entries: &["Contents"],
    id: "",
};
const V2: Listing = Listing {
    query: "list-type=2",
    first: "start-after",
    ..V1
};
const VERSIONS: Listing = Listing {
    query: "versions",
    first: "key-marker",
    root: "ListVersionsResult",
    entries: &["Version", "DeleteMarker"],
    id: "VersionId",
    ..V1
};
const UPLOADS: Listing = Listing {
    query: "uploads",
    first: "key-marker",
    max: "max-uploads",
    root: "ListMultipartUploadsResult",
    entries: &["Upload"],
    id: "UploadId",
};

/// Without a delimiter the client takes the last key itself.
fn v1_marker(asked: &Asked, page: &Element, lines: &[Line]) -> String {
    let next = page.child_text("NextMarker").map(|text| asked.name(text));
    assert_eq!(next.is_some(), !asked.delimiter.is_empty());
    let last = lines.last().unwrap().0.clone();
    assert_eq!(next.unwrap_or_else(|| last.clone()), last);
    format!("marker={}", encode(&last))
}

fn v2_token(_: &Asked, page: &Element, lines: &[Line]) -> String {
    assert_eq!(
        page.child_text("KeyCount"),
        Some(lines.len().to_string().as_str())
    );
    let token = page.child_text("NextContinuationToken").unwrap();
    format!("continuation-token={token}")
}

fn both_markers(asked: &Asked, page: &Element, id: &str) -> String {
    let key = asked.name(page.child_text("NextKeyMarker").unwrap());
    let marker = format!("key-marker={}", encode(&key));
    match page.child_text(&format!("Next{id}Marker")) {
        None | Some("") => marker,
        Some(value) => {
            let parameter = if id == "VersionId" {
                "version-id"
            } else {
                "upload-id"
            };
            format!("{marker}&{parameter}-marker={value}")
        }
    }
}

/// A versioned bucket with these keys: for each the ids of its versions, newest first, and of its
/// uploads, oldest first. Every fourth key is hidden by a delete marker.
struct Filled {
    world: World,
    current: BTreeMap<String, Vec<String>>,
    versions: BTreeMap<String, Vec<String>>,
    uploads: BTreeMap<String, Vec<String>>,
}

async fn fill(keys: &std::collections::BTreeSet<String>) -> Filled {
    let world = World::with_bucket().await;
    world.set_versioning("Enabled").await;
    let (mut current, mut versions, mut uploads) =
        (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (number, key) in keys.iter().enumerate() {
        let path = format!("/bkt/{}", encode(key));
        let mut ids = Vec::new();
        for _ in 0..=number % 3 {
            let put = world.call(&format!("PUT {path}")).body("x").ok().await;
            ids.insert(0, put.header("x-amz-version-id").to_owned());
        }
        if number % 4 == 3 {
            let marker = world.call(&format!("DELETE {path}")).ok().await;
            ids.insert(0, marker.header("x-amz-version-id").to_owned());
        } else {
            current.insert(key.clone(), vec![String::new()]);
        }
        versions.insert(key.clone(), ids);
        let mut started = Vec::new();
        for _ in 0..number % 3 {
            let upload = world.call(&format!("POST {path}?uploads")).ok().await;
            let upload = upload.xml("InitiateMultipartUploadResult");
            started.push(upload.child_text("UploadId").unwrap().to_owned());
        }
        uploads.insert(key.clone(), started);
    }
    Filled {
        world,
        current,
        versions,
        uploads,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn s_14_pages_of_every_listing_add_up_to_what_the_reference_says(
        keys in btree_set(text(1..5), 1..14),
        walks in vec(asked(), 3),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let Filled { world, current, versions, uploads } = fill(&keys).await;
            for asked in &walks {
                let objects = asked.expected(&current);
                let v1 = asked.walk(&world, &V1, v1_marker).await;
                assert_eq!(v1, objects, "the first version: {asked:?}");
                let v2 = asked.walk(&world, &V2, v2_token).await;
                assert_eq!(v2, objects, "the second version: {asked:?}");
                let markers = |asked: &Asked, page: &Element, _: &[Line]| {
                    both_markers(asked, page, "VersionId")
                };
                let found = asked.walk(&world, &VERSIONS, markers).await;
                assert_eq!(found, asked.expected(&versions), "versions: {asked:?}");
                let markers = |asked: &Asked, page: &Element, _: &[Line]| {
                    both_markers(asked, page, "UploadId")
                };
                let found = asked.walk(&world, &UPLOADS, markers).await;
                assert_eq!(found, asked.expected(&uploads), "uploads: {asked:?}");
            }
        });
    }
}
