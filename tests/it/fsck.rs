//! Runs `drystone fsck` on stores that were killed, damaged and emptied.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::SystemTime;

use serde_json::Value;

use crate::s3::Client;
use crate::server::{Disks, Server, command};

fn fsck(disks: &Disks, arguments: &[&str]) -> Output {
    let mut command = command();
    command.arg("fsck").args(arguments).arg(disks.argument());
    command.output().unwrap()
}

/// Returns the exit code and the report.
#[track_caller]
fn report(disks: &Disks) -> (i32, Value) {
    let output = fsck(disks, &["--json"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), report.expect(&told))
}

/// Writes objects of all kinds: inline and in shards, versions, a marker, a copy, an upload under
/// way and a completed one.
fn fill(client: &Client) {
    client.put("/plain", b"").unwrap().expect(200);
    client.put("/kept", b"").unwrap().expect(200);
    let send = |method, path: &str, query: &[(&str, String)], body: &[u8]| {
        client.send(method, path, query, body).unwrap()
    };
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    send("PUT", "/kept", &[("versioning", String::new())], enabled).expect(200);
    for (key, len) in [("empty", 0), ("small", 5_000), ("large", 3_000_000)] {
        for path in [format!("/plain/{key}"), format!("/kept/{key}")] {
            client.put(&path, &vec![7; len]).unwrap().expect(200);
            client.put(&path, &vec![8; len]).unwrap().expect(200);
        }
    }
    send("DELETE", "/kept/small", &[], b"").expect(204);
    let source = [("x-amz-copy-source", "/plain/large")];
    let copied = client.send_with("PUT", "/plain/copy", &[], &source, b"");
    copied.unwrap().expect(200);
    begin_upload(client, "/plain/begun");
    let upload = begin_upload(client, "/plain/done");
    let listed = send("GET", "/plain/done", &[("uploadId", upload.clone())], b"").expect(200);
    let parts = listed.all("PartNumber").into_iter().zip(listed.all("ETag"));
    let parts = parts.map(|(number, etag)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    });
    let parts: String = parts.collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    let upload = [("uploadId", upload)];
    send("POST", "/plain/done", &upload, body.as_bytes()).expect(200);
}

/// Begins an upload of two parts and returns its id.
fn begin_upload(client: &Client, path: &str) -> String {
    let begun = client.send("POST", path, &[("uploads", String::new())], b"");
    let upload = begun.unwrap().expect(200).all("UploadId").remove(0);
    for (number, len) in [(1, 5 << 20), (2, 100_000)] {
        let part = [
            ("partNumber", number.to_string()),
            ("uploadId", upload.clone()),
        ];
        client
            .send("PUT", path, &part, &vec![9; len])
            .unwrap()
            .expect(200);
    }
    upload
}

fn stopped() -> Server {
    let mut server = Server::fresh(4);
    fill(&server.client());
    server.kill();
    server
}

/// Returns every file with its length and time.
fn files(disks: &Disks) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![disks.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                folders.push(entry.path());
            }
            files.insert(entry.path(), (meta.len(), meta.modified().unwrap()));
        }
    }
    files
}

#[test]
fn r_31_a_killed_store_is_whole_and_left_as_it_is() {
    let server = stopped();
    let before = files(&server.disks);
    let (code, report) = report(&server.disks);
    assert_eq!(
        (code, &report["verdict"]),
        (0, &"whole".into()),
        "{report:#}"
    );
    // Three in `plain`, the copy and the completed one; `kept` has two left.
    assert_eq!(report["objects"]["whole"], 7, "{report:#}");
    assert_eq!(report["versions"]["whole"], 5 + 6, "{report:#}");
    assert_eq!(report["delete_markers"], 1);
    assert_eq!(
        (&report["uploads"], &report["parts"]["whole"]),
        (&1.into(), &2.into())
    );
    assert_eq!(report["buckets"], 2);
    assert_eq!(report["shards"]["missing"], 0);
    assert_eq!(report["files"]["unknown"], 0, "{report:#}");
    // The large object in `plain` that was overwritten is garbage, unless the first round of gc ran
    // late.
    let garbage = report["files"]["garbage"].as_u64();
    assert!(garbage.is_some_and(|files| files <= 4), "{report:#}");
    assert!(before == files(&server.disks), "something was written");
    assert!(fsck(&server.disks, &[]).status.success());
}

