//! Replaces a disk while clients write: no request fails, and afterwards every shard is there.

use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::s3::Client;
use crate::server::{ACCESS_KEY, Disks, SECRET_KEY, Server, command};

const DISKS: usize = 6;
const OBJECT: usize = 100 << 10;
const WRITERS: usize = 4;
/// How many objects are there before the disk is lost.
const OBJECTS_VARIABLE: &str = "DRYSTONE_TEST_OBJECTS";
const OBJECTS: usize = 300;
/// How long healing all of them may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

fn body(key: usize) -> Vec<u8> {
    let mut body = vec![0; OBJECT];
    StdRng::seed_from_u64(key as u64).fill_bytes(&mut body);
    body
}

pub fn admin(server: &Server, arguments: &[&str]) -> Output {
    let mut command = command();
    command
        .arg("admin")
        .args(arguments)
        .args(["--endpoint", &server.endpoint()])
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command.output().unwrap()
}

#[track_caller]
pub fn told(output: &Output) -> String {
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{problem}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn status(server: &Server) -> Option<Value> {
    let output = admin(server, &["status", "--json"]);
    // Without a leader of the metadata, the answer is 503.
    let told = output.status.success().then_some(output.stdout)?;
    Some(serde_json::from_slice(&told).unwrap())
}

#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "still not: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn write(client: &Client, keys: impl Iterator<Item = usize>) {
    for key in keys {
        let put = client.put(&format!("/kept/{key}"), &body(key));
        put.unwrap().expect(200);
    }
}

fn census(disks: &Disks) -> Value {
    let mut command = command();
    let output = command
        .args(["fsck", "--json"])
        .arg(disks.argument())
        .output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap()
}

fn filled() -> (Server, usize) {
    let given = std::env::var(OBJECTS_VARIABLE).ok();
    let objects = given.map_or(OBJECTS, |given| given.parse().unwrap());
    let server = Server::fresh(DISKS);
    server.client().put("/kept", b"").unwrap().expect(200);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let client = server.client();
            scope.spawn(move || write(&client, (writer..objects).step_by(WRITERS)));
        }
    });
    (server, objects)
}

fn emptied_and_replaced(server: &Server, disk: usize) {
    let directory = server.disks.path(disk).display().to_string();
    server.disks.empty(disk);
    until("the loss is noticed", || {
        let status = status(server);
        status.is_some_and(|status| {
            status["advice"][0]
                .as_str()
                .is_some_and(|s| s.contains(&directory))
        })
    });
    // The first request must succeed: once, this process itself held what it waited for.
    told(&admin(server, &["disk", "replace", &directory]));
}

/// Returns whether the server reports itself healed.
pub fn is_healed(server: &Server) -> bool {
    status(server).is_some_and(|status| {
        let heal = &status["heal"];
        heal["queued_shards"] == 0
            && heal["undersized_writes"] == 0
            && heal["queueing"] == false
            && status["advice"].as_array().unwrap().is_empty()
            && status["metadata_voters_alive"] == status["metadata_voters"]
    })
}

fn healed(server: &Server) {
    until("everything is rebuilt", || is_healed(server));
    let sentences = told(&admin(server, &["status"]));
    assert!(sentences.contains("All is well."), "{sentences}");
}

#[track_caller]
fn assert_whole(server: &mut Server, objects: usize) {
    server.stop();
    let report = census(&server.disks);
    assert_eq!(report["verdict"], "whole", "{report:#}");
    assert_eq!(report["objects"]["whole"], objects);
    server.start_again();
    let client = server.client();
    for key in (0..objects).step_by(7) {
        let got = client.get(&format!("/kept/{key}")).unwrap().expect(200);
        assert!(got.body == body(key), "{key} differs");
    }
}

#[test]
fn b_12_f_14_a_disk_replaced_under_load_costs_no_request_and_ends_whole() {
    let (mut server, before) = filled();
    let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(before));
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (client, stop, next) = (server.client(), &stop, &next);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let key = next.fetch_add(1, Ordering::Relaxed);
                    // Any answer but 200 fails the test.
                    write(&client, std::iter::once(key));
                    let read = key % before;
                    let got = client.get(&format!("/kept/{read}")).unwrap().expect(200);
                    assert!(got.body == body(read), "{read} differs");
                }
            });
        }
        emptied_and_replaced(&server, 3);
        healed(&server);
        stop.store(true, Ordering::Relaxed);
    });
    let ls = told(&admin(&server, &["disk", "ls"]));
    assert_eq!(ls.matches("\nup ").count(), DISKS, "{ls}");
    assert_eq!(ls.matches("\nremoved ").count(), 1, "{ls}");
    assert_whole(&mut server, next.load(Ordering::Relaxed));
}

#[test]
fn f_24_a_replacement_that_is_killed_in_the_middle_ends_whole() {
    let (mut server, objects) = filled();
    told(&admin(&server, &["heal", "rate", "8000000"]));
    emptied_and_replaced(&server, 2);
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(300));
        server.kill();
        server.start_again();
    }
    told(&admin(&server, &["heal", "rate", "0"]));
    healed(&server);
    assert_whole(&mut server, objects);
}
