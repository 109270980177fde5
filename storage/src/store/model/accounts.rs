//! The model's accounts.

use async_trait::async_trait;

use super::state::MemoryStore;
use crate::accounts::Accounts;
use crate::error::Result;
use crate::types::{Account, AccountId};

#[async_trait]
impl Accounts for MemoryStore {
    async fn put_account(&self, account: Account) -> Result<()> {
        self.state().accounts.insert(account.id.clone(), account);
        Ok(())
    }

    async fn account(&self, id: &AccountId) -> Result<Option<Account>> {
        Ok(self.state().accounts.get(id).cloned())
    }
}
