//! Servers on small file systems of their own. Mounting them needs root; elsewhere their tests are
//! skipped by name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::s3::{Answer, Client};
use crate::server::{Disks, Server, skipped};

/// The size of each disk; half of it is reserve.
const DISK_BYTES: u64 = 192 << 20;
pub const LARGE: usize = 8 << 20;

pub fn run(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// A server on ext4 file systems of its own, unmounted with it.
pub struct Small {
    /// `None` only during `drop`.
    server: Option<Server>,
    pub acknowledged: BTreeMap<String, Vec<u8>>,
}

impl Small {
    /// Returns `None`, and prints a line about it, where file systems can't be mounted.
    pub fn new(disks: usize, mkfs: &[&str], what: &str) -> Option<Small> {
        let disks = Disks::fresh(disks);
        for number in 1..=disks.count() {
            let path = disks.path(number);
            fs::create_dir(&path).unwrap();
            let image = make_image(&disks, number, mkfs);
            if !image.is_some_and(|image| mount(&image, &path)) {
                unmount(&disks);
                skipped(&format!("{what}: file systems can't be mounted here"));
                return None;
            }
        }
        let server = Server::on(disks);
        server.client().put("/kept", b"").unwrap().expect(200);
        Some(Small {
            server: Some(server),
            acknowledged: BTreeMap::new(),
        })
    }

    pub fn server(&mut self) -> &mut Server {
        self.server.as_mut().unwrap()
    }

    pub fn client(&mut self) -> Client {
        self.server().client()
    }

    pub fn put(&mut self, key: &str, len: usize) -> Answer {
        let body = vec![self.acknowledged.len() as u8; len];
        let answer = self.client().put(&format!("/kept/{key}"), &body).unwrap();
        if answer.status == 200 {
            self.acknowledged.insert(key.to_owned(), body);
        }
        answer
    }

    pub fn delete(&mut self, key: &str) {
        let path = format!("/kept/{key}");
        let deleted = self.client().send("DELETE", &path, &[], b"");
        deleted.unwrap().expect(204);
        self.acknowledged.remove(key);
    }

    /// Puts objects until one is refused because the disk is full.
    pub fn fill(&mut self, len: usize) {
        for n in 0.. {
            let answer = self.put(&format!("fill{len}/{n}"), len);
            if answer.status != 200 {
                return refused(&answer);
            }
        }
    }

    /// Checks that exactly the acknowledged objects are listed and readable.
    pub fn check(&mut self) {
        let client = self.client();
        let keys: Vec<String> = self.acknowledged.keys().cloned().collect();
        assert_eq!(client.list("kept"), keys);
        for (key, body) in &self.acknowledged {
            let answer = client.get(&format!("/kept/{key}")).unwrap().expect(200);
            assert!(answer.body == *body, "{key} differs");
        }
    }

    /// Fills a disk with a file beside the store's until `leave` bytes are free.
    pub fn ballast(&mut self, disk: usize, leave: u64) {
        let path = self.server().disks.path(disk);
        let mut file = File::create(path.join("ballast")).unwrap();
        let block = vec![7; 1 << 20];
        while free(&path) > leave && file.write_all(&block).is_ok() {
            file.sync_all().unwrap();
        }
        // Writes to the last byte.
        while leave == 0 && file.write_all(&[7; 4096]).is_ok() {}
    }

    /// Mounts a disk afresh, for a server that is stopped.
    pub fn mount_again(&mut self, disk: usize) {
        let disks = &self.server().disks;
        let (path, image) = (disks.path(disk), disks.folder().join(format!("{disk}.img")));
        assert!(run("umount", &[path.to_str().unwrap()]));
        assert!(mount(&image, &path));
    }

    /// Unmounts all disks of a server that is stopped; their mount points stay.
    pub fn unmount_all(&mut self) {
        let disks = &self.server().disks;
        for disk in 1..=disks.count() {
            assert!(run("umount", &[disks.path(disk).to_str().unwrap()]));
        }
    }

    pub fn mount_all(&mut self) {
        let disks = &self.server().disks;
        for disk in 1..=disks.count() {
            let image = disks.folder().join(format!("{disk}.img"));
            assert!(mount(&image, &disks.path(disk)));
        }
    }

    /// Takes a disk away under a server that may run, as a cable does. Its mount point stays.
    pub fn take_away(&mut self, disk: usize) {
        let path = self.server().disks.path(disk);
        assert!(run("umount", &["-l", path.to_str().unwrap()]));
    }

    /// Mounts a new, empty disk in the place of one that was taken away.
    pub fn put_new(&mut self, disk: usize) {
        let disks = &self.server().disks;
        let image = disks.folder().join(format!("{disk}.img"));
        fs::remove_file(image).unwrap();
        let image = make_image(disks, disk, &[]).expect("it was made before");
        assert!(mount(&image, &disks.path(disk)));
    }

    pub fn drop_ballast(&mut self, disk: usize) {
        fs::remove_file(self.server().disks.path(disk).join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
            unmount(&server.disks);
        }
    }
}

/// Makes the image of an empty file system; `None` where that is not possible.
fn make_image(disks: &Disks, number: usize, options: &[&str]) -> Option<PathBuf> {
    let image = disks.folder().join(format!("{number}.img"));
    File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
    let options = [options, &["-q", "-m", "0", image.to_str().unwrap()]].concat();
    run("mkfs.ext4", &options).then_some(image)
}

fn mount(image: &Path, path: &Path) -> bool {
    let (image, path) = (image.to_str().unwrap(), path.to_str().unwrap());
    run("mount", &["-o", "loop,errors=remount-ro", image, path])
}

fn unmount(disks: &Disks) {
    for number in 1..=disks.count() {
        run("umount", &["-l", disks.path(number).to_str().unwrap()]);
    }
}

fn free(path: &Path) -> u64 {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(path)
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

#[track_caller]
pub fn refused(answer: &Answer) {
    let told = answer.text();
    assert_eq!(answer.status, 503, "{told}");
    assert!(told.contains("<Code>ServiceUnavailable</Code>"), "{told}");
    assert!(told.contains("The disks are full."), "{told}");
}
