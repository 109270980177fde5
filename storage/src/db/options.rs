//! RocksDB's options, for a database as a whole and for each of its families.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Env,
    Error, LogLevel, Options, WriteBufferManager,
};

use super::family::Family;
use super::resources::Resources;

/// The steps in which memtables grow. Small, so that an idle server stays small.
const ARENA_BLOCK_BYTES: usize = 64 << 10;
/// The size from which values lie in blob files, which compaction does not rewrite.
const BLOB_BYTES_MIN: u64 = 1 << 10;
const BLOB_FILE_BYTES: u64 = 64 << 20;
/// The size of the first level, in memtables: a level that is compacted is about as large as what
/// comes to it at once.
const LEVEL_BASE_MEMTABLES: u64 = 4;
/// A table in which so many of so many adjacent entries are deletions is compacted soon. Otherwise
/// whoever lists a prefix that was emptied would step over all of them, again and again.
const DELETIONS_WINDOW: usize = 4096;
const DELETIONS_TRIGGER: usize = 2048;
/// A scan that steps over so many deleted entries of a memtable has it flushed, so that compaction
/// can drop them.
const SCAN_FLUSH_TRIGGER: &str = "2000";

pub(super) fn of_database(
    env: &Env,
    write_buffers: &WriteBufferManager,
    resources: &Resources,
) -> Options {
    let mut options = Options::default();
    options.set_env(env);
    options.set_write_buffer_manager(write_buffers);
    options.set_paranoid_checks(true);
    // An incomplete record at the end of a WAL is a write that was never acknowledged. Opening
    // fails on any other bad record, a missing WAL, and a WAL that is shorter than when it was
    // closed.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(resources.wal_bytes());
    // Of all, as one disk may have all the work.
    options.set_max_background_jobs(1 + resources.compactions() as i32);
    options.set_max_open_files(resources.open_files() as i32);
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    #[cfg(test)]
    options.enable_statistics();
    options
}

pub(super) fn of_family(family: Option<Family>, cache: &Cache, resources: &Resources) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    // Indexes and filters are partitioned to the size of a block. As whole blocks, those of one
    // file would not fit into a shard of the cache, and every look-up would read and verify them
    // again.
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    table.set_block_size(16 << 10);
    if family != Some(Family::Log) {
        table.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    let memtable_bytes = resources.memtable_bytes();
    options.set_write_buffer_size(memtable_bytes as usize);
    options.set_max_bytes_for_level_base(LEVEL_BASE_MEMTABLES * memtable_bytes);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    if family == Some(Family::State) {
        options.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_TRIGGER, 0.0);
    }
    if family == Some(Family::Values) {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES_MIN);
        options.set_blob_file_size(BLOB_FILE_BYTES);
        options.set_blob_compression_type(DBCompressionType::Lz4);
        options.set_enable_blob_gc(true);
    }
    options
}

/// Has scans flush a memtable in which they step over many deleted entries. The option has no other
/// setter here than that of an open database.
pub(super) fn flush_after_scans(rocks: &DB) -> Result<(), Error> {
    let state = rocks.cf_handle(Family::State.name());
    let state = state.expect("opened with all families");
    let trigger = [("memtable_op_scan_flush_trigger", SCAN_FLUSH_TRIGGER)];
    rocks.set_options_cf(state, &trigger)
}
