//! Two thousand connections of one address, of each kind that costs it nothing to hold, while
//! somebody else works. Run by hand, as it takes a minute:
//!
//! `cargo test --test it -- --ignored --nocapture crowds`
//!
//! Times depend on the machine, so they are printed and not asserted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::server::{PATIENCE, Server};

const CROWD: usize = 2000;
const ROUNDS: usize = 300;
const OBJECT_BYTES: usize = 4 << 10;

/// Raises the number of files that this process may open.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Connects from an address of its own, and sends these bytes.
fn attack(port: u16, bytes: &[u8]) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())
        .ok()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket
        .connect_timeout(&address.into(), Duration::from_secs(1))
        .ok()?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(bytes).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Whether the server has ended the connection, or answered.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 1024];
    match stream.read(&mut bytes) {
        Ok(0 | 1..) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

/// The times of requests that all succeed: half of them take no longer, and all but a hundredth.
fn times(server: &Server) -> (Duration, Duration) {
    let client = server.client();
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let answer = client.get("/bkt/k").unwrap().expect(200);
        assert_eq!(answer.body.len(), OBJECT_BYTES);
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    (times[ROUNDS / 2], times[ROUNDS - ROUNDS / 100 - 1])
}

#[test]
#[ignore = "takes a minute; run by hand"]
fn a_60_a_crowd_of_one_address_keeps_nobody_out() {
    raise_descriptors();
    let server = Server::fresh(1);
    let client = server.client();
    client.put("/bkt", b"").unwrap().expect(200);
    client
        .put("/bkt/k", &[7; OBJECT_BYTES])
        .unwrap()
        .expect(200);
    println!("alone: {:?}", times(&server));
    let form = b"POST /bkt HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\
        Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n";
    let put = b"PUT /bkt/x HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\nx";
    let query = format!(
        "GET /bkt?{} HTTP/1.1\r\nHost: h\r\n\r\n",
        "a&".repeat(30_000)
    );
    for (kind, bytes) in [
        ("silence", &b""[..]),
        ("half a head", b"GET / HT"),
        ("forms without end", form),
        ("bodies without a signature", put),
        ("thousands of parameters", query.as_bytes()),
    ] {
        let (over, len) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut crowd: Vec<TcpStream> = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    crowd.retain_mut(|stream| !is_over(stream));
                    let missing = CROWD - crowd.len();
                    crowd.extend((0..missing.min(100)).filter_map(|_| attack(server.port, bytes)));
                    len.store(crowd.len(), Ordering::Relaxed);
                    thread::yield_now();
                }
            });
            let begun = Instant::now();
            // Those who are answered at once never are many at a time.
            while len.load(Ordering::Relaxed) < CROWD / 2 && begun.elapsed() < PATIENCE / 100 {
                thread::yield_now();
            }
            let measured = times(&server);
            println!(
                "{kind}: {measured:?}, {} connections",
                len.load(Ordering::Relaxed)
            );
            over.store(true, Ordering::Relaxed);
        });
    }
    println!("at most {} MiB of memory", server.peak_memory_kib() >> 10);
}
