//! Reads the metrics of a real server as Prometheus reads them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::server::{ACCESS_KEY, SECRET_KEY, Server, command};

/// Samples by their name and labels, as written.
struct Scrape {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Accepts nothing that promtool would reject.
    fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape {
            types: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        let mut family = String::new();
        let mut helped = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty(), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, helped, "a type follows its help");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "{name} is there twice");
                family = name.to_owned();
            } else {
                scrape.sample(&family, line);
            }
        }
        scrape
    }

    fn sample(&mut self, family: &str, line: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("drystone_"), "{line}");
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(plain), "{line}");
        let ends: &[&str] = match self.types[family].as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let known = ends.iter().any(|end| format!("{family}{end}") == name);
        assert!(known, "{line} is not of {family}");
        if let Some((_, labels)) = series.split_once('{') {
            for label in labels.strip_suffix('}').unwrap().split("\",") {
                let (name, value) = label.split_once("=\"").unwrap();
                assert!(name.chars().all(plain), "{line}");
                assert!(!value.trim_end_matches('"').contains('"'), "{line}");
            }
        }
        let value: f64 = value.parse().unwrap();
        let before = self.samples.insert(series.to_owned(), value);
        assert!(before.is_none(), "{series} is there twice");
    }

    #[track_caller]
    fn value(&self, series: &str) -> f64 {
        let value = self.samples.get(series);
        *value.unwrap_or_else(|| panic!("no {series} in {:?}", self.samples.keys()))
    }

    fn sum(&self, name: &str) -> f64 {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        let series = self.samples.keys().filter(of_name);
        series.map(|series| self.samples[series]).sum()
    }
}

fn scrape(port: u16, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let head = "GET /metrics HTTP/1.1\r\nHost: s\r\nConnection: close\r\n";
    write!(stream, "{head}Authorization: Bearer {token}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn token() -> String {
    let output = command()
        .args(["admin", "metrics-token"])
        .env("DRYSTONE_ROOT_USER", ACCESS_KEY)
        .env("DRYSTONE_ROOT_PASSWORD", SECRET_KEY)
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Returns the smallest of a metric's samples.
pub fn least(server: &Server, name: &str) -> Option<f64> {
    let answer = scrape(server.port, &token());
    let (_, text) = answer.split_once("\r\n\r\n")?;
    let samples = Scrape::parse(text).samples;
    let of_name = samples
        .iter()
        .filter(|(series, _)| series.split('{').next() == Some(name));
    of_name.map(|(_, value)| *value).reduce(f64::min)
}

#[test]
fn r_38_a_scrape_reports_requests_disks_and_metadata() {
    let server = Server::fresh(4);
    let client = server.client();
    client.put("/bucket", b"").unwrap().expect(200);
    for n in 0..3 {
        let body = vec![7; 300_000];
        client
            .put(&format!("/bucket/{n}"), &body)
            .unwrap()
            .expect(200);
    }
    assert!(scrape(server.port, "wrong").starts_with("HTTP/1.1 403"));
    let answer = scrape(server.port, &token());
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(text.ends_with('\n'));
    let scrape = Scrape::parse(text);
    let puts = "drystone_s3_requests_total{operation=\"PutObject\",status=\"2xx\"}";
    assert_eq!(scrape.value(puts), 3.0);
    assert_eq!(scrape.value("drystone_s3_received_bytes_total"), 900_000.0);
    assert_eq!(scrape.value("drystone_disks{state=\"online\"}"), 4.0);
    assert_eq!(scrape.value("drystone_disks{state=\"poisoned\"}"), 0.0);
    assert_eq!(scrape.sum("drystone_disk_up"), 4.0);
    assert!(scrape.sum("drystone_disk_free_bytes") > 0.0);
    assert!(scrape.sum("drystone_disk_log_sync_seconds_count") > 0.0);
    // Every shard of three objects was synced once.
    assert_eq!(scrape.sum("drystone_disk_shard_sync_seconds_count"), 12.0);
    let objects = "drystone_metadata_leader_changes_total{group=\"objects\"}";
    assert!(scrape.value(objects) >= 1.0);
    assert_eq!(scrape.value("drystone_metrics_incomplete"), 0.0);
    assert!(!text.contains(SECRET_KEY), "A-56");
}

/// Sends more uploads at once than there is memory for: they wait or are asked to come later, none
/// hangs, all are there in the end, and the server stays within its budget.
#[test]
fn b_55_more_uploads_than_memory_wait_their_turn_and_all_are_served() {
    const UPLOADS: usize = 48;
    let server = Server::with(
        &[("DRYSTONE_MEMORY", "24MiB"), ("DRYSTONE_REQUESTS", "8")],
        4,
    );
    let client = server.client();
    client.put("/bucket", b"").unwrap().expect(200);
    let body = vec![3; 8 << 20];
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..UPLOADS {
            let (client, body, refused) = (&client, &body, &refused);
            scope.spawn(move || {
                let path = format!("/bucket/{n}");
                loop {
                    // A refusal may close the connection while the body is still on its way.
                    match client.put(&path, body) {
                        Ok(answer) if answer.status == 200 => return,
                        Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                        Err(_) => {}
                    }
                    refused.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(200));
                }
            });
        }
    });
    println!("{} refusals for {UPLOADS} uploads", refused.into_inner());
    assert_eq!(client.list("bucket").len(), UPLOADS);
    let peak = server.peak_memory_kib();
    assert!(peak < 400 << 10, "{peak} KiB");
}

/// With few descriptors, most are reserved for the disks: connections beyond the bound wait or get
/// 503, and the server works normally once they have closed.
#[test]
fn f_26_few_descriptors_throttle_connections_and_the_server_recovers() {
    let server = Server::with_descriptors(256, 4);
    let client = server.client();
    client.put("/bucket", b"").unwrap().expect(200);
    let idle: Vec<TcpStream> = (0..200)
        .filter_map(|_| TcpStream::connect(("127.0.0.1", server.port)).ok())
        .collect();
    assert!(idle.len() > 100, "{} connections", idle.len());
    drop(idle);
    crate::server::eventually("requests are served again", || {
        let put = client.put("/bucket/k", &[1; 300_000]);
        put.is_ok_and(|answer| answer.status == 200)
    });
    client.get("/bucket/k").unwrap().expect(200);
    assert!(!server.log().contains("disk is down"), "{}", server.log());
}
