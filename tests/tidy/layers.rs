//! The layers of each crate: who may name whom. The table below is the order; ARCHITECTURE.md says
//! what it says.
//!
//! A row stands above all that it may name, so the table has no circle. It is a module with all
//! below it, unless one of these has a row of its own (`s3::ops`). Arrows are counted as `imports`
//! finds them, so tests may name what they like.

use std::collections::BTreeSet;

use crate::check;
use crate::imports::Modules;
use crate::source::{files, read};

type Row = (&'static str, &'static [&'static str]);

pub struct Crate {
    /// As its users import it.
    pub name: &'static str,
    /// The folder of its sources.
    pub root: &'static str,
    /// For each module, from the top down, those of this crate that it may name beside the words.
    pub layers: &'static [Row],
    /// The words that everything may use; among themselves each has a row as well.
    pub words: &'static [Row],
    /// The other crates of this workspace that it may name, and what of each.
    pub uses: &'static [Row],
}

pub const CRATES: &[Crate] = &[
    Crate {
        name: "drystone",
        root: "src",
        layers: FRONT,
        words: &[],
        uses: &[
            ("drystone_storage", &["engine", "fsck"]),
            ("drystone_s3", EVERYTHING),
            ("drystone_auth", EVERYTHING),
            ("drystone_http", EVERYTHING),
            ("drystone_protocol", EVERYTHING),
            ("drystone_store", EVERYTHING),
        ],
    },
    Crate {
        name: "drystone_s3",
        root: "src/s3",
        layers: ONE,
        words: &[],
        uses: &[
            ("drystone_iam", EVERYTHING),
            ("drystone_auth", EVERYTHING),
            ("drystone_http", EVERYTHING),
            ("drystone_protocol", EVERYTHING),
            ("drystone_store", EVERYTHING),
        ],
    },
    Crate {
        name: "drystone_iam",
        root: "src/iam",
        layers: ONE,
        words: &[],
        uses: &[
            ("drystone_auth", &["credentials", "identity"]),
            ("drystone_store", &["types"]),
        ],
    },
    Crate {
        name: "drystone_auth",
        root: "src/auth",
        layers: ONE,
        words: &[],
        uses: &[
            ("drystone_http", &["request", "scheme"]),
            ("drystone_protocol", EVERYTHING),
            ("drystone_store", EVERYTHING),
        ],
    },
    Crate {
        name: "drystone_http",
        root: "src/http",
        layers: ONE,
        words: &[],
        uses: &[
            ("drystone_protocol", EVERYTHING),
            ("drystone_store", &["lock", "measure"]),
        ],
    },
    Crate {
        name: "drystone_protocol",
        root: "src/protocol",
        layers: ONE,
        words: &[],
        uses: &[("drystone_store", EVERYTHING)],
    },
    Crate {
        name: "drystone_storage",
        root: "storage/src",
        layers: ENGINE,
        words: &[],
        uses: &[("drystone_store", EVERYTHING)],
    },
    Crate {
        name: "drystone_store",
        root: "storage/src/store",
        layers: STORE,
        words: &[],
        uses: &[],
    },
    Crate {
        name: "drystone_examiner",
        root: "tests/crash/src",
        layers: EXAMINER,
        words: &[("history", &[])],
        uses: &[],
    },
    Crate {
        name: "drystone_world",
        root: "tests/world",
        layers: ONE,
        words: &[],
        uses: &[
            ("drystone_s3", EVERYTHING),
            ("drystone_auth", EVERYTHING),
            ("drystone_http", EVERYTHING),
            ("drystone_protocol", EVERYTHING),
            ("drystone_store", EVERYTHING),
        ],
    },
    Crate {
        name: "drystone_authority",
        root: "tests/authority",
        layers: ONE,
        words: &[],
        uses: &[],
    },
];

/// A crate that is one layer as a whole: its modules may name each other, but in no circle.
const ONE: &[Row] = &[("*", &[])];

const FRONT: &[Row] = &[
    ("main", &["cli"]),
    ("cli", &["app", "config", "product", "telemetry"]),
    ("telemetry", &[]),
    ("app", &["admin", "config", "probes", "product"]),
    ("config", &["product"]),
    ("product", &[]),
    ("admin", &[]),
    ("probes", &[]),
];

const ENGINE: &[Row] = &[
    (
        "engine",
        &["db", "disk", "meta", "raft", "shards", "workers"],
    ),
    ("fsck", &["db", "disk", "meta", "raft"]),
    ("workers", &["db", "disk", "meta", "raft", "shards"]),
    ("raft", &["db", "meta"]),
    ("shards", &["disk"]),
    ("meta", &["db"]),
    ("disk", &["db"]),
    ("db", &[]),
];

const STORE: &[Row] = &[
    (
        "model",
        &[
            "accounts", "body", "buckets", "checksum", "env", "error", "instance", "listings",
            "measure", "objects", "quota", "types", "uploads",
        ],
    ),
    (
        "operator",
        &["error", "instance", "measure", "types", "workers"],
    ),
    ("workers", &["env", "lock", "measure"]),
    ("uploads", &["body", "error", "objects", "types"]),
    ("objects", &["body", "error", "types"]),
    ("listings", &["error", "types"]),
    ("buckets", &["error", "types"]),
    ("accounts", &["error", "types"]),
    ("body", &["error", "types"]),
    ("instance", &["measure"]),
    ("quota", &["error", "types"]),
    ("shard_set", &["types"]),
    ("error", &["types"]),
    ("env", &["lock", "types"]),
    ("checksum", &["types"]),
    ("crash", &[]),
    ("lock", &[]),
    ("measure", &[]),
    ("types", &[]),
];

/// All public modules of a crate whose whole is a face.
const EVERYTHING: &[&str] = &["*"];

const EXAMINER: &[Row] = &[
    ("main", &["checker", "exam", "rig", "workload"]),
    (
        "exam",
        &["audit", "checker", "nemesis", "rig", "subject", "workload"],
    ),
    ("toy", &["subject", "workload"]),
    ("audit", &["subject", "workload"]),
    ("workload", &["subject", "value"]),
    ("nemesis", &["rig"]),
    ("rig", &["s3"]),
    ("subject", &["s3", "value"]),
    ("checker", &["cheap", "linear", "model", "whole"]),
    ("cheap", &["linear", "model", "whole"]),
    ("whole", &["linear"]),
    ("linear", &["model"]),
    ("model", &[]),
    ("s3", &[]),
    ("value", &[]),
];

/// Arrows that still lead up, by crate. This has to shrink to nothing: one that nobody needs any
/// more is taken off, and none is added.
const KNOWN_UPWARD: &[(&str, &str, &str)] = &[];

/// The number of files that still add methods to a type of another layer. It must be exact, so it
/// can only fall, and it has to fall to 0.
const METHODS_ELSEWHERE: usize = 2;

impl Crate {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.layers.iter().chain(self.words)
    }

    /// The row that a module belongs to: of `s3` and `s3::ops` the longer one.
    fn row_of(&self, module: &str) -> Option<&Row> {
        let below = module.strip_prefix(self.name)?.trim_start_matches(':');
        let of_row = |row: &&Row| {
            row.0 == "*" || below == row.0 || below.starts_with(&format!("{}::", row.0))
        };
        self.rows().filter(of_row).max_by_key(|row| row.0.len())
    }

    fn allows(&self, from: &Row, to: &str) -> bool {
        let is_word = |name: &str| self.words.iter().any(|(word, _)| *word == name);
        from.1.contains(&to)
            || (is_word(to) && !is_word(from.0))
            || KNOWN_UPWARD.contains(&(self.name, from.0, to))
    }

    /// The arrows of this crate's files that its table does not have.
    fn problems(&self, modules: &Modules) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, module) in &modules.by_path {
            let of_crate = path == self.name || path.starts_with(&format!("{}::", self.name));
            if !of_crate || path == self.name {
                continue;
            }
            let Some(row) = self.row_of(path) else {
                problems.push(format!("{}: has no layer", module.file));
                continue;
            };
            for named in modules.named_by(path) {
                if let Some(problem) = self.problem(row, named) {
                    problems.push(format!("{}: {problem}", module.file));
                }
            }
        }
        problems
    }

    fn problem(&self, row: &Row, named: &str) -> Option<String> {
        if let Some(to) = self.row_of(named) {
            let fine = to.0 == row.0 || self.allows(row, to.0);
            return (!fine).then(|| format!("{} may not name {}", row.0, to.0));
        }
        let (of, module) = named.split_once("::")?;
        if of == self.name {
            return None;
        }
        let face = self.uses.iter().find(|(used, _)| *used == of);
        let first = module.split("::").next().unwrap();
        match face {
            None => Some(format!("may not name {of}")),
            Some((_, face)) if face.contains(&first) || *face == EVERYTHING => None,
            Some(_) => Some(format!("{first} of {of} is not public")),
        }
    }
}

