//! Reading a range of a shard set.
//!
//! Data shards are read in windows of about 1 MiB, and the next window is read while the caller
//! gets the current one. Parity is read only where a block is damaged or missing, or does not come
//! soon: then whichever shards answer first are used. Every block is verified, and a row of
//! blocks is rebuilt from any k blocks of it.
//!
//! The whole range is returned, or the read ends in an error, never early: `Error::Corrupt` if
//! damage leaves too few blocks, `Error::Unavailable` if disks that do not answer may have more.
//!
//! A read of all bytes also compares the payload of each data shard with the checksum that was
//! taken when the write was encoded, before it returns its last window. A shard that
//! verifies and holds other bytes ends the read in `Error::Unavailable`, and heal rebuilds it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{AbortHandle, Aborted, BoxFuture, abortable};
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::disk_set::{Holder, Suspects, is_late, within_deadline};
use super::erasure::{Codec, Geometry, Layout, Piece};
use super::payload::Payloads;
use super::plane::Shards;
use crate::disk::{
    BLOCK_SIZE_BYTES, Blocks, Disk, DiskError, ShardName, ShardReader, ShardShape, block_span,
    blocks_of,
};
use drystone_store::body::BodyReader;
use drystone_store::env::{Env, Task};
use drystone_store::error::{Error, Result};
use drystone_store::shard_set::{ShardId, ShardPlace, ShardSet};
use drystone_store::types::{BucketId, ByteRange, WriteId};

/// The bytes of an object that are read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// How long a shard is waited for before another one is read beside it.
const HEDGE_AFTER: Duration = Duration::from_millis(250);

/// The ids and the layout of a write, as a reader needs them.
#[derive(Clone, Copy)]
pub(super) struct WriteShape {
    pub write_id: WriteId,
    pub bucket: BucketId,
    pub layout: Layout,
}

impl WriteShape {
    pub fn shape(&self) -> ShardShape {
        let geometry = self.layout.geometry();
        ShardShape {
            bucket: self.bucket,
            data_shards: geometry.data() as u8,
            parity_shards: geometry.parity() as u8,
            len: self.layout.shard_len(),
        }
    }
}

/// The shards of one write, as a source of its bytes.
pub(super) struct ShardSource {
    wanted: WriteShape,
    ranks: Vec<SourceShard>,
    codec: Arc<Codec>,
    suspects: Arc<Suspects>,
    damage: mpsc::Sender<ShardId>,
    /// The reads of the current window that have not answered yet.
    reads: FuturesUnordered<ShardRead>,
    /// A shard could not be read and may be whole.
    unanswered: bool,
    /// The payloads so far, if all bytes are read.
    payloads: Option<Payloads>,
}

/// A read of one shard, with its rank.
type ShardRead = BoxFuture<'static, (usize, Option<ReadAnswer>)>;

type ReadAnswer = Result<(Arc<dyn ShardReader>, Blocks), DiskError>;

/// One shard, and what this read knows of it.
struct SourceShard {
    name: ShardName,
    place: ShardPlace,
    /// `None` once the shard cannot be read.
    disk: Option<Arc<dyn Disk>>,
    reader: Option<Arc<dyn ShardReader>>,
    /// It or its disk did not answer in time, so it is read only if the others have too few blocks.
    late: bool,
    /// A read of it has not answered yet.
    asked: bool,
    reported: bool,
}

impl ShardSource {
    pub fn new<'a>(
        wanted: WriteShape,
        places: impl Iterator<Item = (&'a ShardPlace, Holder)>,
        codec: Arc<Codec>,
        suspects: Arc<Suspects>,
        damage: mpsc::Sender<ShardId>,
    ) -> ShardSource {
        let mut unanswered = false;
        let ranks: Vec<SourceShard> = places
            .zip(0..)
            .map(|((place, holder), rank)| {
                unanswered |= matches!(holder, Holder::Offline);
                let disk = match holder {
                    Holder::Present(disk) if !place.missing => Some(disk),
                    Holder::Present(_) | Holder::Offline | Holder::Removed => None,
                };
                SourceShard {
                    name: ShardName {
                        write_id: wanted.write_id,
                        rank,
                        generation: place.generation,
                    },
                    place: place.clone(),
                    disk,
                    reader: None,
                    late: suspects.contains(place.disk),
                    asked: false,
                    reported: false,
                }
            })
            .collect();
        ShardSource {
            wanted,
            ranks,
            codec,
            suspects,
            damage,
            reads: FuturesUnordered::new(),
            unanswered,
            payloads: None,
        }
    }

