//! Brings a node's groups to life: at its birth, and at every start after it.
//!
//! A start first looks at what the disks have ([`Look`]) and decides, touching nothing: which
//! disks are to be trusted, whether a majority is here, whether the metadata must be formed anew.
//! What refuses to start is as it was. Disks that are here but must not count, for they are older
//! copies of themselves or of an epoch past, are *left over*: they come in only when the groups
//! answer without them, and lose their replicas then ([`Started::take_in`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use tokio::sync::watch;

use super::group::Group;
use super::inspect::Replica;
use super::members::{Members, Place, Roster, Seated, Standing};
use super::network::Router;
use super::raft_log::{delete_log, run_blocking};
use super::raft_types::{ReplicaId, Seat};
use super::reform::{self, End, Past, Standstill, Strength, Survivors};
use super::replica::{
    GroupId, OBJECT_GROUP, ReplicaRow, SYSTEM_GROUP, delete_replica, delete_replica_row,
    put_replica_row, replica_rows,
};
use super::snapshot::{delete_unused_states, unused_state};
use super::witness::{self, Fault, Preparing, Trust, Witness};
use crate::db::Db;
use crate::error::{Error, Result};
use crate::types::DiskId;

/// Voters of a group at most.
const VOTERS_MAX: usize = 9;
const GROUPS: [GroupId; 2] = [SYSTEM_GROUP, OBJECT_GROUP];

/// A disk with its database open.
#[derive(Clone)]
pub struct OpenDisk {
    pub id: DiskId,
    pub db: Arc<Db>,
}

impl OpenDisk {
    pub(super) fn has_failed(&self) -> bool {
        self.db.failure().borrow().is_some()
    }

    fn place(&self, router: &Router) -> Place {
        Place {
            disk: self.id,
            db: self.db.clone(),
            meter: router.meter(self.id),
        }
    }
}

/// Whether replicas may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The disks are new, or their birth was cut before group 0 had committed its record.
    Birth,
    /// The replicas that the disks name.
    Again {
        /// The metadata may be formed anew where a majority is missing: the disks that are not
        /// here were waited for.
        may_reform: bool,
    },
}

/// A node's groups.
#[derive(Clone)]
pub struct Groups {
    pub system: Group,
    pub objects: Group,
}

/// What a start came to.
pub struct Started {
    pub groups: Groups,
    standing: Standing,
    leftovers: Vec<Leftover>,
    /// Disks whose databases are damaged, and how: they are to get new ones.
    pub damaged: Vec<(DiskId, String)>,
}

