//! Writing a body as a shard set.
//!
//! The body is read once, into stripes. Each stripe is coded, and each chunk of it is sent to the
//! task of its shard, so that network, coding and disks overlap. A few stripes are in flight,
//! whatever the body's size.
//!
//! `Ok` means every shard is synced, or, if disks failed and no spare disk was left, at least k + 1
//! are: one more disk may fail without loss. The set marks the shards that are missing.
//!
//! After an error, and when the caller drops the write, its shards are removed at once (F-28): no
//! command can name them, as the caller never got the set. A shard that a disk keeps all the same
//! is in its list of unconfirmed shards, and gc removes it.
//!
//! A shard whose disk fails is written again on a spare disk as long as all bytes so far are in
//! memory, that is, as long as the body is no longer than the stripes in flight.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::background::Background;
use super::disk_set::{Suspects, is_late, late, within_deadline};
use super::erasure::{CHUNK_SIZE_BYTES, Codec, Geometry};
use super::plan::Plan;
use super::plane::Shards;
use super::reservations::{Reservation, Reservations};
use crate::disk::{Disk, DiskError, ShardHeader, ShardName};
use drystone_store::body::Body;
use drystone_store::checksum::Crc64;
use drystone_store::env::{Env, Task};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardPlace, ShardSet};
use drystone_store::types::{BucketId, Epoch, WriteId};

/// The most bytes of one write that wait for its disks, parity included. As many again are being
/// written.
const QUEUED_BYTES: usize = 2 << 20;
/// The least number of stripes to queue. With fewer, disks and network would not overlap.
const QUEUED_STRIPES_MIN: usize = 1;

/// The fields that the headers of all shards of a write share.
#[derive(Clone, Copy)]
pub(super) struct WriteLabel {
    pub write_id: WriteId,
    pub epoch: Epoch,
    pub bucket: BucketId,
    /// The generation of all its shards.
    pub generation: u32,
}

/// A message to the task of a shard.
enum TaskMessage {
    Append(Bytes),
    Seal { object_size: u64 },
}

/// The task that writes one shard to one disk.
struct ShardTask {
    disk: Arc<dyn Disk>,
    messages: mpsc::Sender<TaskMessage>,
    task: Task<Result<u64, DiskError>>,
}

enum ShardProgress {
    Writing(ShardTask),
    Durable { disk: Arc<dyn Disk>, checksum: u64 },
    Missing { disk: Arc<dyn Disk> },
}

/// A coded stripe: all its chunks by rank, one after the other.
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

