//! Measures the server: time of listings in large buckets, throughput and memory of large objects,
//! time and memory of a start. Run by hand on a quiet machine, as the measurements take minutes:
//!
//! `cargo test --test it -- --ignored --nocapture --test-threads=1 bench_`
//!
//! Times depend on the machine, so they are printed and not asserted; memory is asserted.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use drystone_auth::credentials::Secret;
use drystone_auth::sign::Signer;
use drystone_store::types::Timestamp;
use http::Request;

use crate::server::{ACCESS_KEY, SECRET_KEY, Server};

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

#[test]
#[ignore = "takes minutes; run by hand"]
fn bench_listing_does_not_grow_with_the_bucket() {
    const SMALL: usize = 10_000;
    const LARGE: usize = 1_000_000;
    const ROUNDS: usize = 51;
    let mut server = Server::fresh(4);
    for (bucket, keys) in [("small", SMALL), ("large", LARGE)] {
        let seconds = load(&server, bucket, keys).as_secs_f64();
        let rate = keys as f64 / seconds;
        println!("{keys} empty objects put in {seconds:.1} s: {rate:.0}/s");
    }
    let mut connection = Connection::open(server.port);
    let mut page = |bucket: &str, query: &str, entries: usize| {
        let target = format!("/{bucket}?{query}");
        let start = Instant::now();
        let answer = connection.get(&target);
        let took = start.elapsed();
        let text = String::from_utf8(answer).unwrap();
        let found = text.matches("<Contents>").count() + text.matches("<CommonPrefixes>").count();
        assert_eq!(found, entries);
        took
    };
    // The percentage of the bucket's keys that come before the page.
    let after = |percent: usize, keys: usize| format!("start-after={}", key(percent * keys / 100));
    let pages = [
        (
            "1,000 keys from the start",
            1_000,
            [String::new(), String::new()],
        ),
        (
            "1,000 keys from the middle",
            1_000,
            [after(50, SMALL), after(50, LARGE)],
        ),
        (
            "one common prefix of all keys",
            1,
            ["delimiter=%2F".to_owned(), "delimiter=%2F".to_owned()],
        ),
    ];
    for (name, entries, [in_small, in_large]) in pages {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            small.push(page("small", &format!("list-type=2&{in_small}"), entries));
            large.push(page("large", &format!("list-type=2&{in_large}"), entries));
        }
        let (small, large) = (median(&mut small), median(&mut large));
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        println!("{name}: {small:.2?} of {SMALL}, {large:.2?} of {LARGE}: {ratio:.2} times");
    }
    println!("{}", Memory::of(&server));
    server.kill();
    println!(
        "ready after kill -9: {:.2?}",
        timed(|| server.start_again())
    );
}

/// Returns a number that the environment may set.
fn number(variable: &str, default: usize) -> usize {
    let set = std::env::var(variable);
    set.map_or(default, |number| number.parse().unwrap())
}

