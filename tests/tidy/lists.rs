//! The checklists in `docs/checklists`: every id has a row, and what a row says of tests is so.

use std::collections::{BTreeMap, BTreeSet};

use crate::check;
use crate::ids;
use crate::source::{all, files, read};

/// The lists with the letters of their ids.
const LISTS: &[(&str, &str)] = &[
    ("features", "S"),
    ("clients", "W"),
    ("attacks", "A"),
    ("faults", "F"),
    ("bugs", "B"),
    ("risks", "PR"),
];

/// Bugs of other stores are kept out by whatever test would find them; everything else has a test
/// that bears its id.
const GUARDED_BY_ANY: &str = "B";

struct Row {
    /// The list and the line in it.
    place: String,
    id: String,
    promise: String,
    state: String,
    guards: String,
}

impl Row {
    /// The names in backquotes of the last column.
    fn tests(&self) -> Vec<&str> {
        self.guards.split('`').skip(1).step_by(2).collect()
    }

    /// The rows that it stands on: `as A-24, A-26; …`.
    fn others(&self) -> Vec<&str> {
        let others = self.guards.strip_prefix("as ").unwrap_or_default();
        ids::of_prose(others.split(';').next().unwrap())
    }
}

/// All rows of all lists: lines of a table that open with an id.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (list, letters) in LISTS {
        let path = format!("docs/checklists/{list}.md");
        for (at, line) in read(&path).lines().enumerate() {
            let cells: Vec<&str> = line.split(" | ").collect();
            let Some(id) = cells[0].strip_prefix("| ") else {
                continue;
            };
            if !letters.contains(|letter| id.starts_with(&format!("{letter}-"))) {
                continue;
            }
            let place = format!("{path}:{}", at + 1);
            assert!(cells.len() == 4, "{place}: has to have four columns");
            rows.push(Row {
                place,
                id: id.to_owned(),
                promise: cells[1].to_owned(),
                state: cells[2].to_owned(),
                guards: cells[3].trim_end_matches('|').trim().to_owned(),
            });
        }
    }
    assert!(
        rows.len() > 250,
        "the lists are not where they are looked for"
    );
    rows
}

#[test]
fn rows_of_the_lists_are_well_formed() {
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for row in rows() {
        let place = &row.place;
        if !ids::is_well_spelled(&row.id) {
            problems.push(format!("{place}: {} is not how an id is spelled", row.id));
        }
        if !["done", "partly", "later"].contains(&row.state.as_str()) {
            problems.push(format!("{place}: {} is no state", row.state));
        }
        if row.promise.trim().is_empty() {
            problems.push(format!("{place}: says nothing"));
        }
        if !seen.insert(row.id.clone()) {
            problems.push(format!("{place}: {} has two rows", row.id));
        }
    }
    check(problems);
}

#[test]
fn ids_in_test_names_have_a_row() {
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let mut problems = Vec::new();
    for source in all() {
        for (line, name) in source.functions() {
            for id in ids::of_test(name).iter().filter(|id| !known.contains(*id)) {
                problems.push(format!("{}:{line}: {id} has no row", source.shown()));
            }
        }
    }
    check(problems);
}

#[test]
fn ids_in_comments_and_documents_have_a_row() {
    let known: BTreeSet<String> = rows().into_iter().map(|row| row.id).collect();
    let mut problems = Vec::new();
    let mut look = |place: String, text: &str| {
        for id in ids::of_prose(text)
            .into_iter()
            .filter(|id| !known.contains(*id))
        {
            problems.push(format!("{place}: {id} has no row"));
        }
    };
    for source in all() {
        for (line, comment) in source.comments() {
            look(format!("{}:{line}", source.shown()), comment);
        }
    }
    for document in files(".", "md") {
        // Text in backquotes and fences is code.
        let mut fenced = false;
        for (at, line) in document.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            if !fenced {
                let prose: Vec<&str> = line.split('`').step_by(2).collect();
                look(format!("{}:{}", document.shown(), at + 1), &prose.join(" "));
            }
        }
    }
    check(problems);
}

#[test]
fn the_guards_of_the_lists_exist() {
    let sources = all();
    let tests: BTreeSet<&str> = sources.iter().flat_map(|source| source.tests()).collect();
    assert!(
        tests.len() > 600,
        "the tests are not where they are looked for"
    );
    let mut problems = Vec::new();
    for row in rows() {
        for test in row.tests().into_iter().filter(|test| !tests.contains(test)) {
            problems.push(format!(
                "{}: {}: there is no test {test}",
                row.place, row.id
            ));
        }
    }
    check(problems);
}

/// A row that names no test of its own may stand on other rows, if they are as far as it is.
fn stands_on_others(row: &Row, states: &BTreeMap<&str, &str>) -> bool {
    let others = row.others();
    let done = |id: &&str| states.get(id) == Some(&"done");
    let begun = |id: &&str| done(id) || states.get(id) == Some(&"partly");
    match row.state.as_str() {
        "done" => !others.is_empty() && others.iter().all(done),
        _ => others.iter().any(begun),
    }
}

#[test]
fn states_of_the_lists_are_so() {
    let sources = all();
    let mut borne: BTreeMap<String, &str> = BTreeMap::new();
    for test in sources.iter().flat_map(|source| source.tests()) {
        borne.extend(ids::of_test(test).into_iter().map(|id| (id, test)));
    }
    let rows = rows();
    let states = rows.iter().map(|row| (row.id.as_str(), row.state.as_str()));
    let states: BTreeMap<&str, &str> = states.collect();
    let mut problems = Vec::new();
    for row in &rows {
        let tests = row.tests();
        let any = row.id.starts_with(GUARDED_BY_ANY);
        let guarded = tests
            .iter()
            .any(|test| any || ids::is_borne_by(&row.id, test))
            || stands_on_others(row, &states);
        let begun = !tests.is_empty() || stands_on_others(row, &states);
        let missing = row.guards.contains("missing: ");
        let problem = match row.state.as_str() {
            "done" if !guarded => "is done, and no test bears its id".to_owned(),
            "done" if missing => "is done and says what is missing".to_owned(),
            "partly" if !begun => "is done in part and names no test".to_owned(),
            "partly" if !missing => "is done in part and does not say what is missing".to_owned(),
            "later" => match borne.get(&row.id) {
                Some(test) => format!("is for later and has a test, {test}"),
                None => continue,
            },
            _ => continue,
        };
        problems.push(format!("{}: {} {problem}", row.place, row.id));
    }
    check(problems);
}
