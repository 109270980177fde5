//! Checks which command lines and configurations are refused, with which texts and exit codes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};

use crate::server::{Disks, Server, arguments, command};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command();
    command.args(arguments).envs(variables.iter().copied());
    command.output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn version_is_told() {
    let output = run(&["--version"], &[]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.ends_with(concat!(env!("CARGO_PKG_VERSION"), "\n")),
        "{text}"
    );
}

#[test]
fn a_taken_port_gets_a_sentence() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let disks = Disks::fresh(1);
    let output = run(&["server", "--address", &address, &disks.argument()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = told(&output);
    assert!(
        told.contains(&format!("{address} is in use by another program")),
        "{told}"
    );
    assert!(!disks.path(1).exists(), "nothing was touched");
}

#[test]
fn no_disks_get_a_sentence() {
    let output = run(&["server"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("no disks are given"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[server]\nadress = \":9000\"\n").unwrap();
    let path = path.to_str().unwrap();
    for verb in [&["server"][..], &["config", "check"]] {
        let output = run(&[verb, &["--config", path, "/data"]].concat(), &[]);
        assert_eq!(output.status.code(), Some(2));
        let told = told(&output);
        assert!(told.contains(&format!("{path}:2: ")), "{told}");
        assert!(told.contains("adress"), "{told}");
    }
}

#[test]
fn a_45_default_keys_are_refused_where_others_can_reach_them() {
    for names in [
        ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"],
        ["MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"],
    ] {
        let disks = Disks::fresh(1);
        let variables = names.map(|name| (name, "minioadmin"));
        let address = ["--address", "0.0.0.0:0", &disks.argument()];
        let output = run(&[&["server"], &address[..]].concat(), &variables);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            told(&output).contains("everybody knows"),
            "{}",
            told(&output)
        );
        assert!(!disks.path(1).exists(), "nothing was touched");
    }
}

#[test]
fn a_45_keys_of_the_keys_file_are_checked_like_configured_ones() {
    for (secret, address, words) in [
        ("minioadmin", "0.0.0.0:0", "everybody knows"),
        ("", "127.0.0.1:0", "must have 8 to 128 characters"),
        ("short", "127.0.0.1:0", "must have 8 to 128 characters"),
    ] {
        let disks = Disks::fresh(1);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        let keys = format!("AWS_ACCESS_KEY_ID=operator\nAWS_SECRET_ACCESS_KEY={secret}\n");
        fs::write(&file, keys).unwrap();
        let file = file.to_str().unwrap();
        let rest = ["--address", address, "--keys-file", file, &disks.argument()];
        for verb in [&["server"][..], &["config", "check"]] {
            let output = run(&[verb, &rest].concat(), &[]);
            assert_eq!(output.status.code(), Some(2), "{verb:?}");
            let told = told(&output);
            assert!(told.contains(words) && told.contains(file), "{told}");
        }
        assert!(!disks.path(1).exists(), "nothing was touched");
    }
}

#[test]
fn config_check_shows_everything_but_secrets() {
    let variables = [
        ("DRYSTONE_ROOT_USER", "operator"),
        ("DRYSTONE_ROOT_PASSWORD", "never to be shown"),
        ("MINIO_REGION", "eu-north-1"),
        ("DRYSTONE_ROOT_PASSWROD", "never to be shown either"),
    ];
    let output = run(&["config", "check", "/mnt/disk{1...4}"], &variables);
    assert!(output.status.success(), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    for line in [
        "address: :9000",
        "region: eu-north-1",
        "disk: /mnt/disk4",
        "root: operator",
        "warning: environment variable DRYSTONE_ROOT_PASSWROD is not understood and has no effect",
        "the configuration is valid",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line} is not in\n{text}"
        );
    }
    assert!(!text.contains("never to be shown"));
}

#[test]
fn healthcheck_fails_where_nothing_listens() {
    // The client's end of a connection: nobody listens on this port, and nobody else gets it.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(other.local_addr().unwrap()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["healthcheck", "--address", &address], &[]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_unknown_crash_point_is_reported_before_anything_is_touched() {
    let disks = Disks::fresh(1);
    let output = command()
        .args(arguments(&disks))
        .env("DRYSTONE_CRASH_AT", "put-object.nowhere")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no crash point"), "{text}");
    assert!(!disks.path(1).exists());
}

/// The same happens in `fsck … | head`.
#[test]
fn a_verb_whose_words_nobody_reads_ends_without_a_word() {
    let disks = Disks::fresh(1);
    let told_to = |out: Stdio| {
        let mut check = command();
        check.args(["config", "check", &disks.argument()]);
        check.stdout(out).output().unwrap()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = told_to(writer.into());
    assert_eq!(
        (unread.status.code(), told(&unread).as_str()),
        (Some(141), "")
    );
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let unwritten = told_to(full.into());
    assert_eq!(unwritten.status.code(), Some(74));
    assert!(told(&unwritten).starts_with("drystone: standard output: "));
}

#[test]
fn b_66_marks_of_metadata_are_listed_and_lifted_on_a_stopped_store() {
    let mut server = Server::fresh(2);
    let (disks, first) = (server.disks.argument(), server.disks.path(1));
    let first = first.to_str().unwrap();
    let marks = ["admin", "metadata", "marks", &disks];
    // A server uses the disks.
    assert_eq!(run(&marks, &[]).status.code(), Some(1));
    server.stop();
    let listed = run(&marks, &[]);
    assert!(listed.status.success(), "{}", told(&listed));
    assert_eq!(listed.stdout, b"No disk is marked.\n");
    let nothing = run(&["admin", "metadata", "trust", first, &disks], &[]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(told(&nothing).contains("no disk has a mark of it"));
    let elsewhere = run(&["admin", "metadata", "trust", "/elsewhere", &disks], &[]);
    assert_eq!(elsewhere.status.code(), Some(2));
    assert!(told(&elsewhere).contains("none of the given disks"));
}
