//! The reference pages on the command line and the configuration. What stands between their marks
//! is made from clap's commands and from the table of settings, so that it is never stale.
//!
//! `DRYSTONE_TEST_WRITE=1 cargo test --workspace --lib reference` writes the pages from scratch.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Args as _, Command, CommandFactory as _};

use super::CommandLine;
use super::arguments::ConfigArguments;
use crate::config::{Setting, TABLES};
use crate::product;

/// The variable that has the pages written, without its prefix.
const WRITE_VARIABLE: &str = "TEST_WRITE";

/// The arguments that several commands share: a heading of the help, and the rows below it.
type Groups = BTreeMap<String, Vec<Vec<String>>>;

#[test]
fn the_page_on_the_command_line_says_what_the_commands_say() {
    check("cli", &commands());
}

#[test]
fn the_page_on_the_configuration_says_what_the_settings_say() {
    check("configuration", &configuration());
}

/// Compares a page with what it has to hold between its marks, or writes that there.
fn check(name: &str, generated: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/reference/{name}.md"));
    let page = std::fs::read_to_string(&path).unwrap();
    let start = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&start).unwrap();
    let (held, after) = rest.split_once("<!-- end -->\n").unwrap();
    let variable = format!("{}{WRITE_VARIABLE}", product::ENVIRONMENT_PREFIX);
    if std::env::var_os(&variable).is_some() {
        let page = format!("{before}{start}{generated}<!-- end -->\n{after}");
        std::fs::write(&path, page).unwrap();
        return;
    }
    let stale = || {
        let mut lines = held.lines().zip(generated.lines());
        lines.find(|(held, generated)| held != generated)
    };
    assert!(
        held == generated,
        "docs/reference/{name}.md is stale: set {variable}=1 to write it again; it first \
         differs at {:?}",
        stale()
    );
}

/// Returns a table without the columns that are empty in every row.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let is_used = |at: &usize| rows.iter().any(|row| !row[*at].is_empty());
    let used: Vec<usize> = (0..heads.len()).filter(is_used).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<&str> = cells.collect();
        let line = format!("| {} |\n", cells.join(" | "));
        line.replace("|  |", "| |").replace("|  |", "| |")
    };
    let mut table = line(&mut used.iter().map(|at| heads[*at]));
    table += &line(&mut used.iter().map(|_| "---"));
    for row in rows {
        table += &line(&mut used.iter().map(|at| row[*at].as_str()));
    }
    table
}

fn commands() -> String {
    let mut root = CommandLine::command();
    root.build();
    let (mut page, mut groups) = (String::new(), Groups::new());
    for command in root.get_subcommands_mut() {
        describe(command, product::NAME, &mut page, &mut groups);
    }
    for (heading, rows) in &groups {
        let heads = ["argument", "variable", "default", "is"];
        write!(page, "## {heading}\n\n{}\n", table(&heads, rows)).unwrap();
    }
    page.truncate(page.trim_end().len());
    page + "\n"
}

/// Writes the sections of a command: its own, or one for each command below it.
fn describe(command: &mut Command, parent: &str, page: &mut String, groups: &mut Groups) {
    let name = format!("{parent} {}", command.get_name());
    if name.ends_with(" help") {
        return;
    }
    if command.has_subcommands() {
        for command in command.get_subcommands_mut() {
            describe(command, &name, page, groups);
        }
        return;
    }
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let about = command.get_about().unwrap();
    writeln!(page, "## {name}\n\n{about}.\n\n```\n{usage}\n```\n").unwrap();
    let (mut own, mut shared) = (Vec::new(), Groups::new());
    for argument in command.get_arguments().filter(|a| a.get_id() != "help") {
        match argument.get_help_heading() {
            Some(heading) => shared
                .entry(heading.to_owned())
                .or_default()
                .push(row(argument)),
            None => own.push(row(argument)),
        }
    }
    if !own.is_empty() {
        let heads = ["argument", "variable", "default", "is"];
        writeln!(page, "{}", table(&heads, &own)).unwrap();
    }
    for (heading, rows) in shared {
        let anchor = heading.to_lowercase().replace(' ', "-");
        writeln!(page, "Also accepted: [{heading}](#{anchor}).\n").unwrap();
        let known = groups.entry(heading).or_insert_with(|| rows.clone());
        assert_eq!(
            *known, rows,
            "{name} has other arguments below this heading"
        );
    }
}

/// Returns an argument's cells: how it is written, its variable, its default, and its help.
fn row(argument: &Arg) -> Vec<String> {
    let help = argument.get_help().unwrap().to_string();
    let (help, default) = match help.split_once("[default: ") {
        Some((help, default)) => (help.trim(), default.trim_end_matches(']')),
        None if argument.is_required_set() => (help.as_str(), "required"),
        None => (help.as_str(), ""),
    };
    // Those without a heading are a command's own: no setting is read for them.
    let heading = argument.get_help_heading();
    let setting = settings().find(|setting| argument.get_id() == id(setting).as_str());
    vec![
        written(argument),
        setting
            .filter(|_| heading.is_some())
            .map_or(String::new(), variable_of),
        default.to_owned(),
        format!("{help}."),
    ]
}

fn written(argument: &Arg) -> String {
    let values = argument.get_value_names().unwrap_or_default();
    let values: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
    let values = values.join(" ");
    let many = argument
        .get_num_args()
        .is_some_and(|number| number.max_values() > 1);
    match argument.get_long() {
        Some(long) if argument.get_action().takes_values() => format!("`--{long} {values}`"),
        Some(long) => format!("`--{long}`"),
        None if many => format!("`{values}…`"),
        None => format!("`{values}`"),
    }
}

fn configuration() -> String {
    let heads = ["key", "variable", "argument", "value", "default", "is"];
    let mut flags = ConfigArguments::augment_args(Command::new(product::NAME));
    flags.build();
    let flag = |setting: &Setting| {
        let mut arguments = flags.get_arguments();
        let argument = arguments.find(|argument| argument.get_id() == id(setting).as_str());
        argument.map_or(String::new(), written)
    };
    let mut page = String::new();
    for of in TABLES {
        let heading = match of.heading {
            "" => "The environment alone".to_owned(),
            heading => format!("`{heading}`"),
        };
        let rows = of.settings.iter().map(|setting| {
            let key = match setting.key {
                "" => String::new(),
                key => format!("`{key}`"),
            };
            let meaning: Vec<&str> = setting.meaning.iter().map(|line| line.trim()).collect();
            vec![
                key,
                variable_of(setting),
                flag(setting),
                setting.form.to_owned(),
                setting.default.to_owned(),
                meaning.join(" "),
            ]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        write!(page, "## {heading}\n\n{}\n", table(&heads, &rows)).unwrap();
    }
    let mut rows = Vec::new();
    for setting in settings() {
        for alias in setting.variable.names().skip(1) {
            rows.push(vec![format!("`{alias}`"), variable_of(setting)]);
        }
    }
    write!(page, "## Names that MinIO's scripts set\n\n").unwrap();
    page + &table(&["variable", "is read as"], &rows)
}

fn settings() -> impl Iterator<Item = &'static Setting> {
    TABLES.iter().flat_map(|table| table.settings)
}

/// Returns the name that an argument for this setting has.
fn id(setting: &Setting) -> String {
    match setting.key {
        "" => setting.variable.0[0].to_lowercase(),
        key => key.to_owned(),
    }
}

fn variable_of(setting: &Setting) -> String {
    match setting.variable.names().next() {
        Some(name) if setting.is_secret => format!("`{name}`, `…_FILE`"),
        Some(name) => format!("`{name}`"),
        None => String::new(),
    }
}
