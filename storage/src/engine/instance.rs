//! The engine as a running store: its health, its measures and its end.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::Engine;
use super::measures::measure_group;
use drystone_store::error::Error;
use drystone_store::instance::{Health, Instance};
use drystone_store::measure::Measure;

/// How long the metadata have to answer before they count as not answering (a probe's caller waits
/// for a second).
const HEALTH_MAX: Duration = Duration::from_millis(700);
/// How long the end of the store waits for the disks' last note.
const LAST_NOTE_MAX: Duration = Duration::from_secs(5);
/// How long it waits for the metadata's replicas to end. A replica on a disk that hangs does not.
const GROUPS_END_MAX: Duration = Duration::from_secs(10);
/// How long it waits for the databases to be flushed and closed.
const DATABASES_CLOSE_MAX: Duration = Duration::from_secs(30);

#[async_trait]
impl Instance for Engine {
    async fn health(&self) -> Health {
        let disks = self.shards.disks();
        let online = disks
            .iter()
            .filter(|disk| disk.state().borrow().is_up())
            .count();
        let (system, objects) = (&self.system.group, &self.objects.group);
        // A probe must not wait for a metadata that does not answer, nor for what it would say.
        let ready = async { futures_util::try_join!(system.ready(), objects.ready()).is_ok() };
        let ready = self.env.timeout(HEALTH_MAX, ready);
        let expected = self.env.timeout(HEALTH_MAX, self.expected_disks());
        let (can_read, expected) = futures_util::join!(ready, expected);
        let can_read = can_read.unwrap_or(false);
        let expected = expected.unwrap_or_else(|_| self.disks_here());
        let geometry = self.shards.default_geometry();
        Health {
            disks_online: online,
            disks_offline: expected.saturating_sub(online),
            can_read,
            can_write: can_read && self.shards.can_write(),
            metadata_quorum: objects.status().quorum,
            data_shards: geometry.data(),
            parity_shards: geometry.parity(),
        }
    }

    async fn measures(&self) -> Vec<Measure> {
        let mut measures = self.measure_disks().await;
        for (name, proposer) in [("system", &self.system), ("objects", &self.objects)] {
            measure_group(name, &proposer.group, &mut measures).await;
        }
        measures.extend(self.measure_redundancy().await);
        measures.extend(self.workers.runner.measures().await);
        measures
    }

    /// Ends the workers and the removals of shards, then the groups. Then the databases are
    /// flushed.
    async fn close(&self) {
        self.workers.runner.stop().await;
        self.shards.end_removals().await;
        // A disk that hangs must not keep the store from ending.
        let noted = self
            .env
            .timeout(LAST_NOTE_MAX, async { self.groups().note_presence().await });
        let noted = noted.await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::warn!(?noted, "the disks do not note that they were here");
        }
        let ended = self.env.timeout(GROUPS_END_MAX, async {
            self.system.group.shutdown().await;
            self.objects.group.shutdown().await;
        });
        if ended.await.is_err() {
            tracing::error!("the metadata does not end: a disk hangs");
        }
        let handles: Vec<_> = self.disks.handles().drain(..).collect();
        let closed = join_all(handles.into_iter().map(|handle| {
            self.env
                .spawn_blocking(move || handle.db.iter().for_each(|db| db.close()))
        }));
        match self.env.timeout(DATABASES_CLOSE_MAX, closed).await {
            Ok(closed) if closed.iter().all(Result::<_, _>::is_ok) => {}
            Ok(_) => tracing::error!(error = %Error::Closing, "a database did not close"),
            Err(_) => tracing::error!("a database does not close: its disk hangs"),
        }
    }
}

impl Engine {
    /// The number of disks that the store should have. If the metadata does not answer, it is the
    /// number of those that are here.
    pub(super) async fn expected_disks(&self) -> usize {
        self.workers.disks.expected(self.disks_here()).await
    }

    fn disks_here(&self) -> usize {
        self.shards.disks().len() + self.disks.refused().len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Options;

    /// Once a probe waited for the metadata, ten seconds and more, and whoever asked took the
    /// server for dead and started it again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn r_21_health_is_told_at_once_while_the_metadata_do_not_answer() {
        let root = tempfile::tempdir().unwrap();
        let directories = (0..4).map(|n| root.path().join(format!("{n}"))).collect();
        let engine = Engine::open(Options::new(directories)).await.unwrap();
        assert!(engine.health().await.can_read);
        for handle in &engine.disks.handles()[..3] {
            handle.db.as_ref().unwrap().break_disk();
        }
        let asked = async {
            while engine.health().await.can_read {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            engine.health().await
        };
        // A read of the metadata waits for twice as long.
        let health = tokio::time::timeout(Duration::from_secs(5), asked).await;
        let health = health.unwrap();
        assert!(!health.can_read && !health.can_write);
        engine.close().await;
    }
}
