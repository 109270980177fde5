//! The disks of a stopped store. They are locked, and their databases are opened as copies.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::db::{Db, DbError, DbShared, Family, log_tag};
use crate::disk::ShardName;
use crate::disk::identity::{DiskDirectory, shard_folder};
use crate::raft::inspect::{Replica, replicas};
use crate::raft::recovery::roster::{self, Roster};
use drystone_store::env::{Env, ScratchDir};
use drystone_store::types::{DiskId, WriteId};

/// The folder of a disk's directory that holds its database.
const DATABASE: &str = "meta";

/// A disk that this process has locked.
pub struct StoppedDisk {
    pub env: Arc<dyn Env>,
    settled: DiskDirectory,
    pub database: Result<DatabaseCopy, DbError>,
}

/// A copy of the disk's database.
pub struct DatabaseCopy {
    db: Arc<Db>,
    pub replicas: Vec<Replica>,
    pub roster: Roster,
    /// The directory of the copy. It is the last field, so that it is dropped after the database.
    _scratch: ScratchDir,
}

impl DatabaseCopy {
    /// Returns whether the shard is in the disk's list of unconfirmed shards.
    pub fn is_unconfirmed(&self, name: &ShardName) -> bool {
        let (rank, generation) = ([name.rank], name.generation.to_be_bytes());
        let parts: [&[u8]; 4] = [
            &[log_tag::UNCONFIRMED],
            &name.write_id.0,
            &rank,
            &generation,
        ];
        let row = self
            .db
            .rocks()
            .get_pinned_cf(self.db.family(Family::Log), parts.concat());
        // What cannot be read is not known.
        row.map_err(|error| self.db.failed(error))
            .is_ok_and(|row| row.is_some())
    }
}

impl StoppedDisk {
    pub fn open(settled: DiskDirectory, shared: &DbShared) -> io::Result<StoppedDisk> {
        let env = shared.env().clone();
        let scratch = ScratchDir::create(env.clone(), "fsck-")?;
        let opened = Db::open_copy(&settled.dir.join(DATABASE), scratch.path(), shared);
        let database = opened.and_then(|db| {
            Ok(DatabaseCopy {
                replicas: replicas(&db)?,
                roster: roster::read(&db, settled.identity.disk)?,
                db,
                _scratch: scratch,
            })
        });
        Ok(StoppedDisk {
            env,
            settled,
            database,
        })
    }

    pub fn id(&self) -> DiskId {
        self.settled.identity.disk
    }

    pub fn directory(&self) -> String {
        self.settled.dir.display().to_string()
    }

    pub fn shard_path(&self, name: &ShardName) -> PathBuf {
        let folder = shard_folder(&self.settled.dir, name.write_id.0[0]);
        let (rank, generation) = (name.rank, name.generation);
        folder.join(format!("{}.{rank:02x}.{generation:x}", name.write_id))
    }

    /// Returns the shards in the folder of this first byte, and the number of files that are no
    /// shards.
    pub fn folder(&self, first: u8) -> io::Result<(HashSet<ShardName>, u64)> {
        let (mut shards, mut others) = (HashSet::new(), 0);
        let folder = shard_folder(&self.settled.dir, first);
        for name in self.env.files().list(&folder)? {
            let name = name?;
            let name = name.to_str().and_then(parse_name);
            match name.filter(|name| name.write_id.0[0] == first) {
                Some(name) => drop(shards.insert(name)),
                None => others += 1,
            }
        }
        Ok((shards, others))
    }
}

/// Parses `<write id>.<rank>.<generation>`: 32, 2 and at least one lower-case hex digits.
fn parse_name(name: &str) -> Option<ShardName> {
    let mut parts = name.split('.');
    let (id, rank, generation) = (parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let digits = [id, rank, generation].map(|part| part.bytes().all(lower_hex));
    if parts.next().is_some() || digits.contains(&false) || (id.len(), rank.len()) != (32, 2) {
        return None;
    }
    Some(ShardName {
        write_id: WriteId(u128::from_str_radix(id, 16).ok()?.to_be_bytes()),
        rank: u8::from_str_radix(rank, 16).ok()?,
        generation: u32::from_str_radix(generation, 16).ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_parse_back_and_others_do_not() {
        let id = "0a".repeat(16);
        let name = parse_name(&format!("{id}.1f.2a")).unwrap();
        assert_eq!((name.write_id, name.rank), (WriteId([10; 16]), 0x1f));
        assert_eq!(name.generation, 0x2a);
        let others = [
            "",
            "x",
            "0a.00.0",
            "../../x",
            &format!("{id}.00"),
            &format!("{id}.0.0"),
        ];
        assert!(others.iter().all(|name| parse_name(name).is_none()));
        assert!(parse_name(&format!("{id}.00.0.0")).is_none());
        assert!(parse_name(&format!("{}.00.0", id.to_uppercase())).is_none());
    }
}
