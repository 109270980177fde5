//! The modules of each crate, each a file, and the modules that each one names.
//!
//! A name counts by the file that it leads to: `use crate::a::b::C` by `a/b.rs`, and if that file
//! only passes `C` on, by the file that it has it from. Declaring a module is no arrow, and neither
//! is passing on what it holds (`pub use child::C`). Tests are left out: what stands behind
//! `#[cfg(test)]`, and the files that are tests as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::layers::{CRATES, Crate};
use crate::source::{Source, bare, crate_files, root};

/// Names that lead through more `use`s than this lead nowhere.
const PASSED_ON_MAX: usize = 8;

pub struct Module {
    /// From the repository's root.
    pub file: String,
    imports: Vec<Import>,
    /// The types that it adds methods to, outside of any trait.
    implements: Vec<String>,
}

struct Import {
    /// Crate, modules and name.
    path: Vec<String>,
    /// The name it gets here, if it stands in a `use`.
    known_as: Option<String>,
    public: bool,
}

/// The modules of all crates by their paths: `drystone_storage::meta::view`.
pub struct Modules {
    pub by_path: BTreeMap<String, Module>,
}

impl Modules {
    pub fn read() -> Self {
        let mut sources = BTreeMap::new();
        for of in CRATES {
            for source in crate_files(of.root) {
                if !is_test(of, &source.path) {
                    sources.insert(module_path(of, &source.path), source);
                }
            }
        }
        let bare: BTreeMap<&String, (String, Vec<String>)> = sources
            .iter()
            .map(|(path, source)| (path, without_tests(&bare(&source.text))))
            .collect();
        let mut of_tests = BTreeSet::new();
        for (path, (_, declared)) in &bare {
            of_tests.extend(declared.iter().map(|name| format!("{path}::{name}")));
        }
        let paths: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
        let mut by_path = BTreeMap::new();
        for (path, source) in &sources {
            let below = |test: &String| path == test || path.starts_with(&format!("{test}::"));
            if of_tests.iter().any(below) {
                continue;
            }
            let module = Module {
                file: source.shown(),
                imports: imports(path, &bare[path].0, &paths),
                implements: implemented(&bare[path].0),
            };
            by_path.insert(path.clone(), module);
        }
        Self { by_path }
    }

    /// The modules that a module names, but for itself.
    pub fn named_by(&self, path: &str) -> BTreeSet<&str> {
        let own = &self.by_path[path];
        let named = own.imports.iter().filter_map(|import| {
            let leads_to = self.leads_to(&import.path)?;
            let below = leads_to.starts_with(&format!("{path}::"));
            (leads_to != path && !(import.public && below)).then_some(leads_to)
        });
        named.collect()
    }

    /// The modules of the types that a module adds methods to, but for itself and those that it
    /// lies in.
    pub fn extended_by(&self, path: &str) -> BTreeSet<&str> {
        let own = &self.by_path[path];
        let home = |name: &String| {
            let mut imports = own.imports.iter();
            let import = imports.find(|import| import.known_as.as_ref() == Some(name))?;
            self.leads_to(&import.path)
        };
        let homes = own.implements.iter().filter_map(home);
        let is_own = |home: &str| path == home || path.starts_with(&format!("{home}::"));
        homes.filter(|home| !is_own(home)).collect()
    }

    fn leads_to(&self, path: &[String]) -> Option<&str> {
        let mut path = path.to_vec();
        for _ in 0..PASSED_ON_MAX {
            let (module, length) = self.longest(&path)?;
            let passed_on = path.get(length).and_then(|name| {
                let imports = &self.by_path[module].imports;
                imports
                    .iter()
                    .find(|import| import.known_as.as_ref() == Some(name))
            });
            match passed_on {
                Some(import) if self.longest(&import.path).is_some() => {
                    path = [&import.path, &path[length + 1..]].concat();
                }
                _ => return Some(module),
            }
        }
        None
    }

    /// The module that a path leads into, and how many of its segments name that.
    fn longest(&self, path: &[String]) -> Option<(&str, usize)> {
        (1..=path.len()).rev().find_map(|length| {
            let found = self.by_path.get_key_value(&path[..length].join("::"));
            found.map(|(module, _)| (module.as_str(), length))
        })
    }
}

