//! Tables of the documents that say what the code or the suites say: operations, conformance.

use std::collections::BTreeSet;

use crate::check;
use crate::source::read;

/// Tests of the conformance suite: collected, passing, and listed with a reason not to. A change
/// here is a change of what clients can rely on. `tests/conformance/run.sh` runs the suite and
/// compares it with the lists.
const CONFORMANCE: (usize, usize, usize) = (366, 308, 58);

/// Every test of the suite that was collected passes or says why not, and their numbers are known.
#[test]
fn the_conformance_lists_account_for_every_test() {
    let passing = read("tests/conformance/passing.txt");
    let unsupported = read("tests/conformance/unsupported.txt");
    let passing: Vec<&str> = passing
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let mut problems = Vec::new();
    let mut listed = Vec::new();
    for line in unsupported.lines() {
        match line.split_once('\t') {
            Some((test, reason)) if !reason.trim().is_empty() => listed.push(test),
            _ => problems.push(format!("unsupported.txt gives no reason: {line}")),
        }
    }
    let named: BTreeSet<&str> = passing.iter().chain(&listed).copied().collect();
    if named.len() != passing.len() + listed.len() {
        problems.push("a test stands twice in the conformance lists".to_owned());
    }
    let counted = (named.len(), passing.len(), listed.len());
    if counted != CONFORMANCE {
        problems.push(format!(
            "the conformance lists have {counted:?}, not {CONFORMANCE:?} tests"
        ));
    }
    check(problems);
}

/// Rows of the operation table: name, and the module of `ops` that answers.
fn operations() -> Vec<(String, String)> {
    let text = read("src/s3/operation.rs");
    let (_, rows) = text.split_once("\noperations! {").unwrap();
    let (rows, _) = rows.split_once("\n}").unwrap();
    let row = |row: &str| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (name, handler) = (words.first()?, words.last()?);
        let (module, _) = handler.split_once("::")?;
        Some(((*name).to_owned(), module.to_owned()))
    };
    rows.split(';').filter_map(row).collect()
}

/// The table of operations that the page on S3 compatibility must hold.
fn operations_table() -> String {
    let operations = operations();
    let with = |wanted: fn(&str) -> bool| {
        let mut names: Vec<&str> = Vec::new();
        for (name, module) in &operations {
            if wanted(module) {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.join(", ")
    };
    let served = with(|module| module != "absent" && module != "missing");
    let absent = with(|module| module == "absent");
    let refused = with(|module| module == "missing");
    format!("| served | {served} |\n| nothing to set yet | {absent} |\n| 501 | {refused} |\n")
}

#[test]
fn the_compatibility_page_lists_the_operations_as_the_table_has_them() {
    let table = operations_table();
    assert!(
        read("docs/reference/s3-compatibility.md").contains(&table),
        "the table of operations in docs/reference/s3-compatibility.md has to be\n\n{table}"
    );
}
