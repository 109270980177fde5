//! The same random operations on a store and on the model: every answer must be alike.
//!
//! Ids and times are each store's own, so before two answers are compared an id becomes its place
//! in the order in which its store first told it, and a time becomes zero. A failure prints the
//! shortest operations found that show it, and its seed goes to `proptest-regressions`.
//!
//! After the operations what is left is read in full and held against itself (see `audit`),
//! so that a fault that both share is seen too.

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
/// Each opens a store on four disks and restarts it.
const CASES_ON_DISKS: u32 = 16;
/// Failing operations are shortened in at most so many steps.
const SHRINK_STEPS_MAX: u32 = 400;

/// Gives both stores the operations, one by one, and compares.
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

    /// There is nothing to compare the model with but itself: the audit finds what contradicts
    /// itself in what the operations left, and a second model finds answers that depend on chance.
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