/// The examiner's crate lies among the tests and is none.
fn is_test(of: &Crate, file: &Path) -> bool {
    let below = Source {
        path: file.strip_prefix(of.root).unwrap().to_owned(),
        text: String::new(),
    };
    below.is_test()
}

/// `drystone_storage::meta::view` for `storage/src/meta/view.rs` and `…/view/mod.rs`.
fn module_path(of: &Crate, file: &Path) -> String {
    let below = file.strip_prefix(of.root).unwrap().with_extension("");
    let mut path = vec![of.name];
    path.extend(below.iter().map(|part| part.to_str().unwrap()));
    if matches!(path.last(), Some(&"mod")) || path[1..] == ["lib"] {
        path.pop();
    }
    path.join("::")
}

/// Code without what stands behind `#[cfg(test)]`, and the names of the modules declared there.
fn without_tests(code: &str) -> (String, Vec<String>) {
    let mut kept = String::new();
    let mut declared = Vec::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let mut item = after.trim_start();
        while item.starts_with("#[") {
            item = item[closing(item)..].trim_start();
        }
        let end = item_end(item);
        let words: Vec<&str> = item[..end].split_whitespace().collect();
        if let Some(at) = words.iter().position(|word| *word == "mod") {
            let name = words.get(at + 1).and_then(|name| name.strip_suffix(';'));
            declared.extend(name.map(str::to_owned));
        }
        rest = &item[end..];
    }
    kept.push_str(rest);
    (kept, declared)
}

/// Where an item ends: at its `;`, at the end of its body, or at the comma of a field.
fn item_end(item: &str) -> usize {
    let in_use = item
        .trim_start_matches("pub")
        .trim_start()
        .starts_with("use ");
    let mut at = 0;
    while let Some(c) = item[at..].chars().next() {
        match c {
            '(' | '[' => at += closing(&item[at..]),
            '{' if in_use => at += closing(&item[at..]),
            '{' => return at + closing(&item[at..]),
            ';' | '}' => return at + 1,
            _ => at += c.len_utf8(),
        }
    }
    item.len()
}

