//! How the prose reads: doc comments open with a verb or a noun, and nothing is left for later.

use std::path::Path;

use crate::check;
use crate::source::{Source, all};

/// A doc comment that opens with one of these asks instead of saying. The help of the command line
/// is made of doc comments, so it is among them.
const RIDDLES: [&str; 8] = [
    "What", "Who", "Whose", "Whom", "Of", "So", "Whatever", "Whoever",
];

/// The number of doc comments that still open so. It must be exact, so it can only fall, and it has
/// to fall to 0.
const RIDDLES_LEFT: usize = 0;

/// The doc comments of a file, each with the number of its first line.
fn doc_comments(source: &Source) -> Vec<(usize, &str)> {
    let mut comments = Vec::new();
    let mut before = "";
    for (at, line) in source.text.lines().enumerate() {
        let line = line.trim_start();
        let mark = ["///", "//!"]
            .into_iter()
            .find(|mark| line.starts_with(mark));
        if let Some(mark) = mark.filter(|mark| !before.starts_with(mark)) {
            comments.push((at + 1, line[mark.len()..].trim()));
        }
        before = line;
    }
    comments
}

fn is_riddle(comment: &str) -> bool {
    let end = comment.find(|c: char| !c.is_alphanumeric());
    RIDDLES.contains(&&comment[..end.unwrap_or(comment.len())])
}

#[test]
fn doc_comments_open_with_a_verb_or_a_noun() {
    let mut riddles = Vec::new();
    for source in all() {
        for (line, comment) in doc_comments(&source) {
            if is_riddle(comment) {
                riddles.push(format!("{}:{line}: {comment}", source.shown()));
            }
        }
    }
    if riddles.len() != RIDDLES_LEFT {
        let found = riddles.len();
        riddles.push(format!("{found} doc comments open so, not {RIDDLES_LEFT}"));
        check(riddles);
    }
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "TODO", "XXX"];
    let mut problems = Vec::new();
    for source in all() {
        if source.path == Path::new("tests/tidy/words.rs") {
            continue;
        }
        for (at, line) in source.text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                problems.push(format!("{}:{}: {mark}", source.shown(), at + 1));
            }
        }
    }
    check(problems);
}

#[test]
fn riddles_are_found() {
    let source = Source {
        path: "a.rs".into(),
        text: "//! What a is.\n\n/// A.\n/// Who is b?\n/// Whole.\nfn a() {}\n    /// So b.\n"
            .into(),
    };
    let comments = doc_comments(&source);
    assert_eq!(comments, [(1, "What a is."), (3, "A."), (7, "So b.")]);
    let riddles = comments.iter().filter(|(_, comment)| is_riddle(comment));
    assert_eq!(riddles.count(), 2);
    assert!(!is_riddle("Whole."));
}
