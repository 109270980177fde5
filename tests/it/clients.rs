//! Runs the clients that people use against a real server: each client's usual round.
//!
//! A round is a script in `tests/clients`, run by the interpreter of the virtual environment that
//! has the pinned clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{ACCESS_KEY, SECRET_KEY, Server, skipped};

/// Variables in which clients look for the CAs that they trust.
const CA_VARIABLES: [&str; 5] = [
    "CA_FILE",
    "AWS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "RCLONE_CA_CERT",
    "CURL_CA_BUNDLE",
];

/// Names the virtual environment, which `tests/run.sh` creates.
const CLIENTS_VARIABLE: &str = "DRYSTONE_TEST_CLIENTS";

/// Returns the virtual environment, if it has this client.
pub fn environment_with(client: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(CLIENTS_VARIABLE)?);
    let program = folder.join("bin").join(client);
    let python = folder.join("bin/python");
    let imported = || {
        let import = format!("import {client}");
        let status = Command::new(&python).args(["-c", &import]).output();
        status.is_ok_and(|output| output.status.success())
    };
    (program.exists() || imported()).then_some(folder)
}

/// Runs `tests/clients/<round>.py` against a fresh server.
fn round(round: &str, client: &str, disks: usize) {
    let Some(environment) = environment_with(client) else {
        skipped(&format!(
            "{round} on {disks} disks ({client} is not installed)"
        ));
        return;
    };
    let server = Server::fresh(disks);
    let script = script(&environment, round);
    run(script, &environment, &server, &server.endpoint(), None);
}

/// Returns the command that runs a round's script.
pub fn script(environment: &Path, round: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/clients/{round}.py"));
    let mut command = Command::new(environment.join("bin/python"));
    command.arg("-B").arg(script);
    command
}

/// Runs a client with the server's address and keys and, for TLS, the file of the CA to trust, and
/// with nothing else. Returns what it printed.
pub fn run(
    mut command: Command,
    environment: &Path,
    server: &Server,
    endpoint: &str,
    authority: Option<&Path>,
) -> String {
    let home = server.disks.folder().join("home");
    std::fs::create_dir_all(&home).unwrap();
    let mut path = environment.join("bin").into_os_string();
    path.push(":/usr/local/bin:/usr/bin:/bin");
    command
        .env_clear()
        .env("PATH", path)
        .env("HOME", &home)
        .env("LANG", "C.UTF-8")
        .env("ENDPOINT", endpoint)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    if let Some(file) = authority {
        command.envs(CA_VARIABLES.map(|name| (name, file)));
    }
    let output = command.current_dir(&home).output().unwrap();
    let [out, told] =
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{out}\n{told}");
    format!("{out}\n{told}")
}

#[test]
fn awscli_on_four_disks() {
    round("awscli", "aws", 4);
}

#[test]
fn awscli_on_one_disk() {
    round("awscli", "aws", 1);
}

#[test]
fn boto3_on_four_disks() {
    round("boto3_round", "boto3", 4);
}

#[test]
fn s_15_w_06_boto3_forms_on_one_disk() {
    round("boto3_forms", "boto3", 1);
}

#[test]
fn s3cmd_on_four_disks() {
    round("s3cmd", "s3cmd", 4);
}

#[test]
fn rclone_on_four_disks() {
    round("rclone", "rclone", 4);
}

#[test]
fn rclone_on_one_disk() {
    round("rclone", "rclone", 1);
}

#[test]
fn minio_py_on_four_disks() {
    round("minio_py", "minio", 4);
}
