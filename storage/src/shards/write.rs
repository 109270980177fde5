//! Writing a body as a shard set.
//!
//! The body is read once, into stripes; each is coded and handed to one task per shard, so that
//! network, coding and disks overlap. A few stripes are in flight, whatever the body's size.
//!
//! `Ok` means: every shard is synced; or, where disks failed on the way and no other could stand
//! in, so many are that any one more disk may be lost and the bytes are still there. The set marks
//! the shards that are missing. After an error, and when the caller goes away, what was written is
//! removed at once (F-28): no command can name it, as its set was never given. What a disk keeps
//! all the same is in its list of unconfirmed shards, and gc removes it.
//!
//! A shard whose disk fails begins anew on another disk as long as all its bytes are at hand:
//! while the body is no longer than what is in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::erasure::{CHUNK_SIZE_BYTES, Codec, Geometry};
use crate::disk::{Disk, DiskError, ShardHeader, ShardName};
use crate::shards::{Suspects, is_late, within_deadline};
use drystone_store::body::Body;
use drystone_store::env::{Env, Task};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardPlace, ShardSet};
use drystone_store::types::{BucketId, Epoch, WriteId};

/// Stripes of one write that wait for its disks, parity included, hold at most about this much,
/// and as much again is being written.
const QUEUED_BYTES: usize = 2 << 20;
/// Fewer would not let disks and network overlap.
const QUEUED_STRIPES_MIN: usize = 1;

/// Whose shards they are.
#[derive(Clone, Copy)]
pub(super) struct WriteLabel {
    pub write_id: WriteId,
    pub epoch: Epoch,
    pub bucket: BucketId,
    /// Of all its shards.
    pub generation: u32,
}

pub(super) struct Plan {
    pub geometry: Geometry,
    /// The class's is a wider one.
    pub undersized: bool,
    /// As many as shards by rank, then those that can stand in.
    pub disks: Vec<Arc<dyn Disk>>,
    pub size_hint: Option<u64>,
}

/// What a shard's task is told.
enum TaskMessage {
    Append(Bytes),
    Seal { object_size: u64 },
}

/// One shard on its way to one disk.
struct ShardTask {
    disk: Arc<dyn Disk>,
    steps: mpsc::Sender<TaskMessage>,
    task: Task<Result<u64, DiskError>>,
}

enum ShardProgress {
    Writing(ShardTask),
    Durable { disk: Arc<dyn Disk>, checksum: u64 },
    Missing { disk: Arc<dyn Disk> },
}

/// A coded stripe: all its chunks, by rank, one after the other.
#[derive(Clone)]
struct Stripe {
    bytes: Bytes,
    chunk_len: usize,
}

impl Stripe {
    fn chunk(&self, rank: usize) -> Bytes {
        let start = rank * self.chunk_len;
        self.bytes.slice(start..start + self.chunk_len)
    }
}

/// A write under way.
pub(super) struct Write {
    label: WriteLabel,
    geometry: Geometry,
    undersized: bool,
    codec: Arc<Codec>,
    slots: Vec<ShardProgress>,
    spares: VecDeque<Arc<dyn Disk>>,
    suspects: Arc<Suspects>,
    size_hint: Option<u64>,
    /// Stripes a lane queues at most.
    queue_len: usize,
    /// All stripes so far, as long as they are few enough.
    kept: Option<Vec<Stripe>>,
    /// Buffers that come free when all disks have written them.
    used: VecDeque<Bytes>,
    full: bool,
    /// Its set was given: from now on the shards are the metadata's.
    given: bool,
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.given {
            return;
        }
        for (rank, slot) in self.slots.drain(..).enumerate() {
            let (name, env) = (self.label.shard_name(rank), self.suspects.env.clone());
            self.suspects.env.spawn(async move {
                let disk = match slot {
                    ShardProgress::Writing(ShardTask { disk, steps, task }) => {
                        // Without more steps it ends; until then it may still write.
                        drop(steps);
                        task.await.ok();
                        disk
                    }
                    ShardProgress::Durable { disk, .. } | ShardProgress::Missing { disk } => disk,
                };
                if let Err(error) = within_deadline(env.as_ref(), disk.remove(vec![name])).await {
                    tracing::debug!(%error, disk = %disk.id(), "an unnamed shard is left to gc");
                }
            });
        }
    }
}

impl WriteLabel {
    fn shard_name(&self, rank: usize) -> ShardName {
        ShardName {
            write_id: self.write_id,
            rank: rank as u8,
            generation: self.generation,
        }
    }
}

