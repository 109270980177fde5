//! Survey: counts how many more disks may be lost before an object cannot be read.
//!
//! Each write is looked at by the metadata alone: which of its shards lie on disks that are up, and
//! are not in the heal queue. The write with the fewest to spare decides. A survey takes place when
//! a disk comes or goes, again and again while shards are queued or writes are undersized, and else
//! rarely. Between two surveys the answer is a lower bound: a disk that went since then had at most
//! one shard of each write.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::meta::view::View;
use crate::meta::view::upkeep::Protection;
use crate::raft::proposer::Proposer;
use crate::raft::voters::VoterCount;
use crate::shards::Shards;
use drystone_store::env::Instant;
use drystone_store::error::Result;
use drystone_store::lock::Mutex;
use drystone_store::operator::{DiskState, Redundancy};
use drystone_store::types::DiskId;
use drystone_store::workers::{Next, StepError, Wakeup, Worker};

/// The number of data rows that are read at once.
const PAGE_LEN: usize = 500;
/// The pause between two looks at whether a survey is due.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How long a survey is good while no disk comes or goes and nothing waits for repair.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// The rest after a step, as a multiple of its duration.
const REST_FACTOR: u32 = 4;

/// The redundancy of all writes at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The disks that were up.
    up: BTreeSet<DiskId>,
    /// The number of shards to spare of the write that has the fewest; below zero for a write that
    /// cannot be read. `None`: no write has shards.
    spare: Option<i64>,
    /// The same of the writes that have a good shard on a disk.
    spare_on: HashMap<DiskId, i64>,
    unreadable: u64,
    /// Milliseconds since 1970, UTC.
    counted_ms: i64,
}

impl Survey {
    fn add(&mut self, protection: &Protection) {
        let spare = protection.good.len() as i64 - i64::from(protection.data_shards);
        self.unreadable += u64::from(spare < 0);
        self.spare = Some(self.spare.map_or(spare, |least| least.min(spare)));
        for disk in &protection.good {
            let least = self.spare_on.entry(*disk).or_insert(spare);
            *least = spare.min(*least);
        }
    }
}

/// The things beside the shards that decide what more losses cost.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    pub up: BTreeSet<DiskId>,
    /// The number of disks that are up and have room.
    pub writable: usize,
    /// The number of disks that a write needs.
    pub needed: usize,
    /// The voters of the groups, of each as many as are alive.
    pub voters: Vec<VoterCount>,
}

impl Standing {
    /// Returns how many disks may be lost at once and the metadata go on, if need be from fewer
    /// than a majority: what was acknowledged is on a majority of voters, so one voter of each
    /// majority must be left.
    fn metadata_survives(&self) -> u64 {
        let survives = self.voters.iter().map(|voters| {
            let must_live = voters.all + 1 - voters.quorum;
            voters.alive.saturating_sub(must_live) as u64
        });
        survives.min().unwrap_or(0)
    }

    fn writes_survive(&self) -> u64 {
        let disks = self.writable.saturating_sub(self.needed) as u64;
        disks.min(self.metadata_survives())
    }

    /// Returns how many disks were lost since the survey.
    fn lost_since(&self, survey: &Survey) -> i64 {
        survey.up.difference(&self.up).count() as i64
    }
}

/// Returns what the store survives.
pub fn redundancy(survey: Option<&Survey>, now: &Standing) -> Redundancy {
    let metadata = now.metadata_survives();
    let reads = survey.map(|survey| match survey.spare {
        Some(spare) => {
            let spare = spare - now.lost_since(survey);
            metadata.min(u64::try_from(spare).unwrap_or(0))
        }
        None => metadata,
    });
    Redundancy {
        reads_survive: reads,
        writes_survive: now.writes_survive(),
        metadata_survives: metadata,
        unreadable_writes: survey.map(|survey| survey.unreadable),
        counted_ms: survey.map(|survey| survey.counted_ms),
        is_exact: survey.is_some_and(|survey| survey.up == now.up),
    }
}

/// Returns whether a disk can be taken out for good at once: all objects can be read without it,
/// and writes go on. False if that is not known.
pub fn can_be_taken_out(
    disk: DiskId,
    state: DiskState,
    survey: Option<&Survey>,
    now: &Standing,
) -> bool {
    let Some(survey) = survey else {
        return false;
    };
    let lost = now.lost_since(survey);
    match state {
        DiskState::Removed => true,
        DiskState::Offline => survey.spare.is_none_or(|spare| spare >= lost),
        DiskState::Up => {
            let spare = survey.spare_on.get(&disk);
            spare.is_none_or(|spare| *spare > lost) && now.writes_survive() > 0
        }
    }
}

