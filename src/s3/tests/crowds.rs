//! More connections than there is room for.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use drystone_http::limits::Limits;
use drystone_world::{Listening, read_answer};

/// As many connections as this, each of which has sent these bytes.
async fn holders(listening: &Listening, len: u64, bytes: &[u8]) -> Vec<TcpStream> {
    let connections = listening.world.transport.traffic.connections.clone();
    let before = connections.get();
    let mut holders = Vec::new();
    for number in 1..=len {
        let mut stream = listening.connect().await;
        stream.write_all(bytes).await.unwrap();
        while connections.get() < before + number {
            tokio::task::yield_now().await;
        }
        holders.push(stream);
    }
    holders
}

fn limits(connections: usize, client_connections: usize) -> Limits {
    Limits {
        connections,
        client_connections,
        spare_connections: 1,
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_60_idle_connections_give_way_to_newcomers() {
    let listening = Listening::new(limits(4, 100)).await;
    let get = listening.world.call("GET /bkt/none").raw();
    let mut silent = holders(&listening, 2, b"").await;
    let mut dripping = holders(&listening, 2, b"GET / HT").await;
    let mut others = Vec::new();
    for _ in 0..20 {
        let mut stream = listening.connect().await;
        stream.write_all(&get).await.unwrap();
        let (head, _) = read_answer(&mut stream).await;
        assert!(head.starts_with("http/1.1 404"), "{head}");
        others.push(stream);
    }
    let mut first = others.remove(0);
    for stream in silent.iter_mut().chain(&mut dripping).chain([&mut first]) {
        let mut rest = Vec::new();
        // A reset ends it as well.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
    // The last ones go on.
    let last = others.last_mut().unwrap();
    last.write_all(&get).await.unwrap();
    assert!(read_answer(last).await.0.starts_with("http/1.1 404"));
}

#[tokio::test]
async fn a_60_busy_connections_are_not_disturbed() {
    let listening = Listening::new(limits(2, 100)).await;
    let put = listening.world.call("PUT /bkt/k").body("four").raw();
    let (begin, end) = put.split_at(put.len() - 1);
    let mut busy = holders(&listening, 1, begin).await;
    while listening.world.transport.traffic.requests.get() < 1 {
        tokio::task::yield_now().await;
    }
    let get = listening.world.call("GET /bkt/none").raw();
    let mut others = Vec::new();
    for _ in 0..10 {
        let mut stream = listening.connect().await;
        stream.write_all(&get).await.unwrap();
        assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
        others.push(stream);
    }
    busy[0].write_all(end).await.unwrap();
    assert!(
        read_answer(&mut busy[0])
            .await
            .0
            .starts_with("http/1.1 200")
    );
}

#[tokio::test]
async fn a_60_one_client_has_its_share_of_the_connections() {
    let listening = Listening::new(limits(100, 3)).await;
    let put = listening.world.call("PUT /bkt/k").body("four").raw();
    let get = listening.world.call("GET /bkt/none").raw();
    let busy = holders(&listening, 3, &put[..put.len() - 1]).await;
    while listening.world.transport.traffic.requests.get() < 3 {
        tokio::task::yield_now().await;
    }
    for _ in 0..5 {
        assert_eq!(listening.until_closed(&get).await, "", "a fourth");
    }
    // Other addresses are not its affair.
    let mut other = listening.connect_from([127, 0, 0, 2]).await;
    other.write_all(&get).await.unwrap();
    assert!(read_answer(&mut other).await.0.starts_with("http/1.1 404"));
    drop(busy);
    while listening.world.transport.traffic.requests.get() > 0 {
        tokio::task::yield_now().await;
    }
    // Idle ones of its own give way to its next ones.
    let mut idle = Vec::new();
    for _ in 0..10 {
        let mut stream = listening.connect().await;
        stream.write_all(&get).await.unwrap();
        assert!(read_answer(&mut stream).await.0.starts_with("http/1.1 404"));
        idle.push(stream);
    }
}
