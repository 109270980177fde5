//! The server under each kind of fault, in short form; tests/full.sh has the long ones.
//!
//! Each runs the examiner as a process of its own, as a person does: it needs a mount namespace
//! for some faults. What cannot be had on a machine is skipped by name.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

const EXAMINER: &str = env!("CARGO_BIN_EXE_examiner");
const SKIPPED: i32 = 77;

/// One at a time: each brings clients enough for the whole machine.
static TURN: Mutex<()> = Mutex::new(());

fn examine(nemesis: &str, rounds: u32) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Path::new(EXAMINER).with_file_name("drystone");
    assert!(
        server.exists(),
        "the server is not built: cargo build --workspace"
    );
    let output = Command::new(EXAMINER)
        .args([nemesis, "--rounds", &rounds.to_string()])
        .arg("--binary")
        .arg(server)
        .arg("--folder")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("examiner"))
        .output()
        .unwrap();
    drop(turn);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() == Some(SKIPPED) {
        // Past the test runner's capture.
        let line = text.lines().last().unwrap_or_default();
        let line = format!("\n{line}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{}\n{text}\n{errors}",
        output.status
    );
    println!("{text}");
}

#[test]
fn f_01_kills_under_load() {
    examine("kill", 3);
}

#[test]
fn f_02_eight_power_cuts_half_of_them_calm() {
    examine("power", 8);
}

#[test]
fn f_02_power_cuts_at_steps_of_commits() {
    examine("point", 4);
}

#[test]
fn f_14_a_disk_emptied_running_and_stopped() {
    examine("emptied", 2);
}

#[test]
fn f_04_a_bit_flipped_in_every_shard_of_two_disks() {
    examine("rot", 2);
}

#[test]
fn f_07_shards_in_each_others_place_on_two_disks() {
    examine("swap", 2);
}

#[test]
fn f_08_full_disks_under_load() {
    examine("full", 2);
}

#[test]
fn f_20_clock_jumps_of_years() {
    examine("clock", 2);
}

#[test]
fn f_13_b_52_r_21_a_disk_hangs_under_load_and_power_fails() {
    examine("hang", 2);
    examine("hang-power", 2);
}

#[test]
fn f_13_b_52_a_start_does_not_wait_for_a_disk_that_hangs() {
    examine("hang-start", 2);
}