fn layers_hold_in(wanted: impl Fn(&str) -> bool) {
    let modules = Modules::read();
    let wanted = CRATES.iter().filter(|of| wanted(of.name));
    check(wanted.flat_map(|of| of.problems(&modules)).collect());
}

fn crate_root(name: &str) -> &'static str {
    CRATES.iter().find(|of| of.name == name).unwrap().root
}

#[test]
fn layers_hold_in_the_front_end() {
    layers_hold_in(|name| crate_root(name).starts_with("src"));
}

#[test]
fn layers_hold_in_the_engine() {
    layers_hold_in(|name| crate_root(name).starts_with("storage"));
}

#[test]
fn layers_hold_in_the_other_crates() {
    layers_hold_in(|name| crate_root(name).starts_with("tests"));
}

/// A method that one layer adds to another one's type is called without naming its layer, and that
/// arrow is seen by nobody. A type's own methods lie in its layer; other layers have traits.
#[test]
fn methods_lie_in_the_layer_of_their_type() {
    let modules = Modules::read();
    let mut found = Vec::new();
    for of in CRATES {
        for (path, module) in &modules.by_path {
            let row = of.row_of(path).map(|row| row.0);
            for home in modules.extended_by(path) {
                let home = of.row_of(home).map(|row| row.0);
                if let (Some(row), Some(home)) = (row, home)
                    && row != home
                {
                    found.push(format!("{} adds methods to a type of {home}", module.file));
                }
            }
        }
    }
    if found.len() != METHODS_ELSEWHERE {
        found.push(format!("{} of these, not {METHODS_ELSEWHERE}", found.len()));
        check(found);
    }
}

