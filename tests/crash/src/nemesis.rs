//! The kinds of faults that are inflicted on the server.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use crate::rig::Rig;

/// The maximum number of disks that are damaged: the parity of four.
const DAMAGED_MAX: usize = 2;
/// How long to wait for a point; one that is not reached by then is skipped.
const POINT_PATIENCE: Duration = Duration::from_secs(4);
const POINT_NTH_MAX: u32 = 24;
/// The points that requests pass.
const POINTS: [&str; 15] = [
    "put-object.proposing",
    "put-object.logged",
    "put-object.applied",
    "put-object.answered",
    "link-object.logged",
    "delete-objects.logged",
    "delete-objects.answered",
    "put-part.logged",
    "complete-upload.logged",
    "complete-upload.answered",
    "shard.listed",
    "shard.created",
    "shard.written",
    "shard.sealed",
    "shard.durable",
];
/// The time for which a disk hangs before power fails.
const HANG_BEFORE_POWER: Duration = Duration::from_secs(3);
const SKEW_MAX_S: i64 = 10 * 365 * 24 * 3600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nemesis {
    /// SIGKILL.
    Kill,
    /// Power of all disks and the server fails.
    Power,
    /// The server ends itself at a step of a commit, and power fails right then.
    Point,
    /// One disk is emptied, with the server running or stopped.
    Emptied,
    /// A bit is flipped in every shard of two disks.
    Rot,
    /// Shards of two disks are swapped.
    Swap,
    /// Disks have no space, for a while.
    Full,
    /// The clock is set back and forth.
    Clock,
    /// One disk hangs under load, and answers again.
    Hang,
    /// One disk hangs under load, and then power of all disks and the server fails.
    HangPower,
    /// The server is killed, and starts while one disk hangs.
    HangStart,
}

impl Nemesis {
    pub const ALL: [Nemesis; 11] = [
        Nemesis::Kill,
        Nemesis::Power,
        Nemesis::Point,
        Nemesis::Emptied,
        Nemesis::Rot,
        Nemesis::Swap,
        Nemesis::Full,
        Nemesis::Clock,
        Nemesis::Hang,
        Nemesis::HangPower,
        Nemesis::HangStart,
    ];

