//! Fills disks, exhausts their inodes or makes them read-only.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use crate::metrics::least;
use crate::s3::{Answer, Client};
use crate::server::{
    ACCESS_KEY, Disks, SECRET_KEY, arguments, command, eventually, ready_line_within, skipped,
};
use crate::small_disks::{LARGE, Small, refused};

#[test]
fn b_57_f_08_full_disks_refuse_what_adds_and_serve_the_rest() {
    let Some(mut small) = Small::new(4, &[], "full disks") else {
        return;
    };
    small.put("small", 4_000).expect(200);
    small.fill(LARGE);
    small.check();
    // The reserve is for metadata: inline objects are still accepted.
    small.put("inline", 4_000).expect(200);
    refused(&small.put("large", LARGE));
    for disk in 1..=4 {
        small.ballast(disk, 16 << 20);
    }
    eventually("metadata is refused too", || {
        small.put("probe", 4_000).status == 503
    });
    let client = small.client();
    let uploads = [("uploads", String::new())];
    refused(&client.put("/another", b"").unwrap());
    refused(&client.send("POST", "/kept/upload", &uploads, b"").unwrap());
    let source = [("x-amz-copy-source", "/kept/small")];
    refused(
        &client
            .send_with("PUT", "/kept/copy", &[], &source, b"")
            .unwrap(),
    );
    small.check();
    // Deletes are still accepted, and free space without a restart.
    small.delete("small");
    for n in 0..4 {
        small.delete(&format!("fill{LARGE}/{n}"));
    }
    small.check();
    (1..=4).for_each(|disk| small.drop_ballast(disk));
    let client = small.client();
    eventually("there is room again", || {
        client.put("/kept/again", &[7; LARGE]).unwrap().status == 200
    });
    small.acknowledged.insert("again".into(), vec![7; LARGE]);
    small.check();
    small.server().kill();
    small.server().start_again();
    small.check();
    assert_eq!(census(&mut small)["versions"]["lost"], 0);
}

/// Stops the store, runs `fsck` on it and starts it again; returns the report.
fn census(small: &mut Small) -> serde_json::Value {
    let server = small.server();
    server.stop();
    let mut fsck = command();
    fsck.args(["fsck", "--json"]).arg(server.disks.argument());
    let report = serde_json::from_slice(&fsck.output().unwrap().stdout).unwrap();
    server.start_again();
    report
}

/// A number of sharded objects that take next to no room: many are written before a server measures
/// free space again.
const TRY: usize = 100_000;

#[test]
fn f_08_a_full_disk_among_others_is_passed_by() {
    let Some(mut small) = Small::new(4, &[], "a full disk") else {
        return;
    };
    small.put("before", LARGE).expect(200);
    // Fills the disk into the reserve, but not into the half of it that is kept for deletes and gc.
    small.ballast(2, 70 << 20);
    let (client, mut tries) = (small.client(), 0);
    eventually("the look at the disk is fresh", || {
        tries += 1;
        let log = format!("/kept/try{tries}");
        client.put(&log, &[7; TRY]).unwrap().expect(200);
        least(small.server(), "drystone_disk_writable_bytes") == Some(0.0)
    });
    for n in 1..=tries {
        small.acknowledged.insert(format!("try{n}"), vec![7; TRY]);
    }
    small.put("after", LARGE).expect(200);
    small.check();
    let census = census(&mut small);
    // An object whose write began before the disk was seen to be full may miss a shard on it; no
    // later one does.
    assert_eq!(census["objects"]["lost"], 0, "{census:#}");
    let owing = census["damaged"].as_array().into_iter().flatten();
    let tried = |entry: &serde_json::Value| entry["key"].as_str().unwrap().starts_with("try");
    assert!(owing.into_iter().all(tried), "{census:#}");
    assert!(
        census["geometries"]["2+1"].as_u64().unwrap() > 0,
        "{census:#}"
    );
}

#[test]
fn f_09_disks_without_inodes_refuse_shards_and_serve_the_rest() {
    let Some(mut small) = Small::new(4, &["-N", "512"], "inodes") else {
        return;
    };
    small.fill(10_000);
    small.check();
    small.put("inline", 4_000).expect(200);
    for n in 0..8 {
        small.delete(&format!("fill10000/{n}"));
    }
    let client = small.client();
    eventually("there is room again", || {
        client.put("/kept/again", &[7; 10_000]).unwrap().status == 200
    });
    small.acknowledged.insert("again".into(), vec![7; 10_000]);
    small.check();
}

#[test]
fn b_22_b_58_disks_filled_to_the_last_byte_under_the_metadata_come_back() {
    let Some(mut small) = Small::new(4, &[], "no byte left") else {
        return;
    };
    for n in 0..20 {
        small.put(&format!("kept{n}"), 4_000).expect(200);
    }
    (1..=4).for_each(|disk| small.ballast(disk, 0));
    // Deletes are accepted until the databases themselves cannot write any more.
    let failed = (0..100).any(|n| delete_many(&small.client(), n).status != 200);
    assert!(failed, "the databases wrote on");
    eventually("a database has failed", || {
        small.server().log().contains("disk's database failed")
    });
    small.server().kill();
    // Without room to open its databases, a start says so and changes nothing.
    start_and_kill(&small.server().disks);
    (1..=4).for_each(|disk| small.drop_ballast(disk));
    small.server().start_again();
    small.check();
    small.put("after", LARGE).expect(200);
    small.check();
}

/// Deletes a thousand long keys that do not exist: a megabyte of log.
fn delete_many(client: &Client, round: usize) -> Answer {
    let key = |n: usize| {
        format!(
            "<Object><Key>{round}/{n}/{}</Key></Object>",
            "k".repeat(900)
        )
    };
    let keys: String = (0..1000).map(key).collect();
    let body = format!("<Delete><Quiet>true</Quiet>{keys}</Delete>");
    let sum = BASE64_STANDARD.encode(Sha256::digest(&body));
    let (query, headers) = (
        [("delete", String::new())],
        [("x-amz-checksum-sha256", &*sum)],
    );
    let answer = client.send_with("POST", "/kept", &query, &headers, body.as_bytes());
    answer.unwrap()
}

/// Starts the server and kills it, whatever it does.
fn start_and_kill(disks: &Disks) {
    let mut start = command();
    start.args(arguments(disks));
    start.env("DRYSTONE_ROOT_USER", ACCESS_KEY);
    start.env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY);
    let log = File::options().append(true).open(disks.log()).unwrap();
    let mut child = start.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    ready_line_within(&mut child, Duration::from_secs(5));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn f_09_a_disk_that_turns_read_only_serves_what_it_has() {
    let Some(mut small) = Small::new(4, &[], "a read-only disk") else {
        return;
    };
    small.put("before", LARGE).expect(200);
    let source = Command::new("findmnt")
        .args(["-n", "-o", "SOURCE"])
        .arg(small.server().disks.path(3))
        .output();
    let source = String::from_utf8(source.unwrap().stdout).unwrap();
    let device = source.trim().trim_start_matches("/dev/");
    if fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_err() {
        return skipped("a read-only disk: errors of ext4 can't be triggered here");
    }
    for n in 0..8 {
        small.put(&format!("after{n}"), LARGE).expect(200);
        small.put(&format!("inline{n}"), 4_000).expect(200);
    }
    small.check();
    eventually("the disk is down", || {
        small.server().log().contains("disk is down")
    });
}