/// The length of what the first bracket opens, up to the one that closes it.
fn closing(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// All paths in a module's code that begin at a crate, at the module itself or above it, or at one
/// that it holds.
fn imports(module: &str, code: &str, modules: &BTreeSet<&str>) -> Vec<Import> {
    let mut imports = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let rest = &code[at..];
        let word = word(rest);
        let before = &code[..at];
        if word.is_empty() {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        at += word.len();
        if !rest[word.len()..].starts_with("::") || before.ends_with("::") {
            continue;
        }
        let Some(base) = base(module, word, modules) else {
            continue;
        };
        let statement = before.trim_end();
        let in_use = statement.ends_with("use");
        let declared = statement.trim_end_matches("use").trim_end();
        let public = in_use && (declared.ends_with("pub") || declared.ends_with(')'));
        let mut found = Vec::new();
        at += 2 + tree(base, &rest[word.len() + 2..], &mut found);
        imports.extend(found.into_iter().map(|(path, known_as)| Import {
            known_as: known_as.filter(|_| in_use),
            path: above(path),
            public,
        }));
    }
    imports
}

/// The types of all `impl Type {`, without those for a trait.
fn implemented(code: &str) -> Vec<String> {
    let headers = code.lines().filter_map(|line| line.strip_prefix("impl"));
    let types = headers.filter_map(|header| {
        let header = match header.strip_prefix('<') {
            Some(generic) => &generic[generic.find("> ")? + 2..],
            None => header.strip_prefix(' ')?,
        };
        let is_of_trait = header.contains(" for ");
        (!is_of_trait).then(|| word(header).to_owned())
    });
    types.collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The path that a path's first word stands for.
fn base(module: &str, word: &str, modules: &BTreeSet<&str>) -> Option<Vec<String>> {
    let own: Vec<String> = module.split("::").map(str::to_owned).collect();
    match word {
        "crate" => Some(vec![own[0].clone()]),
        "self" => Some(own),
        "super" => Some([own, vec!["super".to_owned()]].concat()),
        _ if CRATES.iter().any(|of| of.name == word) => Some(vec![word.to_owned()]),
        _ => {
            let child = [own, vec![word.to_owned()]].concat();
            modules.contains(child.join("::").as_str()).then_some(child)
        }
    }
}

/// A path without its `super`s.
fn above(path: Vec<String>) -> Vec<String> {
    let mut above = Vec::new();
    for segment in path {
        match segment.as_str() {
            "super" => {
                above.pop();
            }
            _ => above.push(segment),
        }
    }
    above
}

/// Reads what follows `prefix::`, with all branches in braces; returns its length.
fn tree(prefix: Vec<String>, text: &str, found: &mut Vec<(Vec<String>, Option<String>)>) -> usize {
    if text.starts_with('{') {
        let end = closing(text);
        let mut at = 1;
        while at < end - 1 {
            let branch = &text[at..end - 1];
            let space = branch.len() - branch.trim_start_matches([' ', '\n', ',']).len();
            at += space;
            if !branch[space..].is_empty() {
                at += tree(prefix.clone(), &text[at..end - 1], found).max(1);
            }
        }
        return end;
    }
    let word = word(text);
    let mut path = prefix;
    if word != "self" && !word.is_empty() {
        path.push(word.to_owned());
    }
    let rest = &text[word.len()..];
    match rest.strip_prefix("::") {
        Some(more) if !more.starts_with('<') => word.len() + 2 + tree(path, more, found),
        _ => {
            let alias = rest.trim_start().strip_prefix("as ");
            let known_as = alias.map(self::word).or(path.last().map(String::as_str));
            let known_as = known_as.map(str::to_owned);
            let alias = alias.map_or(0, |alias| {
                rest.len() - alias.len() + self::word(alias).len()
            });
            found.push((path, known_as));
            word.len() + alias
        }
    }
}

#[test]
fn what_is_named_is_found() {
    let modules = BTreeSet::from(["k::m", "k::m::child"]);
    let named = |code: &str| -> Vec<String> {
        let found = imports("k::m", code, &modules);
        found.iter().map(|import| import.path.join("::")).collect()
    };
    let code = "use crate::{a::b, c::{d, e as f},\n    self,\n};\nlet x = crate::g::h();";
    assert_eq!(
        named(code),
        ["k::a::b", "k::c::d", "k::c::e", "k", "k::g::h"]
    );
    let code = "use super::super::a::B; use super::c; use other::i; self::j::<u8>();";
    assert_eq!(named(code), ["a::B", "k::c", "k::m::j"]);
    let code = "pub use child::A; child::b(a::child::c); x::crate::d";
    assert_eq!(named(code), ["k::m::child::A", "k::m::child::b"]);
    let code = "impl A {\nimpl<'a> B<'a> {\nimpl C for D {\n    impl E {";
    assert_eq!(implemented(code), ["A", "B"]);
    let code = "a\n#[cfg(test)]\nuse b::{c, d};\n#[cfg(test)]\n#[x(y)]\nmod e;\nf";
    assert_eq!(
        without_tests(code),
        ("a\n\n\nf".to_owned(), vec!["e".to_owned()])
    );
}

/// A workspace's crate that the table does not know would be held to nothing.
#[test]
fn every_crate_has_layers() {
    let manifest = crate::source::read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    let members = members.split(']').next().unwrap();
    let members = members.split('"').skip(1).step_by(2).chain(["."]);
    let missing = members.filter(|member| {
        let folder = match *member {
            "." => "src".to_owned(),
            member => match root().join(member).join("src").is_dir() {
                true => format!("{member}/src"),
                false => member.to_owned(),
            },
        };
        CRATES.iter().all(|of| of.root != folder)
    });
    let missing = missing.map(|member| format!("{member}: a crate without layers"));
    crate::check(missing.collect());
}

/// Every file is a module of one crate, and read once.
#[test]
fn modules_are_files() {
    let source = |path: &str| Source {
        path: path.into(),
        text: String::new(),
    };
    let of = &CRATES[0];
    let path = |path: &str| module_path(of, &source(path).path);
    assert_eq!(path("src/lib.rs"), of.name);
    assert_eq!(path("src/main.rs"), format!("{}::main", of.name));
    assert_eq!(path("src/a/mod.rs"), format!("{}::a", of.name));
    assert_eq!(path("src/a/b.rs"), format!("{}::a::b", of.name));
}