impl Write {
    pub fn begin(
        label: WriteLabel,
        plan: Plan,
        codec: Arc<Codec>,
        suspects: Arc<Suspects>,
    ) -> Write {
        let geometry = plan.geometry;
        let mut disks = VecDeque::from(plan.disks);
        assert!(
            disks.len() >= geometry.total(),
            "a plan has a disk per shard"
        );
        let stripe_bytes = CHUNK_SIZE_BYTES as usize * geometry.total();
        let mut write = Write {
            label,
            geometry,
            undersized: plan.undersized,
            codec,
            slots: Vec::with_capacity(geometry.total()),
            spares: VecDeque::new(),
            suspects,
            size_hint: plan.size_hint,
            queue_len: (QUEUED_BYTES / stripe_bytes).max(QUEUED_STRIPES_MIN),
            kept: Some(Vec::new()),
            used: VecDeque::new(),
            full: false,
            given: false,
        };
        for (rank, disk) in disks.drain(..geometry.total()).enumerate() {
            let lane = write.start_lane(rank, disk);
            write.slots.push(ShardProgress::Writing(lane));
        }
        write.spares = disks;
        write
    }

    fn start_lane(&self, rank: usize, disk: Arc<dyn Disk>) -> ShardTask {
        let header = ShardHeader {
            name: self.label.shard_name(rank),
            epoch: self.label.epoch,
            bucket: self.label.bucket,
            data_shards: self.geometry.data() as u8,
            parity_shards: self.geometry.parity() as u8,
            chunk_size: CHUNK_SIZE_BYTES,
        };
        let (steps, queue) = mpsc::channel(self.queue_len);
        let env = &self.suspects.env;
        let task = write_shard(
            env.clone(),
            Arc::clone(&disk),
            header,
            queue,
            self.queue_len,
        );
        ShardTask {
            disk,
            steps,
            task: env.spawn(task),
        }
    }

    /// Cuts prefix and body into stripes and hands them to the disks; gives the size.
    pub async fn stream(&mut self, prefix: Bytes, body: &mut dyn Body) -> Result<u64> {
        let mut rest = prefix;
        let mut size = 0;
        loop {
            let mut buffer = self.buffer();
            let more = fill(&mut buffer, self.stripe_size(), &mut rest, body).await?;
            if !buffer.is_empty() {
                size += buffer.len() as u64;
                let stripe = self.encode(buffer);
                self.send(stripe).await?;
            }
            if !more {
                return Ok(size);
            }
        }
    }

    fn stripe_size(&self) -> usize {
        CHUNK_SIZE_BYTES as usize * self.geometry.data()
    }

    /// A buffer that all disks are done with, or a new one.
    fn buffer(&mut self) -> BytesMut {
        let front = self.used.pop_front().map(Bytes::try_into_mut);
        match front {
            Some(Ok(mut buffer)) => {
                buffer.clear();
                return buffer;
            }
            Some(Err(busy)) => self.used.push_front(busy),
            None => {}
        }
        let size = self.stripe_size();
        let data = match self.size_hint.map(usize::try_from) {
            Some(Ok(hint)) => hint.min(size),
            _ => size,
        };
        let chunk = data.div_ceil(self.geometry.data());
        BytesMut::with_capacity(chunk * self.geometry.total())
    }

    fn encode(&mut self, mut buffer: BytesMut) -> Stripe {
        let chunk_len = buffer.len().div_ceil(self.geometry.data());
        buffer.resize(chunk_len * self.geometry.total(), 0);
        self.codec.encode(&mut buffer, chunk_len);
        let bytes = buffer.freeze();
        Stripe { bytes, chunk_len }
    }

    async fn send(&mut self, stripe: Stripe) -> Result<()> {
        match &mut self.kept {
            Some(kept) if kept.len() < self.queue_len => kept.push(stripe.clone()),
            kept => *kept = None,
        }
        for rank in 0..self.slots.len() {
            let ShardProgress::Writing(lane) = &self.slots[rank] else {
                continue;
            };
            let step = TaskMessage::Append(stripe.chunk(rank));
            if lane.steps.send(step).await.is_err() {
                self.settle(rank).await;
            }
        }
        // In all lanes together no more than what a lane queues and what it writes.
        if self.used.len() <= 2 * self.queue_len {
            self.used.push_back(stripe.bytes);
        }
        self.survives()
    }

    /// Waits for a lane's end. One that failed begins anew on another disk if it can.
    async fn settle(&mut self, rank: usize) {
        loop {
            let ShardProgress::Writing(lane) = &mut self.slots[rank] else {
                return;
            };
            let ended = (&mut lane.task).await;
            let disk = Arc::clone(&lane.disk);
            let error = match ended {
                Ok(Ok(checksum)) => {
                    self.slots[rank] = ShardProgress::Durable { disk, checksum };
                    return;
                }
                Ok(Err(error)) => error,
                Err(panicked) => DiskError::Io(std::io::Error::other(panicked.to_string())),
            };
            tracing::warn!(
                disk = %disk.id(), write_id = %self.label.write_id, rank, %error,
                "shard was not written"
            );
            self.full |= matches!(error, DiskError::Full);
            if is_late(&error) {
                self.suspects.add(disk.id());
            }
            self.slots[rank] = ShardProgress::Missing { disk };
            if !self.begin_anew(rank).await {
                return;
            }
        }
    }

