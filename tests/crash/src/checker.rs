//! Judges a history: the cheap checks on everything, then each key by itself.
//!
//! A history is judged in windows. A key's next window starts from its state at the window's end,
//! if nothing is under way then and everything was read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::cheap;
use crate::history::{Entry, Event, Kind, Phase};
use crate::linear::{self, NEVER, Op, Verdict};
use crate::model::{Act, Condition, Name, State, Version};
use crate::whole::{Whole, show};

/// How long one key's window may take; a longer check fails the run.
const KEY_LIMIT: Duration = Duration::from_secs(120);
/// At most this many operations of a failed key are shown.
const SHOWN_LEN_MAX: usize = 60;

type Key = (String, String);

/// The numbers of a run, and its violations.
#[derive(Debug, Default)]
pub struct Report {
    pub ops: usize,
    pub ok: usize,
    pub info: usize,
    pub fail: usize,
    /// The number of operations that were under way at the same time as another one on their key.
    pub overlaps: usize,
    pub reads: usize,
    pub faults: usize,
    pub violations: Vec<String>,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.ops += other.ops;
        self.ok += other.ok;
        self.info += other.info;
        self.fail += other.fail;
        self.overlaps += other.overlaps;
        self.reads += other.reads;
        self.faults += other.faults;
        self.violations.extend(other.violations);
    }

    /// Fails a run that tried too little to show anything.
    pub fn demand(&mut self, ops: usize, reads: usize, overlaps: usize, faults: usize) {
        let seen = [self.ops, self.reads, self.overlaps, self.faults];
        let names = ["operations", "reads", "overlaps", "faults"];
        for ((seen, least), name) in seen
            .into_iter()
            .zip([ops, reads, overlaps, faults])
            .zip(names)
        {
            if seen < least {
                let text = format!("vacuous: {seen} {name}, at least {least} are needed");
                self.violations.push(text);
            }
        }
    }
}

#[derive(Default)]
pub struct Checker {
    names: HashMap<String, Name>,
    /// Entity tags of all writes that were requested, in all windows.
    written: BTreeSet<String>,
    versioned: BTreeSet<String>,
    pub states: BTreeMap<Key, State>,
}

impl Checker {
    pub fn new(versioned: &[&str]) -> Checker {
        Checker {
            versioned: versioned
                .iter()
                .map(|bucket| (*bucket).to_owned())
                .collect(),
            ..Checker::default()
        }
    }

    fn name(&mut self, text: &str) -> Name {
        let next = self.names.len() as Name + 1;
        *self.names.entry(text.to_owned()).or_insert(next)
    }

    fn version(&mut self, entry: &Entry) -> Version {
        Version {
            etag: entry.etag.as_ref().map(|etag| self.name(etag)),
            id: entry.version.as_ref().map(|id| self.name(id)),
        }
    }

    /// Judges a whole history, window by window.
    pub fn windows(&mut self, events: &[Event]) -> Report {
        let mut report = Report::default();
        let ends = |event: &Event| event.phase == Phase::WindowEnds;
        for window in events.split_inclusive(ends) {
            report.add(self.window(window));
        }
        report
    }

    /// Judges the events since the last window.
    pub fn window(&mut self, events: &[Event]) -> Report {
        let wholes = pair(events);
        let mut report = count(events, &wholes);
        let asked = wholes.iter().filter_map(|whole| whole.asked.writes.clone());
        self.written.extend(asked);
        for whole in &wholes {
            if let Some(wrong) = &whole.answer.wrong {
                report.violations.push(format!("{}: {wrong}", show(whole)));
            }
        }
        report
            .violations
            .extend(cheap::phantoms(&wholes, &self.written));
        report.violations.extend(cheap::disorder(&wholes));
        let mut keys: BTreeMap<Key, Vec<(Op, usize)>> = BTreeMap::new();
        let known: Vec<Key> = self.states.keys().cloned().collect();
        let own = wholes.iter().filter(|whole| !is_list(whole.asked.kind));
        let own = own.map(|whole| (whole.asked.bucket.clone(), whole.asked.key.clone()));
        for key in known.into_iter().chain(own) {
            keys.entry(key).or_default();
        }
        for (at, whole) in wholes.iter().enumerate() {
            self.distribute(at, whole, &mut keys, &mut report);
        }
        for (key, ops) in keys {
            if !ops.is_empty() {
                self.judge(key, &ops, &wholes, &mut report);
            }
        }
        report
    }

