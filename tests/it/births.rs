//! A store is born once: empty directories in the places of all its disks are no first start.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use crate::server::{
    ACCESS_KEY, Disks, SECRET_KEY, Server, arguments, command, ready_line, try_start,
};
use crate::small_disks::Small;

/// Starts a server that must refuse to, and returns what it says.
#[track_caller]
fn refused(disks: &Disks, variables: &[(&str, &str)]) -> String {
    File::create(disks.log()).unwrap();
    let (mut child, ready) = try_start(disks, variables);
    assert!(ready.is_none(), "it started");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    fs::read_to_string(disks.log()).unwrap()
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Starts a server by an operator's word that a new store is meant, and stops it again.
fn start_new_store(disks: &Disks) {
    let log = File::create(disks.log()).unwrap();
    let mut child = command()
        .args(arguments(disks))
        .arg("--new-store")
        .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
        .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let ready = ready_line(&mut child);
    let _ = child.kill();
    child.wait().unwrap();
    assert!(
        ready.is_some(),
        "{}",
        fs::read_to_string(disks.log()).unwrap()
    );
}

/// Tried: four directories that were all empty at a start, as no mount had come up, became a new
/// store, which answered 404 to everything.
#[test]
fn f_14_empty_mount_points_never_become_a_new_store() {
    let Some(mut small) = Small::new(4, &[], "missing mounts") else {
        return;
    };
    small.put("small", 4_000).expect(200);
    small.put("large", 100_000).expect(200);
    small.server().stop();
    small.unmount_all();
    let disks = &small.server().disks;
    let said = refused(disks, &[]);
    assert!(
        said.contains("--new-store") && said.contains("mounted"),
        "{said}"
    );
    for disk in 1..=4 {
        assert!(is_empty(&disks.path(disk)), "{disk}");
    }
    // The mounts come up, and everything is there.
    small.mount_all();
    small.server().start_again();
    small.check();
    // An operator may say otherwise.
    small.server().stop();
    small.unmount_all();
    start_new_store(&small.server().disks);
    small.server().start_again();
    small.client().get("/kept/small").unwrap().expect(404);
}

/// Tests and trials remove their data and start again: nothing is mounted there.
#[test]
fn f_14_directories_that_were_emptied_become_a_new_store_by_the_same_command() {
    let mut server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    server.stop();
    for disk in 1..=4 {
        fs::remove_dir_all(server.disks.path(disk)).unwrap();
    }
    server.start_again();
    server.client().get("/kept").unwrap().expect(404);
    server.client().put("/kept", b"").unwrap().expect(200);
    server.stop();
    (1..=4).for_each(|disk| server.disks.empty(disk));
    server.start_again();
    server.client().get("/kept").unwrap().expect(404);
    assert!(server.log().contains("all disks were emptied"));
}

#[test]
fn f_14_a_typing_error_in_the_directories_creates_no_second_store() {
    let disks = Disks::fresh(2);
    let state = disks.folder().join("state");
    let variables = [("DRYSTONE_STATE_DIR", state.to_str().unwrap())];
    let mut server = Server::configured(disks, &variables);
    server.stop();
    assert!(state.join("store").exists());
    let others = Disks::fresh(2);
    let said = refused(&others, &variables);
    let first = server.disks.path(1).display().to_string();
    assert!(
        said.contains("--new-store") && said.contains(&first),
        "{said}"
    );
    assert!(!others.path(1).exists());
}
