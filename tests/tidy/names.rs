//! Where names stand: of modules, of folders, of the product, and of what the code must not use.

use std::collections::BTreeSet;
use std::path::Path;

use crate::check;
use crate::layers::CRATES;
use crate::source::{Source, all, files};

/// Files that still lie beside the folder of their modules, instead of in it as its `mod.rs`. This
/// has to shrink to nothing.
const KNOWN_BESIDE_FOLDERS: &[&str] = &[];

#[test]
fn modules_with_a_folder_are_its_mod_rs() {
    let all = all();
    let is_beside = |source: &&Source| {
        let folder = source.path.with_extension("");
        all.iter().any(|other| other.path.starts_with(&folder))
    };
    let beside: BTreeSet<String> = all.iter().filter(is_beside).map(Source::shown).collect();
    let known: BTreeSet<String> = KNOWN_BESIDE_FOLDERS
        .iter()
        .map(|file| (*file).to_owned())
        .collect();
    let new = beside.difference(&known);
    let new = new.map(|file| format!("{file}: lies beside its folder, and not in it as mod.rs"));
    let moved = known.difference(&beside);
    let moved = moved.map(|file| format!("{file}: not beside its folder any more, take it off"));
    check(new.chain(moved).collect());
}

#[test]
fn the_products_name_stands_in_one_place() {
    let mut problems = Vec::new();
    for source in files("src", "rs")
        .into_iter()
        .chain(files("storage/src", "rs"))
    {
        if source.path == Path::new("src/product.rs") {
            continue;
        }
        for (at, line) in source.code().iter().enumerate() {
            let line = line.to_lowercase();
            let crates = CRATES.iter().rev();
            let line = crates.fold(line, |line, of| line.replace(&format!("{}::", of.name), ""));
            if line.contains("drystone") {
                problems.push(format!("{}:{}", source.shown(), at + 1));
            }
        }
    }
    check(problems);
}

#[test]
fn modules_say_what_they_hold() {
    let mut problems = Vec::new();
    for source in all() {
        let is_main = source.path == Path::new("src/main.rs");
        // A file of tests beside what it tests needs none; one of a test program does.
        let is_tests = source.is_test()
            && !source.path.starts_with("tests")
            && !source.path.starts_with("storage/tests");
        if !is_main && !is_tests && !source.text.starts_with("//! ") {
            problems.push(format!("{}: opens without a doc comment", source.shown()));
        }
    }
    check(problems);
}

#[test]
fn no_module_is_a_place_for_anything() {
    let anything = ["common", "helper", "helpers", "misc", "util", "utils"];
    let mut problems = Vec::new();
    for source in all() {
        let folder = source.path.parent().and_then(Path::file_name).unwrap();
        if anything.contains(&source.stem()) || anything.iter().any(|name| folder == *name) {
            problems.push(source.shown());
        }
    }
    check(problems);
}

/// An assertion that only some builds have would let the others go on with what is broken.
#[test]
fn r_32_invariants_are_asserted_in_every_build() {
    let mut problems = Vec::new();
    for source in files("src", "rs")
        .into_iter()
        .chain(files("storage/src", "rs"))
    {
        for (at, line) in source.code().iter().enumerate() {
            if line.contains("debug_assert") || line.contains("debug_assertions") {
                problems.push(format!("{}:{}: {}", source.shown(), at + 1, line.trim()));
            }
        }
    }
    check(problems);
}