/// The first round of gc begins with the server.
#[test]
#[ignore = "takes minutes; run by hand"]
fn bench_gc_removes_garbage() {
    const SIZE: usize = 16 << 10;
    let objects = number("DRYSTONE_BENCH_OBJECTS", 20_000);
    let mut server = Server::fresh(4);
    Connection::open(server.port).put("/bench", &[], 0);
    let block = noise(SIZE);
    each(&server, objects, |connection, number| {
        connection.put(&format!("/bench/{}", key(number)), &block, SIZE);
    });
    each(&server, objects, |connection, number| {
        connection.ask("DELETE", &format!("/bench/{}", key(number)), &[], 0);
    });
    server.kill();
    server.start_again();
    let mut folders = Vec::new();
    for n in 1..=4 {
        let shards = fs::read_dir(server.disks.path(n).join("shards")).unwrap();
        folders.extend(shards.map(|folder| folder.unwrap().path()));
    }
    let has_files = || {
        let mut folders = folders.iter();
        folders.any(|folder| fs::read_dir(folder).unwrap().next().is_some())
    };
    let took = timed(|| {
        while has_files() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let rate = objects as f64 / took.as_secs_f64();
    println!("shards of {objects} objects removed in {took:.1?}: {rate:.0}/s");
}

#[test]
#[ignore = "takes minutes; run by hand"]
fn bench_listing_an_emptied_prefix() {
    const ROUNDS: usize = 51;
    let keys = number("DRYSTONE_BENCH_KEYS", 1_000_000);
    let server = Server::fresh(4);
    load(&server, "bench", keys);
    let took = timed(|| {
        each(&server, keys, |connection, number| {
            connection.ask("DELETE", &format!("/bench/{}", key(number)), &[], 0);
        });
    });
    println!("{keys} objects deleted in {took:.1?}");
    let mut connection = Connection::open(server.port);
    let mut page = |prefix: &str| {
        let target = format!("/bench?list-type=2&prefix={prefix}%2F");
        let start = Instant::now();
        let answer = connection.get(&target);
        let took = start.elapsed();
        assert!(!String::from_utf8(answer).unwrap().contains("<Contents>"));
        took
    };
    for after in [0, 10, 10] {
        // A memtable that is due is flushed with the next write.
        Connection::open(server.port).put("/bench/other", &[], 0);
        thread::sleep(Duration::from_secs(after));
        let first = page("folder");
        let (mut emptied, mut empty) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            emptied.push(page("folder"));
            empty.push(page("never"));
        }
        let (emptied, empty) = (median(&mut emptied), median(&mut empty));
        let ratio = emptied.as_secs_f64() / empty.as_secs_f64();
        println!(
            "{after} s later: first {first:.2?}, then {emptied:.2?} of an emptied prefix, \
             {empty:.2?} of an empty one: {ratio:.2} times"
        );
    }
    println!("{}", Memory::of(&server));
}

#[test]
#[ignore = "takes minutes; run by hand"]
fn bench_large_objects_need_little_memory() {
    const ROUNDS: usize = 3;
    let server = Server::fresh(4);
    let mut connection = Connection::open(server.port);
    connection.put("/bench", &[], 0);
    let block = noise(MIB);
    for round in 1..=ROUNDS {
        let put = timed(|| drop(connection.put("/bench/whole", &block, GIB)));
        println!("PUT of 1 GiB, round {round}: {}", rate(GIB, put));
        let get = timed(|| assert_eq!(connection.get_and_drop("/bench/whole"), GIB));
        println!("GET of 1 GiB, round {round}: {}", rate(GIB, get));
    }
    let took = timed(|| put_in_parts(&server, &block));
    println!(
        "1 GiB in parts of 16 MiB, four at once: {}",
        rate(GIB, took)
    );
    let get = timed(|| assert_eq!(connection.get_and_drop("/bench/parts"), GIB));
    println!("GET of these: {}", rate(GIB, get));
    let memory = Memory::of(&server);
    println!("{memory}");
    assert!(memory.peak_kib < 200 << 10);
}

#[test]
#[ignore = "takes half a minute; run by hand"]
fn bench_start() {
    const STARTS: usize = 10;
    let mut starts: Vec<Duration> = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let mut server = Server::fresh(4);
        starts.push(start.elapsed());
        server.stop();
    }
    println!("ready on four fresh disks, sorted: {:.0?}", {
        starts.sort();
        &starts
    });
    println!("median: {:.0?}", median(&mut starts));
    let server = Server::fresh(4);
    thread::sleep(Duration::from_secs(30));
    let memory = Memory::of(&server);
    println!("30 s after ready: {memory}");
    assert!(memory.now_kib < 60 << 10);
}

/// One path of many keys: a page without delimiter has keys, one with delimiter a common prefix.
fn key(number: usize) -> String {
    format!("folder/{number:08}")
}

fn load(server: &Server, bucket: &str, keys: usize) -> Duration {
    Connection::open(server.port).put(&format!("/{bucket}"), &[], 0);
    timed(|| {
        each(server, keys, |connection, number| {
            connection.put(&format!("/{bucket}/{}", key(number)), &[], 0);
        });
    })
}

/// Makes a request for each number, on many connections.
fn each(server: &Server, count: usize, request: impl Fn(&mut Connection, usize) + Sync) {
    const CONNECTIONS: usize = 64;
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = Connection::open(server.port);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    request(&mut connection, number);
                }
            });
        }
    });
}

