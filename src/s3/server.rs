//! The order of a request: limits → route → authenticate → bucket row → authorise → handler.
//!
//! Nothing touches the body before the handler, but for a form's fields, which say who sent it. So
//! a client that waits for `100 Continue` gets it only once it may write; whoever is refused before
//! gets the answer, and then the connection is closed. A handler that panics answers 500 and harms
//! nobody else.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::body::Body as Source;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_store::env::Env;
use drystone_store::error::{Error, Refusal};
use drystone_store::measure::Measure;
use drystone_store::store::{Addition, AdditionOf, ObjectStore};
use drystone_store::types::Bucket;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body as _;

use crate::auth::authenticate::{Allowed, Authenticated, Identity, Payload, Verifier};
use crate::auth::credentials::Credentials;
use crate::auth::presigned;
use crate::iam::authorize::{Resource, authorize};
use crate::s3::admission::{self, Admission, Place};
use crate::s3::beside::Beside;
use crate::s3::error::{Code, ErrorContext, S3Error};
use crate::s3::form::Form;
use crate::s3::late::Patience;
use crate::s3::limits::Limits;
use crate::s3::metrics::Metrics;
use crate::s3::names;
use crate::s3::operation::{BodyKind, Operation, Scope};
use crate::s3::post_policy::Policy;
use crate::s3::request::{Query, Request, X_FORWARDED_PROTO, check_expected_owner};
use crate::s3::response::{Body, Response, X_AMZ_BUCKET_REGION, X_AMZ_ID_2, X_AMZ_REQUEST_ID};
use crate::s3::route::{self, Target};
use crate::s3::scheme::Scheme;
use crate::s3::traffic::{Cut, Traffic};
use crate::s3::wire::{Incoming, Outgoing};
use crate::tls;

/// All headers' names and values together, as AWS bounds them.
const HEADER_SECTION_BYTES_MAX: usize = 8 << 10;
/// What answers. The product's name does not go over the wire.
const SERVER: &str = "S3";

/// Headers that count beside a form's fields. Its other parameters must not stand in headers, where
/// no policy covers them.
const KEPT_BESIDE_A_FORM: [HeaderName; 5] = [
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    EXPECTED_OWNER,
    X_FORWARDED_PROTO,
];

const EXPECTED_OWNER: HeaderName = HeaderName::from_static("x-amz-expected-bucket-owner");

/// What handlers work with.
pub struct Server {
    pub store: Arc<dyn ObjectStore>,
    pub credentials: Credentials,
    pub region: String,
    /// Names whose sub-domains are buckets, in lower case.
    pub domains: Vec<String>,
    /// What all paths may begin with; empty, or `/` and what follows.
    pub path_prefix: String,
    also: Allowed,
    pub env: Arc<dyn Env>,
    pub(super) host_id: String,
    /// How long operations that take their time leave a client without a word.
    pub(super) patience: Patience,
    pub limits: Limits,
    pub admission: Admission,
    pub metrics: Metrics,
    pub traffic: Arc<Traffic>,
    /// What else is served on the port.
    pub beside: Option<Arc<dyn Beside>>,
    /// The certificate, where TLS is spoken.
    pub certificate: Option<Arc<tls::Live>>,
}

/// A request that the table has a row for.
struct Asked {
    target: Target,
    query: Query,
    operation: &'static Operation,
}

