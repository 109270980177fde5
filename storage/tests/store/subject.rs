//! The stores that the suite runs on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use drystone_storage::engine::{Engine, Options};
use drystone_store::ObjectStore;
use drystone_store::env::SystemEnv;
use drystone_store::instance::Instance as _;
use drystone_store::model::MemoryStore;

/// Four minutes of tries: a restart that takes longer hangs.
const RESTART_TRIES: usize = 12_000;
const RESTART_PAUSE: Duration = Duration::from_millis(20);

/// A store under test and what it needs to live: folders are removed when it is dropped.
#[async_trait]
pub trait Subject: Send {
    fn store(&self) -> Arc<dyn ObjectStore>;

    /// Closes the store and opens it again from the state that outlives the process.
    async fn restart(&mut self);
}

pub async fn model() -> Model {
    Model(Arc::new(MemoryStore::new(Arc::new(SystemEnv))))
}

/// The reference. Its state dies with it, so it is the one that never restarts.
pub struct Model(Arc<MemoryStore>);

#[async_trait]
impl Subject for Model {
    fn store(&self) -> Arc<dyn ObjectStore> {
        self.0.clone()
    }

    async fn restart(&mut self) {}
}

/// Opens the engine on four disks.
pub async fn engine() -> OnDisks {
    let root = tempfile::tempdir().expect("a folder for the disks");
    let directories = (1..=4)
        .map(|n| root.path().join(format!("disk{n}")))
        .collect();
    let options = Options::new(directories);
    let engine = Engine::open(options.clone())
        .await
        .expect("a new store opens");
    OnDisks {
        engine: Some(engine),
        options,
        _root: root,
    }
}

pub struct OnDisks {
    /// `None` only during a restart.
    engine: Option<Arc<Engine>>,
    options: Options,
    _root: tempfile::TempDir,
}

#[async_trait]
impl Subject for OnDisks {
    fn store(&self) -> Arc<dyn ObjectStore> {
        self.engine.clone().expect("it is open")
    }

    async fn restart(&mut self) {
        let engine = self.engine.take().expect("it is open");
        engine.close().await;
        drop(engine);
        // Replicas that have ended release their disks a moment later.
        for _ in 0..RESTART_TRIES {
            if let Ok(engine) = Engine::open(self.options.clone()).await {
                if engine.health().await.disks_offline == 0 {
                    self.engine = Some(engine);
                    return;
                }
                engine.close().await;
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
        panic!("the store does not open again with all its disks");
    }
}