/// A write in progress.
pub(super) struct Write {
    label: WriteLabel,
    geometry: Geometry,
    undersized: bool,
    codec: Arc<Codec>,
    /// The checksum of each shard's payload so far. It is taken here and not where the shard is
    /// written, so that it proves the way to the disk as well.
    payloads: Vec<Crc64>,
    slots: Vec<ShardProgress>,
    spares: VecDeque<Arc<dyn Disk>>,
    suspects: Arc<Suspects>,
    background: Arc<Background>,
    reservations: Arc<Reservations>,
    size_hint: Option<u64>,
    /// The most stripes that a task queues.
    queue_len: usize,
    /// All stripes so far, while they are few enough to be kept.
    kept: Option<Vec<Stripe>>,
    /// Buffers that can be reused once all disks have written them.
    used: VecDeque<Bytes>,
    full: bool,
    /// The caller has the set: the shards are no longer removed on drop.
    handed_over: bool,
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.handed_over {
            return;
        }
        for (rank, slot) in self.slots.drain(..).enumerate() {
            let (name, env) = (self.label.shard_name(rank), self.suspects.env.clone());
            self.background.spawn(async move {
                let disk = match slot {
                    ShardProgress::Writing(ShardTask {
                        disk,
                        messages,
                        task,
                    }) => {
                        // The task ends when the channel is closed. Until then it may still write.
                        drop(messages);
                        task.await.ok();
                        disk
                    }
                    ShardProgress::Durable { disk, .. } | ShardProgress::Missing { disk } => disk,
                };
                if let Err(error) = within_deadline(env.as_ref(), disk.remove(vec![name])).await {
                    tracing::debug!(%error, disk = %disk.id(), "unreferenced shard left to gc");
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
    /// Begins to write a shard to each disk of the plan.
    pub fn begin(shards: &Shards, label: WriteLabel, plan: Plan) -> Write {
        let geometry = plan.geometry;
        let stripe_bytes = CHUNK_SIZE_BYTES as usize * geometry.total();
        let mut write = Write {
            label,
            geometry,
            undersized: plan.undersized,
            codec: shards.codecs.get(geometry),
            payloads: vec![Crc64::default(); geometry.total()],
            slots: Vec::with_capacity(geometry.total()),
            spares: plan.spares.into(),
            suspects: shards.suspects.clone(),
            background: shards.background.clone(),
            reservations: shards.reservations.clone(),
            size_hint: plan.size_hint,
            queue_len: (QUEUED_BYTES / stripe_bytes).max(QUEUED_STRIPES_MIN),
            kept: Some(Vec::new()),
            used: VecDeque::new(),
            full: false,
            handed_over: false,
        };
        assert_eq!(plan.disks.len(), geometry.total(), "one for each shard");
        for (rank, (disk, reserved)) in plan.disks.into_iter().enumerate() {
            let task = write.start_task(rank, disk, reserved);
            write.slots.push(ShardProgress::Writing(task));
        }
        write
    }

    fn start_task(&self, rank: usize, disk: Arc<dyn Disk>, reserved: Reservation) -> ShardTask {
        let header = ShardHeader {
            name: self.label.shard_name(rank),
            epoch: self.label.epoch,
            bucket: self.label.bucket,
            data_shards: self.geometry.data() as u8,
            parity_shards: self.geometry.parity() as u8,
            chunk_size: CHUNK_SIZE_BYTES,
        };
        let (messages, queue) = mpsc::channel(self.queue_len);
        let env = &self.suspects.env;
        let task = write_shard(
            env.clone(),
            Arc::clone(&disk),
            header,
            reserved,
            queue,
            self.queue_len,
        );
        ShardTask {
            disk,
            messages,
            task: env.spawn(task),
        }
    }

    /// Cuts `prefix` and `body` into stripes and sends them to the disks. Returns the size.
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

    /// Returns a buffer that all disks have written, or a new one.
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
        for (payload, chunk) in self.payloads.iter_mut().zip(buffer.chunks(chunk_len)) {
            payload.update(chunk);
        }
        let bytes = buffer.freeze();
        Stripe { bytes, chunk_len }
    }

    async fn send(&mut self, stripe: Stripe) -> Result<()> {
        match &mut self.kept {
            Some(kept) if kept.len() < self.queue_len => kept.push(stripe.clone()),
            kept => *kept = None,
        }
        for rank in 0..self.slots.len() {
            let ShardProgress::Writing(task) = &self.slots[rank] else {
                continue;
            };
            let message = TaskMessage::Append(stripe.chunk(rank));
            let sent = tokio::select! {
                biased;
                sent = task.messages.send(message) => sent.is_ok(),
                () = self.suspects.suspected(task.disk.id()), if self.can_do_without(rank) => false,
            };
            if !sent {
                self.finish_shard(rank).await;
            }
        }
        // All tasks together hold no more stripes than one task queues and writes.
        if self.used.len() <= 2 * self.queue_len {
            self.used.push_back(stripe.bytes);
        }
        self.survives()
    }

    /// Returns whether the promise holds without a shard that is being written, or the shard can be
    /// written elsewhere.
    fn can_do_without(&self, rank: usize) -> bool {
        let can_move = self.kept.is_some() && !self.spares.is_empty();
        let others = self.slots.iter().enumerate().filter(|(other, slot)| {
            *other != rank && !matches!(slot, ShardProgress::Missing { .. })
        });
        can_move || others.count() > self.geometry.data()
    }

    /// Waits until the task of a shard ends, or until its disk is suspect and the write can do
    /// without it (B-52). Then the shard is written again on a spare disk if that is possible.
    ///
    /// What a task does that is no longer waited for stays in its disk's list, for gc.
    async fn finish_shard(&mut self, rank: usize) {
        loop {
            let (suspects, dispensable) = (self.suspects.clone(), self.can_do_without(rank));
            let ShardProgress::Writing(task) = &mut self.slots[rank] else {
                return;
            };
            let disk = Arc::clone(&task.disk);
            let ended = tokio::select! {
                biased;
                ended = &mut task.task => ended,
                () = suspects.suspected(disk.id()), if dispensable => Ok(Err(late())),
            };
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
                "shard not written"
            );
            self.full |= matches!(error, DiskError::Full);
            if is_late(&error) {
                self.suspects.add(disk.id());
            }
            self.slots[rank] = ShardProgress::Missing { disk };
            if !self.restart_elsewhere(rank).await {
                return;
            }
        }
    }

    /// Starts a shard again on a spare disk. Returns true if that disk failed as well, so that the
    /// caller tries the next one. Returns false if the shard is being written again, no spare disk
    /// is left, or its first bytes are no longer in memory.
    async fn restart_elsewhere(&mut self, rank: usize) -> bool {
        let Some(kept) = self.kept.clone() else {
            return false;
        };
        let Some((disk, reserved)) = self.next_spare() else {
            return false;
        };
        let task = self.start_task(rank, disk, reserved);
        let messages = task.messages.clone();
        self.slots[rank] = ShardProgress::Writing(task);
        for stripe in kept {
            if messages
                .send(TaskMessage::Append(stripe.chunk(rank)))
                .await
                .is_err()
            {
                return true;
            }
        }
        false
    }

    /// Returns the next spare disk that has room for a shard, with the room reserved.
    fn next_spare(&mut self) -> Option<(Arc<dyn Disk>, Reservation)> {
        let len = self.geometry.shard_len(self.size_hint);
        while let Some(disk) = self.spares.pop_front() {
            let reserved = self.reservations.reserve(std::slice::from_ref(&disk), len);
            if let Some(reserved) = reserved.and_then(|mut reserved| reserved.pop()) {
                return Some((disk, reserved));
            }
        }
        None
    }

    /// Fails if too few shards are left for the promise.
    fn survives(&self) -> Result<()> {
        let missing = |slot: &&ShardProgress| matches!(slot, ShardProgress::Missing { .. });
        let missing = self.slots.iter().filter(missing).count();
        let left = self.slots.len() - missing;
        // If one more disk fails, as many shards as there are data shards must be left.
        if missing == 0 || left > self.geometry.data() {
            return Ok(());
        }
        let what = format!("{missing} of {} shards were not written", self.slots.len());
        match self.full {
            true => Err(Error::Full(what)),
            false => Err(Error::Unavailable(what)),
        }
    }

    /// Seals all shards and waits until they are durable, as far as the promise demands.
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
                if let ShardProgress::Writing(task) = &self.slots[*rank] {
                    // A task that has ended says why in `finish_shard`.
                    let _ = task.messages.send(TaskMessage::Seal { object_size }).await;
                }
            }
            for rank in ranks {
                self.finish_shard(rank).await;
            }
            self.survives()?;
        }
        self.survives()?;
        self.handed_over = true;
        let place = |(slot, payload): (&ShardProgress, &Crc64)| {
            let (disk, checksum, missing) = match slot {
                ShardProgress::Durable { disk, checksum } => (disk, *checksum, false),
                ShardProgress::Missing { disk } => (disk, 0, true),
                ShardProgress::Writing(_) => unreachable!("all lanes have ended"),
            };
            ShardPlace {
                disk: disk.id(),
                generation: self.label.generation,
                checksum,
                payload_checksum: payload.value(),
                missing,
            }
        };
        Ok(ShardSet {
            data_shards: self.geometry.data() as u8,
            parity_shards: self.geometry.parity() as u8,
            chunk_size: CHUNK_SIZE_BYTES,
            class: class.to_owned(),
            undersized: self.undersized,
            shards: self.slots.iter().zip(&self.payloads).map(place).collect(),
        })
    }
}

