//! A toy store with at most one fault planted in it, which the examiner has to find.
//!
//! Without a fault it keeps every promise. Each fault occurs only now and then, like real ones.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use md5::{Digest as _, Md5};

use crate::history::Entry;
use crate::subject::{Ask, Reply, Subject};
use crate::workload::VERSIONED;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    StaleRead,
    LostWrite,
    AckBeforeCommit,
    DirtyRead,
    ResurrectedDelete,
    CasTimeOfCheck,
    ListOmission,
    TruncatedBody,
    SwappedBytes,
    VersionOrder,
    LateWrite,
    DoubleComplete,
}

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::StaleRead,
        Fault::LostWrite,
        Fault::AckBeforeCommit,
        Fault::DirtyRead,
        Fault::ResurrectedDelete,
        Fault::CasTimeOfCheck,
        Fault::ListOmission,
        Fault::TruncatedBody,
        Fault::SwappedBytes,
        Fault::VersionOrder,
        Fault::LateWrite,
        Fault::DoubleComplete,
    ];
}

/// A fault occurs at every `EVERY`th opportunity.
const EVERY: u64 = 7;
/// How long an operation waits before and after its effect, so that operations overlap.
const PAUSE: Duration = Duration::from_micros(300);

type Place = (String, String);
type Bytes = Vec<u8>;

#[derive(Clone)]
struct Version {
    id: String,
    /// Tag and bytes; `None`: a delete marker.
    object: Option<(String, Bytes)>,
}

#[derive(Clone)]
struct Upload {
    parts: BTreeMap<usize, Bytes>,
    completed: Option<String>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<Place, Vec<Version>>,
    uploads: BTreeMap<String, Upload>,
    counter: u64,
    chances: u64,
    /// The state of a follower that lags.
    old: BTreeMap<Place, Vec<Version>>,
    /// Writes that are carried out later.
    late: Vec<(Place, Bytes, String)>,
}

pub struct Toy {
    fault: Option<Fault>,
    state: Mutex<State>,
}

fn tag(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

fn refused(status: u16) -> Reply {
    Reply {
        status,
        ..Reply::default()
    }
}

impl State {
    fn next(&mut self) -> String {
        self.counter += 1;
        format!("{:016}", self.counter)
    }

    fn current<'a>(keys: &'a BTreeMap<Place, Vec<Version>>, place: &Place) -> Option<&'a Version> {
        let versions = keys.get(place)?;
        versions.last().filter(|version| version.object.is_some())
    }

    fn write(&mut self, place: &Place, object: Option<(String, Bytes)>) -> Option<String> {
        let id = self.next();
        let versions = self.keys.entry(place.clone()).or_default();
        let keeps = place.0 == VERSIONED;
        if !keeps {
            versions.clear();
        }
        if keeps || object.is_some() {
            versions.push(Version {
                id: id.clone(),
                object,
            });
        }
        keeps.then_some(id)
    }

    fn holds(&self, place: &Place, if_match: Option<&String>, if_none_match: bool) -> Option<u16> {
        let current = State::current(&self.keys, place);
        let tag = current
            .and_then(|version| version.object.as_ref())
            .map(|object| &object.0);
        match if_match {
            Some(_) if tag.is_none() => Some(404),
            Some(wanted) if tag != Some(wanted) => Some(412),
            _ if if_none_match && tag.is_some() => Some(412),
            _ => None,
        }
    }
}

