//! The stores that the suite runs on.

use std::sync::Arc;

use async_trait::async_trait;
use drystone_storage::env::SystemEnv;
use drystone_storage::model::MemoryStore;
use drystone_storage::store::ObjectStore;

/// A store under test and what it needs to live: folders are removed when it is dropped.
#[async_trait]
pub trait Subject: Send {
    fn store(&self) -> Arc<dyn ObjectStore>;

    /// Closes the store and opens it again from what outlives the process.
    async fn restart(&mut self);
}

pub async fn model() -> Model {
    Model(Arc::new(MemoryStore::new(Arc::new(SystemEnv))))
}

/// The reference. It has nothing that outlives it, so it is the one that never restarts.
pub struct Model(Arc<MemoryStore>);

#[async_trait]
impl Subject for Model {
    fn store(&self) -> Arc<dyn ObjectStore> {
        self.0.clone()
    }

    async fn restart(&mut self) {}
}
