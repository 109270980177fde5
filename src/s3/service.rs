//! The order of a request: limits → route → authenticate → place → bucket row → authorise → memory
//! → handler.
//!
//! Strangers hold no place and no memory: a request gets these when its signature is verified.
//!
//! Nothing reads the body before the handler, but for a form's fields, which hold its credentials.
//! They have places of their own, and a head's time to come.
//! Thus a client that waits for `100 Continue` gets it only once it may write; a client that is
//! refused before that gets the answer, and then the connection is closed. A handler that panics
//! answers 500 and harms nobody else.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body as Source;
use drystone_store::error::{Error, Refusal};
use drystone_store::lock::Mutex;
use drystone_store::types::Bucket;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use http_body::Body as _;
use tokio::time::timeout;

use crate::context::Context;
use crate::form::Form;
use crate::form::policy::Policy;
use crate::operation::{self, Operation};
use crate::request::{Request, X_FORWARDED_PROTO, check_expected_owner};
use crate::row::{Asks, BodyKind, Scope};
use crate::{rights, route, weight};
use drystone_auth::authenticate::Verifier;
use drystone_auth::identity::{Authenticated, Identity};
use drystone_auth::v4::link;
use drystone_http::admission::{Admission, Place};
use drystone_http::limits::Limits;
use drystone_http::pace::Pace;
use drystone_http::request::{self as http_request, Head};
use drystone_http::service::Service;
use drystone_http::traffic::{Rejection, Traffic};
use drystone_http::wire::{Incoming, Outgoing};
use drystone_iam::action::Action;
use drystone_iam::arn::Arn;
use drystone_iam::facts::BucketSettings;
use drystone_protocol::address::Target;
use drystone_protocol::error::response::ErrorContext;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::form_fields::Fields;
use drystone_protocol::names;
use drystone_protocol::query::Query;
use drystone_protocol::response::{Body, Response, X_AMZ_BUCKET_REGION};

/// All headers' names and values together, as AWS bounds them.
const HEADER_SECTION_BYTES_MAX: usize = 8 << 10;
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

/// Runs the handlers of S3's operations.
pub struct S3Service {
    context: Arc<Context>,
    verifier: Arc<Verifier>,
    admission: Arc<Admission>,
    traffic: Arc<Traffic>,
    /// The least that a client must send of its body.
    pace: Pace,
    /// How long the fields of a form may take to come.
    fields_max: Duration,
}

/// The caller of a request, and what is left of its body.
struct Known {
    who: Authenticated,
    /// The fields of a form.
    fields: Option<Fields>,
    source: Source,
}

/// A request that the table has a row for.
struct Asked {
    target: Target,
    operation: &'static Operation,
}

/// The parts of the request that an error's XML names.
struct Subject {
    bucket: String,
    key: String,
    upload_id: String,
    version_id: String,
}

impl Subject {
    fn of(head: &Head) -> Subject {
        let target = head.address.target.as_ref();
        let (bucket, key) = target.map_or(("", ""), |target| (&target.bucket, &target.key));
        // A query that cannot be read names nothing.
        let query = Some(&head.query).filter(|query| query.is_valid());
        let asked = |name| query.and_then(|query| query.get(name)).unwrap_or_default();
        Subject {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            upload_id: asked("uploadId").to_owned(),
            version_id: asked("versionId").to_owned(),
        }
    }
}

#[async_trait]
impl Service for S3Service {
    /// Every request that is left is S3's.
    async fn answer(
        &self,
        request: http_request::Request,
    ) -> Result<Response, http_request::Request> {
        Ok(self.serve(request).await)
    }
}

impl S3Service {
    pub fn new(
        context: Arc<Context>,
        verifier: Arc<Verifier>,
        admission: Arc<Admission>,
        traffic: Arc<Traffic>,
        limits: &Limits,
    ) -> S3Service {
        S3Service {
            context,
            verifier,
            admission,
            traffic,
            pace: limits.pace,
            fields_max: limits.head,
        }
    }