pub struct Surveyor {
    objects: Proposer,
    shards: Arc<Shards>,
    wakeup: Wakeup,
    last: Mutex<Option<Last>>,
}

/// The last survey that ended.
#[derive(Clone)]
struct Last {
    survey: Arc<Survey>,
    begun: Instant,
    /// Shards were queued for heal, or writes were undersized.
    was_repairing: bool,
}

impl Last {
    fn is_good(&self, up: &BTreeSet<DiskId>, is_repairing: bool, now: Instant) -> bool {
        let is_settled = !self.was_repairing && !is_repairing;
        self.survey.up == *up && is_settled && now < self.begun + GOOD_FOR
    }
}

impl Surveyor {
    pub fn new(objects: Proposer, shards: Arc<Shards>) -> Surveyor {
        Surveyor {
            objects,
            shards,
            wakeup: Wakeup::default(),
            last: Mutex::default(),
        }
    }

    /// Returns the last survey, or `None` until the first one of the process has ended.
    pub fn last(&self) -> Option<Arc<Survey>> {
        self.last.lock().as_ref().map(|last| last.survey.clone())
    }

    /// Begins a survey if one is due: a disk may have come or gone.
    pub fn wake(&self) {
        self.wakeup.wake();
    }

    /// Returns whether shards are queued for heal or writes are undersized.
    async fn is_repairing(&self) -> Result<bool> {
        let waiting =
            |view: &View<'_>| Ok(view.undersized_count(1)? > 0 || !view.heals(None, 1)?.is_empty());
        self.objects.group.read(waiting).await
    }

    async fn survey(&self, up: BTreeSet<DiskId>) -> Result<Survey> {
        let mut survey = Survey {
            up,
            counted_ms: self.objects.env.now().0,
            ..Survey::default()
        };
        let mut after = None;
        loop {
            let up = survey.up.clone();
            let page = move |view: &View<'_>| view.protections(&up, after, PAGE_LEN);
            let (protections, last) = self.objects.group.read(page).await?;
            protections.iter().for_each(|write| survey.add(write));
            match last {
                Some(_) => after = last,
                None => return Ok(survey),
            }
        }
    }
}

