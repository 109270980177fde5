//! Space: what writes reserve.

use super::*;

/// Found by reading: ten large uploads with room for one began, and nine failed after gigabytes.
#[tokio::test]
async fn r_19_a_write_reserves_its_space_before_its_first_byte() {
    let bench = Bench::new(4);
    let disks = bench.shards.disks();
    let free = disks[0].space().unwrap().above_reserve;
    // A shard takes most of a disk, and a write has two data shards.
    let size = Some(free / 10 * 6 * 2);
    let plan = || bench.shards.plan(SystemEnv.write_id(), "", size);
    let plans: Vec<_> = (0..10).map(|_| plan()).collect();
    let refused = |plan: &&Result<_>| matches!(plan, Err(Error::Full(_)));
    assert_eq!(plans.iter().filter(refused).count(), 9);
    assert!(
        bench
            .shards
            .plan(SystemEnv.write_id(), "", Some(1000))
            .is_ok()
    );
    assert!(bench.shards.plan(SystemEnv.write_id(), "", None).is_ok());
    drop(plans);
    assert!(plan().is_ok(), "the others have ended");
}

#[tokio::test]
async fn r_19_what_a_write_has_written_is_reserved_no_longer() {
    let bench = Bench::new(4);
    let disks = bench.shards.disks();
    let reserved = |disk: &Arc<dyn Disk>| bench.shards.reservations.on(disk.id());
    let object = bytes(40 * CHUNK);
    let shard = 20 * CHUNK;
    let mut last = shard;
    let mut body = TestBody::watched(&object, |given| {
        if given > 0 {
            let now = reserved(&disks[0]);
            assert!(now <= last, "{now} after {last}");
            last = now;
        }
        Ok(())
    });
    body.size_hint = Some(object.len() as u64);
    bench.write_body(&mut body).await.unwrap();
    drop(body);
    assert!(last < shard);
    assert!(disks.iter().all(|disk| reserved(disk) == 0));
    // One that fails releases what it has not written.
    let mut body = TestBody::watched(&object, |given| match given > object.len() / 2 {
        true => Err(Error::Body("interrupted".into())),
        false => Ok(()),
    });
    body.size_hint = Some(object.len() as u64);
    assert!(bench.write_body(&mut body).await.is_err());
    while disks.iter().any(|disk| reserved(disk) > 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
