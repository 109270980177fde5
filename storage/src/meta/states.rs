//! The states in a disk's database. A state is all rows of one replica, under an id of its own.

use rocksdb::WriteBatch;

use super::keys::Keys;
use crate::db::{Db, DbError, Family, StateId};

/// The families that hold a state.
pub const STATE_FAMILIES: [Family; 2] = [Family::State, Family::Values];

/// Removes all rows of a state. Blocks for a short time.
pub fn delete_state(db: &Db, state: StateId) -> Result<(), DbError> {
    let range = Keys(state).state();
    let mut batch = WriteBatch::default();
    for family in STATE_FAMILIES {
        batch.delete_range_cf(db.family(family), &range.from, &range.to);
    }
    db.write_unsynced(batch)
}

/// Removes the states that no replica's row names, which interrupted transfers leave. Blocks.
pub fn delete_unused_states(db: &Db, used: &[StateId]) -> Result<(), DbError> {
    for family in STATE_FAMILIES {
        let mut rows = db.rocks().raw_iterator_cf(db.family(family));
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let state = state_of(db, key)?;
            if !used.contains(&state) {
                tracing::info!(?state, "removing an unused state");
                delete_state(db, state)?;
            }
            rows.seek(Keys(state).state().to);
        }
        rows.status().map_err(|e| db.failed(e))?;
    }
    Ok(())
}

fn state_of(db: &Db, key: &[u8]) -> Result<StateId, DbError> {
    match key.first_chunk() {
        Some(id) => Ok(StateId(u64::from_be_bytes(*id))),
        None => Err(db.corrupt(format!("key {key:02x?} has no state id"))),
    }
}

/// Returns a state id that no row has. It is random, so that a disk's states rarely share one over
/// time.
pub fn unused_state(db: &Db) -> Result<StateId, DbError> {
    loop {
        // Without the highest number, so that there is a least key above every state.
        let state = StateId(db.env().random_id());
        let range = Keys(state).state();
        let mut taken = false;
        for family in STATE_FAMILIES {
            let mut rows = db.rocks().raw_iterator_cf(db.family(family));
            rows.seek(&range.from);
            taken |= rows.key().is_some_and(|key| key < &range.to[..]);
            rows.status().map_err(|e| db.failed(e))?;
        }
        if !taken {
            return Ok(state);
        }
    }
}