    fn name(self) -> &'static str {
        match self {
            Nemesis::Kill => "kill",
            Nemesis::Power => "power",
            Nemesis::Point => "point",
            Nemesis::Emptied => "emptied",
            Nemesis::Rot => "rot",
            Nemesis::Swap => "swap",
            Nemesis::Full => "full",
            Nemesis::Clock => "clock",
            Nemesis::Hang => "hang",
            Nemesis::HangPower => "hang-power",
            Nemesis::HangStart => "hang-start",
        }
    }

    pub fn needs_file_systems(self) -> bool {
        match self {
            Nemesis::Power | Nemesis::Point | Nemesis::Full => true,
            Nemesis::Hang | Nemesis::HangPower | Nemesis::HangStart => true,
            Nemesis::Kill | Nemesis::Emptied | Nemesis::Rot | Nemesis::Swap => false,
            Nemesis::Clock => false,
        }
    }

    /// Returns whether the server keeps running under the fault, and so does the load.
    pub fn goes_on(self) -> bool {
        use Nemesis::{HangPower, HangStart, Kill, Point, Power};
        !matches!(self, Kill | Power | Point | HangPower | HangStart)
    }

    /// Returns whether redundancy may be lost for good if heal has not restored it yet.
    pub fn degrades(self) -> bool {
        matches!(
            self,
            Nemesis::Emptied | Nemesis::Rot | Nemesis::Swap | Nemesis::Full
        )
    }

    /// Prepares the rig, before the load of a round.
    pub fn prepare(self, rig: &mut Rig, rng: &mut StdRng) {
        if self == Nemesis::HangStart {
            // The disk of the last round answers again.
            rig.kill();
            rig.start().expect("the server starts on its disks");
        }
        if self == Nemesis::Point {
            rig.kill();
            let point = POINTS.choose(rng).expect("there are points");
            rig.arm(Some(format!(
                "{point}:{}",
                rng.random_range(1..=POINT_NTH_MAX)
            )));
            // Upkeep passes points as well: the server may end before it is ready.
            let _ = rig.start();
        }
    }

    /// Inflicts the fault and returns a description of it.
    pub fn strike(self, rig: &mut Rig, round: u64, rng: &mut StdRng) -> String {
        match self {
            Nemesis::Kill => {
                rig.kill();
                "kill -9".to_owned()
            }
            Nemesis::Power => {
                rig.cut_power();
                "power cut of all disks".to_owned()
            }
            Nemesis::Point => {
                let at = rig.armed().unwrap_or("no point yet").to_owned();
                let died = rig.dies_within(POINT_PATIENCE);
                rig.cut_power();
                format!("power cut at {at}, reached: {died}")
            }
            Nemesis::Emptied => {
                // The damaged disks are always the same: the others hold all that is left.
                if round.is_multiple_of(2) {
                    rig.kill();
                }
                rig.empty(1);
                "disk 1 emptied".to_owned()
            }
            Nemesis::Rot => {
                let count = damage(rig, |files| files.iter().for_each(|file| flip(file, rng)));
                format!("a bit flipped in {count} shards")
            }
            Nemesis::Swap => {
                let count = damage(rig, |files| {
                    files.shuffle(rng);
                    files
                        .chunks_exact(2)
                        .for_each(|pair| swap(&pair[0], &pair[1]));
                });
                format!("{count} shards swapped")
            }
            Nemesis::Full => {
                let first = rng.random_range(1..=rig.count);
                for number in first..=rig.count {
                    rig.fill(number, true);
                }
                format!("disks {first} to {} full", rig.count)
            }
            Nemesis::Clock => {
                let skew = rng.random_range(-SKEW_MAX_S / 2..SKEW_MAX_S);
                rig.set_clock(skew);
                format!("clock set {skew} s off")
            }
            Nemesis::Hang => {
                let number = rng.random_range(1..=rig.count);
                rig.freeze(number);
                format!("disk {number} hangs")
            }
            Nemesis::HangStart => {
                rig.kill();
                let number = rng.random_range(1..=rig.count);
                rig.freeze(number);
                format!("kill -9, and disk {number} hangs")
            }
            Nemesis::HangPower => {
                let number = rng.random_range(1..=rig.count);
                rig.freeze(number);
                // Requests go on meanwhile, and nothing says when they do without the disk.
                std::thread::sleep(HANG_BEFORE_POWER);
                rig.cut_power();
                format!("disk {number} hangs, power cut of all disks")
            }
        }
    }

    /// Ends the fault; the server runs afterwards, started again if the fault ended it.
    pub fn recover(self, rig: &mut Rig) -> Result<(), String> {
        match self {
            Nemesis::Full => {
                for number in 1..=rig.count {
                    rig.fill(number, false);
                }
            }
            Nemesis::Point => rig.arm(None),
            Nemesis::Kill | Nemesis::Power | Nemesis::HangPower | Nemesis::HangStart => {}
            _ => rig.kill(),
        }
        rig.kill();
        rig.start().map_err(|error| error.to_string())
    }
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Nemesis {
    type Err = String;

    fn from_str(text: &str) -> Result<Nemesis, String> {
        let found = Nemesis::ALL
            .into_iter()
            .find(|nemesis| nemesis.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {:?}", Nemesis::ALL.map(Nemesis::name)))
    }
}

fn damage(rig: &Rig, mut how: impl FnMut(&mut Vec<std::path::PathBuf>)) -> usize {
    let mut count = 0;
    for number in 1..=DAMAGED_MAX {
        let mut files = rig.shard_files(number);
        count += files.len();
        how(&mut files);
    }
    count
}

/// Flips a bit in the file, which gc may have removed meanwhile.
fn flip(file: &Path, rng: &mut StdRng) {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(file) else {
        return;
    };
    let len = file.metadata().map_or(0, |data| data.len());
    let mut byte = [0];
    if len == 0 {
        return;
    }
    let at = rng.random_range(0..len);
    if file.read_exact_at(&mut byte, at).is_ok() {
        let _ = file.write_all_at(&[byte[0] ^ 1 << rng.random_range(0..8)], at);
    }
}

fn swap(one: &Path, other: &Path) {
    let (Ok(first), Ok(second)) = (fs::read(one), fs::read(other)) else {
        return;
    };
    for (path, bytes) in [(one, second), (other, first)] {
        let file = OpenOptions::new().write(true).truncate(true).open(path);
        if let Ok(file) = file {
            let _ = file.write_all_at(&bytes, 0);
        }
    }
}
