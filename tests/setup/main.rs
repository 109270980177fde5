//! The scripts' checks of a machine: each is run on a machine that lacks something, and fails with
//! one sentence that says what to do. `tests/roots.sh` runs the scripts on whole clean systems.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs that every Debian image has, as far as the checks call them.
const MINIMAL_IMAGE: [&str; 18] = [
    "bash",
    "awk",
    "cat",
    "cut",
    "df",
    "env",
    "grep",
    "head",
    "id",
    "mkdir",
    "nproc",
    "rm",
    "sed",
    "sha256sum",
    "sh",
    "sort",
    "uname",
    "dirname",
];

/// A compiler that accepts every program.
const COMPILES: &str = "cat >/dev/null";

/// A machine with the programs of a minimal image, to which others are added.
struct Machine {
    folder: tempfile::TempDir,
}

/// How a script ended, and what it printed.
#[derive(Debug)]
struct Ended {
    success: bool,
    text: String,
}

impl Machine {
    fn minimal() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let machine = Self { folder };
        for folder in [machine.programs(), machine.home()] {
            fs::create_dir(folder).unwrap();
        }
        for program in MINIMAL_IMAGE {
            let target = found_in_path(program);
            symlink(target, machine.programs().join(program)).unwrap();
        }
        machine
    }

    /// A machine on which nothing is missing.
    fn whole() -> Self {
        let machine = Self::minimal();
        for program in ["gcc", "g++", "make", "cmake", "ar"] {
            machine.install(program, COMPILES);
        }
        machine.install("rustc", "echo 'host: x86_64-unknown-linux-gnu'");
        machine.install(
            "cargo",
            "[ $1 != --version ] || echo 'cargo 1.999.0 (aaaaaaaaa 2030-01-01)'",
        );
        machine
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Puts a shell script in place of a program.
    fn install(&self, program: &str, script: &str) {
        let path = self.programs().join(program);
        if path.exists() {
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs lines of shell after deploy/env.sh.
    fn run(&self, lines: &str) -> Ended {
        let script = format!("set -euo pipefail\n. deploy/env.sh\n{lines}\n");
        let output = Command::new(found_in_path("bash"))
            .args(["-c", &script])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_clear()
            .env("PATH", self.programs())
            .env("HOME", self.home())
            .env("SSL_CERT_FILE", "/dev/null")
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        Ended {
            success: output.status.success(),
            text: String::from_utf8(text).unwrap(),
        }
    }

    fn assert_refused(&self, lines: &str, words: &[&str]) {
        let ended = self.run(lines);
        assert!(!ended.success, "{ended:?}");
        for word in words {
            assert!(ended.text.contains(word), "no {word:?} in {ended:?}");
        }
    }
}

fn found_in_path(program: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap();
    let mut places = path
        .split(':')
        .map(|folder| Path::new(folder).join(program));
    places.find(|place| place.exists()).unwrap()
}

#[test]
fn a_whole_machine_passes() {
    let ended = Machine::whole().run("free_memory_mib() { echo 99999; }\ncheck_machine 1");
    assert!(ended.success, "{ended:?}");
    assert_eq!(ended.text, "");
}

#[test]
fn without_rust_the_line_that_installs_it_is_printed() {
    let machine = Machine::minimal();
    machine.assert_refused("require_cargo", &["sh.rustup.rs", "apt-get install curl"]);
    machine.install("curl", "");
    let ended = machine.run("require_cargo");
    assert!(!ended.text.contains("apt-get"), "{ended:?}");
}

#[test]
fn an_old_cargo_is_refused_with_the_line_that_updates_it() {
    let machine = Machine::whole();
    machine.install("cargo", "echo 'cargo 1.63.0'");
    machine.assert_refused("require_cargo", &["1.63.0", "1.95", "sh.rustup.rs"]);
    machine.install("rustup", "");
    machine.assert_refused("require_cargo", &["rustup update stable"]);
}

#[test]
fn a_cargo_that_does_not_run_is_refused() {
    let machine = Machine::whole();
    machine.install("cargo", "exit 1");
    machine.assert_refused("require_cargo", &["rustup default stable"]);
}

#[test]
fn a_full_disk_is_refused_before_anything_is_installed() {
    let machine = Machine::minimal();
    machine.install("cargo", "echo 'cargo 1.999.0'");
    machine.install("df", "printf 'x x x x\\n/dev/a 9 9 900 9 /\\n'");
    machine.assert_refused(
        "check_machine 3072",
        &["900 MiB free", "needs 3072 MiB", "CARGO_TARGET_DIR"],
    );
}

#[test]
fn a_later_build_needs_no_room_for_a_first() {
    let machine = Machine::whole();
    machine.install("df", "printf 'x x x x\\n/dev/a 9 9 900 9 /\\n'");
    let built = machine.home().join(".cache/drystone/target/debug");
    fs::create_dir_all(&built).unwrap();
    fs::write(built.join("drystone"), "").unwrap();
    assert!(machine.run("check_disk 3072").success);
}

#[test]
fn too_little_memory_is_refused_and_a_little_means_fewer_compilers() {
    let machine = Machine::whole();
    machine.install("nproc", "echo 8");
    let lines = "free_memory_mib() { echo 700; }\ncheck_memory";
    machine.assert_refused(lines, &["700 MiB of memory", "swap file"]);
    let lines = "free_memory_mib() { echo 5000; }\ncheck_memory\necho jobs=$CARGO_BUILD_JOBS";
    let ended = machine.run(lines);
    assert!(ended.success, "{ended:?}");
    assert!(ended.text.contains("only 3 of 8 cores"), "{ended:?}");
    assert!(ended.text.ends_with("jobs=3\n"), "{ended:?}");
    let lines = "free_memory_mib() { echo 64000; }\ncheck_memory\necho ${CARGO_BUILD_JOBS-all}";
    assert_eq!(machine.run(lines).text, "all\n");
}

#[test]
fn missing_packages_are_named_together_and_installed() {
    let machine = Machine::minimal();
    machine.install("id", "echo 0");
    let names = "gcc g++ make cmake";
    machine.install("apt-get", "echo apt-get \"$@\"");
    machine.install("g++", COMPILES);
    let ended = machine.run("install_build_packages");
    assert!(ended.success, "{ended:?}");
    assert!(ended.text.contains("apt-get update -q\n"), "{ended:?}");
    let line = "apt-get install -y -q --no-install-recommends gcc make cmake";
    assert!(ended.text.contains(line), "{ended:?}");

    fs::remove_file(machine.programs().join("g++")).unwrap();
    machine.install("apt-get", "exit 100");
    machine.assert_refused("install_build_packages", &[names, "Check the network"]);
    fs::remove_file(machine.programs().join("apt-get")).unwrap();
    machine.assert_refused("install_build_packages", &[names, "this system's own tool"]);
}

#[test]
fn a_user_without_sudo_is_told_the_line_for_root() {
    let machine = Machine::minimal();
    machine.install("id", "echo 1000");
    machine.install("apt-get", "echo apt-get \"$@\"");
    let line = "As root, run: apt-get install gcc g++ make cmake";
    machine.assert_refused("install_build_packages", &[line]);
    machine.install("g++", COMPILES);
    machine.install("sudo", "echo sudo; exec \"$@\"");
    let ended = machine.run("install_build_packages");
    assert!(ended.success, "{ended:?}");
    assert!(ended.text.contains("sudo\napt-get update"), "{ended:?}");
}

#[test]
fn a_compiler_without_cpp20_is_refused() {
    let machine = Machine::whole();
    machine.install(
        "g++",
        "[ \"$1\" = --version ] && echo 'g++ 8.3.0' || exit 1",
    );
    let words = ["g++ 8.3.0 cannot compile C++20", "Install g++ 11"];
    machine.assert_refused("install_build_packages", &words);
}

#[test]
fn crates_that_are_here_need_no_network() {
    let machine = Machine::whole();
    machine.install(
        "cargo",
        "case \"$*\" in *--offline*) exit 0 ;; *) exit 101 ;; esac",
    );
    let ended = machine.run("fetch_crates");
    assert!(ended.success, "{ended:?}");
    machine.install("cargo", "exit 101");
    let words = ["cannot be downloaded from crates.io", "HTTPS_PROXY"];
    machine.assert_refused("fetch_crates", &words);
}

#[test]
fn a_compiler_that_refuses_batches_leaves_rocksdb_to_cargo() {
    let machine = Machine::whole();
    for program in ["flock", "tr"] {
        machine.install(program, "exit 0");
    }
    let ended = machine.run("build_rocksdb\necho \"${ROCKSDB_LIB_DIR-none}\"");
    assert!(ended.success, "{ended:?}");
    assert!(ended.text.contains("file by file"), "{ended:?}");
    assert!(ended.text.ends_with("none\n"), "{ended:?}");
}
