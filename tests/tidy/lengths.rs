//! How long files, lines and functions get.

use crate::check;
use crate::source::{Source, all, function};

/// A file's code; its tests at the end are not counted. A file of tests counts whole.
const FILE_LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 100;
/// Past the first a function is named, past the second it fails.
const FUNCTION_LINES_WARN: usize = 70;
const FUNCTION_LINES_MAX: usize = 90;
/// The limit for functions in tests: a table of cases may be longer than code.
const TEST_FUNCTION_LINES_MAX: usize = 120;

#[test]
fn files_and_lines_are_short() {
    let mut problems = Vec::new();
    for source in all() {
        let lines = match source.is_test() {
            true => source.text.lines().count(),
            false => source.lines_before_tests(),
        };
        if lines > FILE_LINES_MAX {
            problems.push(format!("{}: {lines} lines", source.shown()));
        }
        for (at, line) in source.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                problems.push(format!("{}:{}: {chars} characters", source.shown(), at + 1));
            }
        }
    }
    check(problems);
}

#[test]
fn functions_are_short() {
    let mut problems = Vec::new();
    for source in all() {
        let tests_from = source.lines_before_tests();
        for (line, lines) in function_lengths(&source) {
            let shown = format!("{}:{line}: {lines} lines", source.shown());
            let is_test = line > tests_from;
            let max = match is_test {
                true => TEST_FUNCTION_LINES_MAX,
                false => FUNCTION_LINES_MAX,
            };
            if lines > max {
                problems.push(shown);
            } else if lines > FUNCTION_LINES_WARN && !is_test {
                println!("long function: {shown}");
            }
        }
    }
    check(problems);
}

/// The first line of each function that has a body of several lines, and how many lines it has.
fn function_lengths(source: &Source) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut lengths = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !opens_function(line) {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[at..].iter().position(|line| *line == end) {
            lengths.push((at + 1, length + 1));
        }
    }
    lengths
}

/// Not a one-liner, and not a declaration without a body.
fn opens_function(line: &str) -> bool {
    function(line).is_some() && !line.ends_with('}') && !line.ends_with(';')
}

#[test]
fn functions_are_measured() {
    let text = "fn a() {\n}\n    pub async fn b(\n    ) {\n        c\n    }\nfn d(&self) -> u8;\n";
    let source = Source {
        path: "a.rs".into(),
        text: text.to_owned(),
    };
    assert_eq!(function_lengths(&source), [(1, 2), (3, 4)]);
}
