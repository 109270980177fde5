//! Named places in every commit sequence where a test cuts the process off.
//!
//! The points are compiled in and do nothing unless one is armed; the process then ends there at
//! once, as by `kill -9`: nothing is unwound, flushed or answered. ARCHITECTURE.md says what is on
//! which disk at each of them.
//!
//! There are two kinds. Every command of a metadata group passes the same four [`Step`]s, so a
//! new kind of command has its points as soon as it has a name here; the [`DiskPoint`]s are steps
//! of one disk, whatever they are done for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An enum whose variants have names for people, and all of them in a row.
macro_rules! named {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$inner])* $variant,)*
        }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}

named! {
    /// What a command is for.
    CommandKind {
        PutAccount = "put-account",
        ReserveBucket = "reserve-bucket",
        ActivateBucket = "activate-bucket",
        ReleaseBucket = "release-bucket",
        RegisterDisks = "register-disks",
        MarkOffline = "mark-offline",
        ReplaceDisk = "replace-disk",
        SetUpkeep = "set-upkeep",
        CreateBucket = "create-bucket",
        SealBucket = "seal-bucket",
        EmptyBucket = "empty-bucket",
        SetVersioning = "set-versioning",
        PutBucketSetting = "put-bucket-setting",
        SetQuota = "set-quota",
        PutObject = "put-object",
        LinkObject = "link-object",
        DeleteObjects = "delete-objects",
        PutTags = "put-tags",
        CreateUpload = "create-upload",
        PutPart = "put-part",
        CompleteUpload = "complete-upload",
        AbortUpload = "abort-upload",
        RaiseEpoch = "raise-epoch",
        RaiseFloor = "raise-floor",
        ForgetGarbage = "forget-garbage",
        QueueHeal = "queue-heal",
        SwapShard = "swap-shard",
        SettleHeals = "settle-heals",
        RemoveDisk = "remove-disk",
        QueueDisk = "queue-disk",
        NoteScrub = "note-scrub",
        ReencodeData = "reencode-data",
    }
}

named! {
    /// How far a command has come.
    CommandPoint {
        /// The command is made and in no log. What it names is durable.
        Proposing = "proposing",
        /// Its entry is synced in one more disk's log, and nobody was told of that yet.
        Logged = "logged",
        /// One more replica has carried it out.
        Applied = "applied",
        /// It is committed and answered within the process; the client was not told yet.
        Answered = "answered",
    }
}

named! {
    /// How far one disk has come.
    DiskPoint {
        /// The shard is in the disk's list of unconfirmed ones; it has no file.
        ShardListed = "shard.listed",
        /// Its file has a name and a header, neither of them synced.
        ShardCreated = "shard.created",
        /// All its blocks are written, not synced and without a footer.
        ShardWritten = "shard.written",
        /// The file is whole and synced; its name in the folder is not.
        ShardSealed = "shard.sealed",
        /// Nothing can take the shard away any more.
        ShardDurable = "shard.durable",
        /// Shards are about to be removed.
        ShardsLeaving = "shards.leaving",
        /// Their files are unlinked; the folders are not synced.
        ShardsUnlinked = "shards.unlinked",
        /// The folders are synced, too.
        ShardsRemoved = "shards.removed",
        /// Confirmed shards, or removed orphans, are about to leave the list.
        ListShrinking = "list.shrinking",
        /// A batch is in the database's log, not synced.
        LogWritten = "log.written",
        /// It is synced, and nobody was told of that yet.
        LogSynced = "log.synced",
        /// A disk's identity, or the copy of it, is synced beside the one that it is to replace.
        IdentityWritten = "identity.written",
        /// It has its name; the folder is not synced.
        IdentityRenamed = "identity.renamed",
        /// Both are there for good.
        IdentityDurable = "identity.durable",
        /// A disk has its folders of shards, and no database.
        FoldersMade = "folders.made",
        /// A new database is there, empty.
        DatabaseCreated = "database.created",
        /// One that is to take another's place has all that it must have, under a name aside.
        DatabaseListed = "database.listed",
        /// The one that it replaces has left its name.
        DatabaseAside = "database.aside",
        /// The new one has the name; the folder is not synced, and the old one is there still.
        DatabaseRenamed = "database.renamed",
        /// The old one is gone.
        DatabaseRemoved = "database.removed",
        /// One more disk says of itself that it takes part in this start; no other knows of it.
        StartStamped = "start.stamped",
        /// One more disk knows of all others that they take part.
        StartKnown = "start.known",
        /// A replica has its row and nothing else.
        ReplicaMade = "replica.made",
        /// A change of learners or voters is committed.
        SeatsChanged = "seats.changed",
        /// A replica that is no member, or of the past, has no row and no log any more; its state
        /// is there still.
        ReplicaDropped = "replica.dropped",
        /// A state was received whole beside the one in use, if there is one.
        SnapshotReceived = "snapshot.received",
        /// It is the one in use; what was before it is there still.
        SnapshotSwitched = "snapshot.switched",
        /// One more disk has noted a recovery and who takes part.
        RecoveryPrepared = "recovery.prepared",
        /// One more group has its only voter, under a new id.
        RecoveryFormed = "recovery.formed",
        /// One more disk has the recovery among its past.
        RecoveryDeclared = "recovery.declared",
    }
}

