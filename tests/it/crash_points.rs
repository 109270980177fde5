//! Passes every crash point of object changes (those of upkeep: `upkeep_points`), one after the
//! other: the server ends itself there and starts again; then everything acknowledged must be
//! whole, and everything else must be old or new.
//!
//! The points are shared out to several stores, each on disks of its own. Each round starts a store
//! with the next point armed, checks what the last crash left, and tours through every kind of
//! change until the server has crashed. At the end everything is deleted, and nothing may be left.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::s3::{Answer, Client, Request};
use drystone_store::crash::{CommandKind, CommandPoint, CrashAt, Point};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::server::{self, Disks, eventually};
use crate::upkeep_points;

const STORES: usize = 4;
/// For points that are passed several times: the highest passing to crash at.
const NTH_VARIABLE: &str = "DRYSTONE_TEST_CRASH_NTH";
/// How long to wait for upkeep to pass its points before the server is started again.
const PATIENCE: Duration = Duration::from_secs(15);
const SIGABRT: i32 = 6;

/// Path under which the operator reads and sets quotas.
const QUOTA: &str = "/_admin/v1/quota";

const INLINE: usize = 3_000;
const SHARDED: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Object {
    seed: u64,
    size: usize,
    /// The value of its one tag.
    tag: Option<u64>,
}

impl Object {
    fn new(seed: u64, size: usize) -> Object {
        Object {
            seed,
            size,
            tag: None,
        }
    }

    fn body(self) -> Vec<u8> {
        let mut body = vec![0; self.size];
        StdRng::seed_from_u64(self.seed).fill_bytes(&mut body);
        body
    }
}

/// States that are allowed: one, or the old and the new one of a change without an answer.
#[derive(Clone, Debug)]
struct Allowed<T>(Vec<T>);

impl<T: Clone + PartialEq + std::fmt::Debug + Default> Default for Allowed<T> {
    fn default() -> Self {
        Allowed(vec![T::default()])
    }
}

impl<T: Clone + PartialEq + std::fmt::Debug> Allowed<T> {
    /// Checks what was found and makes it the only allowed state.
    #[track_caller]
    fn settle(&mut self, what: &str, found: T) {
        assert!(
            self.0.contains(&found),
            "{what} is {found:?}; allowed: {:?}",
            self.0
        );
        self.0 = vec![found];
    }
}

/// The state that the answers so far imply.
#[derive(Default)]
struct Expected {
    /// By path.
    objects: BTreeMap<String, Allowed<Option<Object>>>,
    /// Versions of `/kept/k`.
    versions: Allowed<usize>,
    /// The bucket `/passing`, if it is there.
    passing: Allowed<Option<Passing>>,
    /// An upload that was acknowledged, the path it is for, and whether its part was.
    upload: Option<(String, String, bool)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Passing {
    versioned: bool,
    tag: Option<u64>,
    /// The maximum number of objects, if there is a quota.
    quota: Option<u64>,
}

struct CrashStore {
    disks: Disks,
    expected: Expected,
    child: Option<Child>,
    client: Client,
    seeds: u64,
}

/// `Err`: the server has crashed.
type Alive = io::Result<()>;

fn put(
    path: &str,
    query: &[(&str, String)],
    body: &[u8],
) -> impl Fn(&Client) -> io::Result<Answer> {
    move |client| client.send("PUT", path, query, body)
}

impl CrashStore {
    fn new() -> CrashStore {
        CrashStore {
            disks: Disks::fresh(4),
            expected: Expected::default(),
            child: None,
            client: Client::new(0, "", ""),
            seeds: 0,
        }
    }

    fn seed(&mut self) -> u64 {
        self.seeds += 1;
        self.seeds
    }

