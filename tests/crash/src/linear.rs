//! Decides whether one key's operations can have happened one after the other: the search of Wing
//! and Gong with Lowe's memory of the states tried.
//!
//! An operation takes effect at one moment between its call and its end. One without an answer may
//! also never take effect, and has no end unless a later event settled it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::{Act, Condition, State};

/// The end of an operation that has none.
pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub struct Op {
    pub call: u64,
    pub end: u64,
    pub act: Act,
    /// Without an answer: it may never have taken effect.
    pub optional: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An order exists; this is the state at its end.
    Linearizable(State),
    /// No order exists. Also the number of operations that the longest attempt explained.
    Violation { explained: usize },
    /// The time limit passed: this counts as failed.
    Unknown,
}

// The order of attempts: first certain operations, then those that explain something seen.
const SURE: u8 = 0;
const SEEN: u8 = 1;
const GIVEN_UP: u8 = 2;
const UNSEEN: u8 = 3;

/// Returns the writes without an answer whose value somebody saw.
fn observed(ops: &[Op]) -> HashSet<usize> {
    let mut tags = HashSet::new();
    for op in ops {
        match &op.act {
            Act::Read(Some(version)) | Act::ReadVersion(_, Some(version)) => {
                tags.insert(version.etag);
            }
            Act::ReadAll(versions) => tags.extend(versions.iter().map(|version| version.etag)),
            _ => {}
        }
    }
    let written = |op: &Op| match &op.act {
        Act::Write(version, _) => tags.contains(&version.etag),
        _ => false,
    };
    (0..ops.len()).filter(|op| written(&ops[*op])).collect()
}

/// Removes writes without an answer that never took effect. Versions stay until they are deleted by
/// their ids, and nobody knows the id of one without an answer: if no later read of all versions
/// shows it, it was never written.
fn drop_unseen(ops: &mut Vec<Op>) {
    let seen = observed(ops);
    let looks = ops.iter().filter(|op| matches!(op.act, Act::ReadAll(_)));
    let last_look = looks.map(|op| op.call).max().unwrap_or(0);
    let mut at = 0..;
    ops.retain(|op| {
        let seen = at.next().is_some_and(|at| seen.contains(&at));
        let is_write = matches!(op.act, Act::Write(..));
        !(op.optional && is_write && !seen && op.end <= last_look)
    });
}

/// Numbers the classes of operations without an answer that cannot be distinguished: the same act,
/// or writes whose values nobody saw, with the same end.
fn classes(ops: &[Op], seen: &HashSet<usize>) -> Vec<usize> {
    let alike = |one: usize, other: usize| {
        let unseen = |op: usize| {
            let plain = matches!(ops[op].act, Act::Write(_, Condition::None));
            plain && !seen.contains(&op)
        };
        let same = ops[one].act == ops[other].act || unseen(one) && unseen(other);
        ops[one].optional && ops[other].optional && ops[one].end == ops[other].end && same
    };
    (0..ops.len())
        .map(|op| (0..op).find(|first| alike(*first, op)).unwrap_or(op))
        .collect()
}

struct Node {
    done: Vec<u64>,
    state: State,
    count: usize,
}

impl Node {
    fn is_done(&self, op: usize) -> bool {
        self.done[op / 64] & (1 << (op % 64)) != 0
    }

    fn with(&self, op: usize, state: State) -> Node {
        let mut done = self.done.clone();
        done[op / 64] |= 1 << (op % 64);
        Node {
            done,
            state,
            count: self.count + 1,
        }
    }
}

