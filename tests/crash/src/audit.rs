//! The audit after every fault: acknowledged writes are there, others are old or new, and nothing
//! changes by itself any more.
//!
//! The audit only reads and records. Its reads go into the history like everything else, so one
//! judgement covers both.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::history::Phase;
use crate::subject::{Ask, Subject};
use crate::workload::{PLAIN, Run, SOURCE, VERSIONED, Worker};

/// The maximum number of versions that are read by their ids.
const VERSIONS_READ: usize = 60;

/// Reads whole the keys of the round and `older`, keys of earlier rounds; lists and versions are
/// read of all keys.
pub fn audit(
    run: &Run<'_>,
    subject: &dyn Subject,
    older: Vec<(String, String)>,
    round: u64,
) -> Result<(), String> {
    let mut auditor = Worker::auditor(run, subject, round);
    let no_answer = || format!("round {round}: no answer in the audit");
    let heard = |alive: bool| alive.then_some(()).ok_or_else(no_answer);
    heard(auditor.get(PLAIN, SOURCE, None, None))?;
    run.history.nemesis(Phase::Settled, "after the restart");
    let own = format!("r{round}/");
    heard(auditor.list(PLAIN, "", 1000))?;
    heard(auditor.list(PLAIN, &own, 7))?;
    heard(auditor.list(VERSIONED, "", 1000))?;
    let versions = auditor.all_versions().ok_or_else(no_answer)?;
    let mut keys = older;
    for bucket in [PLAIN, VERSIONED] {
        // The choice of what to read needs no record.
        let reply = subject.ask(bucket, &own, &Ask::List { page: 1000 });
        let reply = reply.map_err(|error| error.to_string())?;
        keys.extend(
            reply
                .entries
                .into_iter()
                .map(|e| (bucket.to_owned(), e.key)),
        );
    }
    keys.sort();
    keys.dedup();
    for (bucket, key) in &keys {
        heard(auditor.get(bucket, key, None, None))?;
        heard(auditor.get(bucket, key, None, Some((100, 9000))))?;
    }
    let whole = versions.into_iter().filter(|entry| entry.etag.is_some());
    let whole: Vec<_> = whole.collect();
    for entry in whole.sample(&mut StdRng::seed_from_u64(round), VERSIONS_READ) {
        heard(auditor.get(VERSIONED, &entry.key, entry.version.clone(), None))?;
    }
    // The full listings come last, so that a window ends with a look at everything.
    heard(auditor.list(PLAIN, "", 1000))?;
    auditor.all_versions().map(drop).ok_or_else(no_answer)
}
