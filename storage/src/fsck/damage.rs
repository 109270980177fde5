//! Names the versions and parts whose bytes are damaged.

use std::collections::HashMap;

use super::census::Damage;
use super::keys;
use super::report::{DamagedKey, DataState, Report};
use super::rules::Rows;
use super::scan::{Scan, decode, get, key, table};
use crate::meta::record::{PartRow, UploadAt, UploadPartRow, VersionRow};
use crate::raft::inspect::Replica;
use drystone_store::error::{Error, Result};
use drystone_store::types::{UploadId, WriteId};

/// The most reasons that are given for one version.
const REASONS_LEN_MAX: usize = 16;

/// Counts versions and parts by their state, and names at most `limit` of those that are not whole.
pub fn name(
    replica: &Replica,
    rows: &Rows,
    mut damaged: HashMap<WriteId, Damage>,
    limit: usize,
    report: &mut Report,
) -> Result<()> {
    mark_lists(replica, &mut damaged)?;
    let mut namer = KeyNamer {
        replica,
        rows,
        damaged,
        limit,
        report,
    };
    namer.versions()?;
    namer.upload_parts()
}

/// Gives each part list the state of its worst part.
fn mark_lists(replica: &Replica, damaged: &mut HashMap<WriteId, Damage>) -> Result<()> {
    if damaged.is_empty() {
        return Ok(());
    }
    let mut rows = Scan::of_table(replica.db(), replica.state(), table::PARTS, &[]);
    while let Some((row, value)) = rows.next()? {
        // The rules have reported rows that do not decode.
        let (Ok((list, _)), Ok(part)) = (keys::write_id(&row), decode::<PartRow>(&row, &value))
        else {
            continue;
        };
        let Some(damage) = damaged.get(&part.write_id).cloned() else {
            continue;
        };
        let whole = damaged.entry(list).or_insert(Damage {
            state: DataState::Whole,
            reasons: Vec::new(),
        });
        whole.state = whole.state.max(damage.state);
        let room = REASONS_LEN_MAX.saturating_sub(whole.reasons.len());
        whole.reasons.extend(damage.reasons.into_iter().take(room));
    }
    Ok(())
}

struct KeyNamer<'a> {
    replica: &'a Replica,
    rows: &'a Rows,
    damaged: HashMap<WriteId, Damage>,
    limit: usize,
    report: &'a mut Report,
}

impl KeyNamer<'_> {
    fn state(&self, write_id: WriteId) -> DataState {
        let damage = self.damaged.get(&write_id);
        damage.map_or(DataState::Whole, |damage| damage.state)
    }

    fn versions(&mut self) -> Result<()> {
        let replica = self.replica;
        let mut rows = Scan::of_table(replica.db(), replica.state(), table::VERSIONS, &[]);
        let mut last = None;
        while let Some((row, value)) = rows.next()? {
            let Ok((bucket, object, _)) = keys::ended(&row) else {
                continue;
            };
            let at = (bucket, object);
            let is_current = last.as_ref() != Some(&at);
            let Ok(version) = decode::<VersionRow>(&row, &value) else {
                last = Some(at);
                continue;
            };
            match version.object {
                None => self.report.delete_markers += 1,
                Some(object) => {
                    let state = self.state(object.write_id);
                    self.report.versions.add(state);
                    if is_current {
                        self.report.objects.add(state);
                    }
                    let id = version.id.to_string();
                    self.name_key(object.write_id, &at, object.size, |damaged| {
                        damaged.version = Some(id);
                    });
                }
            }
            last = Some(at);
        }
        Ok(())
    }

    fn upload_parts(&mut self) -> Result<()> {
        let replica = self.replica;
        let mut uploads = Scan::of_table(replica.db(), replica.state(), table::UPLOADS, &[]);
        while uploads.next()?.is_some() {
            self.report.uploads += 1;
        }
        let mut rows = Scan::of_table(replica.db(), replica.state(), table::UPLOAD_PARTS, &[]);
        while let Some((row, value)) = rows.next()? {
            let place = keys::upload_id(&row)
                .and_then(|(upload, number)| Ok((upload, keys::part_number(number)?)));
            let (Ok((upload, number)), Ok(part)) = (place, decode::<UploadPartRow>(&row, &value))
            else {
                continue;
            };
            self.report.parts.add(self.state(part.write_id));
            if self.damaged.contains_key(&part.write_id) {
                let at = self.upload_at(upload)?;
                self.name_key(part.write_id, &at, part.size, |damaged| {
                    damaged.upload = Some(upload.0.to_string());
                    damaged.part = Some(number);
                });
            }
        }
        Ok(())
    }

    fn upload_at(&self, upload: UploadId) -> Result<(u64, String)> {
        let row = key(self.replica.state(), table::UPLOAD_IDS, &upload.0.0);
        let at: Option<UploadAt> = match get(self.replica.db(), &row) {
            Err(Error::BadRow(_)) => None,
            at => at?,
        };
        Ok(at.map_or((0, String::new()), |at| (at.bucket.0, at.key)))
    }

    fn name_key(
        &mut self,
        write_id: WriteId,
        (bucket, object): &(u64, String),
        size: u64,
        fill: impl FnOnce(&mut DamagedKey),
    ) {
        let Some(damage) = self.damaged.get(&write_id) else {
            return;
        };
        self.report.damaged_count += 1;
        if self.report.damaged.len() >= self.limit {
            return;
        }
        let bucket = self.rows.buckets.get(bucket);
        let mut damaged = DamagedKey {
            state: damage.state,
            bucket: bucket.map_or_else(String::new, |bucket| bucket.name.clone()),
            key: object.clone(),
            version: None,
            upload: None,
            part: None,
            size,
            reasons: damage
                .reasons
                .iter()
                .take(REASONS_LEN_MAX)
                .cloned()
                .collect(),
        };
        fill(&mut damaged);
        self.report.damaged.push(damaged);
    }
}
