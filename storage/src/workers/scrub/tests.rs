#![allow(clippy::unwrap_used)]

use tokio::time::timeout;

use super::*;
use crate::engine::{Engine, Options};
use drystone_store::instance::Instance as _;
use drystone_store::types::Timestamp;

/// Found by reading: a pass that began under a clock that was ahead was the last one until the
/// true time came there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_20_scrub_begins_again_where_its_last_pass_lies_in_the_future() {
    let root = tempfile::tempdir().unwrap();
    let directories = (0..2).map(|n| root.path().join(format!("{n}"))).collect();
    let engine = Engine::open(Options::new(directories)).await.unwrap();
    let ahead = Timestamp(engine.env.now().0 + (1 << 40));
    let state = async || engine.workers.scrubber.state().await.unwrap();
    while state().await.is_none_or(|state| state.finished.is_none()) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let later = ScrubState {
        started: ahead,
        finished: Some(ahead),
        ..state().await.unwrap()
    };
    engine.workers.scrubber.note(later).await.unwrap();
    engine.workers.scrubber.wake();
    let begun = async {
        while state().await.is_some_and(|state| state.started == ahead) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(120), begun).await.unwrap();
    engine.close().await;
}