    /// False when no other disk is left, or the shard's first bytes are not at hand any more.
    /// True when the shard is under way again, or failed again at once.
    async fn begin_anew(&mut self, rank: usize) -> bool {
        let Some(kept) = self.kept.clone() else {
            return false;
        };
        let Some(disk) = self.spares.pop_front() else {
            return false;
        };
        let lane = self.start_lane(rank, disk);
        let steps = lane.steps.clone();
        self.slots[rank] = ShardProgress::Writing(lane);
        for stripe in kept {
            if steps
                .send(TaskMessage::Append(stripe.chunk(rank)))
                .await
                .is_err()
            {
                return true;
            }
        }
        false
    }

    /// Fails once too few shards are left for the promise.
    fn survives(&self) -> Result<()> {
        let missing = |slot: &&ShardProgress| matches!(slot, ShardProgress::Missing { .. });
        let missing = self.slots.iter().filter(missing).count();
        let left = self.slots.len() - missing;
        // One more disk may go, and as many as there are data shards must be left.
        if missing == 0 || left > self.geometry.data() {
            return Ok(());
        }
        let what = format!("{missing} of {} shards were not written", self.slots.len());
        match self.full {
            true => Err(Error::Full(what)),
            false => Err(Error::Unavailable(what)),
        }
    }

    /// Seals all shards and waits until what is promised is durable.
    pub async fn finish(mut self, object_size: u64, class: &str) -> Result<ShardSet> {
        let under_way = |slots: &[ShardProgress]| -> Vec<usize> {
            let writing = |rank: &usize| matches!(slots[*rank], ShardProgress::Writing(_));
            (0..slots.len()).filter(writing).collect()
        };
        loop {
            let ranks = under_way(&self.slots);
            if ranks.is_empty() {
                break;
            }
            for rank in &ranks {
                if let ShardProgress::Writing(lane) = &self.slots[*rank] {
                    // A lane that has ended says why when it is settled.
                    let _ = lane.steps.send(TaskMessage::Seal { object_size }).await;
                }
            }
            for rank in ranks {
                self.settle(rank).await;
            }
            self.survives()?;
        }
        self.survives()?;
        self.given = true;
        let place = |slot: &ShardProgress| {
            let (disk, checksum, missing) = match slot {
                ShardProgress::Durable { disk, checksum } => (disk, *checksum, false),
                ShardProgress::Missing { disk } => (disk, 0, true),
                ShardProgress::Writing(_) => unreachable!("all lanes have ended"),
            };
            ShardPlace {
                disk: disk.id(),
                generation: self.label.generation,
                checksum,
                missing,
            }
        };
        Ok(ShardSet {
            data_shards: self.geometry.data() as u8,
            parity_shards: self.geometry.parity() as u8,
            chunk_size: CHUNK_SIZE_BYTES,
            class: class.to_owned(),
            undersized: self.undersized,
            shards: self.slots.iter().map(place).collect(),
        })
    }
}

/// Copies from `rest` and then the body until there is a stripe; false when the body has ended.
async fn fill(
    buffer: &mut BytesMut,
    stripe_size: usize,
    rest: &mut Bytes,
    body: &mut dyn Body,
) -> Result<bool> {
    while buffer.len() < stripe_size {
        if rest.is_empty() {
            match body.next().await? {
                Some(piece) => *rest = piece,
                None => return Ok(false),
            }
        }
        let len = rest.len().min(stripe_size - buffer.len());
        buffer.extend_from_slice(&rest.split_to(len));
    }
    Ok(true)
}

/// Writes what is queued, as much of it at once as there is, and seals the shard when told so.
async fn write_shard(
    env: Arc<dyn Env>,
    disk: Arc<dyn Disk>,
    header: ShardHeader,
    mut queue: mpsc::Receiver<TaskMessage>,
    batch_len: usize,
) -> Result<u64, DiskError> {
    let mut writer = within_deadline(env.as_ref(), disk.create(header)).await?;
    let mut steps = Vec::with_capacity(batch_len);
    loop {
        if queue.recv_many(&mut steps, batch_len).await == 0 {
            let given_up = std::io::Error::other("the write was given up");
            return Err(DiskError::Io(given_up));
        }
        let (mut chunks, mut sealed) = (Vec::with_capacity(steps.len()), None);
        for step in steps.drain(..) {
            match step {
                TaskMessage::Append(chunk) => chunks.push(chunk),
                TaskMessage::Seal { object_size } => sealed = Some(object_size),
            }
        }
        if !chunks.is_empty() {
            within_deadline(env.as_ref(), writer.write(chunks)).await?;
        }
        if let Some(object_size) = sealed {
            return within_deadline(env.as_ref(), writer.finish(object_size)).await;
        }
    }
}