impl Shards {
    /// Reads `body` to its end and writes the bytes of `prefix` and of `body` as shards. Returns
    /// the size and the set. The module says what is promised.
    pub async fn write(
        &self,
        write_id: WriteId,
        epoch: Epoch,
        bucket: BucketId,
        class: &str,
        prefix: Bytes,
        body: &mut dyn Body,
    ) -> Result<(u64, ShardSet)> {
        let plan = self.plan(write_id, class, body.size_hint())?;
        let label = WriteLabel {
            write_id,
            epoch,
            bucket,
            generation: 0,
        };
        let mut write = Write::begin(self, label, plan);
        let written = async {
            let size = write.stream(prefix, body).await?;
            Ok((size, write.finish(size, class).await?))
        };
        written.await.map_err(|error| match error {
            Error::Full(why) => self.no_room(why),
            other => other,
        })
    }
}

/// Copies from `rest` and then from the body until a stripe is full. Returns false when the body
/// has ended.
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

/// Writes the queued chunks, all that are there in one call, and seals the shard when the message
/// comes. Returns the shard's checksum.
async fn write_shard(
    env: Arc<dyn Env>,
    disk: Arc<dyn Disk>,
    header: ShardHeader,
    mut reserved: Reservation,
    mut queue: mpsc::Receiver<TaskMessage>,
    batch_len: usize,
) -> Result<u64, DiskError> {
    let mut writer = within_deadline(env.as_ref(), disk.create(header)).await?;
    let mut messages = Vec::with_capacity(batch_len);
    loop {
        if queue.recv_many(&mut messages, batch_len).await == 0 {
            let given_up = std::io::Error::other("the write was aborted");
            return Err(DiskError::Io(given_up));
        }
        let (mut chunks, mut sealed) = (Vec::with_capacity(messages.len()), None);
        for message in messages.drain(..) {
            match message {
                TaskMessage::Append(chunk) => chunks.push(chunk),
                TaskMessage::Seal { object_size } => sealed = Some(object_size),
            }
        }
        if !chunks.is_empty() {
            let bytes = chunks.iter().map(|chunk| chunk.len() as u64).sum();
            within_deadline(env.as_ref(), writer.write(chunks)).await?;
            reserved.used(bytes);
        }
        if let Some(object_size) = sealed {
            return within_deadline(env.as_ref(), writer.finish(object_size)).await;
        }
    }
}