impl Server {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        credentials: Credentials,
        region: String,
        domains: &[String],
        also: Allowed,
        env: Arc<dyn Env>,
        limits: Limits,
    ) -> Server {
        Server {
            store,
            credentials,
            region,
            domains: domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase())
                .collect(),
            path_prefix: String::new(),
            also,
            host_id: BASE64.encode([env.random(), env.random()].concat()),
            env,
            patience: Patience::DEFAULT,
            admission: Admission::new(&limits),
            metrics: Metrics::OFF,
            limits,
            traffic: Arc::default(),
            beside: None,
            certificate: None,
        }
    }

    pub fn verifier(&self) -> Verifier<'_> {
        Verifier {
            credentials: &self.credentials,
            domains: &self.domains,
            also: self.also,
        }
    }

    /// Tells its measures; without this it does not.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Metrics) -> Server {
        self.metrics = metrics;
        self
    }

    /// Serves below this path as well, as `prefix::enter` takes it off.
    #[must_use]
    pub fn with_path_prefix(mut self, prefix: &str) -> Server {
        prefix.clone_into(&mut self.path_prefix);
        self
    }

    pub fn with_beside(mut self, beside: Arc<dyn Beside>) -> Server {
        self.beside = Some(beside);
        self
    }

    #[must_use]
    pub fn with_certificate(mut self, certificate: Option<Arc<tls::Live>>) -> Server {
        self.certificate = certificate;
        self
    }

    /// Answers one request; never fails and never panics.
    pub async fn answer(self: Arc<Server>, request: http::Request<Source>) -> Response {
        let began = Instant::now();
        let within = self.traffic.requests.enter();
        let id = self.request_id();
        let (mut parts, source) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let never_continued = is_asked_to_continue(&parts.headers) && source.is_end_stream();
        let traffic = self.traffic.clone();
        let (source, unread) = Incoming::watch(source, self.limits.pace, traffic.clone());
        let target = route::target(&uri, &parts.headers, &self.domains);
        let place = target.as_ref().ok().cloned();
        let asked = match target {
            Ok(target) if method == Method::OPTIONS => {
                Err(self.refuse_preflight(&target, &parts.headers).await)
            }
            target => target.and_then(|target| ask(target, &mut parts)),
        };
        let operation = asked.as_ref().ok().map(|asked| asked.operation.name);
        let result = match asked {
            Ok(asked) => self.run(asked, parts, source, &id).await,
            Err(error) => Err(error),
        };
        let (mut response, held) = match result {
            Ok((response, held)) => (response, Some(held)),
            Err(error) => {
                tracing::debug!(request = %id, %method, resource = uri.path(), %error, "refused");
                if error.code() == Code::SlowDown {
                    self.traffic.cut(Cut::Busy);
                }
                let query = Query::parse(uri.query().unwrap_or_default()).ok();
                let at = ErrorContext {
                    bucket: place.as_ref().map_or("", |place| &place.bucket),
                    key: place.as_ref().map_or("", |place| &place.key),
                    query: query.as_ref(),
                    resource: uri.path(),
                    request_id: &id,
                    host_id: &self.host_id,
                };
                (error.into_response(&at), None)
            }
        };
        if method == Method::HEAD && !response.status().is_success() {
            *response.body_mut() = Body::empty();
        }
        let closes = never_continued || unread.load(Ordering::Relaxed);
        self.finish(response.headers_mut(), &id, closes);
        self.traffic
            .answered(operation, response.status(), began.elapsed());
        response.map(|body| Outgoing::watch(body, traffic, (held, within)))
    }

    /// Answers what never became a request: its head was no HTTP, or too much of it; or there is
    /// no room for it. Ends the connection.
    pub fn refuse(&self, error: S3Error, why: Cut) -> Response {
        let id = self.request_id();
        tracing::debug!(request = %id, %error, "refused unread");
        let at = ErrorContext {
            request_id: &id,
            host_id: &self.host_id,
            ..ErrorContext::default()
        };
        let mut response = error.into_response(&at);
        self.finish(response.headers_mut(), &id, true);
        self.traffic.cut(why);
        response
    }

    /// The region that a bucket is in, by its name of today.
    pub fn region_of<'a>(&'a self, bucket: &'a Bucket) -> &'a str {
        match bucket.location.as_str() {
            "" => &self.region,
            "EU" => "eu-west-1",
            given => given,
        }
    }

    /// What the server itself counts and measures.
    pub fn measures(&self) -> Vec<Measure> {
        let mut measures = self.traffic.measures();
        for (name, help, value) in [
            (
                "s3_requests_waiting",
                "Requests that wait for a place or for memory.",
                self.admission.waiting() as f64,
            ),
            (
                "s3_request_places_free",
                "So many more requests may be in work.",
                self.admission.requests_free() as f64,
            ),
            (
                "s3_request_memory_free_bytes",
                "So much more may be held by requests in work.",
                self.admission.memory_free_bytes() as f64,
            ),
        ] {
            measures.push(Measure::gauge(name, help, value));
        }
        if let Some(certificate) = &self.certificate {
            measures.extend(certificate.measures());
        }
        measures
    }

    /// Refuses, before any of its bytes are taken, what the bucket's hard quota would refuse
    /// now. The write itself is held to the quota again, where the order is decided.
    pub async fn check_quota(
        &self,
        bucket: &Bucket,
        of: AdditionOf,
        bytes: Option<u64>,
    ) -> Result<(), S3Error> {
        if bucket.quota.hard_bytes.is_none() && bucket.quota.hard_objects.is_none() {
            return Ok(());
        }
        let bytes = bytes.unwrap_or_default();
        let addition = Addition { of, bytes };
        Ok(self.store.check_quota(bucket.id, addition).await?)
    }

    /// For an answer that is no S3's: the ids that every answer bears.
    pub fn ids(&self) -> (String, &str) {
        (self.request_id(), &self.host_id)
    }

    fn request_id(&self) -> String {
        hex::encode_upper(&self.env.random()[..8])
    }

    /// Runs the request in its place, and a panic in it becomes an error.
    async fn run(
        self: &Arc<Server>,
        asked: Asked,
        parts: Parts,
        source: Source,
        id: &str,
    ) -> Result<(Response, Place), S3Error> {
        let mut place = self.admission.enter().await?;
        let reads = asked.operation.method == Method::GET;
        let steps = self
            .clone()
            .steps(asked, parts, source, id.to_owned(), &mut place);
        let response = match AssertUnwindSafe(steps).catch_unwind().await {
            Ok(result) => result?,
            Err(_) => {
                tracing::error!(request = %id, "handler panicked");
                return Err(S3Error::new(Code::InternalError));
            }
        };
        // What has changed something is answered without another wait.
        if reads {
            let bytes = admission::answer_bytes(answer_length(&response));
            self.admission.reserve(&mut place, bytes).await?;
        }
        Ok((response, place))
    }

    /// The order of a request, from where its operation is known.
    async fn steps(
        self: Arc<Server>,
        mut asked: Asked,
        mut parts: Parts,
        mut source: Source,
        id: String,
        place: &mut Place,
    ) -> Result<Response, S3Error> {
        let operation = asked.operation;
        let verifier = self.verifier();
        let length = source.size_hint().exact();
        let bytes = match operation.copies() {
            true => admission::body_bytes(BodyKind::Stream, None),
            false => admission::body_bytes(operation.body, length),
        };
        self.admission.reserve(place, bytes).await?;
        let mut fields = None;
        let who = match operation.body {
            BodyKind::Form => {
                let mut form = Form::receive(&parts.headers, source).await?;
                let target = &mut asked.target;
                let who = self.admit_form(verifier, &mut form, target, &mut parts)?;
                (fields, source) = form.into_file()?;
                who
            }
            _ => verifier.authenticate(&parts, self.env.now())?,
        };
        let mut request = Request {
            operation,
            id,
            identity: who.identity,
            bucket_name: asked.target.bucket,
            key: asked.target.key,
            by_host: asked.target.by_host,
            path: parts.uri.path().to_owned(),
            scheme: Scheme::of(&parts.extensions),
            path_prefix: self.path_prefix.clone(),
            query: asked.query,
            headers: parts.headers,
            form: fields,
            bucket: None,
            body: Mutex::new(Some((who.payload, source))),
        };
        self.admit(&mut request).await?;
        (operation.handler)(self, request).await
    }

    /// Verifies who signed a form, and that what it asks for is what was signed. From here on it
    /// is like a PUT of its file: its key is the target's, its fields are the headers.
    fn admit_form(
        &self,
        verifier: Verifier<'_>,
        form: &mut Form,
        target: &mut Target,
        parts: &mut Parts,
    ) -> Result<Authenticated, S3Error> {
        target.key = form.fields.key()?.to_owned();
        let identity = verifier.authenticate_form(parts, &form.fields)?;
        if let (Identity::Principal(_), Some(policy)) = (&identity, form.fields.get("policy")) {
            let policy = Policy::parse(policy)?;
            let length = policy.check(&form.fields, &target.bucket, self.env.now())?;
            form.allowed_len = length;
        }
        let mut headers = form.fields.headers()?;
        for name in KEPT_BESIDE_A_FORM {
            if let Some(value) = parts.headers.remove(&name) {
                headers.insert(name, value);
            }
        }
        parts.headers = headers;
        Ok(Authenticated {
            identity,
            payload: Payload::Unsigned,
        })
    }

    /// A preflight bears no credentials, and no bucket can have CORS rules yet.
    async fn refuse_preflight(&self, target: &Target, headers: &HeaderMap) -> S3Error {
        let bad = |message: String| S3Error::new(Code::BadRequest).message(message);
        if let Err(error) = check_limits(headers) {
            return error;
        }
        if !headers.contains_key(header::ORIGIN) {
            let message = "Insufficient information. Origin request header needed.";
            return bad(message.to_owned());
        }
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let asked = asked.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let method = match asked.as_deref() {
            None => "OPTIONS",
            Some(method @ ("GET" | "PUT" | "HEAD" | "POST" | "DELETE")) => method,
            Some(other) => return bad(format!("Invalid Access-Control-Request-Method: {other}")),
        };
        let forbidden = S3Error::new(Code::AccessForbidden)
            .with("Method", method)
            .with("ResourceType", resource_type(target.scope()));
        if target.scope() == Scope::Service {
            return forbidden;
        }
        let found = match self.admission.enter().await {
            Ok(_place) => self.store.bucket(&target.bucket).await,
            Err(error) => return error,
        };
        match found {
            Ok(_) => forbidden,
            Err(Error::Refused(Refusal::NoSuchBucket)) => {
                forbidden.message("CORSResponse: Bucket not found")
            }
            Err(error) => error.into(),
        }
    }

    /// Finds the bucket and asks whether the caller may.
    async fn admit(&self, request: &mut Request) -> Result<(), S3Error> {
        let operation = request.operation;
        let action = operation.action(request.query.has("versionId"));
        if operation.scope != Scope::Service {
            names::check_bucket(&request.bucket_name)?;
        }
        if !operation.needs_bucket() {
            return authorize(&request.identity, action, Resource::Account);
        }
        let bucket = self.store.bucket(&request.bucket_name).await?;
        let resource = Resource::Bucket {
            owner: &bucket.owner,
            name: &bucket.name,
            key: Some(request.key.as_str()).filter(|key| !key.is_empty()),
        };
        authorize(&request.identity, action, resource).map_err(|error| match operation.name {
            // Clients ask it for the region alone, so S3 says that whoever asks.
            "HeadBucket" => error.header(X_AMZ_BUCKET_REGION, self.region_of(&bucket)),
            _ => error,
        })?;
        check_expected_owner(&request.headers, EXPECTED_OWNER.as_str(), &bucket.owner)?;
        request.bucket = Some(bucket);
        Ok(())
    }

    /// The headers that every response has.
    fn finish(&self, headers: &mut HeaderMap, id: &str, closes: bool) {
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set(X_AMZ_REQUEST_ID, id);
        set(X_AMZ_ID_2, &self.host_id);
        set(header::SERVER, SERVER);
        if closes {
            // What is left of a body would be taken for the next request. And a client that waits
            // for `100 Continue` before an empty body gets none, as there is nothing to go on
            // with; botocore then takes this answer for the next one's on the same connection.
            set(header::CONNECTION, "close");
        }
    }
}