#[test]
fn r_31_a_running_store_is_refused() {
    let server = Server::fresh(2);
    let output = fsck(&server.disks, &[]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("is in use by another process"), "{told}");
}

#[test]
fn r_31_what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("photograph"), b"of a wall").unwrap();
    let mut command = command();
    let output = command.arg("fsck").arg(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("holds other files"), "{told}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Damages all shards on this number of disks and returns the report's verdict.
#[track_caller]
fn after_damage(server: &Server, disks: usize, damage: fn(&Path)) -> (i32, Value) {
    for disk in 1..=disks {
        let files = server.disks.shard_files(disk);
        assert!(!files.is_empty());
        files.iter().for_each(|file| damage(file));
    }
    report(&server.disks)
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

#[test]
fn r_31_damage_within_parity_is_degraded() {
    type Harm = fn(&Path);
    let kinds: [(&str, Harm); 5] = [
        ("missing", |file| fs::remove_file(file).unwrap()),
        ("damaged", |file| flip(file, 20)),
        ("damaged", |file| flip(file, 100)),
        ("damaged", |file| flip(file, usize::MAX)),
        ("damaged", |file| fs::write(file, b"").unwrap()),
    ];
    for (kind, damage) in kinds {
        let server = stopped();
        let (code, report) = after_damage(&server, 2, damage);
        assert_eq!(
            (code, &report["verdict"]),
            (1, &"degraded".into()),
            "{report:#}"
        );
        let shards = report["shards"][kind].as_u64().unwrap();
        assert_eq!(shards, 2 * report["writes"]["degraded"].as_u64().unwrap());
        assert_eq!(report["versions"]["lost"], 0);
        assert!(report["objects"]["degraded"].as_u64().unwrap() > 0);
        assert!(report["parts"]["degraded"].as_u64().unwrap() > 0);
    }
}

#[test]
fn r_31_damage_beyond_parity_is_lost_and_named() {
    let server = stopped();
    let (code, report) = after_damage(&server, 3, |file| fs::remove_file(file).unwrap());
    assert_eq!(
        (code, &report["verdict"]),
        (2, &"lost".into()),
        "{report:#}"
    );
    // Inline objects are in the metadata.
    assert_eq!(report["objects"]["whole"], 3, "{report:#}");
    assert_eq!(report["objects"]["lost"], 4, "{report:#}");
    let damaged = report["damaged"].as_array().unwrap();
    let keys: Vec<_> = damaged
        .iter()
        .map(|damaged| damaged["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        ["copy", "done", "large", "large", "large", "begun", "begun"],
        "{keys:?}"
    );
    let output = fsck(&server.disks, &[]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("LOST: plain/copy"), "{told}");
    assert!(told.ends_with("restore them from a backup.\n"), "{told}");
}

#[test]
fn r_31_a_file_that_nothing_names_is_reported() {
    let server = stopped();
    let file = server.disks.shard_files(2).remove(0);
    fs::copy(&file, file.with_extension("7")).unwrap();
    fs::write(file.with_file_name("photograph"), b"").unwrap();
    let (code, report) = report(&server.disks);
    assert_eq!(
        (code, &report["files"]["unknown"]),
        (1, &2.into()),
        "{report:#}"
    );
}

#[test]
fn r_31_a_lost_disk_is_offline_and_not_damage() {
    let server = stopped();
    server.disks.empty(3);
    let (code, report) = report(&server.disks);
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"degraded".into()),
        "{report:#}"
    );
    assert_eq!(report["shards"]["missing"], 0);
    assert!(report["shards"]["offline"].as_u64().unwrap() > 0);
    let problem = report["disks"][3]["problem"].as_str().unwrap();
    assert!(problem.contains("is empty"), "{problem}");
}
