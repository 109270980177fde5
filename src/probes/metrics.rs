//! `GET /metrics`: what the server and the store count, in Prometheus's text format.
//!
//! The path lies where a bucket `metrics` would, which nobody can make. A signed request is S3's to
//! refuse; one without a signature, or with a bearer token, means this.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use drystone_store::ObjectStore;
use drystone_store::measure::{BOUNDS_SECONDS, Durations, Measure, Value};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use subtle::ConstantTimeEq as _;
use tokio::time::timeout;

use drystone_auth::credentials::Secret;
use drystone_http::admission::Admission;
use drystone_http::request::{Head, Request};
use drystone_http::service::Service;
use drystone_http::tls;
use drystone_http::traffic::Traffic;
use drystone_protocol::response::{self, Body, Response};

const PATH: &str = "/metrics";
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// A disk that hangs does not keep the rest from being told.
const STORE_MAX: Duration = Duration::from_secs(5);

/// Tells what the server and the store count.
pub struct Metrics {
    pub access: Access,
    /// The beginning of all names.
    pub prefix: &'static str,
    pub version: &'static str,
    pub store: Arc<dyn ObjectStore>,
    pub traffic: Arc<Traffic>,
    pub admission: Arc<Admission>,
    /// The certificate, where TLS is spoken.
    pub certificate: Option<Arc<tls::Live>>,
}

#[derive(Clone, Debug)]
pub enum Access {
    /// The request must have this as its bearer token.
    Token(Secret),
    Public,
    Off,
}

#[async_trait]
impl Service for Metrics {
    async fn answer(&self, request: Request) -> Result<Response, Request> {
        if matches!(self.access, Access::Off) || !is_meant(&request.head) {
            return Err(request);
        }
        Ok(match may_read(&self.access, &request.head.headers) {
            true => self.report().await,
            false => refused(),
        })
    }

    fn serves_when_full(&self) -> bool {
        true
    }
}

impl Metrics {
    async fn report(&self) -> Response {
        let mut measures = self.traffic.measures();
        measures.extend(self.admission.measures());
        if let Some(certificate) = &self.certificate {
            measures.extend(certificate.measures());
        }
        let store = timeout(STORE_MAX, self.store.measures()).await;
        let help = "1 when the store did not report its measures in time.";
        measures.push(Measure::gauge(
            "metrics_incomplete",
            help,
            f64::from(u8::from(store.is_err())),
        ));
        let help = "The version that runs.";
        measures.push(Measure::gauge("build_info", help, 1.0).label("version", self.version));
        measures.extend(store.unwrap_or_default());
        let text = Body::from(text(self.prefix, &measures));
        let mut response = response::new(StatusCode::OK, text);
        response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
        response
    }
}

fn refused() -> Response {
    let why = Body::from("the metrics need their bearer token\n");
    let mut response = response::new(StatusCode::FORBIDDEN, why);
    response.headers_mut().insert(header::CONTENT_TYPE, TEXT);
    response
}

fn is_meant(head: &Head) -> bool {
    let signed = head.query.has("X-Amz-Signature")
        || head.query.has("Signature")
        || (head.headers.contains_key(header::AUTHORIZATION) && bearer(&head.headers).is_none());
    [Method::GET, Method::HEAD].contains(&head.method)
        && head.path() == PATH
        && !signed
        && head.address.is_by_path()
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

fn may_read(access: &Access, headers: &HeaderMap) -> bool {
    match access {
        Access::Public => true,
        Access::Off => false,
        Access::Token(token) => {
            let given = bearer(headers).unwrap_or_default();
            bool::from(token.expose().as_bytes().ct_eq(given.trim_ascii()))
        }
    }
}

/// Families in the order in which they are first met, each with all its values.
fn text(prefix: &str, measures: &[Measure]) -> String {
    let mut text = String::new();
    let mut written: Vec<&str> = Vec::new();
    for first in measures {
        if written.contains(&first.name) {
            continue;
        }
        written.push(first.name);
        let name = format!("{prefix}_{}", first.name);
        let kind = match first.value {
            Value::Counter(_) => "counter",
            Value::Gauge(_) => "gauge",
            Value::Durations(_) => "histogram",
        };
        let help = first.help.replace('\\', "\\\\").replace('\n', "\\n");
        line(&mut text, format_args!("# HELP {name} {help}"));
        line(&mut text, format_args!("# TYPE {name} {kind}"));
        for measure in measures.iter().filter(|other| other.name == first.name) {
            write_value(&mut text, &name, measure);
        }
    }
    text
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing into a string can't fail.
    let _ = writeln!(text, "{content}");
}

fn write_value(text: &mut String, name: &str, measure: &Measure) {
    let labels = labels(&measure.labels, None);
    match &measure.value {
        Value::Counter(count) => line(text, format_args!("{name}{labels} {count}")),
        Value::Gauge(value) => line(text, format_args!("{name}{labels} {value}")),
        Value::Durations(durations) => write_durations(text, name, &measure.labels, durations),
    }
}

fn write_durations(
    text: &mut String,
    name: &str,
    of: &[(&'static str, String)],
    durations: &Durations,
) {
    let mut count = 0;
    let bounds = BOUNDS_SECONDS.iter().map(f64::to_string);
    for (bound, more) in bounds.chain(["+Inf".to_owned()]).zip(durations.counts) {
        count += more;
        let labels = labels(of, Some(&bound));
        line(text, format_args!("{name}_bucket{labels} {count}"));
    }
    let labels = labels(of, None);
    line(
        text,
        format_args!("{name}_sum{labels} {}", durations.seconds),
    );
    line(text, format_args!("{name}_count{labels} {count}"));
}

fn labels(labels: &[(&'static str, String)], bound: Option<&str>) -> String {
    let escaped = |value: &str| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"");
        value.replace('\n', "\\n")
    };
    let of = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let pairs: Vec<String> = of
        .chain(bound.map(|bound| ("le", bound)))
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", pairs.join(",")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use drystone_store::measure::Histogram;

    use super::*;

    #[test]
    fn the_text_is_prometheus_s() {
        let took = Histogram::default();
        took.add(Duration::from_millis(3));
        took.add(Duration::from_secs(60));
        let measures = [
            Measure::gauge("up", "Is it?", 1.5).label("disk", "a\"\\\nb"),
            Measure::durations("took_seconds", "How long.", &took).label("op", "x"),
            Measure::gauge("up", "Is it?", 0.0).label("disk", "c"),
            Measure::counter("done_total", "How many.", 7),
        ];
        let text = text("p", &measures);
        let head = "# HELP p_up Is it?\n# TYPE p_up gauge\n\
                    p_up{disk=\"a\\\"\\\\\\nb\"} 1.5\np_up{disk=\"c\"} 0\n\
                    # HELP p_took_seconds How long.\n# TYPE p_took_seconds histogram\n\
                    p_took_seconds_bucket{op=\"x\",le=\"0.0005\"} 0\n";
        assert!(text.starts_with(head), "{text}");
        let tail = "p_took_seconds_bucket{op=\"x\",le=\"10\"} 1\n\
                    p_took_seconds_bucket{op=\"x\",le=\"+Inf\"} 2\n\
                    p_took_seconds_sum{op=\"x\"} 60.003\np_took_seconds_count{op=\"x\"} 2\n\
                    # HELP p_done_total How many.\n# TYPE p_done_total counter\np_done_total 7\n";
        assert!(text.ends_with(tail), "{text}");
    }
}