/// What must go once the groups answer without it.
pub(super) struct Leftover {
    disk: OpenDisk,
    replicas: Vec<(ReplicaId, ReplicaRow)>,
    /// The disk is in use but for these replicas.
    in_use: bool,
    stale: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Standstill(#[from] Standstill),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What a disk has.
#[derive(Clone)]
pub(super) struct Look {
    disk: OpenDisk,
    witness: Witness,
    replicas: Vec<(OpenDisk, Replica, End)>,
}

impl Look {
    fn epoch(&self) -> u64 {
        self.witness.own.as_ref().map_or(0, |own| own.epoch())
    }
}

async fn look(disk: &OpenDisk) -> Result<Look> {
    // It can still be read, and would fail again where it failed before.
    if let Some(failure) = disk.db.failure().borrow().clone() {
        return Err(failure.into());
    }
    let (db, id) = (disk.db.clone(), disk.id);
    let witness = run_blocking(move || witness::read(&db, id)).await?;
    let replicas = reform::ends(disk).await?;
    if witness.own.is_none() && !replicas.is_empty() {
        return Err(disk.db.corrupt("its replicas are not its own").into());
    }
    Ok(Look {
        disk: disk.clone(),
        witness,
        replicas,
    })
}

fn survivors(looks: &[&Look]) -> Vec<Survivors> {
    let of = |group: GroupId| {
        let all = looks.iter().flat_map(|look| &look.replicas);
        let of = all.filter(|(_, replica, _)| replica.group() == group.0);
        of.cloned().collect()
    };
    let group = |group| Survivors {
        replicas: of(group),
    };
    GROUPS.map(group).into()
}

/// What to do with the disks that are trusted.
pub(super) struct Decision {
    pub past: Past,
    /// A majority is missing, or a reform was cut.
    reform: bool,
    trusts: BTreeMap<DiskId, Trust>,
}

impl Decision {
    /// Whether the disk has prepared the reform that the others have declared after its own last.
    fn is_late(&self, look: &Look) -> bool {
        let next = self.past.reforms.get(look.epoch() as usize);
        let own = look.witness.own.as_ref();
        let preparing = own.and_then(|own| own.preparing.as_ref());
        preparing.is_some_and(|preparing| Some(&preparing.id) == next)
    }
}

fn decide(
    looks: &[&Look],
    present: &BTreeSet<DiskId>,
    may_reform: bool,
) -> Result<Decision, Standstill> {
    let witnesses = looks
        .iter()
        .map(|look| (look.disk.id, look.witness.clone()));
    let past = reform::past(&witnesses.collect(), present)?;
    let epoch = past.reforms.len() as u64;
    let mut reform = past.resumed.is_some();
    for group in survivors(looks) {
        match group.strength(epoch) {
            _ if past.resumed.is_some() && group.is_formed(epoch + 1) => {}
            Strength::Majority => {}
            Strength::Enough(_) => reform = true,
            Strength::TooFew {
                here,
                needed,
                voters,
            } => {
                return Err(Standstill::TooFew {
                    here,
                    needed,
                    voters,
                });
            }
        }
    }
    match reform && past.resumed.is_none() && !may_reform {
        true => Err(Standstill::NoMajority),
        false => Ok(Decision {
            past,
            reform,
            trusts: BTreeMap::new(),
        }),
    }
}

/// Decides with the disks that deserve full trust, and where they are too few also with those
/// that once failed to write: nothing was acknowledged after that, and a database that had lost
/// what was synced before would not have opened. Gives the disks that count.
fn decide_whom(
    looks: &[Look],
    present: &BTreeSet<DiskId>,
    may_reform: bool,
) -> Result<(Decision, Vec<DiskId>), Standstill> {
    let witnesses = looks
        .iter()
        .map(|look| (look.disk.id, look.witness.clone()));
    let trusts = witness::judge(&witnesses.collect());
    let with = |least: &[Trust]| {
        let counts = |look: &&Look| least.contains(&trusts[&look.disk.id]);
        let trusted: Vec<_> = looks.iter().filter(counts).collect();
        let decision = Decision {
            trusts: trusts.clone(),
            ..decide(&trusted, present, may_reform)?
        };
        Ok((decision, trusted.iter().map(|look| look.disk.id).collect()))
    };
    let poor = trusts.values().any(|trust| *trust == Trust::Poor);
    match with(&[Trust::Full]) {
        Err(Standstill::TooFew { .. }) if poor => {
            let decided = with(&[Trust::Full, Trust::Poor]);
            if decided.is_ok() {
                tracing::warn!("disks that failed to write count, for want of others");
            }
            decided
        }
        decided => decided,
    }
}

/// Looks, and forms the metadata anew where that must and may be.
pub(super) async fn look_and_decide(
    disks: &[OpenDisk],
    damaged: &mut Vec<(DiskId, String)>,
    may_reform: bool,
) -> Result<(Vec<Look>, Decision, Vec<DiskId>), StartError> {
    loop {
        let mut looks = Vec::new();
        for (disk, look) in disks.iter().zip(join_all(disks.iter().map(look)).await) {
            match look {
                Ok(look) => looks.push(look),
                Err(_) if damaged.iter().any(|(id, _)| *id == disk.id) => {}
                Err(error) => damaged.push((disk.id, error.to_string())),
            }
        }
        let mut present: BTreeSet<_> = disks.iter().map(|disk| disk.id).collect();
        present.extend(damaged.iter().map(|(disk, _)| *disk));
        let (decision, counts) = decide_whom(&looks, &present, may_reform)?;
        let trusted = |look: &&Look| counts.contains(&look.disk.id);
        let late: Vec<_> = looks
            .iter()
            .filter(trusted)
            .filter(|look| decision.is_late(look))
            .collect();
        if let Some(first) = late.first() {
            // Cut while it was declared: what these disks have of it is as good as the others'.
            let own = first
                .witness
                .own
                .as_ref()
                .map_or(0, |own| own.reforms.len());
            let same = late.iter().filter(|look| look.epoch() == own as u64);
            let disks: Vec<_> = same.map(|look| look.disk.clone()).collect();
            reform::declare(&disks, &decision.past.reforms[..=own]).await?;
            continue;
        }
        if !decision.reform {
            for look in looks.iter().filter(|look| !trusted(look)) {
                let trust = decision.trusts[&look.disk.id];
                if matches!(trust, Trust::None | Trust::Poor) {
                    let why = format!("its database is marked: {trust:?}");
                    damaged.push((look.disk.id, why));
                }
            }
            looks.retain(|look| damaged.iter().all(|(id, _)| *id != look.disk.id));
            return Ok((looks, decision, counts));
        }
        let epoch = decision.past.reforms.len() as u64;
        let takes_part =
            |look: &&Look| trusted(look) && look.witness.own.is_some() && look.epoch() == epoch;
        let parts: Vec<_> = looks.iter().filter(takes_part).collect();
        let disks: Vec<_> = parts.iter().map(|look| look.disk.clone()).collect();
        if let Some(resumed) = &decision.past.resumed {
            void_without(&disks, resumed).await?;
        }
        // A disk that fails on the way is found damaged by the next look, and the rest decides.
        match reform::reform(&disks, &survivors(&parts), &decision.past).await {
            Ok(reformed) => drop(reformed?),
            Err(error) if disks.iter().any(OpenDisk::has_failed) => {
                tracing::error!(%error, "a disk failed while the metadata were formed anew");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A reform goes on without those who took part in it and cannot be read now. One of them may have
/// a group formed anew already: if it were to come back as it is, it would lead beside the others.
async fn void_without(disks: &[OpenDisk], resumed: &Preparing) -> Result<()> {
    let is_here = |id: &&DiskId| disks.iter().any(|disk| disk.id == **id);
    for absent in resumed.disks.iter().filter(|id| !is_here(id)) {
        for disk in disks {
            witness::mark_known(disk, *absent, Fault::Damaged).await?;
        }
    }
    Ok(())
}

/// Starts the replicas that are on `disks` and has each group elect a leader at once. Returns
/// before it leads ([`Group::ready`] waits for that). Metadata is to survive the loss of `losses`
/// disks. `damaged`: disks that are here, but whose databases do not open.
///
/// A voter on a disk that is not here stays unreachable, until `voters` gives another its place.
pub async fn start_groups(
    disks: &[OpenDisk],
    mut damaged: Vec<(DiskId, String)>,
    start: Start,
    losses: usize,
) -> Result<Started, StartError> {
    if disks.is_empty() {
        return Err(Error::Unavailable("no disk holds metadata".into()).into());
    }
    let voters_max = (2 * losses + 1).min(VOTERS_MAX);
    let (standing, rows, newborn, leftovers): (_, Vec<(OpenDisk, Rows)>, _, _) = match start {
        Start::Birth => {
            let mut found = try_join_all(disks.iter().map(find_replicas)).await?;
            let newborn = without_log(disks).await?;
            // One log is enough: its replica may have been promised votes, and none is made anew.
            if newborn.len() == GROUPS.len() {
                found = make_replicas(disks, &found, voters_max).await?;
            }
            let mut before = 0;
            for disk in disks {
                let own = witness::read_own(&disk.db, disk.id)
                    .await
                    .map_err(Error::from)?;
                before = before.max(own.map_or(0, |own| own.start));
            }
            let standing = Standing {
                start: before + 1,
                reforms: Vec::new(),
            };
            take_part(disks, standing.start).await?;
            let rows = disks.iter().cloned().zip(found).collect();
            (standing, rows, newborn, Vec::new())
        }
        Start::Again { may_reform } => loop {
            let (looks, decision, counts) =
                look_and_decide(disks, &mut damaged, may_reform).await?;
            let (standing, rows, leftovers) = divide(looks, decision.past, &counts);
            let used: Vec<_> = rows.iter().map(|(disk, _)| disk.clone()).collect();
            match take_part(&used, standing.start).await {
                Ok(()) => break (standing, rows, Vec::new(), leftovers),
                // The next look finds it, and the others go on.
                Err(error) if used.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as the store started");
                }
                Err(error) => return Err(error.into()),
            }
        },
    };
    let groups = run(&rows, &newborn, voters_max, &standing).await?;
    Ok(Started {
        groups,
        standing,
        leftovers,
        damaged,
    })
}

/// Who starts with which replicas, and what is left over.
pub(super) fn divide(
    looks: Vec<Look>,
    past: Past,
    counts: &[DiskId],
) -> (Standing, Vec<(OpenDisk, Rows)>, Vec<Leftover>) {
    let starts = looks
        .iter()
        .filter_map(|look| Some(look.witness.own.as_ref()?.start));
    let standing = Standing {
        start: starts.max().unwrap_or(0) + 1,
        reforms: past.reforms,
    };
    let (mut rows, mut leftovers) = (Vec::new(), Vec::new());
    for look in looks {
        let own = look.witness.own.as_ref();
        let trusted = counts.contains(&look.disk.id);
        let in_use = trusted && own.is_some_and(|own| own.reforms == standing.reforms);
        let all = look
            .replicas
            .iter()
            .map(|(_, replica, _)| (replica.replica(), replica.row()));
        let (seats, replicas) = all.partition(|(_, row)| in_use && row.epoch == standing.epoch());
        if in_use {
            rows.push((look.disk.clone(), seats));
        }
        leftovers.push(Leftover {
            disk: look.disk,
            replicas,
            in_use,
            stale: !trusted,
        });
    }
    leftovers.retain(|leftover| !leftover.in_use || !leftover.replicas.is_empty());
    (standing, rows, leftovers)
}

/// Readies the databases of the disks that take part in a start: what transfers and dropped
/// replicas have left in them goes, and they are stamped.
async fn take_part(disks: &[OpenDisk], start: u64) -> Result<()> {
    try_join_all(disks.iter().map(find_replicas)).await?;
    Ok(witness::stamp(disks, start).await?)
}

/// Starts both groups from the replicas given.
async fn run(
    rows: &[(OpenDisk, Rows)],
    newborn: &[GroupId],
    voters_max: usize,
    standing: &Standing,
) -> Result<Groups> {
    let router = Router::new();
    let places: Vec<Place> = rows.iter().map(|(disk, _)| disk.place(&router)).collect();
    let start_group = async |group| {
        let mut seats = Vec::new();
        for (place, (_, rows)) in places.iter().zip(rows) {
            for (replica, row) in rows.iter().filter(|(_, row)| row.group == group) {
                seats.push(Seated {
                    place: place.clone(),
                    replica: *replica,
                    row: *row,
                });
            }
        }
        let seat = |s: &Seated| (s.replica, Seat { disk: s.place.disk });
        let voters: BTreeMap<_, _> = seats.iter().map(seat).collect();
        let closing = watch::Sender::new(false);
        let roster = Roster {
            group,
            standing: standing.clone(),
            closing: closing.subscribe(),
            voters_max,
            places: places.clone(),
            seats,
        };
        let members = Members::start(router.clone(), roster).await;
        let handle = Group::new(members.clone(), closing);
        if newborn.contains(&group) {
            members.initialize(voters).await?;
        } else {
            members.elect_at_start().await;
        }
        Ok::<_, Error>(handle)
    };
    let (system, objects) =
        futures_util::try_join!(start_group(SYSTEM_GROUP), start_group(OBJECT_GROUP))?;
    Ok(Groups { system, objects })
}

impl Started {
    pub(super) fn of(groups: Groups, standing: Standing, leftovers: Vec<Leftover>) -> Started {
        Started {
            groups,
            standing,
            leftovers,
            damaged: Vec::new(),
        }
    }

    /// Disks that are older copies of themselves. Before they are taken in, whoever keeps lists of
    /// what is on them must make these anew.
    pub fn stale(&self) -> Vec<DiskId> {
        let stale = self.leftovers.iter().filter(|leftover| leftover.stale);
        stale.map(|leftover| leftover.disk.id).collect()
    }

    /// These are not taken in. The next start finds them as they are.
    pub fn leave_out(&mut self, disks: &[DiskId]) {
        self.leftovers
            .retain(|leftover| !disks.contains(&leftover.disk.id));
    }

    /// Takes in the disks that were left over, now that both groups answer without them.
    ///
    /// Power goes after their replicas are gone and before they are stamped: they are left over
    /// once more, with nothing to lose.
    pub async fn take_in(&mut self) -> Result<()> {
        for leftover in std::mem::take(&mut self.leftovers) {
            let disk = leftover.disk.clone();
            unless_failed(&disk, self.take_in_one(leftover).await)?;
        }
        Ok(())
    }

    async fn take_in_one(&self, leftover: Leftover) -> Result<()> {
        let disk = &leftover.disk;
        for (replica, row) in leftover.replicas {
            tracing::warn!(disk = %disk.id, %replica, "dropping a replica of the past");
            delete_replica(&disk.db, replica, row).await?;
        }
        match leftover.in_use {
            true => Ok(()),
            false => self.groups.join(disk, &self.standing).await,
        }
    }

    /// Takes in a disk with a new database.
    pub async fn join(&self, disk: &OpenDisk) -> Result<()> {
        unless_failed(disk, self.groups.join(disk, &self.standing).await)
    }
}

/// A disk that fails on the way takes no part; the store goes on without it.
fn unless_failed(disk: &OpenDisk, taken: Result<()>) -> Result<()> {
    match taken {
        Err(error) if disk.has_failed() => {
            tracing::error!(%error, disk = %disk.id, "a disk failed as it was taken in");
            Ok(())
        }
        taken => taken,
    }
}

impl Groups {
    pub(super) async fn join(&self, disk: &OpenDisk, standing: &Standing) -> Result<()> {
        find_replicas(disk).await?;
        witness::join(disk, standing).await?;
        for group in [&self.system, &self.objects] {
            group.add_disk(disk.id, disk.db.clone());
        }
        self.stamp(standing.start).await
    }

    /// Notes on all disks that they are here. One that fails on the way keeps nobody from it.
    async fn stamp(&self, start: u64) -> Result<()> {
        loop {
            let disks = self.objects.members().healthy();
            let disks: Vec<_> = disks.iter().map(Place::open).collect();
            match witness::stamp(&disks, start).await {
                Err(error) if disks.iter().any(OpenDisk::has_failed) => {
                    tracing::error!(%error, "a disk failed as all noted that they are here");
                }
                stamped => return Ok(stamped?),
            }
        }
    }
}

pub(super) type Rows = Vec<(ReplicaId, ReplicaRow)>;

async fn find_replicas(disk: &OpenDisk) -> Result<Rows> {
    let db = disk.db.clone();
    let found = run_blocking(move || {
        let rows = replica_rows(&db)?;
        let used: Vec<_> = rows.iter().map(|(_, row)| row.state).collect();
        delete_unused_states(&db, &used)?;
        Ok(rows)
    });
    Ok(found.await?)
}

/// The groups of which no replica has a log yet.
///
/// Power may go when the one group is initialized and the other is not: each is looked at alone.
async fn without_log(disks: &[OpenDisk]) -> Result<Vec<GroupId>> {
    let mut newborn = Vec::from(GROUPS);
    for disk in disks {
        for (_, replica, end) in reform::ends(disk).await? {
            if end.last.is_some() {
                newborn.retain(|group| group.0 != replica.group());
            }
        }
    }
    Ok(newborn)
}

/// Makes a replica of each group on each of the first disks, in place of the ones in `found`.
///
/// Power goes before all disks have theirs: none has a log yet, and the next start makes all of
/// them anew. After that: `initialize` is repeated for each group that has no log.
async fn make_replicas(disks: &[OpenDisk], found: &[Rows], voters_max: usize) -> Result<Vec<Rows>> {
    let voters = disks.len().min(voters_max);
    let made = disks
        .iter()
        .zip(found)
        .enumerate()
        .map(|(n, (disk, old))| async move {
            let db = &disk.db;
            let mut rows = Rows::new();
            while n < voters && rows.len() < GROUPS.len() {
                let state = unused_state(db)?;
                if rows.iter().all(|(_, row)| row.state != state) {
                    let row = ReplicaRow {
                        group: GROUPS[rows.len()],
                        epoch: 0,
                        state,
                    };
                    rows.push((ReplicaId::random(), row));
                }
            }
            db.synced(|batch| {
                for (replica, _) in old {
                    delete_replica_row(db, batch, *replica);
                    delete_log(db, batch, *replica);
                }
                for (replica, row) in &rows {
                    put_replica_row(db, batch, *replica, row);
                }
            })
            .await?;
            Ok::<_, Error>(rows)
        });
    try_join_all(made).await
}
