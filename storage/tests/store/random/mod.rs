//! The same random operations on a store and on the model: every answer must be alike.
//!
//! Ids and times differ between stores, so before two answers are compared an id becomes its place
//! in the order in which its store first returned it, and a time becomes zero. A failure prints the
//! shortest operations found that show it, and its seed goes to `proptest-regressions`.
//!
//! After the operations the content is read in full and checked against itself (see `audit`), which
//! also finds faults that both share.

mod audit;
mod names;
mod ops;
mod pages;
mod side;

use std::future::Future;

use proptest::prelude::*;
use proptest::test_runner::Config;

use self::ops::{Op, ops};
use self::side::Side;
use crate::subject::{Subject, engine, model};

const CASES: u32 = 48;
/// The number of cases; each opens a store on four disks and restarts it.
const CASES_ON_DISKS: u32 = 16;
/// The maximum number of steps to shorten failing operations.
const SHRINK_STEPS_MAX: u32 = 400;

/// Gives both stores the operations, one by one, and compares the answers.
fn drive<S: Subject, F: Future<Output = S>>(factory: impl Fn() -> F, ops: &[Op]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut reference = Side::new(model().await).await;
        let mut other = Side::new(factory().await).await;
        for (step, op) in ops.iter().enumerate() {
            let expected = reference.run(op).await;
            let found = other.run(op).await;
            assert_eq!(found, expected, "step {step}: {op:?}");
        }
        let expected = reference.audit().await;
        assert_eq!(other.audit().await, expected, "what is left");
        other.store().close().await;
    });
}

proptest! {
    #![proptest_config(Config {
        cases: CASES,
        max_shrink_iters: SHRINK_STEPS_MAX,
        ..Config::default()
    })]

    /// The model has nothing to be compared with but itself: the audit finds contradictions in the
    /// state after the operations, and a second model finds answers that depend on chance.
    #[test]
    fn b_33_the_model_stays_consistent_under_random_operations(ops in ops()) {
        drive(model, &ops);
    }
}

proptest! {
    #![proptest_config(Config {
        cases: CASES_ON_DISKS,
        max_shrink_iters: SHRINK_STEPS_MAX,
        ..Config::default()
    })]

    #[test]
    fn b_33_random_operations_on_disks(ops in ops()) {
        drive(engine, &ops);
    }
}
