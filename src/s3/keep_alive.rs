//! Answers of operations that may take long: the connection is kept alive while they run.
//!
//! CompleteMultipartUpload, CopyObject and UploadPartCopy do as AWS does. One that has its outcome
//! soon is answered like any other. Past that the answer is begun with a 200, the XML declaration
//! and then a space from time to time, so that neither client nor proxy thinks the connection
//! dead; the document at the end has the outcome, a result or an `Error`. SDKs know that a
//! 200 of these three may hold an error.
//!
//! A late answer does not have the facts that only headers give, such as the new version's id.
//!
//! The work is polled by the connection and ends with it, so nobody copies for a client that
//! has disconnected. A commit under way is storage's, and runs to its end all the same.

use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, stream};
use http::{StatusCode, header};
use tokio::time::sleep;

use crate::context::Context;
use crate::request::Request;
use crate::rights;
use drystone_protocol::error::response::ErrorContext;
use drystone_protocol::error::{Code, S3Error};
use drystone_protocol::response::{self, Body, Response};
use drystone_protocol::xml::write::DECLARATION;

type Outcome = Result<Response, S3Error>;

/// Runs `work` and answers with its outcome, late if need be. The request's body has been read.
pub async fn answer<W, F>(context: Arc<Context>, request: Request, work: W) -> Outcome
where
    W: FnOnce(Arc<Context>, Arc<Request>) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    let request = Arc::new(request);
    let interval = context.keep_alive;
    let mut outcome = Box::pin(work(context.clone(), request.clone()));
    if !interval.before.is_zero() {
        tokio::select! {
            biased;
            outcome = &mut outcome => return outcome,
            () = sleep(interval.before) => {}
        }
    }
    let document = async move {
        let outcome = AssertUnwindSafe(outcome).catch_unwind().await;
        document(
            &context,
            &request,
            outcome.unwrap_or_else(|_| panicked(&request)),
        )
        .await
    };
    Ok(begun(document, interval.between))
}

fn panicked(request: &Request) -> Outcome {
    tracing::error!(request = %request.id(), "handler panicked");
    Err(S3Error::new(Code::InternalError))
}

/// The document with the outcome, without its declaration.
async fn document(context: &Context, request: &Request, outcome: Outcome) -> Bytes {
    let response = outcome.unwrap_or_else(|error| {
        let error = rights::hide_missing(error, request.may_list);
        tracing::debug!(request = %request.id(), %error, "refused late");
        request
            .exchange
            .note(|findings| findings.error = Some(error.code().text()));
        error.into_response(&ErrorContext {
            bucket: &request.bucket_name,
            key: &request.key,
            upload_id: request.query.get("uploadId").unwrap_or_default(),
            version_id: request.query.get("versionId").unwrap_or_default(),
            resource: &request.path,
            request_id: request.id(),
            host_id: context.ids.host_id(),
        })
    });
    // The whole of it is in memory.
    let bytes = to_bytes(response.into_body(), usize::MAX).await;
    let bytes = bytes.unwrap_or_default();
    match bytes.strip_prefix(DECLARATION.as_bytes()) {
        Some(rest) => bytes.slice_ref(rest),
        None => bytes,
    }
}

/// The progress of a late answer.
enum Stage {
    Declaration(BoxFuture<'static, Bytes>),
    Waiting(BoxFuture<'static, Bytes>),
    Over,
}

fn begun(document: impl Future<Output = Bytes> + Send + 'static, between: Duration) -> Response {
    let first = Stage::Declaration(Box::pin(document));
    let pieces = stream::unfold(first, move |stage| async move {
        match stage {
            Stage::Declaration(document) => {
                let declaration = Bytes::from_static(DECLARATION.as_bytes());
                Some((declaration, Stage::Waiting(document)))
            }
            Stage::Waiting(mut document) => tokio::select! {
                biased;
                document = &mut document => Some((document, Stage::Over)),
                () = sleep(between) => Some((Bytes::from_static(b" "), Stage::Waiting(document))),
            },
            Stage::Over => None,
        }
    });
    let pieces = futures_util::StreamExt::map(pieces, Ok::<_, Infallible>);
    let mut response = response::new(StatusCode::OK, Body::from_stream(pieces));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, response::XML);
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::sync::oneshot;

    use super::{Bytes, DECLARATION, Duration, begun};

    #[tokio::test]
    async fn s_22_a_late_answer_shows_life_until_the_outcome_is_there() {
        let (end, ended) = oneshot::channel();
        let document = async move { ended.await.unwrap() };
        let response = begun(document, Duration::ZERO);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/xml");
        let mut body = response.into_body();
        let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next().await, DECLARATION);
        for _ in 0..3 {
            assert_eq!(next().await, " ");
        }
        end.send(Bytes::from_static(b"<R/>")).unwrap();
        assert_eq!(next().await, "<R/>");
        assert!(body.frame().await.is_none());
    }

    /// The client disconnects: nobody works for it any more.
    #[tokio::test]
    async fn s_22_the_work_ends_with_the_connection() {
        let (held, gone) = oneshot::channel::<()>();
        let document = async move {
            let _held = held;
            std::future::pending().await
        };
        let mut body = begun(document, Duration::ZERO).into_body();
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(gone.await.is_err());
    }
}
