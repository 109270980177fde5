//! The health paths: the only ones that are answered without credentials.
//!
//! Probes and start scripts know them in two spellings. No bucket is made with the names `health`
//! and `minio`. A request that names its bucket by the host means an object of it, and one that is
//! signed is S3's to refuse.
//!
//! Whether the process lives is answered without a look at the store: a server that waits for its
//! majority must not be restarted. All else is answered within a second, from one answer of the
//! store for all probes of that second.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use drystone_store::ObjectStore;
use drystone_store::instance::Health;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::sync::Mutex;
use tokio::time::timeout;

use drystone_http::request::{Head, Request};
use drystone_http::service::Service;
use drystone_protocol::response::{self, Response};

const STATUS: HeaderName = HeaderName::from_static("x-minio-server-status");
const WRITE_QUORUM: HeaderName = HeaderName::from_static("x-minio-write-quorum");
const READ_QUORUM: HeaderName = HeaderName::from_static("x-minio-read-quorum");

/// A store that does not say within this what it can do can do nothing.
const ANSWER_MAX: Duration = Duration::from_millis(900);
/// How long an answer of the store is good for further probes.
const FRESH_MAX: Duration = Duration::from_secs(1);

/// The question of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    /// The process answers.
    Live,
    /// It can serve reads.
    Ready,
    /// The whole store takes writes, or with `maintenance` would without this node.
    Cluster { maintenance: bool },
    /// The whole store can be read.
    ClusterRead,
}

type Asked = Pin<Box<dyn Future<Output = Health> + Send>>;

/// Answers the probes.
pub struct Probes {
    ask: Box<dyn Fn() -> Asked + Send + Sync>,
    /// The last answer and its time. Locked while the store is asked, so that it is asked once.
    last: Mutex<Option<(Instant, Health)>>,
}

impl Probes {
    pub fn new(store: Arc<dyn ObjectStore>) -> Probes {
        Probes::asking(move || {
            let store = store.clone();
            Box::pin(async move { store.health().await })
        })
    }

    fn asking(ask: impl Fn() -> Asked + Send + Sync + 'static) -> Probes {
        Probes {
            ask: Box::new(ask),
            last: Mutex::default(),
        }
    }

    async fn health(&self) -> Health {
        let asked = timeout(ANSWER_MAX, async {
            let mut last = self.last.lock().await;
            if let Some((at, health)) = &*last
                && at.elapsed() < FRESH_MAX
            {
                return health.clone();
            }
            let health = (self.ask)().await;
            *last = Some((Instant::now(), health.clone()));
            health
        });
        asked.await.unwrap_or_default()
    }

    async fn report(&self, probe: Probe) -> Response {
        match probe {
            Probe::Live => live(),
            probe => report(probe, &self.health().await),
        }
    }
}

#[async_trait]
impl Service for Probes {
    async fn answer(&self, request: Request) -> Result<Response, Request> {
        match probe(&request.head) {
            Some(probe) => Ok(self.report(probe).await),
            None => Err(request),
        }
    }

    fn serves_when_full(&self) -> bool {
        true
    }
}

fn probe(head: &Head) -> Option<Probe> {
    if ![Method::GET, Method::HEAD].contains(&head.method)
        || head.headers.contains_key(header::AUTHORIZATION)
        || !head.address.is_by_path()
    {
        return None;
    }
    let target = head.address.target.as_ref().ok()?;
    let name = match target.bucket.as_str() {
        "health" => target.key.as_str(),
        "minio" => target.key.strip_prefix("health/")?,
        _ => return None,
    };
    let query = &head.query;
    if !query.is_valid() || query.has("X-Amz-Signature") || query.has("Signature") {
        return None;
    }
    match name {
        "live" => Some(Probe::Live),
        "ready" => Some(Probe::Ready),
        "cluster" => Some(Probe::Cluster {
            maintenance: query.get("maintenance") == Some("true"),
        }),
        "cluster/read" => Some(Probe::ClusterRead),
        _ => None,
    }
}

fn live() -> Response {
    let mut response = response::empty(StatusCode::OK);
    let online = HeaderValue::from_static("online");
    response.headers_mut().insert(STATUS, online);
    response
}

fn report(probe: Probe, health: &Health) -> Response {
    let well = match probe {
        Probe::Live | Probe::Ready | Probe::ClusterRead => health.can_read,
        Probe::Cluster { .. } => health.can_write,
    };
    let status = match probe {
        _ if !well => StatusCode::SERVICE_UNAVAILABLE,
        // All disks are this node's: nothing is left without it.
        Probe::Cluster { maintenance: true } => StatusCode::PRECONDITION_FAILED,
        _ => StatusCode::OK,
    };
    let mut response = response::empty(status);
    let headers = response.headers_mut();
    let online = HeaderValue::from_static(if health.can_read { "online" } else { "offline" });
    headers.insert(STATUS, online);
    if let Probe::Cluster { .. } = probe {
        headers.insert(WRITE_QUORUM, HeaderValue::from(write_quorum(health)));
    }
    if let Probe::ClusterRead = probe {
        headers.insert(READ_QUORUM, HeaderValue::from(health.data_shards));
    }
    response
}

