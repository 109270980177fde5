//! Crash points: named places in every commit sequence where a test ends the process.
//!
//! The points are compiled in and do nothing unless one is armed. The process then ends there at
//! once, as by `kill -9`: nothing is unwound, flushed or answered. `docs/internals/commits.md` says
//! what is on which disk at each of them.
//!
//! There are two kinds. Every command of a metadata group passes the same four [`CommandPoint`]s,
//! so a new kind of command has its points as soon as it has a name here. The [`DiskPoint`]s are
//! steps on one disk, whatever they are done for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Defines an enum whose variants have printable names, with a list of all variants.
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
    /// The kind of a command.
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
        DropAnswers = "drop-answers",
        ForgetGarbage = "forget-garbage",
        QueueHeal = "queue-heal",
        SwapShard = "swap-shard",
        SettleHeals = "settle-heals",
        RemoveDisk = "remove-disk",
        QueueDisk = "queue-disk",
        NoteScrub = "note-scrub",
        ReencodeData = "reencode-data",
        ReleaseParts = "release-parts",
    }
}

named! {
    /// The progress of a command.
    CommandPoint {
        /// The command exists and is in no log. The shards that it names are durable.
        Proposing = "proposing",
        /// Its entry is synced in the log of one more disk, and nobody has been notified yet.
        Logged = "logged",
        /// One more replica has applied it.
        Applied = "applied",
        /// It is committed and answered within the process, but the client has no answer yet.
        Answered = "answered",
    }
}

named! {
    /// The progress of an operation on one disk.
    DiskPoint {
        /// The shard is in the disk's list of unconfirmed shards and has no file.
        ShardListed = "shard.listed",
        /// Its file has a name and a header, neither synced.
        ShardCreated = "shard.created",
        /// All its blocks are written, but not synced, and there is no footer.
        ShardWritten = "shard.written",
        /// The file is complete and synced, its name in the folder is not.
        ShardSealed = "shard.sealed",
        /// File and name are synced: the shard survives a power failure.
        ShardDurable = "shard.durable",
        /// Shards are about to be removed.
        ShardsLeaving = "shards.leaving",
        /// Their files are unlinked, the folders are not synced.
        ShardsUnlinked = "shards.unlinked",
        /// The folders are synced as well.
        ShardsRemoved = "shards.removed",
        /// Confirmed shards or removed orphans are about to leave the list.
        ListShrinking = "list.shrinking",
        /// A batch is in the database's log, not synced.
        LogWritten = "log.written",
        /// It is synced, and nobody has been notified yet.
        LogSynced = "log.synced",
        /// A disk's new identity, or the copy of it, is synced beside the file that it replaces.
        IdentityWritten = "identity.written",
        /// It has its name, the folder is not synced.
        IdentityRenamed = "identity.renamed",
        /// Identity and copy are synced with their names.
        IdentityDurable = "identity.durable",
        /// A disk has its folders of shards and no database.
        FoldersMade = "folders.made",
        /// A new, empty database exists.
        DatabaseCreated = "database.created",
        /// A rebuilt database has its list of shards and lies beside the old one under another
        /// name.
        DatabaseListed = "database.listed",
        /// The old database has been renamed.
        DatabaseAside = "database.aside",
        /// The new one has the name, the folder is not synced, and the old one still exists.
        DatabaseRenamed = "database.renamed",
        /// The old one is removed.
        DatabaseRemoved = "database.removed",
        /// One more disk has noted that it takes part in this start. No other disk knows it yet.
        StartStamped = "start.stamped",
        /// One more disk has noted that all others take part.
        StartKnown = "start.known",
        /// A replica has its row and nothing else.
        ReplicaMade = "replica.made",
        /// A change of learners or voters is committed.
        SeatsChanged = "seats.changed",
        /// The row and the log of a replica that is no member, or of a lower incarnation, are
        /// removed. Its state still exists.
        ReplicaDropped = "replica.dropped",
        /// A snapshot is complete, beside the state in use if there is one.
        SnapshotReceived = "snapshot.received",
        /// The snapshot is the state in use, and the old state still exists.
        SnapshotSwitched = "snapshot.switched",
        /// One more disk has noted a recovery and who takes part.
        RecoveryPrepared = "recovery.prepared",
        /// One more group has its only voter, under a new id.
        RecoveryFormed = "recovery.formed",
        /// One more disk has the recovery among its past.
        RecoveryDeclared = "recovery.declared",
    }
}

/// A place where the process can crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Command(CommandKind, CommandPoint),
    Disk(DiskPoint),
}

impl Point {
    /// Returns every point. A test has to reach each of them.
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

/// The point where to crash, and at which passing of it: `put-object.logged` or
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

/// The receiver of every point that is passed. It is cheap to clone and does nothing unless a point
/// is armed.
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

    /// Returns whether a point is armed, so that the caller need not find out which points it
    /// passes.
    pub fn is_armed(&self) -> bool {
        self.0.is_some()
    }

    /// Reports that a point is passed. It does not return if the process has to end there.
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