/// Searches for an order of `ops`, which may come in any.
pub fn check(ops: &[Op], start: &State, versioned: bool, limit: Duration) -> Verdict {
    let mut ops = ops.to_vec();
    ops.sort_by_key(|op| op.call);
    if versioned {
        drop_unseen(&mut ops);
    }
    let seen = observed(&ops);
    let classes = classes(&ops, &seen);
    let began = Instant::now();
    let mut tried: HashSet<(Vec<u64>, State)> = HashSet::new();
    let mut explained = 0;
    let mut stack = vec![Node {
        done: vec![0; ops.len().div_ceil(64).max(1)],
        state: start.clone(),
        count: 0,
    }];
    while let Some(node) = stack.pop() {
        if began.elapsed() > limit {
            return Verdict::Unknown;
        }
        explained = explained.max(node.count);
        let open = |op: &usize| !node.is_done(*op);
        let left: Vec<usize> = (0..ops.len()).filter(open).collect();
        if left.iter().all(|op| ops[*op].optional) {
            return Verdict::Linearizable(node.state);
        }
        // No operation may come before one that ended before it began.
        let first_end = left.iter().map(|op| ops[*op].end).min().unwrap_or(NEVER);
        let mut next = Vec::new();
        let mut discarded = false;
        let mut offered = HashSet::new();
        for op in left {
            let Op {
                call,
                end,
                act,
                optional,
            } = &ops[op];
            if *call > first_end {
                break;
            }
            let likely = if !optional {
                SURE
            } else if seen.contains(&op) {
                SEEN
            } else {
                UNSEEN
            };
            // Among equal operations, the one that began first can do all that the others can.
            if *optional && !offered.insert(classes[op]) {
                continue;
            }
            if let Some(state) = node.state.after(act, versioned) {
                next.push((likely, *end, node.with(op, state)));
            }
            // The order in which they are discarded makes no difference: one at a time.
            if *optional && *end == first_end && !discarded {
                discarded = true;
                next.push((GIVEN_UP, *end, node.with(op, node.state.clone())));
            }
        }
        next.sort_by_key(|(likely, end, _)| (*likely, *end));
        // The last one pushed is tried first.
        for (_, _, node) in next.into_iter().rev() {
            if tried.insert((node.done.clone(), node.state.clone())) {
                stack.push(node);
            }
        }
    }
    Verdict::Violation { explained }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Version;

    const LIMIT: Duration = Duration::from_secs(120);

    fn version(etag: u32) -> Version {
        Version {
            etag: Some(etag),
            id: None,
        }
    }

    fn op(call: u64, end: u64, act: Act) -> Op {
        let optional = false;
        Op {
            call,
            end,
            act,
            optional,
        }
    }

    fn write(call: u64, end: u64, etag: u32) -> Op {
        op(call, end, Act::Write(version(etag), Condition::None))
    }

    fn read(call: u64, end: u64, etag: u32) -> Op {
        let seen = (etag > 0).then(|| version(etag));
        op(call, end, Act::Read(seen))
    }

    fn unanswered(op: Op, end: u64) -> Op {
        Op {
            end,
            optional: true,
            ..op
        }
    }

    fn verdict(ops: &[Op]) -> bool {
        matches!(
            check(ops, &State::default(), false, LIMIT),
            Verdict::Linearizable(_)
        )
    }

    #[test]
    fn what_overlaps_may_come_in_any_order_and_what_does_not_may_not() {
        assert!(verdict(&[write(1, 10, 1), write(2, 9, 2), read(11, 12, 1)]));
        assert!(verdict(&[write(1, 10, 1), write(2, 9, 2), read(11, 12, 2)]));
        assert!(!verdict(&[write(1, 2, 1), write(3, 4, 2), read(5, 6, 1)]));
        assert!(verdict(&[write(1, 9, 1), read(2, 3, 0), read(4, 5, 1)]));
        assert!(!verdict(&[write(1, 9, 1), read(2, 3, 1), read(4, 5, 0)]));
    }

    #[test]
    fn what_has_no_answer_takes_effect_once_at_any_time_or_never() {
        let lost = unanswered(write(1, 2, 1), NEVER);
        assert!(verdict(&[lost.clone(), read(5, 6, 0), read(7, 8, 1)]));
        assert!(verdict(&[lost.clone(), read(5, 6, 0)]));
        let twice = [lost.clone(), read(3, 4, 1), write(5, 6, 2), read(7, 8, 1)];
        assert!(!verdict(&twice));
        let settled = unanswered(write(1, 2, 1), 6);
        assert!(verdict(&[settled.clone(), read(5, 8, 0), read(9, 10, 0)]));
        assert!(verdict(&[settled.clone(), read(5, 6, 1), read(9, 10, 1)]));
        assert!(!verdict(&[settled, read(7, 8, 0), read(9, 10, 1)]));
    }

    #[test]
    fn of_two_that_want_the_key_absent_one_is_refused() {
        let create = |call, end, etag| {
            let act = Act::Write(version(etag), Condition::Absent);
            op(call, end, act)
        };
        let refused = op(2, 9, Act::Refused(Condition::Absent));
        assert!(verdict(&[create(1, 10, 1), refused.clone()]));
        assert!(!verdict(&[create(1, 10, 1), create(2, 9, 2)]));
        assert!(!verdict(&[create(10, 11, 1), refused]));
    }

    #[test]
    fn many_without_an_answer_are_judged_in_no_time() {
        for versioned in [false, true] {
            let mut ops = Vec::new();
            for n in 1..60_u64 {
                let lost = write(3 * n, NEVER, 100 + n as u32);
                ops.push(unanswered(lost, 1000));
                ops.push(write(3 * n, 3 * n + 5, n as u32));
                let end = 3 * n + 5;
                ops.push(op(3 * n, end, Act::Refused(Condition::Absent)));
            }
            ops.push(read(2000, 2001, 59));
            let look = |newest: u32| (1..=newest).rev().map(version).collect();
            if versioned {
                ops.push(op(2002, 2003, Act::ReadAll(look(59))));
            }
            let start = State(vec![version(9999)]);
            let begun = if versioned { State::default() } else { start };
            ops[2].act = Act::Nothing;
            let verdict = check(&ops, &begun, versioned, LIMIT);
            assert!(matches!(verdict, Verdict::Linearizable(_)), "{verdict:?}");
        }
    }

    #[test]
    fn time_that_is_over_is_no_pass() {
        let ops: Vec<Op> = (1..12).map(|n| write(n, 100, n as u32)).collect();
        let none = check(&ops, &State::default(), false, Duration::ZERO);
        assert_eq!(none, Verdict::Unknown);
    }
}