    /// Starts the server and returns whether it became ready.
    fn start(&mut self, at: Option<CrashAt>) -> bool {
        let at = at.map(|at| at.to_string());
        let variables: Vec<_> = at
            .iter()
            .map(|at| ("DRYSTONE_CRASH_AT", at.as_str()))
            .collect();
        let (mut child, ready) = server::try_start(&self.disks, &variables);
        let Some(ready) = ready else {
            self.ended(&mut child);
            return false;
        };
        assert_eq!(ready["crash_at"].as_str(), at.as_deref());
        self.client = server::client(&ready);
        self.child = Some(child);
        true
    }

    /// Checks that the process ended itself and that nothing else ended it.
    fn ended(&self, child: &mut Child) {
        let status = server::wait(child);
        assert_eq!(status.signal(), Some(SIGABRT), "{status}\n{}", self.log());
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.disks.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Crashes at `at`, whenever in its life the server passes it.
    fn cut(&mut self, at: CrashAt) {
        if matches!(at.point, Point::Command(CommandKind::PutAccount, _)) {
            // Only the birth of a store passes this point.
            (self.disks, self.expected) = (Disks::fresh(4), Expected::default());
        }
        let reencodes = matches!(at.point, Point::Command(CommandKind::ReencodeData, _));
        if reencodes {
            self.write_undersized();
        }
        if !self.start(Some(at)) {
            return;
        }
        let lived = self.audit().and_then(|()| self.tour());
        if lived.is_ok() {
            // An undersized object would not survive it.
            if !reencodes {
                self.damage();
            }
            if !self.ends_by_itself(PATIENCE) {
                // Requests of this process may have delayed gc's work at the start.
                self.kill();
                if !self.start(Some(at)) {
                    return;
                }
                assert!(
                    self.ends_by_itself(server::PATIENCE),
                    "{at} was not reached"
                );
            }
        }
        let mut child = self.child.take().unwrap();
        self.ended(&mut child);
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            // Until the process has ended, it holds the disks.
            let _ = child.wait();
        }
    }

    /// Writes objects while one disk is missing and brings the disk back: the next start re-encodes
    /// them. The store is a fresh one, as all other shards must be there and earlier points may
    /// have removed some.
    fn write_undersized(&mut self) {
        (self.disks, self.expected) = (Disks::fresh(4), Expected::default());
        let (here, aside) = (self.disks.path(4), self.disks.folder().join("aside"));
        assert!(self.start(None), "{}", self.log());
        self.kill();
        std::fs::rename(&here, &aside).unwrap();
        assert!(self.start(None), "{}", self.log());
        self.audit().and_then(|()| self.tour()).unwrap();
        self.kill();
        std::fs::rename(&aside, &here).unwrap();
    }

    /// Gives upkeep work, so that it passes the points that no request passes.
    fn damage(&self) {
        for disk in [1, 2] {
            for file in self.disks.shard_files(disk) {
                // Heal or gc may have removed it before.
                let _ = std::fs::remove_file(file);
            }
        }
        for path in self.expected.objects.keys() {
            let _ = self.client.get(path);
        }
    }