/// Finds what is asked for, without a look at who asks.
fn ask(target: Target, parts: &mut Parts) -> Result<Asked, S3Error> {
    presigned::take_headers_from_link(parts);
    check_limits(&parts.headers)?;
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let scope = target.scope();
    route::check_marks(&parts.method, scope, &query, &parts.headers)?;
    let operation = Operation::find(&parts.method, scope, &query, &parts.headers)
        .ok_or_else(|| method_not_allowed(&parts.method, scope, &query))?;
    Ok(Asked {
        target,
        query,
        operation,
    })
}

fn answer_length(response: &Response) -> u64 {
    let declared = response.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    let exact = response.body().size_hint().exact();
    exact.or(declared).unwrap_or(u64::MAX)
}

fn is_asked_to_continue(headers: &HeaderMap) -> bool {
    let expect = headers.get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn check_limits(headers: &HeaderMap) -> Result<(), S3Error> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    if headers.iter().map(line).sum::<usize>() > HEADER_SECTION_BYTES_MAX {
        return Err(S3Error::new(Code::RequestHeaderSectionTooLarge)
            .with("MaxSizeAllowed", HEADER_SECTION_BYTES_MAX.to_string()));
    }
    Ok(())
}

fn method_not_allowed(method: &Method, scope: Scope, query: &Query) -> S3Error {
    S3Error::new(Code::MethodNotAllowed)
        .with("Method", method.as_str())
        .with("ResourceType", resource_type(scope))
        .header(header::ALLOW, Operation::methods(scope, query).join(", "))
}

fn resource_type(scope: Scope) -> &'static str {
    match scope {
        Scope::Service => "SERVICE",
        Scope::Bucket => "BUCKET",
        Scope::Object => "OBJECT",
    }
}