#[async_trait]
impl Worker for Surveyor {
    fn name(&self) -> &'static str {
        "survey"
    }

    async fn step(&self) -> Result<Next, StepError> {
        let begun = self.objects.env.instant();
        let (up, was_repairing) = (self.shards.up(), self.is_repairing().await?);
        let last = self.last.lock().clone();
        if !last.is_some_and(|last| last.is_good(&up, was_repairing, begun)) {
            let survey = Arc::new(self.survey(up).await?);
            *self.last.lock() = Some(Last {
                survey,
                begun,
                was_repairing,
            });
        }
        Ok(Next::At(self.objects.env.after(LOOK_EVERY)))
    }

    fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    fn rest(&self, took: Duration) -> Duration {
        took * REST_FACTOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: DiskState = DiskState::Up;
    const OFFLINE: DiskState = DiskState::Offline;

    fn disk(n: u8) -> DiskId {
        DiskId([n; 16])
    }

    fn disks(numbers: &[u8]) -> BTreeSet<DiskId> {
        numbers.iter().copied().map(disk).collect()
    }

    /// Surveys writes with the given data shards and good shards on the disks with these numbers.
    fn survey(up: &[u8], writes: &[(u8, &[u8])]) -> Survey {
        let mut survey = Survey {
            up: disks(up),
            ..Survey::default()
        };
        for (data_shards, good) in writes {
            survey.add(&Protection {
                data_shards: *data_shards,
                good: good.iter().copied().map(disk).collect(),
            });
        }
        survey
    }

    fn voters(alive: usize, all: usize) -> VoterCount {
        VoterCount {
            alive,
            all,
            quorum: all / 2 + 1,
        }
    }

    fn standing(up: &[u8], voters: VoterCount) -> Standing {
        Standing {
            up: disks(up),
            writable: up.len(),
            needed: 2,
            voters: vec![voters],
        }
    }

    #[test]
    fn b_12_reads_survive_what_the_least_protected_write_does() {
        let all: &[u8] = &[1, 2, 3, 4];
        type Case<'a> = (&'a [u8], &'a [(u8, &'a [u8])], &'a [u8], VoterCount, u64);
        let cases: [Case<'_>; 9] = [
            // Four disks, 2+2: two may be lost.
            (all, &[(2, all)], all, voters(4, 4), 2),
            // Tried: with two of them away it was said that all is well.
            (&[1, 2], &[(2, &[1, 2])], &[1, 2], voters(2, 2), 0),
            // They went since the survey.
            (all, &[(2, all)], &[1, 2], voters(4, 4), 0),
            (all, &[(2, all)], &[1, 2, 3], voters(4, 4), 1),
            // A disk that came back is counted by the next survey only.
            (&[1, 2], &[(2, &[1, 2])], all, voters(4, 4), 0),
            // One queued shard is enough, and an undersized write.
            (all, &[(2, all), (2, &[1, 2, 3])], all, voters(4, 4), 1),
            (all, &[(2, all), (1, &[1, 2])], all, voters(4, 4), 1),
            // Without any shards, the metadata decides alone.
            (all, &[], all, voters(3, 4), 1),
            // It cannot be read at all.
            (all, &[(2, &[1])], all, voters(4, 4), 0),
        ];
        for (n, (up, writes, now, voters, expected)) in cases.into_iter().enumerate() {
            let (survey, now) = (survey(up, writes), standing(now, voters));
            let found = redundancy(Some(&survey), &now);
            assert_eq!(found.reads_survive, Some(expected), "{n}");
            assert_eq!(found.is_exact, survey.up == now.up, "{n}");
        }
        let now = standing(all, voters(4, 4));
        let unreadable = redundancy(Some(&survey(all, &[(2, &[1]), (2, all)])), &now);
        assert_eq!(unreadable.unreadable_writes, Some(1));
        let unknown = redundancy(None, &now);
        assert_eq!((unknown.reads_survive, unknown.writes_survive), (None, 2));
    }

    #[test]
    fn b_12_the_metadata_survive_while_each_majority_has_a_voter_left() {
        for (alive, all, expected) in [
            (1, 1, 0),
            (2, 2, 1),
            (1, 2, 0),
            (3, 3, 1),
            (4, 4, 2),
            (2, 4, 0),
            (5, 5, 2),
            (3, 5, 0),
            (9, 9, 4),
            (0, 3, 0),
        ] {
            let mut now = standing(&[1, 2, 3, 4, 5, 6, 7, 8, 9], voters(alive, all));
            assert_eq!(now.metadata_survives(), expected, "{alive} of {all}");
            assert_eq!(now.writes_survive(), expected, "{alive} of {all}");
            // The group that survives less decides.
            now.voters.push(voters(9, 9));
            assert_eq!(now.metadata_survives(), expected.min(4));
        }
        assert_eq!(Standing::default().metadata_survives(), 0);
    }

    #[test]
    fn b_12_writes_survive_until_too_few_disks_have_room() {
        let mut now = standing(&[1, 2, 3, 4], voters(4, 4));
        for (writable, expected) in [(4, 2), (3, 1), (2, 0), (0, 0)] {
            now.writable = writable;
            assert_eq!(now.writes_survive(), expected, "{writable}");
        }
    }

    #[test]
    fn b_12_a_disk_can_be_taken_out_if_nothing_is_lost_by_it() {
        let all: &[u8] = &[1, 2, 3, 4, 5];
        let writes: &[(u8, &[u8])] = &[(2, &[1, 2, 3, 4]), (2, &[1, 2, 5]), (2, &[2, 5])];
        let whole = survey(all, writes);
        let now = standing(all, voters(5, 5));
        let asked = |n: u8, state, survey: &Survey, now: &Standing| {
            can_be_taken_out(disk(n), state, Some(survey), now)
        };
        // The last write has nothing to spare.
        for (n, expected) in [(1, true), (2, false), (3, true), (4, true), (5, false)] {
            assert_eq!(asked(n, UP, &whole, &now), expected, "{n}");
        }
        // Another one went since the survey.
        let fewer = standing(&[1, 2, 3, 4], voters(4, 5));
        for (n, expected) in [(1, false), (3, true), (4, true)] {
            assert_eq!(asked(n, UP, &whole, &fewer), expected, "{n}");
        }
        // The metadata would not go on.
        assert!(!asked(3, UP, &whole, &standing(all, voters(3, 5))));
        assert!(!can_be_taken_out(disk(3), UP, None, &now));
        // A disk that is offline is missed already.
        assert!(asked(9, OFFLINE, &whole, &now));
        assert!(!asked(5, OFFLINE, &whole, &fewer));
        assert!(!asked(9, OFFLINE, &survey(all, &[(2, &[1])]), &now));
    }
}