    /// Answers one request; never fails and never panics.
    pub async fn serve(&self, request: http_request::Request) -> Response {
        let within = self.traffic.requests.enter();
        let http_request::Request { mut head, body } = request;
        let exchange = head.exchange.clone();
        let (method, uri) = (head.method.clone(), head.uri.clone());
        let subject = Subject::of(&head);
        let never_continued = is_asked_to_continue(&head.headers) && body.is_end_stream();
        let traffic = self.traffic.clone();
        let (source, unread) = Incoming::watch(body, self.pace, traffic.clone(), exchange.clone());
        let asked = match head.address.target.clone() {
            Ok(target) if method == Method::OPTIONS => {
                Err(self.refuse_preflight(&target, &head.headers).await)
            }
            target => target.and_then(|target| ask(target, &mut head)),
        };
        let operation = asked.as_ref().ok().map(|asked| asked.operation.row.name);
        let result = match asked {
            Ok(asked) => self.run(asked, head, source).await,
            Err(error) => Err(error),
        };
        let mut code = None;
        let (mut response, held) = match result {
            Ok((response, held)) => (response, Some(held)),
            Err(error) => {
                let id = &exchange.id;
                tracing::debug!(request = %id, %method, resource = uri.path(), %error, "refused");
                if error.code() == Code::SlowDown {
                    self.traffic.rejected(Rejection::Busy);
                }
                code = Some(error.code().text());
                let at = ErrorContext {
                    bucket: &subject.bucket,
                    key: &subject.key,
                    upload_id: &subject.upload_id,
                    version_id: &subject.version_id,
                    resource: uri.path(),
                    request_id: id,
                    host_id: self.context.ids.host_id(),
                };
                (error.into_response(&at), None)
            }
        };
        if method == Method::HEAD && !response.status().is_success() {
            *response.body_mut() = Body::empty();
        }
        let closes = never_continued || unread.load(Ordering::Relaxed);
        let ids = &self.context.ids;
        ids.finish(response.headers_mut(), &exchange.id, closes);
        let status = response.status();
        self.traffic.answered(operation, status, exchange.elapsed());
        exchange.answered(status);
        exchange.note(|findings| {
            findings.operation = operation;
            (findings.bucket, findings.key) = (subject.bucket, subject.key);
            findings.error = code;
        });
        response.map(|body| Outgoing::watch(body, traffic, exchange, (held, within)))
    }

