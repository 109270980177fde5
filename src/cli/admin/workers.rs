//! The server's workers, for a person.

use drystone_store::env::{Env as _, SystemEnv};
use serde_json::Value;

use crate::cli::say::say;

/// Prints a table of the workers, each with its last error below it.
pub(super) fn show(answer: &Value) {
    for line in table(answer, SystemEnv.now().0) {
        say!("{line}");
    }
}

fn table(answer: &Value, now_ms: i64) -> Vec<String> {
    let mut lines = vec![row(
        "WORKER", "STATE", "STEPS", "FAILED", "PANICS", "DUE", "STATUS",
    )];
    for worker in answer["workers"].as_array().into_iter().flatten() {
        let text = |name: &str| worker[name].as_str().unwrap_or_default();
        let count = |name: &str| worker[name].as_u64().unwrap_or_default().to_string();
        let due = worker["next_ms"].as_i64();
        let due = due.map_or("-".to_owned(), |due| span(due - now_ms));
        lines.push(row(
            text("name"),
            text("state"),
            &count("steps"),
            &count("failures"),
            &count("panics"),
            &due,
            text("status"),
        ));
        if let (Some(error), Some(at)) = (
            worker["last_error"].as_str(),
            worker["last_error_ms"].as_i64(),
        ) {
            lines.push(format!("    {} ago: {error}", span(now_ms - at)));
        }
    }
    lines
}

fn row(
    name: &str,
    state: &str,
    steps: &str,
    failed: &str,
    panics: &str,
    due: &str,
    status: &str,
) -> String {
    let line =
        format!("{name:<11} {state:<8} {steps:>8} {failed:>7} {panics:>7} {due:>7}  {status}");
    line.trim_end().to_owned()
}

/// Formats a time in the largest unit of which it has at least two.
fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    for (unit, unit_seconds) in [("d", 86_400), ("h", 3600), ("min", 60)] {
        if seconds >= 2 * unit_seconds {
            return format!("{} {unit}", seconds / unit_seconds);
        }
    }
    format!("{seconds} s")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_has_a_line_and_another_for_its_last_error() {
        let worker = |name: &str, error: Option<&str>, next_ms: Option<i64>| {
            json!({
                "name": name, "state": "waiting", "status": error.map(|_| "2 disks to check"),
                "steps": 12, "failures": 3, "panics": 1,
                "last_error": error, "last_error_ms": error.map(|_| 1_000),
                "next_ms": next_ms,
            })
        };
        let workers = [
            worker("scrub", None, None),
            worker(
                "gc-objects",
                Some("no leader"),
                Some(60_000 + 7 * 86_400_000),
            ),
        ];
        let lines = table(&json!({ "workers": workers }), 60_000);
        assert_eq!(
            lines,
            [
                "WORKER      STATE       STEPS  FAILED  PANICS     DUE  STATUS",
                "scrub       waiting        12       3       1       -",
                "gc-objects  waiting        12       3       1     7 d  2 disks to check",
                "    59 s ago: no leader",
            ]
        );
        for (ms, text) in [(-5, "0 s"), (119_999, "119 s"), (7_200_000, "2 h")] {
            assert_eq!(span(ms), text);
        }
    }
}