    fn ends_by_itself(&mut self, patience: Duration) -> bool {
        let child = self.child.as_mut().unwrap();
        let start = Instant::now();
        while start.elapsed() < patience {
            if child.try_wait().unwrap().is_some() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn audit(&mut self) -> Alive {
        let mut found = BTreeMap::new();
        for (path, allowed) in &mut self.expected.objects {
            let object = look(&self.client, path, &allowed.0)?;
            allowed.settle(path, object);
            found.insert(path.clone(), object);
        }
        for bucket in ["tour", "kept"] {
            let query = [("list-type", "2".to_owned())];
            let page = self
                .client
                .send("GET", &format!("/{bucket}"), &query, b"")?;
            if page.status == 404 {
                // Its creation was interrupted.
                assert!(
                    found.values().all(Option::is_none),
                    "bucket {bucket} is gone"
                );
                continue;
            }
            let listed = page.expect(200).all("Key");
            let prefix = format!("/{bucket}/");
            let there = found.iter().filter(|(_, object)| object.is_some());
            let keys = there.filter_map(|(path, _)| path.strip_prefix(&prefix));
            assert_eq!(listed, keys.collect::<Vec<_>>(), "bucket {bucket}");
        }
        let query = [("versions", String::new())];
        let page = self.client.send("GET", "/kept", &query, b"")?;
        self.expected
            .versions
            .settle("versions", page.all("VersionId").len());
        self.audit_passing()?;
        self.audit_upload(&found)
    }

    fn audit_passing(&mut self) -> Alive {
        let ask = |query: &str| {
            self.client
                .send("GET", "/passing", &[(query, String::new())], b"")
        };
        let versioning = ask("versioning")?;
        let state = match versioning.status {
            404 => None,
            _ => {
                let versioned = versioning.expect(200).text().contains("Enabled");
                let tag = ask("tagging")?.all("Value").pop();
                let query = [("bucket", "passing".to_owned())];
                let quota = self.client.send("GET", QUOTA, &query, b"")?.expect(200);
                let quota: serde_json::Value = serde_json::from_slice(&quota.body).unwrap();
                Some(Passing {
                    versioned,
                    tag: tag.map(|tag| tag.parse().unwrap()),
                    quota: quota["quota"]["hard_objects"].as_u64(),
                })
            }
        };
        self.expected.passing.settle("bucket passing", state);
        Ok(())
    }

    /// Checks that an upload that was acknowledged and not ended is there, with its part.
    fn audit_upload(&self, found: &BTreeMap<String, Option<Object>>) -> Alive {
        let Some((id, path, has_part)) = &self.expected.upload else {
            return Ok(());
        };
        if found.get(path).is_some_and(Option::is_some) {
            return Ok(());
        }
        let query = [("uploadId", id.clone())];
        let parts = self.client.send("GET", path, &query, b"")?.expect(200);
        let count = parts.all("PartNumber").len();
        assert!(count <= 1 && (count == 1 || !has_part), "{count} parts");
        Ok(())
    }

    /// Requests a change of an object; fails the test if it is refused.
    fn change(
        &mut self,
        path: &str,
        next: Option<Object>,
        ask: impl Fn(&Client) -> io::Result<Answer>,
    ) -> io::Result<Answer> {
        let allowed = self.expected.objects.entry(path.to_owned()).or_default();
        allowed.0.push(next);
        let answer = ask(&self.client)?;
        assert!(answer.status < 300, "{path}: {}", answer.text());
        allowed.0 = vec![next];
        Ok(answer)
    }

    /// Makes every kind of change a client can request.
    fn tour(&mut self) -> Alive {
        self.client.put("/tour", b"")?;
        self.client.put("/kept", b"")?;
        let versioned = versioning_document();
        self.client
            .send("PUT", "/kept", &[("versioning", String::new())], &versioned)?
            .expect(200);
        for size in [INLINE, SHARDED, SHARDED] {
            let object = Object::new(self.seed(), size);
            self.change("/tour/a", Some(object), put("/tour/a", &[], &object.body()))?;
        }
        self.keep_a_version()?;
        self.copies()?;
        self.change("/tour/a", None, |client| {
            client.send("DELETE", "/tour/a", &[], b"")
        })?;
        self.uploads()?;
        self.a_passing_bucket()
    }

    fn keep_a_version(&mut self) -> Alive {
        let object = Object::new(self.seed(), SHARDED);
        let before = self.expected.versions.0[0];
        self.expected.versions.0.push(before + 1);
        self.change("/kept/k", Some(object), put("/kept/k", &[], &object.body()))?;
        self.expected.versions.0 = vec![before + 1];
        Ok(())
    }

    /// Copies by a link within the bucket and by bytes into the other, and sets a tag.
    fn copies(&mut self) -> Alive {
        let source = self.expected.objects["/tour/a"].0[0].unwrap();
        let from = [("x-amz-copy-source", "/tour/a")];
        for path in ["/tour/linked", "/kept/copied"] {
            let request = Request {
                method: "PUT",
                path,
                headers: &from,
                ..Request::default()
            };
            if path == "/kept/copied" {
                let before = self.expected.versions.0[0];
                self.expected.versions.0.push(before + 1);
            }
            self.change(path, Some(source), |client| client.call(&request))?;
            let now = *self.expected.versions.0.last().unwrap();
            self.expected.versions.0 = vec![now];
        }
        let tag = self.seed();
        let next = Object {
            tag: Some(tag),
            ..source
        };
        let document = tag_document(tag);
        let query = [("tagging", String::new())];
        let ask = put("/tour/linked", &query, &document);
        self.change("/tour/linked", Some(next), ask)?;
        Ok(())
    }

    /// Completes one upload and aborts another.
    fn uploads(&mut self) -> Alive {
        for (path, completes) in [("/tour/parts", true), ("/tour/dropped", false)] {
            if completes {
                self.change(path, None, |client| client.send("DELETE", path, &[], b""))?;
            }
            let query = [("uploads", String::new())];
            let id = self.client.send("POST", path, &query, b"")?.expect(200);
            let id = id.all("UploadId").pop().unwrap();
            self.expected.upload = Some((id.clone(), path.to_owned(), false));
            let object = Object::new(self.seed(), SHARDED);
            let query = [("partNumber", "1".to_owned()), ("uploadId", id.clone())];
            // The second part replaces the first.
            for body in [Object::new(self.seed(), SHARDED).body(), object.body()] {
                let part = self.client.send("PUT", path, &query, &body)?.expect(200);
                self.expected.upload = Some((id.clone(), path.to_owned(), true));
                let etag = part.etag().unwrap();
                if completes && body == object.body() {
                    let document = format!(
                        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>\
                         <ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
                    );
                    self.change(path, Some(object), |client| {
                        client.send("POST", path, &query[1..], document.as_bytes())
                    })?;
                    self.expected.upload = None;
                }
            }
            if !completes {
                self.expected.upload = None;
                self.client
                    .send("DELETE", path, &query[1..], b"")?
                    .expect(204);
            }
        }
        Ok(())
    }

    /// Creates a bucket, configures it and deletes it.
    fn a_passing_bucket(&mut self) -> Alive {
        let tag = self.seed();
        let (versioning, tagging) = (versioning_document(), tag_document(tag));
        let quota = format!("{{\"bucket\":\"passing\",\"hard_objects\":{tag}}}");
        let bare = Passing::default();
        let versioned = Passing {
            versioned: true,
            ..bare
        };
        let tagged = Passing {
            tag: Some(tag),
            ..versioned
        };
        let limited = Passing {
            quota: Some(tag),
            ..tagged
        };
        let steps: [(&str, &str, &str, &[u8], _); 5] = [
            ("PUT", "/passing", "", b"", Some(bare)),
            (
                "PUT",
                "/passing",
                "versioning",
                &versioning,
                Some(versioned),
            ),
            ("PUT", "/passing", "tagging", &tagging, Some(tagged)),
            ("POST", QUOTA, "", quota.as_bytes(), Some(limited)),
            ("DELETE", "/passing", "", b"", None),
        ];
        // An earlier crash left one.
        if self.expected.passing.0[0].is_some() {
            self.expected.passing.0.push(None);
            self.client
                .send("DELETE", "/passing", &[], b"")?
                .expect(204);
            self.expected.passing.0 = vec![None];
        }
        for (method, path, setting, body, next) in steps {
            self.expected.passing.0.push(next);
            let query = [(setting, String::new())];
            let query = &query[..usize::from(!setting.is_empty())];
            let answer = self.client.send(method, path, query, body)?;
            assert!(answer.status < 300, "{}", answer.text());
            self.expected.passing.0 = vec![next];
        }
        Ok(())
    }

    /// Deletes everything. What the next start leaves would be left forever.
    fn nothing_is_left(&mut self) {
        assert!(self.start(None), "{}", self.log());
        self.audit().unwrap();
        for path in self
            .expected
            .objects
            .keys()
            .filter(|path| path.starts_with("/tour"))
        {
            self.client
                .send("DELETE", path, &[], b"")
                .unwrap()
                .expect(204);
        }
        let query = [("versions", String::new())];
        let page = self.client.send("GET", "/kept", &query, b"").unwrap();
        for (key, version) in page.all("Key").iter().zip(page.all("VersionId")) {
            let query = [("versionId", version)];
            let path = format!("/kept/{key}");
            self.client
                .send("DELETE", &path, &query, b"")
                .unwrap()
                .expect(204);
        }
        let query = [("uploads", String::new())];
        let page = self.client.send("GET", "/tour", &query, b"").unwrap();
        for (key, id) in page.all("Key").iter().zip(page.all("UploadId")) {
            let (path, query) = (format!("/tour/{key}"), [("uploadId", id)]);
            self.client
                .send("DELETE", &path, &query, b"")
                .unwrap()
                .expect(204);
        }
        self.kill();
        assert!(self.start(None), "{}", self.log());
        let shards = || (1..=4).map(|disk| self.disks.shard_files(disk).len());
        eventually("no shard is left", || shards().sum::<usize>() == 0);
        self.kill();
    }
}

impl Drop for CrashStore {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns what is at the path; it must be one of the objects allowed, byte by byte.
fn look(client: &Client, path: &str, allowed: &[Option<Object>]) -> io::Result<Option<Object>> {
    let answer = client.get(path)?;
    if answer.status == 404 {
        return Ok(None);
    }
    let body = answer.expect(200).body;
    let tags = client.send("GET", path, &[("tagging", String::new())], b"")?;
    let tag = tags.expect(200).all("Value").pop();
    let tag = tag.map(|tag| tag.parse().unwrap());
    let whole = allowed
        .iter()
        .flatten()
        .find(|object| object.body() == body);
    let object = whole.unwrap_or_else(|| panic!("{path} has bytes that nobody wrote last"));
    Ok(Some(Object { tag, ..*object }))
}

fn versioning_document() -> Vec<u8> {
    b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>".to_vec()
}

fn tag_document(value: u64) -> Vec<u8> {
    format!("<Tagging><TagSet><Tag><Key>k</Key><Value>{value}</Value></Tag></TagSet></Tagging>")
        .into_bytes()
}

/// Lists each point once. Points that each disk passes are crashed at on more than one disk.
fn places() -> Vec<CrashAt> {
    let most = std::env::var(NTH_VARIABLE).ok();
    Point::all()
        .filter(|point| !upkeep_points::is_of_upkeep(*point))
        .flat_map(|point| {
            let nths: Vec<u32> = match (point, &most) {
                (Point::Command(_, CommandPoint::Proposing | CommandPoint::Answered), _) => vec![1],
                (_, Some(most)) => (1..=most.parse().unwrap()).collect(),
                (Point::Command(CommandKind::PutObject, CommandPoint::Logged), None) => vec![1, 3],
                _ => vec![1],
            };
            nths.into_iter().map(move |nth| CrashAt { point, nth })
        })
        .collect()
}

#[test]
fn f_01_every_crash_point_is_reached_and_leaves_old_or_new() {
    let places = places();
    thread::scope(|scope| {
        for number in 0..STORES {
            let own = places.iter().skip(number).step_by(STORES);
            scope.spawn(move || {
                let mut store = CrashStore::new();
                for at in own {
                    println!("store {number}: {at}");
                    store.cut(*at);
                }
                store.nothing_is_left();
            });
        }
    });
}
