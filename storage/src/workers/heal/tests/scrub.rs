//! The findings of a pass of scrub.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_22_scrub_finds_what_nobody_reads() {
    let store = Store::new(4).await;
    let object = bytes(300_000);
    let (first, _) = store.put("a", &object).await;
    let (second, _) = store.put("b", &object).await;
    // Parity, which no healthy read touches: its last bytes, and all of it.
    flip(&store.files(first, 3)[0], |len| len - 9);
    fs::remove_file(&store.files(second, 2)[0]).unwrap();
    assert!(store.get("a").await == object);
    assert_eq!(store.heal().await.queued_shards, 0);
    let scrub = store.scrub_through().await;
    store
        .until(|heal| heal.healed_shards == 2 && heal.queued_shards == 0)
        .await;
    assert_eq!(
        (scrub.findings, scrub.shards_read, scrub.percent),
        (2, 8, 100)
    );
    // Where it stands outlives the process.
    let store = store.close().await.open().await;
    assert_eq!(store.scrub().await, scrub);
    store.close().await;
}

/// Files that the disk's list lost, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r_22_scrub_finds_shards_that_nothing_names() {
    let store = Store::new(4).await;
    let object = bytes(300_000);
    let (write_id, _) = store.put("k", &object).await;
    let named = store.files(write_id, 1)[0].clone();
    let other_disk = store.files(write_id, 2)[0].parent().unwrap().to_owned();
    // A move that was abandoned, and a shard that lies where no row says it does.
    fs::copy(&named, named.with_extension("7")).unwrap();
    let misplaced = other_disk.join(named.file_name().unwrap());
    fs::copy(&named, &misplaced).unwrap();
    // Not the store's.
    let foreign = other_disk.join("notes");
    fs::write(&foreign, b"mine").unwrap();
    assert_eq!(store.files(write_id, 1).len(), 3);
    let scrub = store.scrub_through().await;
    assert_eq!((scrub.findings, scrub.shards_read), (0, 4));
    store.until_files(write_id, 1, 1).await;
    assert!(named.exists() && foreign.exists());
    assert!(store.get("k").await == object);
    store.close().await;
}