fn put_in_parts(server: &Server, block: &[u8]) {
    const PART: usize = 16 * MIB;
    const AT_ONCE: usize = 4;
    let mut connection = Connection::open(server.port);
    let begun = connection.ask("POST", "/bench/parts?uploads=", &[], 0);
    let text = String::from_utf8(begun.body).unwrap();
    let (_, rest) = text.split_once("<UploadId>").unwrap();
    let (upload, _) = rest.split_once("</UploadId>").unwrap();
    let parts = GIB / PART;
    let mut etags = vec![String::new(); parts];
    thread::scope(|scope| {
        for (first, etags) in (0..)
            .step_by(parts / AT_ONCE)
            .zip(etags.chunks_mut(parts / AT_ONCE))
        {
            scope.spawn(move || {
                let mut connection = Connection::open(server.port);
                for (number, etag) in (first + 1..).zip(etags) {
                    let target = format!("/bench/parts?partNumber={number}&uploadId={upload}");
                    *etag = connection.put(&target, block, PART).etag;
                }
            });
        }
    });
    let part = |(number, etag): (usize, &String)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let list: String = (1..).zip(&etags).map(part).collect();
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let target = format!("/bench/parts?uploadId={upload}");
    let done = connection.ask("POST", &target, list.as_bytes(), list.len());
    assert!(String::from_utf8(done.body).unwrap().contains("<ETag>"));
}

/// A connection that stays open over any number of requests.
struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

struct Answer {
    etag: String,
    body: Vec<u8>,
}

impl Connection {
    fn open(port: u16) -> Connection {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream: BufReader::with_capacity(64 << 10, stream),
            host: format!("127.0.0.1:{port}"),
        }
    }

    /// Puts a body of `len` bytes: the block, repeated.
    fn put(&mut self, target: &str, block: &[u8], len: usize) -> Answer {
        self.ask("PUT", target, block, len)
    }

    fn get(&mut self, target: &str) -> Vec<u8> {
        self.ask("GET", target, &[], 0).body
    }

    fn get_and_drop(&mut self, target: &str) -> usize {
        let (len, _) = self.begin("GET", target, &[], 0);
        let body = &mut (&mut self.stream).take(len as u64);
        io::copy(body, &mut io::sink()).unwrap() as usize
    }

    fn ask(&mut self, method: &str, target: &str, block: &[u8], len: usize) -> Answer {
        let (len, etag) = self.begin(method, target, block, len);
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).unwrap();
        Answer { etag, body }
    }

    /// Sends a request and reads the head of a 200 or a 204; returns the length of its body and the
    /// ETag.
    fn begin(&mut self, method: &str, target: &str, block: &[u8], len: usize) -> (usize, String) {
        let mut request = self.head(method, target, len);
        if len == block.len() {
            request.extend_from_slice(block);
        }
        let stream = self.stream.get_mut();
        stream.write_all(&request).unwrap();
        if len != block.len() {
            let mut left = len;
            while left > 0 {
                let piece = left.min(block.len());
                stream.write_all(&block[..piece]).unwrap();
                left -= piece;
            }
        }
        let (mut line, mut len, mut etag) = (String::new(), 0, String::new());
        self.stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 20"), "{target}: {line}");
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                None => return (len, etag),
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    len = value.parse().unwrap();
                }
                Some((name, value)) if name.eq_ignore_ascii_case("etag") => {
                    value.clone_into(&mut etag)
                }
                Some(_) => {}
            }
        }
    }

    /// Returns the signed head. The body is not signed: hashing it would measure the client.
    fn head(&self, method: &str, target: &str, len: usize) -> Vec<u8> {
        let request = Request::builder().method(method).uri(target);
        let request = request.header("host", &self.host).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        signer().sign(&mut parts, "UNSIGNED-PAYLOAD").unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\ncontent-length: {len}\r\n");
        for (name, value) in &parts.headers {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn signer() -> Signer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Timestamp(now.as_millis().try_into().unwrap());
    Signer::new(ACCESS_KEY, &Secret::from(SECRET_KEY), "us-east-1", now).unwrap()
}

/// Memory of the server's process, as `/proc` shows it.
struct Memory {
    now_kib: usize,
    peak_kib: usize,
}

impl Memory {
    fn of(server: &Server) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.unwrap().split_whitespace().next().unwrap();
            value.parse().unwrap()
        };
        Memory {
            now_kib: field("VmRSS:"),
            peak_kib: field("VmHWM:"),
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (now, peak) = (self.now_kib >> 10, self.peak_kib >> 10);
        write!(f, "the server has {now} MiB resident, {peak} MiB at most")
    }
}

/// Returns bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len / 8).flatten().collect()
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn rate(bytes: usize, took: Duration) -> String {
    let mib = (bytes / MIB) as f64 / took.as_secs_f64();
    format!("{mib:.0} MiB/s ({:.2} s)", took.as_secs_f64())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
