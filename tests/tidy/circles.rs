//! No circle of files: of any two files, at most one leads to the other by what it names.
//!
//! A file that names the one that declares it, or one further up, goes no way out of its module:
//! to everything else the two are one. So these arrows are left out of the circles; how many lead
//! back is counted, and may only fall.

use std::collections::{BTreeMap, BTreeSet};

use crate::check;
use crate::imports::Modules;

/// The circles that are still there, by their files. This has to shrink to nothing: a circle that
/// is gone is taken off, and none is added.
const KNOWN_CIRCLES: &[&[&str]] = &[];

/// The number of arrows from a file to the one that declares it, or further up, from where another
/// way leads back.
const ARROWS_TO_PARENTS: usize = 2;

type Arrows<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// All that can be come to from one place, that place itself only by a circle.
fn reached<'a>(arrows: &Arrows<'a>, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = arrows.get(from).into_iter().flatten().copied().collect();
    while let Some(place) = next.pop() {
        if reached.insert(place) {
            next.extend(arrows.get(place).into_iter().flatten());
        }
    }
    reached
}

/// The sets of places of which each leads to all others.
pub fn circles<'a>(arrows: &Arrows<'a>) -> BTreeSet<BTreeSet<&'a str>> {
    let reached: Arrows<'a> = arrows
        .keys()
        .map(|place| (*place, reached(arrows, place)))
        .collect();
    let circle = |place: &&'a str| -> BTreeSet<&'a str> {
        let mut circle = reached[place].clone();
        circle.retain(|other| reached.get(other).is_some_and(|back| back.contains(place)));
        circle
    };
    let circles = arrows.keys().map(circle);
    circles.filter(|circle| !circle.is_empty()).collect()
}

fn is_above(path: &str, other: &str) -> bool {
    other.starts_with(&format!("{path}::"))
}

#[test]
fn no_files_stand_in_a_circle() {
    let modules = Modules::read();
    let file = |path: &str| modules.by_path[path].file.as_str();
    let arrows = modules.by_path.iter().map(|(path, module)| {
        let named = modules.named_by(path).into_iter();
        let named = named.filter(|named| !is_above(named, path)).map(file);
        (module.file.as_str(), named.collect())
    });
    let arrows: Arrows<'_> = arrows.collect();
    let found = circles(&arrows);
    let known: BTreeSet<BTreeSet<&str>> = KNOWN_CIRCLES
        .iter()
        .map(|circle| circle.iter().copied().collect())
        .collect();
    let mut problems = Vec::new();
    for circle in found.difference(&known) {
        problems.push(format!("{} files stand in a circle:", circle.len()));
        for file in circle {
            let named = arrows[file].intersection(circle).copied();
            let named: Vec<&str> = named.collect();
            problems.push(format!("    {file} names {}", named.join(", ")));
        }
    }
    for circle in known.difference(&found) {
        problems.push(format!("no circle any more, take it off: {circle:?}"));
    }
    check(problems);
}

#[test]
fn arrows_to_parents_become_no_more() {
    let modules = Modules::read();
    let arrows: Arrows<'_> = modules
        .by_path
        .keys()
        .map(|path| (path.as_str(), modules.named_by(path)))
        .collect();
    let mut found = Vec::new();
    for (path, named) in &arrows {
        for parent in named.iter().filter(|named| is_above(named, path)) {
            if reached(&arrows, parent).contains(path) {
                found.push(format!(
                    "{path} names {parent}, from where a way leads back"
                ));
            }
        }
    }
    if found.len() != ARROWS_TO_PARENTS {
        found.push(format!("{} arrows, not {ARROWS_TO_PARENTS}", found.len()));
        check(found);
    }
}

#[test]
fn circles_are_found() {
    let arrows: Arrows<'_> = [
        ("a", vec!["b", "d"]),
        ("b", vec!["c"]),
        ("c", vec!["a", "d"]),
        ("d", vec!["e"]),
        ("e", vec![]),
        ("f", vec!["g"]),
        ("g", vec!["f"]),
    ]
    .into_iter()
    .map(|(from, to)| (from, to.into_iter().collect()))
    .collect();
    let found = circles(&arrows);
    let expected = [vec!["a", "b", "c"], vec!["f", "g"]];
    let expected = expected.map(|circle| circle.into_iter().collect());
    assert_eq!(found, expected.into_iter().collect());
}
