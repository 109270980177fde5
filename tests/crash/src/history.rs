//! The requests of a run, their times and outcomes: one JSON line for each event, appended to a
//! file and kept in memory for the checker.
//!
//! An operation is `invoke` and then one of `ok` (answered with success, read to its end), `fail`
//! (surely without effect) and `info` (may have taken effect, or may still do so). A server's
//! error, a lost connection and a timeout are `info`, never `fail`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Invoke,
    Ok,
    Fail,
    Info,
    /// A fault was put in place.
    Installed,
    /// A fault is not possible here.
    Skipped,
    /// From here on no earlier request can take effect any more.
    Settled,
    /// A window ends: the events that follow are judged by themselves, from the state at this
    /// point.
    WindowEnds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// PUT, copy or completion: a new current version.
    Write,
    /// A completion repeated after it was answered: changes nothing.
    Again,
    Get,
    Head,
    Delete,
    DeleteVersion,
    List,
    ListVersions,
    /// A fault of the server.
    Nemesis,
}

/// A key, or a version of one, in a listing or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub key: String,
    /// `None`: a delete marker.
    pub etag: Option<String>,
    pub version: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub client: u64,
    pub op: u64,
    pub phase: Phase,
    pub time_ns: u64,
    pub kind: Kind,
    pub bucket: String,
    /// The key, or the prefix of a listing.
    pub key: String,
    /// The entity tag of the bytes that a write brings.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub writes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub if_match: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub if_none_match: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entries: Option<Vec<Entry>>,
    /// The reason why the answer is wrong whatever else happened: its bytes were never written.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wrong: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

impl Event {
    pub fn new(kind: Kind, bucket: &str, key: &str) -> Event {
        Event {
            client: 0,
            op: 0,
            phase: Phase::Invoke,
            time_ns: 0,
            kind,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            writes: None,
            if_match: None,
            if_none_match: false,
            version_in: None,
            status: None,
            etag: None,
            version: None,
            entries: None,
            wrong: None,
            note: None,
        }
    }
}

/// The recorder of one run.
pub struct History {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    events: Vec<Event>,
    ops: u64,
}

impl History {
    pub fn create(path: &Path) -> io::Result<History> {
        Ok(History {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                file: File::create(path)?,
                events: Vec::new(),
                ops: 0,
            }),
        })
    }

    fn add(&self, mut event: Event) -> u64 {
        let mut inner = self.inner.lock().unwrap();
        if event.phase == Phase::Invoke {
            inner.ops += 1;
            event.op = inner.ops;
        }
        event.time_ns = self.began.elapsed().as_nanos() as u64;
        let op = event.op;
        let mut line = serde_json::to_string(&event).unwrap();
        line.push('\n');
        inner.file.write_all(line.as_bytes()).unwrap();
        inner.events.push(event);
        op
    }

    /// Begins an operation; the event comes back for its end.
    pub fn invoke(&self, client: u64, event: &Event) -> Event {
        let mut event = event.clone();
        event.client = client;
        event.phase = Phase::Invoke;
        event.op = self.add(event.clone());
        event
    }

    pub fn end(&self, event: Event) {
        assert_ne!(event.phase, Phase::Invoke, "an end says what came of it");
        self.add(event);
    }

    pub fn nemesis(&self, phase: Phase, note: &str) {
        let mut event = Event::new(Kind::Nemesis, "", "");
        event.phase = phase;
        event.note = Some(note.to_owned());
        self.add(event);
    }

    /// Returns the number of operations begun so far.
    pub fn ops(&self) -> u64 {
        let inner = self.inner.lock().unwrap();
        inner.ops
    }

    /// Returns the events since the last call.
    pub fn take(&self) -> Vec<Event> {
        let mut inner = self.inner.lock().unwrap();
        // The recorder's own machine keeps running; the sync serves those who read the file later.
        let _ = inner.file.sync_data();
        std::mem::take(&mut inner.events)
    }
}