impl Toy {
    pub fn new(fault: Option<Fault>) -> Toy {
        Toy {
            fault,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns whether `fault` occurs now.
    fn strikes(&self, state: &mut State, fault: Fault) -> bool {
        if self.fault != Some(fault) {
            return false;
        }
        state.chances += 1;
        state.chances.is_multiple_of(EVERY)
    }

    /// Carries out the postponed writes.
    pub fn carry_out_late(&self) {
        let mut state = self.lock();
        for (place, bytes, tag) in std::mem::take(&mut state.late) {
            state.write(&place, Some((tag, bytes)));
        }
    }

    fn put(
        &self,
        place: &Place,
        bytes: Bytes,
        etag: String,
        if_match: Option<&String>,
        if_none_match: bool,
    ) -> io::Result<Reply> {
        let mut state = self.lock();
        if let Some(status) = state.holds(place, if_match, if_none_match) {
            return Ok(refused(status));
        }
        let conditional = if_none_match || if_match.is_some();
        if conditional && self.fault == Some(Fault::CasTimeOfCheck) {
            drop(state);
            thread::sleep(20 * PAUSE);
            state = self.lock();
        }
        if self.strikes(&mut state, Fault::LateWrite) {
            state.late.push((place.clone(), bytes, etag));
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut reply = Reply {
            status: 200,
            etag: Some(etag.clone()),
            ..Reply::default()
        };
        if self.strikes(&mut state, Fault::LostWrite) {
            return Ok(reply);
        }
        if self.strikes(&mut state, Fault::AckBeforeCommit) {
            state.late.push((place.clone(), bytes, etag));
            return Ok(reply);
        }
        let before = state.keys.get(place).cloned().unwrap_or_default();
        reply.version = state.write(place, Some((etag, bytes)));
        if self.strikes(&mut state, Fault::DirtyRead) {
            drop(state);
            thread::sleep(20 * PAUSE);
            self.lock().keys.insert(place.clone(), before);
            return Ok(refused(403));
        }
        Ok(reply)
    }

    fn get(&self, place: &Place, version: Option<&String>, range: Option<(usize, usize)>) -> Reply {
        let mut state = self.lock();
        let stale = self.strikes(&mut state, Fault::StaleRead);
        let keys = if stale { &state.old } else { &state.keys };
        let found = match version {
            Some(id) => {
                let versions = keys.get(place);
                versions.and_then(|versions| versions.iter().find(|version| version.id == *id))
            }
            None => State::current(keys, place),
        };
        let Some(Version {
            id,
            object: Some((tag, bytes)),
        }) = found.cloned()
        else {
            return refused(404);
        };
        let mut body = bytes;
        if let Some((first, last)) = range {
            if first >= body.len() {
                return refused(416);
            }
            body = body[first..body.len().min(last + 1)].to_vec();
        }
        if body.len() > 1 && self.strikes(&mut state, Fault::TruncatedBody) {
            body.truncate(body.len() / 2);
        }
        if body.len() > 200 && self.strikes(&mut state, Fault::SwappedBytes) {
            body.rotate_left(64);
        }
        Reply {
            status: 200,
            etag: Some(tag),
            version: (place.0 == VERSIONED).then_some(id),
            body,
            ..Reply::default()
        }
    }

    fn delete(&self, place: &Place, if_match: Option<&String>) -> Reply {
        let mut state = self.lock();
        if let Some(status) = state.holds(place, if_match, false) {
            return refused(status);
        }
        let before = State::current(&state.keys, place).cloned();
        let version = state.write(place, None);
        if let Some(Version {
            object: Some((tag, bytes)),
            ..
        }) = before
            && self.strikes(&mut state, Fault::ResurrectedDelete)
        {
            state.late.push((place.clone(), bytes, tag));
        }
        Reply {
            status: 204,
            version,
            ..Reply::default()
        }
    }

    fn list(&self, bucket: &str, prefix: &str) -> Reply {
        let mut state = self.lock();
        let own = state.keys.keys();
        let places: Vec<Place> = own
            .filter(|place| place.0 == bucket && place.1.starts_with(prefix))
            .cloned()
            .collect();
        let mut entries: Vec<Entry> = places
            .into_iter()
            .filter_map(|place| {
                let object = State::current(&state.keys, &place)?.object.clone()?;
                Some(Entry {
                    key: place.1,
                    etag: Some(object.0),
                    version: None,
                })
            })
            .collect();
        if self.strikes(&mut state, Fault::ListOmission) && !entries.is_empty() {
            entries.remove(entries.len() / 2);
        }
        Reply {
            status: 200,
            entries,
            ..Reply::default()
        }
    }

    fn list_versions(&self, bucket: &str, prefix: &str) -> Reply {
        let mut state = self.lock();
        let flip = self.strikes(&mut state, Fault::VersionOrder);
        let own = state.keys.iter();
        let own = own.filter(|(place, _)| place.0 == bucket && place.1.starts_with(prefix));
        let mut entries = Vec::new();
        for (place, versions) in own {
            let mut versions: Vec<&Version> = versions.iter().rev().collect();
            if flip && versions.len() > 1 {
                versions.swap(0, 1);
            }
            entries.extend(versions.into_iter().map(|version| Entry {
                key: place.1.clone(),
                etag: version.object.as_ref().map(|object| object.0.clone()),
                version: Some(version.id.clone()),
            }));
        }
        Reply {
            status: 200,
            entries,
            ..Reply::default()
        }
    }

    fn complete(&self, place: &Place, id: &str, if_none_match: bool) -> io::Result<Reply> {
        let upload = self.lock().uploads.get(id).cloned();
        let Some(upload) = upload else {
            return Ok(refused(404));
        };
        if let Some(etag) = &upload.completed
            && self.fault != Some(Fault::DoubleComplete)
        {
            return Ok(Reply {
                status: 200,
                etag: Some(etag.clone()),
                ..Reply::default()
            });
        }
        let sums: Bytes = upload.parts.values().flat_map(Md5::digest).collect();
        let etag = format!("{}-{}", tag(&sums), upload.parts.len());
        let bytes = upload.parts.into_values().flatten().collect();
        let reply = self.put(place, bytes, etag.clone(), None, if_none_match)?;
        if reply.status == 200
            && let Some(upload) = self.lock().uploads.get_mut(id)
        {
            upload.completed = Some(etag);
        }
        Ok(reply)
    }

    fn answer(&self, place: &Place, ask: &Ask) -> io::Result<Reply> {
        let ok = |status| Reply {
            status,
            ..Reply::default()
        };
        Ok(match ask {
            Ask::Put {
                value,
                if_match,
                if_none_match,
            } => {
                let bytes = value.bytes();
                let etag = tag(&bytes);
                return self.put(place, bytes, etag, if_match.as_ref(), *if_none_match);
            }
            Ask::Copy { source } => {
                let mut names = source
                    .trim_start_matches('/')
                    .splitn(2, '/')
                    .map(str::to_owned);
                let source = (names.next().unwrap(), names.next().unwrap());
                let found = State::current(&self.lock().keys, &source).cloned();
                match found.and_then(|version| version.object) {
                    Some((etag, bytes)) => return self.put(place, bytes, etag, None, false),
                    None => refused(404),
                }
            }
            Ask::CreateUpload => {
                let mut state = self.lock();
                let id = state.next();
                let upload = Upload {
                    parts: BTreeMap::new(),
                    completed: None,
                };
                state.uploads.insert(id.clone(), upload);
                Reply {
                    upload: Some(id),
                    ..ok(200)
                }
            }
            Ask::Part {
                upload,
                number,
                value,
            } => {
                let mut state = self.lock();
                let Some(upload) = state.uploads.get_mut(upload) else {
                    return Ok(refused(404));
                };
                upload.parts.insert(*number, value.bytes());
                ok(200)
            }
            Ask::Complete {
                upload,
                if_none_match,
                ..
            } => return self.complete(place, upload, *if_none_match),
            Ask::Abort { upload } => {
                self.lock().uploads.remove(upload);
                ok(204)
            }
            Ask::Get { version, range } => self.get(place, version.as_ref(), *range),
            Ask::Head => Reply {
                body: Vec::new(),
                ..self.get(place, None, None)
            },
            Ask::Delete {
                version: Some(id), ..
            } => {
                let mut state = self.lock();
                if let Some(versions) = state.keys.get_mut(place) {
                    versions.retain(|version| version.id != *id);
                }
                ok(204)
            }
            Ask::Delete { if_match, .. } => self.delete(place, if_match.as_ref()),
            Ask::DeleteMany { keys } => {
                let deleted = keys.iter().map(|key| Entry {
                    key: key.clone(),
                    etag: None,
                    version: self.delete(&(place.0.clone(), key.clone()), None).version,
                });
                Reply {
                    entries: deleted.collect(),
                    ..ok(200)
                }
            }
            Ask::List { .. } => self.list(&place.0, &place.1),
            Ask::ListVersions { .. } => self.list_versions(&place.0, &place.1),
        })
    }
}

impl Subject for Toy {
    fn ask(&self, bucket: &str, key: &str, ask: &Ask) -> io::Result<Reply> {
        thread::sleep(PAUSE);
        let answer = self.answer(&(bucket.to_owned(), key.to_owned()), ask);
        {
            let mut state = self.lock();
            if state.counter.is_multiple_of(60) {
                state.old = state.keys.clone();
            }
        }
        // A postponed write is carried out some time later; one that timed out, much later.
        let comes_soon = matches!(
            self.fault,
            Some(Fault::AckBeforeCommit | Fault::ResurrectedDelete)
        );
        if comes_soon && self.lock().counter.is_multiple_of(13) {
            self.carry_out_late();
        }
        thread::sleep(PAUSE);
        answer
    }
}
