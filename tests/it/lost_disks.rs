//! Loses disks and damages shards: everything acknowledged reads back, byte by byte.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::s3::Client;
use crate::server::Server;

/// Sizes from inline values to several stripes.
const SIZES: [usize; 7] = [0, 1, 5_000, 100_000, 1 << 20, (1 << 20) + 1, 5_000_000];

/// Acknowledged bodies by key.
#[derive(Default)]
struct Written(BTreeMap<String, Vec<u8>>);

impl Written {
    /// Puts one object of each size; each must be acknowledged.
    fn write(&mut self, client: &Client, round: &str) {
        for (at, size) in SIZES.into_iter().enumerate() {
            let key = format!("{round}/{at}");
            let mut body = vec![0; size];
            StdRng::seed_from_u64(self.0.len() as u64).fill(&mut body[..]);
            client
                .put(&format!("/kept/{key}"), &body)
                .unwrap()
                .expect(200);
            self.0.insert(key, body);
        }
    }

    fn check(&self, client: &Client) {
        let keys: Vec<String> = self.0.keys().cloned().collect();
        assert_eq!(client.list("kept"), keys);
        for (key, body) in &self.0 {
            let answer = client.get(&format!("/kept/{key}")).unwrap().expect(200);
            assert!(answer.body == *body, "{key} differs");
        }
    }
}

fn server_with_data() -> (Server, Written) {
    let server = Server::fresh(4);
    server.client().put("/kept", b"").unwrap().expect(200);
    let mut written = Written::default();
    written.write(&server.client(), "before");
    (server, written)
}

fn lost_while_running(disk: usize) {
    let (mut server, mut written) = server_with_data();
    server.disks.empty(disk);
    written.check(&server.client());
    written.write(&server.client(), "after the loss");
    written.check(&server.client());
    server.kill();
    server.start_again();
    written.check(&server.client());
    written.write(&server.client(), "after the start");
    written.check(&server.client());
}

fn lost_while_stopped(disk: usize) {
    let (mut server, mut written) = server_with_data();
    server.kill();
    server.disks.empty(disk);
    server.start_again();
    written.check(&server.client());
    written.write(&server.client(), "after the loss");
    written.check(&server.client());
}

#[test]
fn s_90_disk_1_lost_while_running() {
    lost_while_running(1);
}

#[test]
fn s_90_disk_2_lost_while_running() {
    lost_while_running(2);
}

#[test]
fn s_90_disk_3_lost_while_running() {
    lost_while_running(3);
}

#[test]
fn s_90_disk_4_lost_while_running() {
    lost_while_running(4);
}

#[test]
fn s_90_any_disk_lost_while_stopped() {
    for disk in 1..=4 {
        lost_while_stopped(disk);
    }
}

#[test]
fn s_90_a_disk_whose_directory_is_missing_at_start() {
    let (mut server, mut written) = server_with_data();
    server.stop();
    fs::remove_dir_all(server.disks.path(3)).unwrap();
    server.start_again();
    written.check(&server.client());
    written.write(&server.client(), "after the loss");
    written.check(&server.client());
}

/// Damages every shard on any two of the four disks, while the server runs.
fn damaged(damage: fn(&Path)) {
    for first in 1..=4 {
        for second in first + 1..=4 {
            let (mut server, written) = server_with_data();
            for disk in [first, second] {
                let files = server.disks.shard_files(disk);
                assert!(!files.is_empty(), "disk {disk} has shards");
                files.iter().for_each(|file| damage(file));
            }
            written.check(&server.client());
            server.kill();
            server.start_again();
            written.check(&server.client());
        }
    }
}

#[test]
fn s_90_shards_of_any_two_disks_removed() {
    damaged(|file| fs::remove_file(file).unwrap());
}

#[test]
fn s_90_shards_of_any_two_disks_cut_short() {
    damaged(|file| {
        let file = OpenOptions::new().write(true).open(file).unwrap();
        let half = file.metadata().unwrap().len() / 2;
        file.set_len(half).unwrap();
    });
}

#[test]
fn s_90_shards_of_any_two_disks_flipped() {
    damaged(|file| {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(file)
            .unwrap();
        let length = file.metadata().unwrap().len();
        // Flips one bit in each part of the file: in its header, in its middle and at its end.
        for at in [0, 40, length / 2, length - 1] {
            let mut byte = [0];
            file.seek(SeekFrom::Start(at.min(length - 1))).unwrap();
            file.read_exact(&mut byte).unwrap();
            file.seek(SeekFrom::Current(-1)).unwrap();
            file.write_all(&[byte[0] ^ 0x10]).unwrap();
        }
    });
}