/// How many disks must be there for a write, as those who read the header count: with as much
/// parity as data one more than the data, so that two halves can't both write.
fn write_quorum(health: &Health) -> usize {
    let tie = health.data_shards == health.parity_shards;
    health.data_shards + usize::from(tie)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Head, Health, Method, Probe, Probes, probe, report};
    use drystone_http::exchange::Exchange;
    use drystone_http::scheme::Scheme;

    fn head(method: &str, uri: &str) -> Head {
        head_at("h:9000", method, uri)
    }

    fn head_at(host: &str, method: &str, uri: &str) -> Head {
        let request = http::Request::builder().method(method).uri(uri);
        let request = request.header("host", host).body(());
        let (parts, ()) = request.unwrap().into_parts();
        let exchange = Exchange::begin(String::new(), None, Scheme::Http, Method::GET, uri);
        Head::read(parts, "", &["d.test".to_owned()], Arc::new(exchange))
    }

    #[test]
    fn probes_are_known_in_both_spellings_and_a_signed_request_is_none() {
        let find = |method, uri| probe(&head(method, uri));
        assert_eq!(find("GET", "/minio/health/live"), Some(Probe::Live));
        assert_eq!(find("HEAD", "/health/live"), Some(Probe::Live));
        assert_eq!(find("GET", "/minio/health/ready"), Some(Probe::Ready));
        let cluster = |maintenance| Some(Probe::Cluster { maintenance });
        assert_eq!(find("GET", "/health/cluster"), cluster(false));
        let maintenance = "/minio/health/cluster?maintenance=true";
        assert_eq!(find("GET", maintenance), cluster(true));
        assert_eq!(
            find("GET", "/minio/health/cluster/read"),
            Some(Probe::ClusterRead)
        );
        for (method, uri) in [
            ("PUT", "/health/live"),
            ("GET", "/health"),
            ("GET", "/health/other"),
            ("GET", "/minio/live"),
            ("GET", "/health/live?X-Amz-Signature=x"),
        ] {
            assert_eq!(find(method, uri), None, "{method} {uri}");
        }
        for uri in ["/live", "/health/live"] {
            for host in ["health.d.test", "minio.d.test"] {
                let named = head_at(host, "GET", uri);
                assert_eq!(probe(&named), None, "{host}{uri}");
            }
        }
        let mut signed = head("GET", "/health/live");
        signed.headers.insert("authorization", "x".parse().unwrap());
        assert_eq!(probe(&signed), None);
    }

    #[tokio::test]
    async fn a_store_that_never_answers_is_alive_and_not_ready() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let probes = Probes::asking(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(pending())
        });
        assert_eq!(probes.report(Probe::Live).await.status(), 200);
        assert_eq!(asked.load(Ordering::Relaxed), 0, "nobody was asked");
        let cluster = Probe::Cluster { maintenance: false };
        let (ready, cluster) = tokio::join!(probes.report(Probe::Ready), probes.report(cluster));
        assert_eq!(
            (ready.status().as_u16(), cluster.status().as_u16()),
            (503, 503)
        );
    }

    #[tokio::test]
    async fn probes_share_an_answer_of_the_store() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let probes = Probes::asking(move || {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async {
                tokio::task::yield_now().await;
                Health {
                    can_read: true,
                    ..Health::default()
                }
            })
        });
        let many = (0..50).map(|_| probes.report(Probe::Ready));
        for answer in futures_util::future::join_all(many).await {
            assert_eq!(answer.status(), 200);
        }
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked < 50, "the store was asked {asked} times");
    }

    #[test]
    fn a_probe_tells_what_the_store_can_do() {
        let health = Health {
            can_read: true,
            data_shards: 2,
            parity_shards: 2,
            ..Health::default()
        };
        let cluster = |maintenance| Probe::Cluster { maintenance };
        assert_eq!(report(Probe::Ready, &Health::default()).status(), 503);
        assert_eq!(report(Probe::Ready, &health).status(), 200);
        assert_eq!(report(cluster(false), &health).status(), 503);
        let health = Health {
            can_write: true,
            ..health
        };
        let response = report(cluster(false), &health);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-minio-write-quorum"], "3");
        assert_eq!(report(cluster(true), &health).status(), 412);
    }
}