    /// Returns the bytes of a window, in order.
    async fn fetch(&mut self, window: ByteRange) -> Result<VecDeque<Bytes>> {
        let pieces = self.wanted.layout.pieces(window);
        let mut spans: Vec<Option<Range<u64>>> = vec![None; self.ranks.len()];
        for piece in &pieces {
            let span = spans[piece.rank].get_or_insert(piece.span.clone());
            span.end = piece.span.end;
        }
        // What the last window no longer needed.
        self.reads.clear();
        self.ranks.iter_mut().for_each(|shard| shard.asked = false);
        let wanted = spans.iter().enumerate();
        let wanted = wanted.filter(|(rank, _)| !self.ranks[*rank].late);
        let wanted = wanted.filter_map(|(rank, span)| Some((rank, blocks_of(span.as_ref()?))));
        let wanted = wanted.collect();
        let mut read = vec![None; self.ranks.len()];
        for (rank, blocks) in self.read_ranks(wanted).await {
            read[rank] = blocks;
        }
        let rebuilt = self.rebuild(&pieces, &read).await?;
        let mut bytes = VecDeque::with_capacity(pieces.len());
        for piece in &pieces {
            let first = bytes.len();
            match read[piece.rank].as_ref().and_then(|b| b.span(&piece.span)) {
                Some(whole) => bytes.push_back(whole),
                None => self.assemble(piece, &read, &rebuilt, &mut bytes),
            }
            if let Some(payloads) = &mut self.payloads {
                let new = bytes.range(first..);
                new.for_each(|bytes| payloads.add(piece.rank, bytes));
            }
        }
        if window.end == self.wanted.layout.size() {
            self.check_payloads()?;
        }
        Ok(bytes)
    }

    /// Compares what was read with what was committed, if all bytes were read.
    fn check_payloads(&mut self) -> Result<()> {
        let Some(mut payloads) = self.payloads.take() else {
            return Ok(());
        };
        let data = 0..self.wanted.layout.geometry().data();
        let differs = data.filter(|rank| {
            payloads.fill_up(*rank);
            payloads.differs(*rank, &self.ranks[*rank].place)
        });
        let differing: Vec<usize> = differs.collect();
        for rank in &differing {
            self.report(*rank, "payload is not the one that was committed");
        }
        match differing.is_empty() {
            true => Ok(()),
            false => Err(Error::Unavailable(format!(
                "shards {differing:?} of {} are not what was committed",
                self.wanted.write_id
            ))),
        }
    }

    /// Appends a piece to `bytes` block by block, from the blocks that were read and rebuilt.
    fn assemble(
        &self,
        piece: &Piece,
        read: &[Option<Blocks>],
        rebuilt: &HashMap<(usize, u64), Bytes>,
        bytes: &mut VecDeque<Bytes>,
    ) {
        for block in blocks_of(&piece.span) {
            let span = block_span(block, self.wanted.layout.shard_len());
            let part = span.start.max(piece.span.start)..span.end.min(piece.span.end);
            let whole = match rebuilt.get(&(piece.rank, block)) {
                Some(block) => Some(block.clone()),
                None => read[piece.rank].as_ref().and_then(|b| b.span(&span)),
            };
            let whole = whole.expect("what was not read was rebuilt");
            let within = (part.start - span.start) as usize..(part.end - span.start) as usize;
            bytes.push_back(whole.slice(within));
        }
    }

