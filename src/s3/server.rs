//! The order of a request: limits → route → authenticate → bucket row → authorise → handler.
//!
//! Nothing touches the body before the handler, but for a form's fields, which say who sent it. So
//! a client that waits for `100 Continue` gets it only once it may write; whoever is refused before
//! gets the answer, and then the connection is closed. A handler that panics answers 500 and harms
//! nobody else.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body as Source, Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use drystone_storage::env::Env;
use drystone_storage::store::ObjectStore;
use futures_util::FutureExt as _;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep};

use crate::auth::authenticate::{Allowed, Authenticated, Identity, Payload, Verifier};
use crate::auth::credentials::Credentials;
use crate::auth::presigned;
use crate::iam::authorize::{Resource, authorize};
use crate::s3::error::{Code, ErrorContext, S3Error};
use crate::s3::form::Form;
use crate::s3::late::Patience;
use crate::s3::names;
use crate::s3::operation::{BodyKind, Operation, Scope};
use crate::s3::post_policy::Policy;
use crate::s3::request::{Query, Request, X_FORWARDED_PROTO, check_expected_owner};
use crate::s3::response::{Body, Response, X_AMZ_ID_2, X_AMZ_REQUEST_ID};
use crate::s3::route::{self, Target};

/// All headers' names and values together, as AWS bounds them.
const HEADER_SECTION_BYTES_MAX: usize = 8 << 10;
/// Requests in work; more get 503 SlowDown.
const REQUESTS_MAX: usize = 4096;
/// What answers. The product's name does not go over the wire.
const SERVER: &str = "S3";
/// A body that brings nothing for so long ends its request.
const BODY_IDLE_MAX: Duration = Duration::from_secs(60);

/// Headers that count beside a form's fields. Its other parameters must not stand in headers, where
/// no policy covers them.
const KEPT_BESIDE_A_FORM: [HeaderName; 4] = [
    header::HOST,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    X_FORWARDED_PROTO,
];

/// What handlers work with.
pub struct Server {
    pub store: Arc<dyn ObjectStore>,
    pub credentials: Credentials,
    pub region: String,
    /// Names whose sub-domains are buckets, in lower case.
    pub domains: Vec<String>,
    also: Allowed,
    pub env: Arc<dyn Env>,
    pub(super) host_id: String,
    /// How long operations that take their time leave a client without a word.
    pub(super) patience: Patience,
    requests: Semaphore,
}

