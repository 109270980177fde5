//! Clients at work: a reproducible choice of operations by seed, each recorded with both ends.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::history::{Entry, Event, History, Kind, Phase};
use crate::subject::{Ask, Reply, Subject};
use crate::value::{Value, etag_of_parts};

pub const PLAIN: &str = "plain";
pub const VERSIONED: &str = "versioned";
/// The object that copies are made of; written once and never changed.
pub const SOURCE: &str = "source";
/// The path of `SOURCE`, as a copy names it.
pub const SOURCE_PATH: &str = "/plain/source";
const SOURCE_LEN: usize = 20_000;

const HOT_KEYS: u32 = 8;
const COLD_KEYS: u32 = 80;
const HOT_PERCENT: u32 = 60;
const COLD_PERCENT: u32 = 20;
/// The limit of inline values and a MiB, and their neighbours.
const SIZES: [usize; 9] = [
    1000, 8191, 8192, 8193, 30_000, 100_000, 1_048_575, 1_048_576, 1_048_577,
];
const PART_MIN: usize = 5 << 20;
/// How long a client waits before it tries a server again that does not answer.
const PAUSE: Duration = Duration::from_millis(20);
/// The number of unanswered requests after which the server counts as stopped.
const SILENT_MAX: u32 = 3;
const AUDITOR: u64 = 1 << 40;

/// The values of a run, by their entity tags.
#[derive(Default)]
pub struct Known(Mutex<HashMap<String, Vec<Value>>>);

impl Known {
    fn add(&self, etag: &str, parts: Vec<Value>) {
        let mut known = self.0.lock().unwrap();
        known.insert(etag.to_owned(), parts);
    }

    /// Returns why bytes that came under this tag are wrong, if they are.
    fn wrong(&self, etag: &str, range: Option<(usize, usize)>, body: &[u8]) -> Option<String> {
        let known = self.0.lock().unwrap();
        let parts = known.get(etag)?;
        let mut whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes()).collect();
        if let Some((first, last)) = range {
            let end = whole.len().min(last + 1);
            whole = whole[first.min(end)..end].to_vec();
        }
        (whole != body).then(|| {
            let (is, should) = (Value::describe(body), Value::describe(&whole));
            format!("wrong bytes under {etag}: {is}; should be {should}")
        })
    }
}

/// The state that all clients of a run share.
pub struct Run<'a> {
    pub id: u64,
    pub seed: u64,
    /// The maximum size of a value or part.
    pub size_max: usize,
    pub history: &'a History,
    pub known: &'a Known,
}

/// One client, one operation after the other.
pub struct Worker<'a> {
    run: &'a Run<'a>,
    subject: &'a dyn Subject,
    round: u64,
    number: u64,
    /// Changes with every missing answer: that request may still be under way.
    process: u64,
    values: u64,
    rng: StdRng,
    seen: HashMap<(String, String), String>,
    versions: Vec<(String, String)>,
}