    /// Adds an operation to each key that it concerns.
    fn distribute(
        &mut self,
        at: usize,
        whole: &Whole<'_>,
        keys: &mut BTreeMap<Key, Vec<(Op, usize)>>,
        report: &mut Report,
    ) {
        let Event {
            kind, bucket, key, ..
        } = whole.asked;
        if !is_list(*kind) {
            if let Some(act) = self.act(whole) {
                let key = (bucket.clone(), key.clone());
                let op = Op {
                    call: whole.call,
                    end: whole.end,
                    act,
                    optional: whole.phase == Phase::Info,
                };
                keys.entry(key).or_default().push((op, at));
            }
            return;
        }
        let Some(entries) = whole
            .answer
            .entries
            .as_ref()
            .filter(|_| whole.phase == Phase::Ok)
        else {
            return;
        };
        let mut listed: BTreeMap<&str, Vec<Version>> = BTreeMap::new();
        for entry in entries {
            let version = self.version(entry);
            listed.entry(&entry.key).or_default().push(version);
        }
        for name in listed.keys() {
            if !keys.contains_key(&(bucket.clone(), (*name).to_owned())) {
                let text = format!("{}: {name} is listed, and nobody wrote it", show(whole));
                report.violations.push(text);
            }
        }
        let own = keys
            .iter_mut()
            .filter(|(name, _)| name.0 == *bucket && name.1.starts_with(key));
        for (name, ops) in own {
            let versions = listed.remove(name.1.as_str()).unwrap_or_default();
            let act = match kind {
                Kind::ListVersions => Act::ReadAll(versions),
                _ => Act::Read(versions.into_iter().next()),
            };
            let op = Op {
                call: whole.call,
                end: whole.end,
                act,
                optional: false,
            };
            ops.push((op, at));
        }
    }

    /// Returns what an operation did to its key or saw of it; `None` if it shows nothing.
    fn act(&mut self, whole: &Whole<'_>) -> Option<Act> {
        let Whole { asked, answer, .. } = whole;
        let condition = match (&asked.if_match, asked.if_none_match) {
            (Some(etag), _) => Condition::Match(self.name(etag)),
            (None, true) => Condition::Absent,
            (None, false) => Condition::None,
        };
        let seen = Entry {
            key: String::new(),
            etag: answer.etag.clone(),
            version: answer.version.clone(),
        };
        let ok = whole.phase == Phase::Ok;
        let status = answer.status.unwrap_or_default();
        if whole.phase == Phase::Fail && matches!(asked.kind, Kind::Write | Kind::Delete) {
            let refused = match (status, condition) {
                (412, _) => condition,
                (404, Condition::Match(_)) => Condition::Match(NEVER_WRITTEN),
                _ => return None,
            };
            return Some(match refused {
                // There was no current version.
                Condition::Match(NEVER_WRITTEN) => Act::Read(None),
                refused => Act::Refused(refused),
            });
        }
        match asked.kind {
            Kind::Write if whole.phase != Phase::Fail => {
                let entry = Entry {
                    etag: asked.writes.clone(),
                    ..seen
                };
                Some(Act::Write(self.version(&entry), condition))
            }
            Kind::Delete if whole.phase != Phase::Fail => {
                let id = answer.version.as_ref().map(|id| self.name(id));
                Some(Act::Delete(id, condition))
            }
            Kind::DeleteVersion if whole.phase != Phase::Fail => {
                let id = self.name(asked.version_in.as_ref()?);
                Some(Act::DeleteVersion(id))
            }
            Kind::Get | Kind::Head if ok || status == 404 => {
                let found = ok.then(|| self.version(&seen));
                Some(match &asked.version_in {
                    Some(id) => Act::ReadVersion(self.name(id), found),
                    None => Act::Read(found),
                })
            }
            _ => None,
        }
    }