    /// Rebuilds the data blocks of `pieces` that could not be read.
    async fn rebuild(
        &mut self,
        pieces: &[Piece],
        read: &[Option<Blocks>],
    ) -> Result<HashMap<(usize, u64), Bytes>> {
        let shard_len = self.wanted.layout.shard_len();
        let good = |read: &Option<Blocks>, block: u64| -> Option<Bytes> {
            read.as_ref()?.span(&block_span(block, shard_len))
        };
        let mut lost = BTreeSet::new();
        for piece in pieces {
            for block in blocks_of(&piece.span) {
                if good(&read[piece.rank], block).is_none() {
                    lost.insert((piece.rank, block));
                }
            }
        }
        let rows: BTreeSet<u64> = lost.iter().map(|(_, block)| *block).collect();
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(HashMap::new());
        };
        let range = *first..*last + 1;
        let mut chunks: HashMap<u64, Vec<Option<Bytes>>> = rows
            .iter()
            .map(|row| (*row, read.iter().map(|r| good(r, *row)).collect()))
            .collect();
        self.read_more(range, &mut chunks).await?;

        let mut rebuilt = HashMap::new();
        for (row, blocks) in chunks {
            let mut blocks: Vec<Option<Vec<u8>>> = blocks
                .into_iter()
                .map(|block| block.map(|b| b.to_vec()))
                .collect();
            let done = self.codec.reconstruct_data(&mut blocks);
            done.map_err(|e| Error::Corrupt(format!("{}: {e}", self.wanted.write_id)))?;
            for (rank, block) in lost.iter().filter(|(_, block)| *block == row) {
                let bytes = blocks[*rank].take().expect("all data blocks are rebuilt");
                rebuilt.insert((*rank, *block), Bytes::from(bytes));
            }
        }
        Ok(rebuilt)
    }

    /// Returns these rows of blocks, each with at least as many as the code needs.
    pub async fn rows(&mut self, range: Range<u64>) -> Result<Vec<Vec<Option<Vec<u8>>>>> {
        let nothing = vec![None; self.ranks.len()];
        let mut rows: HashMap<u64, Vec<Option<Bytes>>> =
            range.clone().map(|row| (row, nothing.clone())).collect();
        self.read_more(range.clone(), &mut rows).await?;
        let owned = |row: Vec<Option<Bytes>>| -> Vec<Option<Vec<u8>>> {
            row.into_iter()
                .map(|block| block.map(|b| b.to_vec()))
                .collect()
        };
        Ok(range
            .filter_map(|row| rows.remove(&row).map(owned))
            .collect())
    }

    /// Reads rows of blocks from further shards until each of `rows` has as many as the code needs.
    /// Shards that were asked before may still answer meanwhile.
    async fn read_more(
        &mut self,
        range: Range<u64>,
        rows: &mut HashMap<u64, Vec<Option<Bytes>>>,
    ) -> Result<()> {
        let shard_len = self.wanted.layout.shard_len();
        let needed = self.wanted.layout.geometry().data();
        // The shards that lack a block of these rows and were not read for all of them.
        let lacks = |rank: usize| rows.values().any(|row| row[rank].is_none());
        let is_asked = |rank: usize| self.ranks[rank].asked;
        let ranks = (0..self.ranks.len()).filter(|rank| lacks(*rank) && !is_asked(*rank));
        let mut others: Vec<usize> = ranks.collect();
        others.sort_by_key(|rank| self.ranks[*rank].late);
        loop {
            let have = rows.values().map(|row| row.iter().flatten().count());
            let short = needed.saturating_sub(have.min().unwrap_or(needed));
            if short == 0 {
                return Ok(());
            }
            let answers = match others.is_empty() {
                false => {
                    let next = others.drain(..short.min(others.len()));
                    let next = next.map(|rank| (rank, range.clone())).collect();
                    self.read_ranks(next).await
                }
                // Nothing is left but to wait for those that are slow.
                true => match self.reads.next().await {
                    Some(answer) => vec![self.noted(answer)],
                    None => return Err(self.too_few()),
                },
            };
            for (rank, blocks) in answers {
                let Some(blocks) = blocks else { continue };
                for (row, found) in rows.iter_mut() {
                    let block = blocks.span(&block_span(*row, shard_len));
                    found[rank] = found[rank].take().or(block);
                }
            }
        }
    }

    fn too_few(&self) -> Error {
        let what = format!("too few shards of {} can be read", self.wanted.write_id);
        match self.unanswered {
            true => Error::Unavailable(what),
            false => Error::Corrupt(what),
        }
    }

    /// Reads blocks of several shards side by side and notes damage. Returns the answers of all
    /// shards that were asked before as well, as far as they come; one that does not come soon
    /// stays in `reads`.
    async fn read_ranks(
        &mut self,
        wanted: Vec<(usize, Range<u64>)>,
    ) -> Vec<(usize, Option<Blocks>)> {
        for (rank, blocks) in wanted {
            let of = self.wanted;
            let shard = &mut self.ranks[rank];
            shard.asked = true;
            let (disk, reader, name) = (shard.disk.clone(), shard.reader.clone(), shard.name);
            let env = self.suspects.env.clone();
            self.reads.push(Box::pin(async move {
                let Some(disk) = disk else {
                    return (rank, None);
                };
                let read = read_shard(env.as_ref(), disk, reader, name, of, blocks).await;
                (rank, Some(read))
            }));
        }
        let env = self.suspects.env.clone();
        let mut soon = env.sleep(HEDGE_AFTER);
        let mut answers = Vec::new();
        loop {
            tokio::select! {
                biased;
                answer = self.reads.next() => match answer {
                    Some(answer) => answers.push(self.noted(answer)),
                    None => return answers,
                },
                () = &mut soon => break,
            }
        }
        for shard in self.ranks.iter_mut().filter(|shard| shard.asked) {
            shard.late = true;
        }
        answers
    }

    fn noted(&mut self, (rank, answer): (usize, Option<ReadAnswer>)) -> (usize, Option<Blocks>) {
        self.ranks[rank].asked = false;
        (rank, answer.and_then(|answer| self.note(rank, answer)))
    }

    /// Records what an answer says about its shard.
    fn note(&mut self, rank: usize, answer: ReadAnswer) -> Option<Blocks> {
        let shard = &mut self.ranks[rank];
        match answer {
            Ok((reader, blocks)) => {
                shard.reader = Some(reader);
                let is_up = |disk: &Arc<dyn Disk>| disk.state().borrow().is_up();
                match blocks.is_intact() {
                    true => {}
                    false if shard.disk.as_ref().is_some_and(is_up) => {
                        self.report(rank, "blocks do not verify");
                    }
                    // A disk that failed says nothing of what it holds.
                    false => self.unanswered = true,
                }
                Some(blocks)
            }
            Err(error) => {
                let disk = shard.disk.take();
                match &error {
                    DiskError::Missing | DiskError::Corrupt(_) => {
                        self.report(rank, &error.to_string());
                    }
                    DiskError::Io(_) | DiskError::Down(_) | DiskError::Full => {
                        self.unanswered = true;
                        let late = disk.filter(|_| is_late(&error));
                        late.iter().for_each(|disk| self.suspects.add(disk.id()));
                    }
                }
                None
            }
        }
    }

    /// Reports damage, once for each shard and read.
    fn report(&mut self, rank: usize, what: &str) {
        let shard = &mut self.ranks[rank];
        if std::mem::replace(&mut shard.reported, true) {
            return;
        }
        let (write_id, rank) = (shard.name.write_id, shard.name.rank);
        tracing::warn!(%write_id, rank, what, "damaged shard found");
        if self.damage.try_send(ShardId { write_id, rank }).is_err() {
            tracing::debug!(%write_id, rank, "damage report dropped");
        }
    }
}

