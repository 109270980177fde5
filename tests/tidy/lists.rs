//! The ids in names of tests, and the list of bugs that tests guard against.

use crate::check;
use crate::source::{all, read};

/// Test names carry the ids of the rows they guard, in one spelling: `a_02_…`, `s_14_…`, `w_05_…`.
#[test]
fn ids_in_test_names_have_one_spelling() {
    let mut problems = Vec::new();
    for source in all() {
        for (at, line) in source.text.lines().enumerate() {
            let Some(name) = line.trim_start().strip_prefix("fn ") else {
                continue;
            };
            let mut parts = name.split('_');
            let (Some(list), Some(number)) = (parts.next(), parts.next()) else {
                continue;
            };
            let of_list = ["a", "b", "f", "p", "r", "s", "w"].contains(&list);
            let numeric = number.bytes().all(|b| b.is_ascii_digit());
            if of_list && numeric && !(2..=3).contains(&number.len()) {
                problems.push(format!("{}:{}: {list}_{number}", source.shown(), at + 1));
            }
        }
    }
    check(problems);
}

/// Every test that `tests/FAULTS.md` names as a guard is there.
#[test]
fn the_guards_of_faults_exist() {
    let table = read("tests/FAULTS.md");
    let all = all();
    let rows = table.lines().filter(|line| line.starts_with("| B-"));
    let named = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 50, "the table is not where it is looked for");
    let missing = named.into_iter().filter(|name| {
        let test = format!("fn {name}(");
        all.iter().all(|source| !source.text.contains(&test))
    });
    check(missing.map(str::to_owned).collect());
}
