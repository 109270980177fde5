//! Writes that are deleted while they are queued.

use drystone_store::objects::DeleteObject;

use super::*;

/// Found by reading: the healer read a page of its queue, and then one shard after the other. A
/// write that was deleted meanwhile, and whose shards gc had removed, was reported as lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b_19_a_write_that_is_deleted_after_its_page_was_read_is_not_lost() {
    let store = Store::new(4).await;
    let (write_id, set) = store.put("k", &bytes(100_000)).await;
    let queued = ShardToHeal {
        entry: ShardId { write_id, rank: 0 },
        bucket: store.bucket,
        size: 100_000,
        set,
    };
    let key = DeleteObject {
        key: "k".into(),
        version: VersionSelector::Latest,
        condition: Default::default(),
    };
    store.engine.delete_object(store.bucket, key).await.unwrap();
    for rank in 0..4 {
        store.until_files(write_id, rank, 0).await;
    }
    let healer = &store.engine.workers.healer;
    let failures = healer.counts.failed.load(Ordering::Relaxed);
    assert_eq!(healer.heal_write(vec![queued]).await, []);
    assert_eq!(healer.counts.failed.load(Ordering::Relaxed), failures);
    assert!(healer.retries.is_empty());
    store.close().await;
}
