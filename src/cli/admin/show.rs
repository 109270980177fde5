//! The server's answers, for a person.

use serde_json::Value;

use crate::cli::say::say;

pub(super) fn status(status: &Value) {
    let heal = &status["heal"];
    let (objects, more) = (number(&heal["queued_writes"]), &heal["queued_more"]);
    let advice = status["advice"].as_array();
    let advice: Vec<&str> = advice
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    disks(&status["disks"]);
    let alive = number(&status["metadata_voters_alive"]);
    let (voters, quorum) = (
        number(&status["metadata_voters"]),
        number(&status["metadata_quorum"]),
    );
    say!("metadata: {alive} of {voters} copies are online, {quorum} are needed");
    losses(&status["redundancy"]);
    let offline = with_state(&status["disks"], "offline");
    if objects == 0 && offline > 0 {
        say!("heal:     waits for {offline} disks that are offline; nothing else is queued");
    } else if objects == 0 {
        say!("heal:     all objects have all their shards");
    } else {
        let than = if more == &Value::Bool(true) {
            "more than "
        } else {
            ""
        };
        let state = match heal["paused"].as_bool() {
            Some(true) => "paused",
            _ => "under way",
        };
        say!(
            "heal:     {than}{objects} objects have fewer shards than they should; {state}, {} \
             shards rebuilt so far",
            number(&heal["healed_shards"])
        );
    }
    let undersized = number(&heal["undersized_writes"]);
    if undersized > 0 {
        say!(
            "          {undersized} objects were written with fewer shards than their class; {} \
             re-encoded so far",
            number(&heal["reencoded_writes"])
        );
    }
    scrub(&status["scrub"]);
    for sentence in &advice {
        say!("to do:    {sentence}");
    }
    if advice.is_empty() && objects == 0 && undersized == 0 {
        say!("All is well.");
    }
}

/// Says how many more disks may be lost.
fn losses(redundancy: &Value) {
    let writes = number(&redundancy["writes_survive"]);
    let least = match redundancy["is_exact"].as_bool() {
        Some(true) => "",
        _ => "at least ",
    };
    match redundancy["reads_survive"].as_u64() {
        Some(reads) => say!(
            "losses:   reads survive the loss of {least}{reads} more disks at once, writes of \
             {writes}"
        ),
        None => say!(
            "losses:   the objects are still being counted; writes survive the loss of {writes} \
             more disks at once"
        ),
    }
}

fn with_state(disks: &Value, state: &str) -> usize {
    let disks = disks.as_array().into_iter().flatten();
    disks.filter(|disk| disk["state"] == state).count()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(super) fn scrub(scrub: &Value) {
    let number = |name: &str| number(&scrub[name]);
    let state = match (scrub["paused"].as_bool(), scrub["finished_ms"].as_i64()) {
        (Some(true), _) => "paused",
        (_, Some(_)) => "the last pass has ended",
        (_, None) => "under way",
    };
    say!(
        "scrub:    {state}, {} % of all shards read ({}), {} damaged or missing",
        number("percent"),
        number("shards_read"),
        number("findings")
    );
    let (shards, disks) = (number("shards_unread"), number("disks_unread"));
    if shards > 0 || disks > 0 {
        say!(
            "          {shards} shards and the metadata of {disks} disks could not be looked at: \
             their disks do not answer"
        );
    }
}

pub(super) fn disks(disks: &Value) {
    say!(
        "{:<7} {:>9} {:>9}  {:<32}  DIRECTORY",
        "STATE",
        "SIZE",
        "FREE",
        "ID"
    );
    for disk in disks.as_array().into_iter().flatten() {
        let text = |name: &str| disk[name].as_str().unwrap_or_default();
        let size = |name: &str| human(disk[name].as_u64().unwrap_or_default());
        let reason = match disk["reason"].as_str() {
            Some(reason) => format!("  ({reason})"),
            None => String::new(),
        };
        say!(
            "{:<7} {:>9} {:>9}  {:<32}  {}{reason}",
            text("state"),
            size("total_bytes"),
            size("free_bytes"),
            text("id"),
            text("directory"),
        );
    }
}

pub(super) fn replaced(disk: &Value) {
    let text = |name: &str| disk[name].as_str().unwrap_or_default();
    say!(
        "{} is disk {} of the store; the shards of the lost one are being rebuilt",
        text("directory"),
        text("id")
    );
    say!("If the server is started with another directory there, start it with this one now.");
}

pub(super) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match bytes {
        0 => "-".to_owned(),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}
