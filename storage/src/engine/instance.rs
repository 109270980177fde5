//! The engine as a running store: its health and its end.

use std::time::Duration;

use futures_util::future::join_all;

use super::Engine;
use drystone_store::error::Error;
use drystone_store::instance::Health;

/// How long the end of the store waits for the disks' last note.
const LAST_NOTE_MAX: Duration = Duration::from_secs(5);

impl Engine {
    /// The number of disks that the store should have. If the metadata does not answer, it is the
    /// number of those that are here.
    pub(super) async fn expected_disks(&self) -> usize {
        let here = self.shards.disks().len() + self.refused().len();
        self.workers.disks.expected(here).await
    }

    pub(super) async fn look(&self) -> Health {
        let disks = self.shards.disks();
        let online = disks
            .iter()
            .filter(|disk| disk.state().borrow().is_up())
            .count();
        let can_read = futures_util::try_join!(self.system.ready(), self.objects.ready()).is_ok();
        let geometry = self.shards.default_geometry();
        Health {
            disks_online: online,
            disks_offline: self.expected_disks().await.saturating_sub(online),
            can_read,
            can_write: can_read && self.shards.can_write(),
            metadata_quorum: self.objects.status().quorum,
            data_shards: geometry.data(),
            parity_shards: geometry.parity(),
        }
    }

    /// Requests are over: the workers end, then the groups, then the databases are flushed.
    pub(super) async fn stop(&self) {
        self.workers.runner.stop().await;
        // A disk that hangs must not keep the store from ending.
        let noted = self
            .env
            .timeout(LAST_NOTE_MAX, async { self.groups().note_presence().await });
        let noted = noted.await;
        if !matches!(noted, Ok(Ok(()))) {
            tracing::warn!(?noted, "the disks do not note that they were here");
        }
        self.system.shutdown().await;
        self.objects.shutdown().await;
        let databases: Vec<_> = self.databases().drain(..).collect();
        let closed = join_all(databases.into_iter().map(|held| {
            self.env
                .spawn_blocking(move || held.db.iter().for_each(|db| db.close()))
        }));
        if closed.await.iter().any(Result::<_, _>::is_err) {
            tracing::error!(error = %Error::Closing, "a database did not close");
        }
    }
}
