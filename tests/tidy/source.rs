//! The sources: found, read, and told apart into code, tests and comments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every folder with Rust that is this project's own.
const FOLDERS: [&str; 4] = ["src", "storage/src", "storage/tests", "tests"];

pub struct Source {
    /// From the repository's root.
    pub path: PathBuf,
    pub text: String,
}

impl Source {
    pub fn shown(&self) -> String {
        self.path.display().to_string()
    }

    pub fn stem(&self) -> &str {
        self.path.file_stem().unwrap().to_str().unwrap()
    }

    pub fn is_test(&self) -> bool {
        let stem = self.stem();
        self.path.starts_with("tests")
            || stem == "tests"
            || stem.ends_with("_tests")
            || self
                .path
                .components()
                .any(|part| part.as_os_str() == "tests")
    }

    /// Lines up to the file's tests, without comments; a comment's line stays, empty.
    pub fn code(&self) -> Vec<&str> {
        let lines = self.text.lines().take(self.lines_before_tests());
        lines.map(without_comment).collect()
    }

    /// The number of lines before the file's tests: none where all of the file is one.
    pub fn lines_before_tests(&self) -> usize {
        if self.is_test() {
            return 0;
        }
        let all: Vec<&str> = self.text.lines().collect();
        let of_tests = |at: usize| {
            let rest = &all[at + 1..];
            let next = rest
                .iter()
                .find(|next| !next.trim_start().starts_with("#["));
            // `mod tests;` is in a file of its own, and code may follow.
            all[at].starts_with("#[cfg(test)]")
                && next.is_some_and(|next| {
                    let is_module = next.starts_with("mod ") || next.starts_with("pub(crate) mod ");
                    is_module && next.ends_with('{')
                })
        };
        (0..all.len()).find(|at| of_tests(*at)).unwrap_or(all.len())
    }

    /// The comments, each with its line's number: of a `//` line all after the slashes.
    pub fn comments(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.filter_map(|(at, line)| comment(line).map(|comment| (at + 1, comment)))
    }

    /// The names of all functions, each with its line's number.
    pub fn functions(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.filter_map(|(at, line)| function(line).map(|name| (at + 1, name)))
    }

    /// The names of all functions that run as tests: by their attribute, or as one of a suite.
    pub fn tests(&self) -> BTreeSet<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut tests: BTreeSet<&str> = self
            .functions()
            .filter(|(line, _)| {
                let above = lines[..line - 1].iter().rev();
                above
                    .map(|line| line.trim())
                    .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
                    .any(|line| line == "#[test]" || line.starts_with("#[tokio::test"))
            })
            .map(|(_, name)| name)
            .collect();
        if let Some((_, suite)) = self.text.split_once("\nsuite! {\n") {
            let suite = suite.split("\n}\n").next().unwrap();
            tests.extend(suite.split_whitespace());
        }
        tests
    }
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.find(" // ").map_or(line, |at| &line[..at])
}

fn comment(line: &str) -> Option<&str> {
    let text = match line.trim_start().strip_prefix("//") {
        Some(text) => text,
        None => &line[line.find(" // ")? + 3..],
    };
    Some(text.trim_start_matches(['/', '!']).trim())
}

/// The name of the function that a line begins.
pub fn function(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let qualifiers = ["pub", "async", "const", "extern", "unsafe"];
    let qualified = |word: &str| qualifiers.contains(&word) || word.starts_with("pub(");
    let word = words.find(|word| !qualified(word))?;
    if word != "fn" {
        return None;
    }
    let name = words.next()?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    Some(&name[..end])
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files with this extension below a folder, in the order of their paths. What is not the
/// project's own, as `target`, is passed by.
pub fn files(folder: &str, extension: &str) -> Vec<Source> {
    files_in(folder, extension, |_| true)
}

/// The sources of the crate at a folder, without those of crates below it.
pub fn crate_files(folder: &str) -> Vec<Source> {
    files_in(folder, "rs", |below| !below.join("Cargo.toml").exists())
}

fn files_in(folder: &str, extension: &str, enters: impl Fn(&Path) -> bool) -> Vec<Source> {
    let root = root();
    let mut sources = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_own = name != "target" && !name.starts_with('.');
            if path.is_dir() && is_own && enters(&path) {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                sources.push(Source {
                    text: fs::read_to_string(&path).unwrap(),
                    path: path.strip_prefix(root).unwrap().to_owned(),
                });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

pub fn all() -> Vec<Source> {
    let folders = FOLDERS.into_iter();
    let all: Vec<Source> = folders.flat_map(|folder| files(folder, "rs")).collect();
    assert!(
        all.len() > 50,
        "the sources are not where they are looked for"
    );
    all
}

/// Code without comments, strings and characters, which become spaces; lines stay lines.
pub fn bare(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let before = bare.chars().next_back().unwrap_or(' ');
        let in_word = before.is_alphanumeric() || before == '_';
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => quoted(rest),
            'r' if !in_word => raw(rest).unwrap_or(0),
            'b' if !in_word && rest.starts_with("br") => raw(&rest[1..]).map_or(0, |raw| raw + 1),
            '\'' => character(rest).unwrap_or(0),
            _ => 0,
        };
        let (taken, after) = rest.split_at(length.max(c.len_utf8()));
        if length == 0 {
            bare.push_str(taken);
        } else {
            bare.extend(taken.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = after;
    }
    bare
}

/// The length of a string with its quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// The length of a raw string, if there is one.
fn raw(text: &str) -> Option<usize> {
    let after = &text[1..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end)?;
    Some(1 + hashes + 1 + length + end.len())
}

/// The length of a character, if there is one: a lifetime has no second quote.
fn character(text: &str) -> Option<usize> {
    let first = text[1..].chars().next()?;
    let inner = match first {
        '\\' => 2,
        _ => first.len_utf8(),
    };
    let end = text.get(1 + inner..)?.find('\'')?;
    (first == '\\' || end == 0).then_some(1 + inner + end + 1)
}

#[test]
fn code_is_told_from_what_stands_in_it() {
    let text =
        "let a = \"x // \\\" y\"; // crate::b\nlet c: &'a str = r#\"\"\"#; '\"' 'x' '\\'' br\"\"";
    assert_eq!(
        bare(text).split_whitespace().collect::<Vec<_>>(),
        ["let", "a", "=", ";", "let", "c:", "&'a", "str", "=", ";"]
    );
    assert_eq!(function("    pub(crate) async fn a("), Some("a"));
    assert_eq!(function("fn a<T>() {}"), Some("a"));
    assert_eq!(function("// fn a()"), None);
    assert_eq!(comment("  /// A."), Some("A."));
    assert_eq!(comment("a(); // b"), Some("b"));
    assert_eq!(comment("let a = 1;"), None);
}
