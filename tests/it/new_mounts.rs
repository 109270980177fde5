//! An empty disk that is mounted in the place of a lost one replaces it by itself; an empty
//! directory never does.

use std::fs;

use serde_json::Value;

use crate::replaced_disks::{admin, is_healed};
use crate::server::{Server, command, eventually, signal, start, wait};
use crate::small_disks::Small;

fn answer(server: &Server, arguments: &[&str]) -> Value {
    let output = admin(server, &[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Returns the states of the disks that are or were in the directory of a disk.
fn states(server: &Server, disk: usize) -> Vec<String> {
    let directory = server.disks.path(disk).display().to_string();
    let status = answer(server, &["status"]);
    let disks = status["disks"].as_array().into_iter().flatten();
    let own = disks.filter(|disk| disk["directory"] == directory.as_str());
    own.map(|disk| disk["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns how many steps the worker has ended that looks for new disks.
fn looks(server: &Server) -> u64 {
    let workers = answer(server, &["workers"]);
    let mut workers = workers["workers"].as_array().into_iter().flatten();
    let mounts = workers.find(|worker| worker["name"] == "mounts");
    mounts.map_or(0, |worker| worker["steps"].as_u64().unwrap())
}

#[test]
fn f_14_an_empty_disk_that_is_mounted_in_the_place_of_a_lost_one_replaces_it() {
    let Some(mut small) = Small::new(4, &[], "new disks in the places of lost ones") else {
        return;
    };
    for n in 0..8 {
        small.put(&format!("before/{n}"), 100_000).expect(200);
    }
    small.take_away(3);
    let mut n = 0;
    eventually("the loss is noticed", || {
        n += 1;
        small.put(&format!("during/{n}"), 100_000);
        states(small.server(), 3) == ["offline"]
    });
    // Its mount point is an empty directory, and no disk.
    let before = looks(small.server());
    eventually("it is looked at", || looks(small.server()) > before + 2);
    assert_eq!(states(small.server(), 3), ["offline"]);
    let place = small.server().disks.path(3);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    small.put_new(3);
    eventually("the new disk has all that the old one had", || {
        is_healed(small.server()) && states(small.server(), 3).contains(&"up".to_owned())
    });
    assert!(place.join("identity").exists());
    small.check();

    // At a start, too; unless the operator keeps it for himself.
    small.server().stop();
    small.take_away(2);
    small.put_new(2);
    let variables = [("DRYSTONE_REPLACE_BY_MOUNTS", "false")];
    let (mut child, ready) = start(&small.server().disks, &variables);
    let endpoint = format!("http://127.0.0.1:{}", ready["port"]);
    let workers = command()
        .args(["admin", "workers", "--json", "--endpoint", &endpoint])
        .env("AWS_ACCESS_KEY_ID", crate::server::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", crate::server::SECRET_KEY)
        .output()
        .unwrap();
    let workers = String::from_utf8(workers.stdout).unwrap();
    assert!(
        workers.contains("\"renew\"") && !workers.contains("\"mounts\""),
        "{workers}"
    );
    signal(child.id(), "TERM");
    wait(&mut child);
    small.server().start_again();
    eventually("the new disk is used", || {
        is_healed(small.server()) && states(small.server(), 2).contains(&"up".to_owned())
    });
    small.check();
}