    /// Runs the request, and a panic in it becomes an error.
    async fn run(
        &self,
        asked: Asked,
        head: Head,
        source: Source,
    ) -> Result<(Response, Place), S3Error> {
        let id = head.exchange.id.clone();
        let steps = AssertUnwindSafe(self.steps(asked, head, source));
        steps.catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(request = %id, "handler panicked");
            Err(S3Error::new(Code::InternalError))
        })
    }

    /// The order of a request, from where its operation is known.
    async fn steps(
        &self,
        mut asked: Asked,
        mut head: Head,
        source: Source,
    ) -> Result<(Response, Place), S3Error> {
        let Operation { row, handler } = asked.operation;
        let length = source.size_hint().exact();
        let Known {
            who,
            fields,
            source,
        } = self.identify(&mut asked, &mut head, source).await?;
        if let Some(principal) = who.identity.principal() {
            let caller = (principal.account.id.0.clone(), principal.user.clone());
            head.exchange
                .note(|findings| findings.caller = Some(caller));
        }
        let mut place = self.admission.enter().await?;
        let mut request = Request {
            operation: row,
            exchange: head.exchange,
            received_at: self.context.env.now(),
            identity: who.identity,
            signing: who.signing,
            bucket_name: asked.target.bucket,
            key: asked.target.key,
            by_host: asked.target.by_host,
            path: head.uri.path().to_owned(),
            path_prefix: self.context.path_prefix.clone(),
            query: head.query,
            headers: head.headers,
            form: fields,
            bucket: None,
            settings: Arc::default(),
            may_list: false,
            body: Mutex::new(Some((who.payload, source))),
        };
        self.admit(&mut request).await?;
        let bytes = match row.copies() {
            true => weight::body_bytes(BodyKind::Stream, None),
            false => weight::body_bytes(row.body, length),
        };
        self.admission.reserve(&mut place, bytes).await?;
        let may_list = request.may_list;
        let answered = handler(self.context.clone(), request).await;
        let response = answered.map_err(|error| rights::hide_missing(error, may_list))?;
        // An operation that has changed something is answered without another wait, and may be at
        // work still while its answer is sent.
        if row.method == Method::GET {
            let bytes = weight::answer_bytes(answer_length(&response));
            self.admission.reserve_answer(&mut place, bytes).await?;
            place.end_work();
        }
        Ok((response, place))
    }

    /// Finds out who sent the request. Of a body it reads a form's fields at most.
    async fn identify(
        &self,
        asked: &mut Asked,
        head: &mut Head,
        source: Source,
    ) -> Result<Known, S3Error> {
        if asked.operation.row.body != BodyKind::Form {
            let who = self.verifier.authenticate(head, self.context.env.now());
            return Ok(Known {
                who: who.await?,
                fields: None,
                source,
            });
        }
        let _place = self.admission.enter_form()?;
        let form = timeout(self.fields_max, Form::receive(&head.headers, source)).await;
        let mut form = form.unwrap_or_else(|_| {
            self.traffic.rejected(Rejection::SlowBody);
            Err(S3Error::new(Code::RequestTimeout))
        })?;
        let who = self.admit_form(&mut form, &mut asked.target, head).await?;
        let (fields, source) = form.into_file()?;
        Ok(Known {
            who,
            fields,
            source,
        })
    }

    /// Verifies a form's signature, and that the form asks for what was signed. From here on it is
    /// like a PUT of its file: its key is the target's, its fields are the headers.
    async fn admit_form(
        &self,
        form: &mut Form,
        target: &mut Target,
        head: &mut Head,
    ) -> Result<Authenticated, S3Error> {
        target.key = form.fields.key()?.to_owned();
        let who = self.verifier.authenticate_form(head, &form.fields).await?;
        if let (Identity::Principal(_), Some(policy)) = (&who.identity, form.fields.get("policy")) {
            let policy = Policy::parse(policy)?;
            let length = policy.check(&form.fields, &target.bucket, self.context.env.now())?;
            form.allowed_len = length;
        }
        let mut headers = form.fields.headers()?;
        for name in KEPT_BESIDE_A_FORM {
            if let Some(value) = head.headers.remove(&name) {
                headers.insert(name, value);
            }
        }
        head.headers = headers;
        Ok(who)
    }

    /// Refuses a preflight. It has no credentials, and no bucket can have CORS rules yet.
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
            .with("ResourceType", resource_type(Scope::of(target)));
        if Scope::of(target) == Scope::Service {
            return forbidden;
        }
        let found = match self.admission.enter().await {
            Ok(_place) => self.context.store.bucket(&target.bucket).await,
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

    /// Finds the bucket and checks that the caller may do what it asks for.
    async fn admit(&self, request: &mut Request) -> Result<(), S3Error> {
        let row = request.operation;
        if row.scope != Scope::Service {
            names::check_bucket(&request.bucket_name)?;
        }
        if !row.needs_bucket() {
            let resource = match row.scope {
                Scope::Service => Arn::account(),
                _ => Arn::bucket(&request.bucket_name),
            };
            return check_rights(request, resource, None);
        }
        let bucket = self.context.store.bucket(&request.bucket_name).await?;
        let settings = self.context.settings.of(&bucket);
        let of = (&bucket, &*settings);
        let resource = match request.key.as_str() {
            "" => Arn::bucket(&bucket.name),
            key => Arn::object(&bucket.name, key),
        };
        check_rights(request, resource, Some(of)).map_err(|error| {
            match row.details.denial_has_region {
                true => error.header(X_AMZ_BUCKET_REGION, self.context.region_of(&bucket)),
                false => error,
            }
        })?;
        check_expected_owner(&request.headers, EXPECTED_OWNER.as_str(), &bucket.owner)?;
        let listing = request.decide(Action::ListBucket, Arn::bucket(&bucket.name), Some(of));
        request.may_list = listing.is_allowed();
        request.settings = settings;
        request.bucket = Some(bucket);
        Ok(())
    }
}

/// Checks all rights that the operation asks for at the entrance.
fn check_rights(
    request: &Request,
    resource: Arn<'_>,
    bucket: Option<(&Bucket, &BucketSettings)>,
) -> Result<(), S3Error> {
    let row = request.operation;
    if row.details.asks == Asks::PerItem {
        return request.check(row.right.action(false), resource, bucket);
    }
    let names_version = request.query.has("versionId");
    for action in row.actions(names_version, &request.headers) {
        request.check(action, resource, bucket)?;
    }
    Ok(())
}

/// Finds the operation that is asked for. The caller plays no part in it.
fn ask(target: Target, head: &mut Head) -> Result<Asked, S3Error> {
    // A request that is signed for a path of the server's own must not become one for a bucket.
    if !target.by_host && names::is_own_path(&target.bucket) {
        return Err(names::reserved());
    }
    link::take_headers_from_link(head);
    check_limits(&head.headers)?;
    head.query.check()?;
    let scope = Scope::of(&target);
    route::check_marks(&head.method, scope, &head.query, &head.headers)?;
    let operation = operation::find(&head.method, scope, &head.query, &head.headers)
        .ok_or_else(|| method_not_allowed(&head.method, scope, &head.query))?;
    Ok(Asked { target, operation })
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
        .header(header::ALLOW, operation::methods(scope, query).join(", "))
}

fn resource_type(scope: Scope) -> &'static str {
    match scope {
        Scope::Service => "SERVICE",
        Scope::Bucket => "BUCKET",
        Scope::Object => "OBJECT",
    }
}