impl Shards {
    /// Opens a range of a write's bytes. The module says what is promised.
    pub async fn read(
        &self,
        write_id: WriteId,
        bucket: BucketId,
        size: u64,
        set: &ShardSet,
        range: ByteRange,
    ) -> Result<Box<dyn BodyReader>> {
        let wanted = WriteShape {
            write_id,
            bucket,
            layout: layout_of(write_id, size, set)?,
        };
        let mut source = self.source(wanted, set, None);
        if range.len() == size {
            let len = wanted.layout.shard_len();
            source.payloads = Some(Payloads::new(set.shards.len(), len));
        }
        Ok(Box::new(RangeReader::open(source, range).await?))
    }

    /// Makes a source from the shards of a set, leaving out the one of rank `without`.
    pub(super) fn source(
        &self,
        wanted: WriteShape,
        set: &ShardSet,
        without: Option<u8>,
    ) -> ShardSource {
        let disk_set = self.disk_set();
        let holder = |(place, rank): (&ShardPlace, u8)| match without == Some(rank) {
            true => Holder::Removed,
            false => disk_set.holder(place.disk),
        };
        let holders = set.shards.iter().zip(0..).map(holder);
        ShardSource::new(
            wanted,
            set.shards.iter().zip(holders),
            self.codecs.get(wanted.layout.geometry()),
            Arc::clone(&self.suspects),
            self.damage.clone(),
        )
    }
}