/// Sorted so that each row stands above all that it may name: then there is no circle.
#[test]
fn layers_are_an_order() {
    let mut problems = Vec::new();
    for of in CRATES {
        let rows: Vec<&Row> = of.rows().collect();
        for (at, (name, may_name)) in rows.iter().enumerate() {
            for named in *may_name {
                match rows.iter().position(|(row, _)| row == named) {
                    None => problems.push(format!("{}: {name} names {named}, no row", of.name)),
                    Some(below) if below > at => {}
                    Some(_) => problems.push(format!("{}: {named} is not below {name}", of.name)),
                }
            }
        }
        let names: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
        if names.len() != rows.len() {
            problems.push(format!("{}: a module has two rows", of.name));
        }
    }
    check(problems);
}

#[test]
fn known_upward_arrows_are_there() {
    let modules = Modules::read();
    let mut problems = Vec::new();
    for (name, from, to) in KNOWN_UPWARD {
        let of = CRATES.iter().find(|of| of.name == *name).unwrap();
        let is = |path: &str, row: &str| of.row_of(path).is_some_and(|found| found.0 == row);
        let mut paths = modules.by_path.keys().filter(|path| is(path, from));
        if !paths.any(|path| modules.named_by(path).iter().any(|named| is(named, to))) {
            problems.push(format!("{name}: {from} names {to} no more, take it off"));
        }
    }
    check(problems);
}

/// The tables that ARCHITECTURE.md has to hold about the layers.
fn layers_in_words() -> String {
    let or_nothing = |names: String| {
        if names.is_empty() {
            "–".to_owned()
        } else {
            names
        }
    };
    let documented = || CRATES.iter().filter(|of| !of.root.starts_with("tests"));
    let mut text = "| crate | may import |\n| --- | --- |\n".to_owned();
    for of in documented() {
        let used = of.uses.iter().map(|(used, face)| match *face {
            EVERYTHING => format!("`{used}`"),
            face => format!("of `{used}`: {}", face.join(", ")),
        });
        let used = or_nothing(used.collect::<Vec<_>>().join("; "));
        text.push_str(&format!("| `{}` | {used} |\n", of.root));
    }
    for of in documented() {
        // Neighbours that may import the same stand in one row.
        let mut rows: Vec<(Vec<&str>, &[&str])> = Vec::new();
        for (name, may_name) in of.layers.iter().chain(of.words) {
            match rows.last_mut() {
                _ if *name == "*" => {}
                Some((names, same)) if same == may_name => names.push(name),
                _ => rows.push((vec![name], may_name)),
            }
        }
        if !rows.is_empty() {
            let root = of.root;
            text.push_str(&format!(
                "\n| layer of `{root}` | may import |\n| --- | --- |\n"
            ));
        }
        for (names, may_name) in rows {
            let may_name = or_nothing(may_name.join(", "));
            text.push_str(&format!("| {} | {may_name} |\n", names.join(", ")));
        }
    }
    text
}

/// The text between `<!-- NAME…-->` and the next `<!-- end…-->`, if both marks are there.
pub fn between_marks<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!("<!-- {name}"))?;
    let (_, block) = after.split_once("-->\n")?;
    let (block, _) = block.split_once("<!-- end")?;
    Some(block)
}

#[test]
fn architecture_says_what_the_layers_are() {
    let architecture = read("ARCHITECTURE.md");
    let Some(block) = between_marks(&architecture, "layers:") else {
        println!("ARCHITECTURE.md has no block of layers to check");
        return;
    };
    let expected = layers_in_words();
    let expected = expected.trim();
    assert!(
        block.trim() == expected,
        "what ARCHITECTURE.md says of the layers has to be\n\n{expected}\n"
    );
}

#[test]
fn the_engine_knows_no_http() {
    let foreign = ["axum", "http", "http_body", "hyper", "quick_xml", "tower"];
    let mut problems = Vec::new();
    for source in files("storage/src", "rs") {
        let code = source.code().join("\n");
        for name in foreign {
            if code.contains(&format!("use {name}::")) || code.contains(&format!(" {name}::")) {
                problems.push(format!("{}: uses {name}", source.shown()));
            }
        }
    }
    check(problems);
}