/// A place where the process can be cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Command(CommandKind, CommandPoint),
    Disk(DiskPoint),
}

impl Point {
    /// Every point there is: what a test has to reach.
    pub fn all() -> impl Iterator<Item = Point> {
        let steps = |kind| {
            CommandPoint::ALL
                .iter()
                .map(move |step| Point::Command(kind, *step))
        };
        let commands = CommandKind::ALL.iter().copied().flat_map(steps);
        commands.chain(DiskPoint::ALL.iter().copied().map(Point::Disk))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Command(kind, step) => write!(f, "{}.{}", kind.name(), step.name()),
            Point::Disk(point) => f.write_str(point.name()),
        }
    }
}

/// Where to cut, and at the how-manieth time that it is passed: `put-object.logged` or
/// `put-object.logged:3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashAt {
    pub point: Point,
    pub nth: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no crash point: expected NAME or NAME:NTH, such as put-object.logged:2")]
pub struct NoSuchPoint(String);

impl FromStr for CrashAt {
    type Err = NoSuchPoint;

    fn from_str(text: &str) -> Result<CrashAt, NoSuchPoint> {
        let unknown = || NoSuchPoint(text.to_owned());
        let (name, nth) = match text.split_once(':') {
            Some((name, nth)) => (name, nth.parse().map_err(|_| unknown())?),
            None => (text, 1),
        };
        let point = Point::all().find(|point| point.to_string() == name);
        match point {
            Some(point) if nth > 0 => Ok(CrashAt { point, nth }),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for CrashAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.point, self.nth)
    }
}

/// Told of every point that is passed. Cheap to clone; does nothing when none is armed.
#[derive(Clone, Debug, Default)]
pub struct Crash(Option<Arc<Armed>>);

#[derive(Debug)]
struct Armed {
    at: CrashAt,
    passed: AtomicU32,
}

impl Crash {
    pub fn at(at: CrashAt) -> Crash {
        let passed = AtomicU32::new(0);
        Crash(Some(Arc::new(Armed { at, passed })))
    }

    /// Whether it is worth while to find out which points are passed.
    pub fn is_armed(&self) -> bool {
        self.0.is_some()
    }

    /// Does not return where the process is to end.
    pub fn pass(&self, point: Point) {
        let Some(armed) = &self.0 else {
            return;
        };
        if armed.at.point == point
            && armed.passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.at.nth
        {
            std::process::abort();
        }
    }

    pub fn pass_disk(&self, point: DiskPoint) {
        self.pass(Point::Disk(point));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_is_found_by_its_name_and_no_other_is() {
        let names: BTreeSet<String> = Point::all().map(|point| point.to_string()).collect();
        assert_eq!(names.len(), Point::all().count());
        for point in Point::all() {
            let at: CrashAt = point.to_string().parse().unwrap();
            assert_eq!(at, CrashAt { point, nth: 1 });
            let at = CrashAt { point, nth: 7 };
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        for text in [
            "",
            "put-object",
            "put-object.logged:",
            "shard.listed:0",
            "x:1",
        ] {
            assert!(text.parse::<CrashAt>().is_err(), "{text}");
        }
    }
}
