//! Probes while the server is full.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::probes::health::Probes;
use drystone_http::limits::Limits;
use drystone_world::{Listening, World, read_answer};

async fn listening(limits: Limits) -> Listening {
    let world = World::limited(limits).await.and_bucket().await;
    let probes = Arc::new(Probes::new(world.store.clone()));
    Listening::behind(vec![probes], world).await
}

#[tokio::test]
async fn b_55_more_requests_than_places_get_503_and_none_hangs() {
    let limits = Limits {
        requests: 2,
        queue: 2,
        queue_wait: Duration::from_millis(50),
        ..Limits::default()
    };
    let listening = listening(limits).await;
    let put = listening.world.call("PUT /bkt/k").body("four").raw();
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut stream = listening.connect().await;
        stream.write_all(&put[..put.len() - 1]).await.unwrap();
        holders.push(stream);
    }
    let admission = &listening.world.admission;
    while admission.requests_free() > 0 {
        tokio::task::yield_now().await;
    }
    let get = listening.world.call("GET /bkt/none").raw();
    let refused = (0..16).map(|_| async {
        let mut stream = listening.connect().await;
        stream.write_all(&get).await.unwrap();
        read_answer(&mut stream).await
    });
    for (head, body) in futures_util::future::join_all(refused).await {
        assert!(head.starts_with("http/1.1 503"), "{head}");
        assert!(head.contains("retry-after: 1"), "{head}");
        assert!(body.contains("<Code>SlowDown</Code>"), "{body}");
    }
    // Probes are answered meanwhile.
    let probe = b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert!(
        listening
            .until_closed(probe)
            .await
            .starts_with("HTTP/1.1 200")
    );
    for mut stream in holders {
        stream.write_all(&put[put.len() - 1..]).await.unwrap();
        assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 200"));
    }
    let mut stream = listening.connect().await;
    stream.write_all(&get).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
    while admission.requests_free() < 2 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn f_26_past_the_bound_connections_get_probes_and_503() {
    let limits = Limits {
        connections: 2,
        spare_connections: 1,
        ..Limits::default()
    };
    let listening = listening(limits).await;
    let put = listening.world.call("PUT /bkt/k").body("four").raw();
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = listening.connect().await;
        stream.write_all(&put[..put.len() - 1]).await.unwrap();
        busy.push(stream);
    }
    let traffic = listening.world.transport.traffic.clone();
    while traffic.requests.get() < 2 {
        tokio::task::yield_now().await;
    }
    let probe = b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert!(
        listening
            .until_closed(probe)
            .await
            .starts_with("HTTP/1.1 200")
    );
    let get = listening.world.call("GET /bkt/none").raw();
    let answer = listening.until_closed(&get).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("<Code>SlowDown</Code>"), "{answer}");
    drop(busy);
    while traffic.connections.get() > 0 {
        tokio::task::yield_now().await;
    }
    let mut stream = listening.connect().await;
    stream.write_all(&get).await.unwrap();
    assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
}