impl Server {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        credentials: Credentials,
        region: String,
        domains: &[String],
        also: Allowed,
        env: Arc<dyn Env>,
    ) -> Server {
        Server {
            store,
            credentials,
            region,
            domains: domains
                .iter()
                .map(|domain| domain.to_ascii_lowercase())
                .collect(),
            also,
            host_id: BASE64.encode([env.random(), env.random()].concat()),
            env,
            patience: Patience::DEFAULT,
            requests: Semaphore::new(REQUESTS_MAX),
        }
    }

    /// Answers one request; never fails and never panics.
    pub async fn answer(self: Arc<Server>, request: http::Request<Source>) -> Response {
        let id = hex::encode_upper(&self.env.random()[..8]);
        let (parts, source) = request.into_parts();
        let method = parts.method.clone();
        let uri = parts.uri.clone();
        let never_continued = is_asked_to_continue(&parts.headers) && source.is_end_stream();
        let (source, unread) = Incoming::watch(source);
        let target = route::target(&parts.uri, &parts.headers, &self.domains);
        let place = target.as_ref().ok().cloned();
        let result = match target {
            Ok(target) => self.run(target, parts, source, &id).await,
            Err(error) => Err(error),
        };
        let mut response = result.unwrap_or_else(|error| {
            tracing::debug!(request = %id, %method, resource = uri.path(), %error, "refused");
            let query = Query::parse(uri.query().unwrap_or_default()).ok();
            error.into_response(&ErrorContext {
                bucket: place.as_ref().map_or("", |place| &place.bucket),
                key: place.as_ref().map_or("", |place| &place.key),
                query: query.as_ref(),
                resource: uri.path(),
                request_id: &id,
                host_id: &self.host_id,
            })
        });
        if method == Method::HEAD && !response.status().is_success() {
            *response.body_mut() = Body::empty();
        }
        let closes = never_continued || unread.load(Ordering::Relaxed);
        self.finish(response.headers_mut(), &id, closes);
        response
    }

    /// Runs the request with a permit, and a panic in it becomes an error.
    async fn run(
        self: &Arc<Server>,
        target: Target,
        parts: Parts,
        source: Source,
        id: &str,
    ) -> Result<Response, S3Error> {
        let Ok(_permit) = self.requests.try_acquire() else {
            return Err(S3Error::new(Code::SlowDown));
        };
        let steps = self.clone().steps(target, parts, source, id.to_owned());
        match AssertUnwindSafe(steps).catch_unwind().await {
            Ok(result) => result,
            Err(_) => {
                tracing::error!(request = %id, "handler panicked");
                Err(S3Error::new(Code::InternalError))
            }
        }
    }

    /// The order of a request.
    async fn steps(
        self: Arc<Server>,
        mut target: Target,
        mut parts: Parts,
        mut source: Source,
        id: String,
    ) -> Result<Response, S3Error> {
        presigned::take_headers_from_link(&mut parts);
        check_limits(&parts.headers)?;
        if parts.method == Method::OPTIONS {
            // A preflight bears no credentials, and no bucket can have CORS rules yet.
            return Err(S3Error::new(Code::AccessForbidden));
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default())?;
        let scope = target.scope();
        let operation = Operation::find(&parts.method, scope, &query, &parts.headers)
            .ok_or_else(|| method_not_allowed(&parts.method, scope, &query))?;
        let verifier = Verifier {
            credentials: &self.credentials,
            domains: &self.domains,
            also: self.also,
        };
        let mut fields = None;
        let who = match operation.body {
            BodyKind::Form => {
                let mut form = Form::receive(&parts.headers, source).await?;
                let who = self.admit_form(verifier, &mut form, &mut target, &mut parts)?;
                (fields, source) = form.into_file();
                who
            }
            _ => verifier.authenticate(&parts, self.env.now())?,
        };
        let mut request = Request {
            operation,
            id,
            identity: who.identity,
            bucket_name: target.bucket,
            key: target.key,
            path: parts.uri.path().to_owned(),
            query,
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
        authorize(&request.identity, action, resource)?;
        check_expected_owner(
            &request.headers,
            "x-amz-expected-bucket-owner",
            &bucket.owner,
        )?;
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
    let resource_type = match scope {
        Scope::Service => "SERVICE",
        Scope::Bucket => "BUCKET",
        Scope::Object => "OBJECT",
    };
    S3Error::new(Code::MethodNotAllowed)
        .with("Method", method.as_str())
        .with("ResourceType", resource_type)
        .header(header::ALLOW, Operation::methods(scope, query).join(", "))
}

/// A request's body as it comes off the wire: remembers whether it was read to its end, and ends
/// in an error when nothing comes for too long.
struct Incoming {
    inner: Source,
    unread: Arc<AtomicBool>,
    idle: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    fn watch(inner: Source) -> (Source, Arc<AtomicBool>) {
        let unread = Arc::new(AtomicBool::new(!inner.is_end_stream()));
        let incoming = Incoming {
            inner,
            unread: unread.clone(),
            idle: None,
        };
        (Source::new(incoming), unread)
    }
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(idle) = &mut self.idle {
                    idle.as_mut().reset(Instant::now() + BODY_IDLE_MAX);
                }
                if frame.is_none() || self.inner.is_end_stream() {
                    self.unread.store(false, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
            Poll::Pending => {
                let idle = self
                    .idle
                    .get_or_insert_with(|| Box::pin(sleep(BODY_IDLE_MAX)));
                match idle.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        let error = S3Error::new(Code::RequestTimeout);
                        Poll::Ready(Some(Err(BoxError::from(error))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