pub(super) fn layout_of(write_id: WriteId, size: u64, set: &ShardSet) -> Result<Layout> {
    let geometry = Geometry::new(set.data_shards, set.parity_shards)
        .filter(|geometry| geometry.total() == set.shards.len())
        .filter(|_| set.chunk_size.is_multiple_of(BLOCK_SIZE_BYTES));
    let layout = geometry.and_then(|g| Layout::new(g, set.chunk_size, size));
    layout
        .ok_or_else(|| Error::Corrupt(format!("the data row of {write_id} has no valid geometry")))
}

async fn read_shard(
    env: &dyn Env,
    disk: Arc<dyn Disk>,
    reader: Option<Arc<dyn ShardReader>>,
    name: ShardName,
    of: WriteShape,
    blocks: Range<u64>,
) -> Result<(Arc<dyn ShardReader>, Blocks), DiskError> {
    let reader = match reader {
        Some(reader) => reader,
        None => Arc::from(within_deadline(env, disk.open(name, of.shape())).await?),
    };
    let read = within_deadline(env, reader.read(blocks)).await?;
    Ok((reader, read))
}

type Fetched = (ShardSource, Result<VecDeque<Bytes>>);

/// A window that is being read ahead. Dropped, it stops at its next wait: without its reader nobody
/// holds an epoch, so gc may remove what it reads, and that would look like damage.
struct Fetch {
    task: Task<Result<Fetched, Aborted>>,
    abort: AbortHandle,
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Returns one window while the next is read.
pub(super) struct RangeReader {
    layout: Layout,
    /// The part of the range for which no fetch has started.
    rest: ByteRange,
    fetch: Option<Fetch>,
    ready: VecDeque<Bytes>,
    failed: bool,
}

impl RangeReader {
    /// Reads the first window, so that an unreadable range fails before any byte is returned.
    pub async fn open(mut source: ShardSource, range: ByteRange) -> Result<RangeReader> {
        let layout = source.wanted.layout;
        assert!(range.end <= layout.size(), "a range lies within its object");
        let window = layout.window(range, WINDOW_BYTES);
        let mut reader = RangeReader {
            layout,
            rest: ByteRange {
                start: window.end,
                end: range.end,
            },
            fetch: None,
            ready: source.fetch(window).await?,
            failed: false,
        };
        reader.start(source);
        Ok(reader)
    }

    fn start(&mut self, mut source: ShardSource) {
        if self.rest.is_empty() {
            return;
        }
        let window = self.layout.window(self.rest, WINDOW_BYTES);
        self.rest.start = window.end;
        let env = source.suspects.env.clone();
        let (fetch, abort) = abortable(async move {
            let fetched = source.fetch(window).await;
            (source, fetched)
        });
        let task = env.spawn(fetch);
        self.fetch = Some(Fetch { task, abort });
    }
}

#[async_trait]
impl BodyReader for RangeReader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            if self.failed {
                return Err(Error::Unavailable("the read failed before".into()));
            }
            let Some(fetch) = &mut self.fetch else {
                return Ok(None);
            };
            let ended = (&mut fetch.task).await;
            self.fetch = None;
            self.failed = true;
            let ended = ended.map_err(|_| Error::Closing)?;
            let (source, fetched) = ended.map_err(|Aborted| Error::Closing)?;
            self.ready = fetched?;
            self.failed = false;
            self.start(source);
        }
    }
}