impl<'a> Worker<'a> {
    pub fn new(run: &'a Run<'a>, subject: &'a dyn Subject, round: u64, number: u64) -> Worker<'a> {
        let seed = run.seed ^ (round << 20) ^ (number << 8);
        Worker {
            run,
            subject,
            round,
            number,
            process: 0,
            values: 0,
            rng: StdRng::seed_from_u64(seed),
            seen: HashMap::new(),
            versions: Vec::new(),
        }
    }

    /// Creates a worker that only reads; its random choices don't matter.
    pub fn auditor(run: &'a Run<'a>, subject: &'a dyn Subject, round: u64) -> Worker<'a> {
        Worker::new(run, subject, round, AUDITOR)
    }

    fn value(&mut self, len: usize) -> Value {
        self.values += 1;
        let id = self.round << 32 | (self.number & 0xff) << 24 | self.values;
        let run = self.run.id;
        let value = Value { run, id, len };
        self.run.known.add(&value.etag(), vec![value]);
        value
    }

    fn size(&mut self) -> usize {
        let size = match self.rng.random_range(0..100) {
            0..4 => 0,
            4..8 => 1,
            8..90 => SIZES[self.rng.random_range(0..6)],
            _ => SIZES[self.rng.random_range(6..SIZES.len())],
        };
        size.min(self.run.size_max)
    }

    fn place(&mut self) -> (String, String) {
        let bucket = [PLAIN, VERSIONED][self.rng.random_range(0..2)];
        let kind = self.rng.random_range(0..100);
        let key = if kind < HOT_PERCENT {
            format!("r{}/hot{}", self.round, self.rng.random_range(0..HOT_KEYS))
        } else if kind < HOT_PERCENT + COLD_PERCENT {
            format!("cold{}", self.rng.random_range(0..COLD_KEYS))
        } else {
            let number = self.rng.random_range(0..1_000_000);
            format!("r{}/fresh{}-{number}", self.round, self.number)
        };
        (bucket.to_owned(), key)
    }

    /// Works until it is stopped, or until nobody answers any more.
    pub fn work(&mut self, stop: &AtomicBool) {
        let mut silent = 0;
        while !stop.load(Ordering::Relaxed) && silent < SILENT_MAX {
            silent = match self.step() {
                true => 0,
                false => silent + 1,
            };
            if silent > 0 {
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Does one operation; returns false if nobody answered.
    pub fn step(&mut self) -> bool {
        let (bucket, key) = self.place();
        let last = self.seen.get(&(bucket.clone(), key.clone())).cloned();
        match self.rng.random_range(0..100) {
            0..25 => self.put(&bucket, &key, None, false),
            25..45 => self.get(&bucket, &key, None, None),
            45..50 => {
                let first = self.rng.random_range(0..9000);
                let range = (first, first + self.rng.random_range(0..9000));
                self.get(&bucket, &key, None, Some(range))
            }
            50..55 => self.head(&bucket, &key),
            55..61 => self.delete(&bucket, &key, None),
            61..63 => self.delete_version(),
            63..70 => self.put(&bucket, &key, None, true),
            70..77 => self.put(&bucket, &key, last, false),
            77..79 => self.delete(&bucket, &key, last),
            79..87 => self.multipart(&bucket, &key),
            87..90 => self.copy(&bucket, &key),
            90..95 => self.list(PLAIN, &format!("r{}/hot", self.round), 5),
            95..98 => self.list_versions(&format!("r{}/hot", self.round), 9),
            _ => self.delete_many(&bucket),
        }
    }

    /// Sends a request, records both ends, and returns the answer if there was one.
    fn ask(&mut self, event: &Event, ask: &Ask) -> Option<Reply> {
        let event = self.run.history.invoke(self.number + self.process, event);
        let answer = self.subject.ask(&event.bucket, &event.key, ask);
        let (mut event, reply) = self.finish(event, ask, answer);
        if event.phase == Phase::Info && self.number == AUDITOR {
            // No fault is active any more: every acknowledged object has to be readable.
            event.wrong = Some(format!("unreadable: {:?} {:?}", event.status, event.note));
        }
        if event.phase == Phase::Info {
            self.process += 1 << 16;
        }
        self.run.history.end(event);
        reply
    }

    fn finish(
        &mut self,
        mut event: Event,
        ask: &Ask,
        answer: io::Result<Reply>,
    ) -> (Event, Option<Reply>) {
        let reply = match answer {
            Ok(reply) => reply,
            Err(error) => {
                // No server listened: surely without effect.
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                event.phase = [Phase::Info, Phase::Fail][usize::from(refused)];
                event.note = Some(error.to_string());
                return (event, None);
            }
        };
        event.phase = phase(&reply);
        event.status = Some(reply.status);
        event.version = reply.version.clone();
        if event.phase != Phase::Ok {
            event.note = Some(reply.code.clone());
            return (event, Some(reply));
        }
        event.etag = reply.etag.clone();
        if matches!(event.kind, Kind::List | Kind::ListVersions) {
            event.entries = Some(reply.entries.clone());
        }
        if let (Ask::Get { range, .. }, Some(etag)) = (ask, &reply.etag) {
            event.wrong = self.run.known.wrong(etag, *range, &reply.body);
        }
        if let Some(etag) = &reply.etag {
            let place = (event.bucket.clone(), event.key.clone());
            self.seen.insert(place, etag.clone());
        }
        (event, Some(reply))
    }

    pub fn put(
        &mut self,
        bucket: &str,
        key: &str,
        if_match: Option<String>,
        if_none_match: bool,
    ) -> bool {
        let len = self.size();
        let value = self.value(len);
        let mut event = Event::new(Kind::Write, bucket, key);
        event.writes = Some(value.etag());
        event.if_match = if_match.clone();
        event.if_none_match = if_none_match;
        let ask = Ask::Put {
            value,
            if_match,
            if_none_match,
        };
        let reply = self.ask(&event, &ask);
        if let Some(Reply {
            version: Some(id),
            status: 200,
            ..
        }) = &reply
        {
            self.versions.push((key.to_owned(), id.clone()));
        }
        reply.is_some()
    }

    /// Writes the source of all copies; returns false if it was not acknowledged.
    pub fn put_source(&mut self) -> bool {
        let value = Value {
            run: self.run.id,
            id: 0,
            len: SOURCE_LEN,
        };
        self.run.known.add(&value.etag(), vec![value]);
        let mut event = Event::new(Kind::Write, PLAIN, SOURCE);
        event.writes = Some(value.etag());
        let ask = Ask::Put {
            value,
            if_match: None,
            if_none_match: false,
        };
        self.ask(&event, &ask)
            .is_some_and(|reply| reply.status == 200)
    }

    fn copy(&mut self, bucket: &str, key: &str) -> bool {
        let source = Value {
            run: self.run.id,
            id: 0,
            len: SOURCE_LEN,
        };
        let mut event = Event::new(Kind::Write, bucket, key);
        event.writes = Some(source.etag());
        let ask = Ask::Copy {
            source: SOURCE_PATH.to_owned(),
        };
        self.ask(&event, &ask).is_some()
    }

    pub fn get(
        &mut self,
        bucket: &str,
        key: &str,
        version: Option<String>,
        range: Option<(usize, usize)>,
    ) -> bool {
        let mut event = Event::new(Kind::Get, bucket, key);
        event.version_in = version.clone();
        self.ask(&event, &Ask::Get { version, range }).is_some()
    }

    fn head(&mut self, bucket: &str, key: &str) -> bool {
        self.ask(&Event::new(Kind::Head, bucket, key), &Ask::Head)
            .is_some()
    }

    fn delete(&mut self, bucket: &str, key: &str, if_match: Option<String>) -> bool {
        let mut event = Event::new(Kind::Delete, bucket, key);
        event.if_match = if_match.clone();
        let ask = Ask::Delete {
            version: None,
            if_match,
        };
        self.ask(&event, &ask).is_some()
    }

    fn delete_version(&mut self) -> bool {
        let Some((key, id)) = self.versions.pop() else {
            return true;
        };
        let mut event = Event::new(Kind::DeleteVersion, VERSIONED, &key);
        event.version_in = Some(id.clone());
        let ask = Ask::Delete {
            version: Some(id),
            if_match: None,
        };
        self.ask(&event, &ask).is_some()
    }

    pub fn list(&mut self, bucket: &str, prefix: &str, page: usize) -> bool {
        let event = Event::new(Kind::List, bucket, prefix);
        self.ask(&event, &Ask::List { page }).is_some()
    }

    fn list_versions(&mut self, prefix: &str, page: usize) -> bool {
        let event = Event::new(Kind::ListVersions, VERSIONED, prefix);
        self.ask(&event, &Ask::ListVersions { page }).is_some()
    }

    /// Reads the list of all versions.
    pub fn all_versions(&mut self) -> Option<Vec<Entry>> {
        let event = Event::new(Kind::ListVersions, VERSIONED, "");
        let reply = self.ask(&event, &Ask::ListVersions { page: 1000 })?;
        (reply.status == 200).then_some(reply.entries)
    }

    /// Sends one request and records an operation for each of its keys.
    fn delete_many(&mut self, bucket: &str) -> bool {
        let mut keys: Vec<String> = (0..3).map(|_| self.place().1).collect();
        keys.sort();
        keys.dedup();
        let client = self.number + self.process;
        let events: Vec<Event> = keys
            .iter()
            .map(|key| {
                let event = Event::new(Kind::Delete, bucket, key);
                self.run.history.invoke(client, &event)
            })
            .collect();
        let answer = self.subject.ask(bucket, "", &Ask::DeleteMany { keys });
        let alive = answer.is_ok();
        let kind = answer.as_ref().err().map(io::Error::kind);
        let refused = kind == Some(io::ErrorKind::ConnectionRefused);
        for mut event in events {
            let found = answer.as_ref().ok().filter(|reply| reply.status == 200);
            let found = found.and_then(|reply| reply.entries.iter().find(|e| e.key == event.key));
            event.phase = match found {
                Some(entry) => {
                    event.version = entry.version.clone();
                    Phase::Ok
                }
                None if refused => Phase::Fail,
                None => Phase::Info,
            };
            event.status = answer.as_ref().ok().map(|reply| reply.status);
            self.run.history.end(event);
        }
        alive
    }

    /// Uploads parts and completes. Parts belong to no key until the completion, which is the
    /// write.
    fn multipart(&mut self, bucket: &str, key: &str) -> bool {
        let subject = self.subject;
        let answer = subject.ask(bucket, key, &Ask::CreateUpload);
        let Some(upload) = answer.ok().and_then(|reply| reply.upload) else {
            return false;
        };
        let mut sizes = vec![self.size().max(1)];
        if self.rng.random_range(0..20) == 0 {
            sizes.insert(0, PART_MIN.min(self.run.size_max));
        }
        let parts: Vec<Value> = sizes.into_iter().map(|size| self.value(size)).collect();
        for (value, number) in parts.iter().zip(1..) {
            let ask = Ask::Part {
                upload: upload.clone(),
                number,
                value: *value,
            };
            let done = subject.ask(bucket, key, &ask);
            if !done.is_ok_and(|reply| reply.status == 200) {
                return false;
            }
        }
        if self.rng.random_range(0..4) == 0 {
            return subject.ask(bucket, key, &Ask::Abort { upload }).is_ok();
        }
        let etag = etag_of_parts(&parts);
        self.run.known.add(&etag, parts.clone());
        let ask = Ask::Complete {
            upload,
            parts: parts.iter().map(|part| part.etag()).collect(),
            if_none_match: self.rng.random_range(0..4) == 0,
        };
        let mut event = Event::new(Kind::Write, bucket, key);
        event.writes = Some(etag);
        event.if_none_match = matches!(
            ask,
            Ask::Complete {
                if_none_match: true,
                ..
            }
        );
        let done = self.ask(&event, &ask);
        // A client that missed the answer repeats its request.
        if done.as_ref().is_some_and(|reply| reply.status == 200)
            && self.rng.random_range(0..2) == 0
        {
            let mut event = Event::new(Kind::Again, bucket, key);
            event.note = Some("completed before".to_owned());
            self.put(bucket, key, None, false);
            self.ask(&event, &ask);
        }
        done.is_some()
    }
}

fn phase(reply: &Reply) -> Phase {
    match reply.status {
        200..300 => Phase::Ok,
        400 | 403 | 404 | 405 | 411 | 412 | 416 => Phase::Fail,
        409 if reply.code == "ConditionalRequestConflict" => Phase::Fail,
        _ => Phase::Info,
    }
}