    fn judge(&mut self, key: Key, ops: &[(Op, usize)], wholes: &[Whole<'_>], report: &mut Report) {
        let versioned = self.versioned.contains(&key.0);
        let start = self.states.get(&key).cloned().unwrap_or_default();
        let plain: Vec<Op> = ops.iter().map(|(op, _)| op.clone()).collect();
        report.overlaps += cheap::overlaps(&plain);
        if start.0.is_empty() {
            let found = cheap::impossible(&plain, versioned);
            report
                .violations
                .extend(found.map(|what| format!("{}/{}: {what}", key.0, key.1)));
        }
        match linear::check(&plain, &start, versioned, KEY_LIMIT) {
            Verdict::Linearizable(end) => {
                let end = last_look(&plain, versioned).unwrap_or(end);
                self.states.insert(key, end);
            }
            verdict => {
                let mut text = format!("{}/{}: {verdict:?}, from {start:?}", key.0, key.1);
                for (op, at) in ops.iter().rev().take(SHOWN_LEN_MAX).rev() {
                    text.push_str(&format!("\n    {:?} {}", op.act, show(&wholes[*at])));
                }
                report.violations.push(text);
                if let Some(end) = last_look(&plain, versioned) {
                    self.states.insert(key, end);
                }
            }
        }
    }
}

/// Stands for a tag in a condition that met no version at all.
const NEVER_WRITTEN: Name = 0;

fn is_list(kind: Kind) -> bool {
    matches!(kind, Kind::List | Kind::ListVersions)
}

/// Returns the state that the newest full read saw, if nothing was under way after it began.
fn last_look(ops: &[Op], versioned: bool) -> Option<State> {
    let look = ops.iter().rfind(|op| match op.act {
        Act::ReadAll(_) => versioned,
        Act::Read(_) => !versioned,
        _ => false,
    })?;
    let changes = |op: &&Op| {
        !matches!(
            op.act,
            Act::Read(_) | Act::ReadAll(_) | Act::ReadVersion(..)
        )
    };
    if ops.iter().filter(changes).any(|op| op.end > look.call) {
        return None;
    }
    Some(match &look.act {
        Act::ReadAll(seen) => State(seen.iter().rev().cloned().collect()),
        Act::Read(seen) => State(seen.iter().cloned().collect()),
        _ => unreachable!("only looks were asked for"),
    })
}

/// Pairs the two ends of each operation. An operation without an end had no answer.
fn pair(events: &[Event]) -> Vec<Whole<'_>> {
    let mut open: BTreeMap<u64, &Event> = BTreeMap::new();
    let mut wholes = Vec::new();
    let settled: Vec<u64> = events
        .iter()
        .filter(|event| event.phase == Phase::Settled)
        .map(|event| event.time_ns)
        .collect();
    let late = |call: u64| {
        settled
            .iter()
            .copied()
            .find(|at| *at > call)
            .unwrap_or(NEVER)
    };
    for event in events.iter().filter(|event| event.kind != Kind::Nemesis) {
        if event.phase == Phase::Invoke {
            open.insert(event.op, event);
        } else if let Some(asked) = open.remove(&event.op) {
            let end = match event.phase {
                Phase::Info => late(asked.time_ns),
                _ => event.time_ns,
            };
            wholes.push(Whole {
                asked,
                phase: event.phase,
                call: asked.time_ns,
                end,
                answer: event,
            });
        }
    }
    wholes.extend(open.into_values().map(|asked| Whole {
        asked,
        phase: Phase::Info,
        call: asked.time_ns,
        end: late(asked.time_ns),
        answer: asked,
    }));
    wholes.sort_by_key(|whole| whole.call);
    wholes
}

fn count(events: &[Event], wholes: &[Whole<'_>]) -> Report {
    let with = |phase| wholes.iter().filter(|whole| whole.phase == phase).count();
    let is_read = |whole: &&Whole<'_>| {
        whole.phase == Phase::Ok
            && matches!(
                whole.asked.kind,
                Kind::Get | Kind::Head | Kind::List | Kind::ListVersions
            )
    };
    let installed = |event: &&Event| event.phase == Phase::Installed;
    Report {
        ops: wholes.len(),
        ok: with(Phase::Ok),
        info: with(Phase::Info),
        fail: with(Phase::Fail),
        reads: wholes.iter().filter(is_read).count(),
        faults: events.iter().filter(installed).count(),
        ..Report::default()
    }
}
