//! The code's own rules, held by a test: who may import whom, how long things get, where the
//! product's name stands.
//!
//! It reads the sources as text, in the shape that `cargo fmt` gives them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file's code; its tests at the end are not counted.
const FILE_LINES_MAX: usize = 600;
const LINE_CHARS_MAX: usize = 100;
/// Past the first a function is named, past the second it fails.
const FUNCTION_LINES_WARN: usize = 70;
const FUNCTION_LINES_MAX: usize = 90;

/// For each module of `src`, the modules that it may name. From top to bottom it is an order: each
/// names what stands below it alone.
const FRONT_LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "app",
            "auth",
            "config",
            "http",
            "product",
            "protocol",
            "telemetry",
        ],
    ),
    ("telemetry", &[]),
    (
        "app",
        &[
            "admin", "auth", "config", "http", "probes", "product", "protocol", "s3",
        ],
    ),
    ("config", &["auth", "http", "product"]),
    ("product", &[]),
    ("s3", &["auth", "http", "iam", "protocol"]),
    ("admin", &["auth", "http", "protocol"]),
    ("probes", &["auth", "http", "protocol"]),
    ("iam", &["auth"]),
    ("auth", &["http", "protocol"]),
    ("http", &["protocol"]),
    ("protocol", &[]),
];

/// Likewise of `storage/src`, from the top down: a row names only what follows it.
const ENGINE_LAYERS: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "db",
            "disk",
            "meta",
            "operator",
            "raft",
            "shard_set",
            "shards",
            "workers",
        ],
    ),
    ("fsck", &["db", "disk", "meta", "raft", "shard_set"]),
    ("workers", &["meta", "raft", "shard_set", "shards"]),
    ("raft", &["db", "meta"]),
    ("shards", &["disk", "shard_set"]),
    ("meta", &["db", "shard_set"]),
    ("disk", &["db"]),
    ("db", &[]),
    ("shard_set", &[]),
    ("model", &[]),
    ("store", &[]),
    ("operator", &[]),
    ("quota", &[]),
    ("checksum", &[]),
    ("crash", &[]),
    ("env", &[]),
    ("error", &[]),
    ("measure", &[]),
    ("types", &[]),
];

/// The words that everything may use.
const ENGINE_WORDS: &[&str] = &[
    "checksum", "crash", "env", "error", "measure", "store", "types",
];

/// The public face of the engine: all that the front end may name of it.
const ENGINE_FACE: &[&str] = &[
    "checksum", "crash", "engine", "env", "error", "fsck", "measure", "model", "operator", "store",
    "types",
];

/// Tests of the conformance suite: collected, passing, and listed with a reason not to. A change
/// here is a change of what clients can rely on.
const CONFORMANCE: (usize, usize, usize) = (366, 300, 66);

struct Source {
    /// From the repository's root.
    path: PathBuf,
    text: String,
}

impl Source {
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// The first module below the crate's root: `s3` for `src/s3/ops/put_object.rs`.
    fn module(&self, crate_root: &str) -> String {
        let below = self.path.strip_prefix(crate_root).unwrap();
        let first = below.components().next().unwrap().as_os_str();
        Path::new(first)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn is_test(&self) -> bool {
        let stem = self.path.file_stem().unwrap().to_str().unwrap();
        self.path.starts_with("tests")
            || stem == "tests"
            || stem.ends_with("_tests")
            || self
                .path
                .components()
                .any(|part| part.as_os_str() == "tests")
    }

    /// Lines up to the file's tests, without comments; a comment's line stays, empty.
    fn code(&self) -> Vec<String> {
        if self.is_test() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let all: Vec<&str> = self.text.lines().collect();
        for (at, line) in all.iter().enumerate() {
            let next = all.get(at + 1..).unwrap_or_default();
            let of_tests = next
                .iter()
                .find(|next| !next.trim_start().starts_with("#["))
                .is_some_and(|next| {
                    next.starts_with("mod ") || next.starts_with("pub(crate) mod ")
                });
            if line.starts_with("#[cfg(test)]") && of_tests {
                break;
            }
            lines.push(without_comment(line).to_owned());
        }
        lines
    }
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") {
        return "";
    }
    line.find(" // ").map_or(line, |at| &line[..at])
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
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

fn all() -> Vec<Source> {
    let folders = ["src", "storage/src", "storage/tests", "tests"];
    let all: Vec<Source> = folders.into_iter().flat_map(sources).collect();
    assert!(
        all.len() > 50,
        "the sources are not where they are looked for"
    );
    all
}

fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The modules that follow `root::` in the code, also in braces.
fn named_after(root: &str, code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' || before == ':' {
            continue;
        }
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(list) => named.extend(first_level(list)),
            None => named.extend(identifier(rest)),
        }
    }
    named
}

/// Of `a::{b, c}, d}` … the names `a` and `d`.
fn first_level(list: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.extend(identifier(list[start..at].trim_start()));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.extend(identifier(list[start..at].trim_start()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn identifier(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = &text[..end.unwrap_or(text.len())];
    let module = name.chars().next().is_some_and(char::is_lowercase);
    (module && name != "self").then(|| name.to_owned())
}

/// What a file names of its own crate: by `crate::`, and by as many `super::` as lead to its root.
fn named_of_own_crate(source: &Source, crate_root: &str) -> BTreeSet<String> {
    let code = source.code().join("\n");
    let mut named = named_after("crate::", &code);
    let below = source.path.strip_prefix(crate_root).unwrap();
    let is_folder_module = below.file_name().is_some_and(|name| name == "mod.rs");
    let depth = below.components().count() - usize::from(is_folder_module);
    named.extend(named_after(&"super::".repeat(depth), &code));
    named
}

fn layer_problems(crate_root: &str, layers: &[(&str, &[&str])], words: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources(crate_root) {
        let module = source.module(crate_root);
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = layers.iter().find(|(name, _)| *name == module) else {
            problems.push(format!("{}: module {module} has no layer", source.shown()));
            continue;
        };
        for named in named_of_own_crate(&source, crate_root) {
            let known = layers.iter().any(|(name, _)| *name == named);
            let fine = named == module || words.contains(&named.as_str());
            if known && !fine && !allowed.contains(&named.as_str()) {
                problems.push(format!("{}: may not name {named}", source.shown()));
            }
        }
    }
    problems
}

#[test]
fn layers_hold_in_the_front_end() {
    let mut problems = layer_problems("src", FRONT_LAYERS, &[]);
    for source in sources("src") {
        for named in named_after("drystone_storage::", &source.code().join("\n")) {
            if !ENGINE_FACE.contains(&named.as_str()) {
                problems.push(format!("{}: {named} is not public", source.shown()));
            }
        }
    }
    check(problems);
}

#[test]
fn layers_hold_in_the_engine() {
    check(layer_problems("storage/src", ENGINE_LAYERS, ENGINE_WORDS));
}

#[test]
fn the_engine_knows_no_http() {
    let foreign = ["axum", "http", "http_body", "hyper", "quick_xml", "tower"];
    let mut problems = Vec::new();
    for source in sources("storage/src") {
        let code = source.code().join("\n");
        for name in foreign {
            if code.contains(&format!("use {name}::")) || code.contains(&format!(" {name}::")) {
                problems.push(format!("{}: uses {name}", source.shown()));
            }
        }
    }
    check(problems);
}

#[test]
fn files_and_lines_are_short() {
    let mut problems = Vec::new();
    for source in all() {
        let lines = match source.is_test() {
            true => source.text.lines().count(),
            false => source.code().len(),
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
        let code = source.code();
        for (at, line) in code.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            if !opens_function(line) {
                continue;
            }
            let end = format!("{}}}", " ".repeat(indent));
            let Some(lines) = code[at..].iter().position(|line| *line == end) else {
                continue;
            };
            let told = format!("{}:{}: {} lines", source.shown(), at + 1, lines + 1);
            if lines + 1 > FUNCTION_LINES_MAX {
                problems.push(told);
            } else if lines + 1 > FUNCTION_LINES_WARN {
                println!("long function: {told}");
            }
        }
    }
    check(problems);
}

/// Not a one-liner, and not a declaration without a body.
fn opens_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    let name = words.iter().position(|word| *word == "fn");
    let qualifiers = ["pub", "async", "const", "extern", "unsafe"];
    let qualified = |word: &&str| qualifiers.contains(word) || word.starts_with("pub(");
    name.is_some_and(|at| words[..at].iter().all(qualified))
        && !line.ends_with('}')
        && !line.ends_with(';')
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "TODO", "XXX"];
    let mut problems = Vec::new();
    for source in all() {
        if source.path == Path::new("tests/tidy.rs") {
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
fn the_products_name_stands_in_one_place() {
    let mut problems = Vec::new();
    for source in sources("src").into_iter().chain(sources("storage/src")) {
        if source.path == Path::new("src/product.rs") {
            continue;
        }
        for (at, line) in source.code().iter().enumerate() {
            let line = line.to_lowercase();
            let line = line
                .replace("drystone_storage", "")
                .replace("drystone::", "");
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
        let stem = source.path.file_stem().unwrap().to_str().unwrap();
        let folder = source.path.parent().and_then(Path::file_name).unwrap();
        if anything.contains(&stem) || anything.iter().any(|name| folder == *name) {
            problems.push(source.shown());
        }
    }
    check(problems);
}

/// Every test of the suite that was collected passes or says why not, and their numbers are known.
#[test]
fn the_conformance_lists_account_for_every_test() {
    let read = |name| fs::read_to_string(format!("tests/conformance/{name}.txt")).unwrap();
    let (passing, unsupported) = (read("passing"), read("unsupported"));
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/FAULTS.md")).unwrap();
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

/// Rows of the operation table: name, and the module of `ops` that answers.
fn operations() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("src/s3/operation.rs")).unwrap();
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

/// The table of operations that the page on S3 compatibility must have.
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
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/s3-compatibility.md");
    let table = operations_table();
    assert!(
        fs::read_to_string(page).unwrap().contains(&table),
        "the table of operations in docs/reference/s3-compatibility.md has to be\n\n{table}"
    );
}

#[test]
fn what_is_named_is_found() {
    let code = "use crate::{a::b, c::{d, e}, f};\nlet x = crate::g::h();\nuse other_crate::i;";
    let named: Vec<String> = named_after("crate::", code).into_iter().collect();
    assert_eq!(named, ["a", "c", "f", "g"]);
    let code = "use super::super::a::B; use super::c;";
    let named: Vec<String> = named_after("super::super::", code).into_iter().collect();
    assert_eq!(named, ["a"]);
    assert!(opens_function("    pub(crate) async fn a("));
    assert!(!opens_function("    fn a(&self) -> u8;"));
}
