//! The local API: HTTP over a unix socket that only its owner may open, answers as lines of JSON.
//!
//! ```text
//!   program ── request ──► Input::Api ──► node ── events ─► lines ─► program
//!                                               └─ reply ─► last line
//!   program hangs up ────► Input::ApiGone
//! ```
//! Decides how many programs may ask at once and how slowly they may read; words, paths and status
//! codes are those of `mesh_api`, answers are the node's.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use futures::Stream;
use mesh_api::line::{CONTENT_TYPE, Line};
use mesh_api::request::BODY_LEN_MAX;
use mesh_api::{ApiError, ErrorKind, Event, Reply};
use mesh_peer::port::{CallId, Input};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};

/// Most calls that are answered at the same time.
const CALLS_MAX: usize = 128;
/// Most lines that wait for a program that reads slowly; then the call ends.
const LINES_MAX: usize = 1024;

/// Calls that wait for lines; clones share them.
#[derive(Clone)]
pub struct Calls {
    waiting: Arc<Mutex<BTreeMap<CallId, mpsc::Sender<Line>>>>,
    next: Arc<AtomicU64>,
    inputs: mpsc::Sender<Input>,
}

impl Calls {
    /// Returns an empty list of calls that asks through `inputs`.
    pub fn new(inputs: mpsc::Sender<Input>) -> Self {
        Self {
            waiting: Arc::default(),
            next: Arc::default(),
            inputs,
        }
    }

    /// Passes an intermediate event on; a program that does not read it in time loses the call.
    pub fn event(&self, call: CallId, event: Event) {
        let mut waiting = self.waiting();
        let full = match waiting.get(&call) {
            // The last place is kept for the last word.
            Some(lines) if 1 < lines.capacity() => lines.try_send(Line::Event(event)).is_err(),
            Some(_) => true,
            None => false,
        };
        if full && let Some(lines) = waiting.remove(&call) {
            let late = ApiError::new(
                ErrorKind::Timeout,
                "this program reads its answer too slowly",
                "ask again",
            );
            let _ = lines.try_send(Line::Error(late));
        }
    }

    /// Passes the last word on.
    pub fn reply(&self, call: CallId, reply: Result<Reply, ApiError>) {
        if let Some(lines) = self.waiting().remove(&call) {
            let _ = lines.try_send(Line::last(reply));
        }
    }

    fn begin(&self) -> Option<Call> {
        let mut waiting = self.waiting();
        if CALLS_MAX <= waiting.len() {
            return None;
        }
        let id = CallId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, lines) = mpsc::channel(LINES_MAX);
        waiting.insert(id, sender);
        Some(Call {
            id,
            lines,
            ended: false,
            calls: self.clone(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<CallId, mpsc::Sender<Line>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call under way; dropping it before its last line tells the node that nobody waits.
struct Call {
    id: CallId,
    lines: mpsc::Receiver<Line>,
    ended: bool,
    calls: Calls,
}

impl Call {
    async fn next(&mut self) -> Option<Line> {
        let line = self.lines.recv().await;
        self.ended |= line.as_ref().is_none_or(Line::is_last);
        line
    }
}

impl Stream for Call {
    type Item = Result<String, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let line = std::task::ready!(self.lines.poll_recv(context));
        self.ended = line.as_ref().is_none_or(Line::is_last);
        Poll::Ready(line.map(|line| Ok(line.to_text())))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.ended || self.calls.waiting().remove(&self.id).is_none() {
            return;
        }
        // A node that has no time for this finds out when the call times out.
        let _ = self.calls.inputs.try_send(Input::ApiGone { call: self.id });
    }
}

/// Answers on the socket until `stop` becomes true.
pub async fn serve(
    listener: UnixListener,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let router = Router::new().fallback(answer).with_state(calls);
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
}

/// Makes the socket at `path`, closed to other users from its first moment: it gets its name last.
/// Runs inside tokio.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let new = path.with_extension("new");
    for old in [&new, path] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

async fn answer(State(calls): State<Calls>, request: Request) -> Response {
    match call(&calls, request).await {
        Ok((first, rest)) => {
            let status = match &first {
                Line::Error(error) => error.kind.http_status(),
                _ => 200,
            };
            let first = first.to_text();
            let head = futures::stream::once(async move { Ok::<_, Infallible>(first) });
            respond(
                status,
                Body::from_stream(futures::StreamExt::chain(head, rest)),
            )
        }
        Err(error) => respond(
            error.kind.http_status(),
            Body::from(Line::Error(error).to_text()),
        ),
    }
}

/// Hands a request to the node and waits for its first line.
async fn call(calls: &Calls, request: Request) -> Result<(Line, Call), ApiError> {
    let (head, body) = request.into_parts();
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str())
        .to_owned();
    let body = axum::body::to_bytes(body, BODY_LEN_MAX)
        .await
        .map_err(|_| {
            ApiError::new(
                ErrorKind::Usage,
                format!("the request's body cannot be read or is longer than {BODY_LEN_MAX} bytes"),
                "send a shorter body",
            )
        })?;
    let request = mesh_api::http::from_http(head.method.as_str(), &target, &body)?;
    let mut call = calls.begin().ok_or_else(|| {
        ApiError::new(
            ErrorKind::Unreachable,
            format!("the node answers {CALLS_MAX} programs already"),
            "try again when one of them is done",
        )
    })?;
    let stopping = || {
        ApiError::new(
            ErrorKind::Unreachable,
            "the node is stopping",
            "start it: `meshnode start`",
        )
    };
    let asked = calls
        .inputs
        .send(Input::Api {
            call: call.id,
            request,
        })
        .await;
    asked.map_err(|_| stopping())?;
    let first = call.next().await.ok_or_else(stopping)?;
    Ok((first, call))
}

fn respond(status: u16, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let kind = header::HeaderValue::from_static(CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_api::Request as Asked;

    fn request(body: Vec<u8>) -> Request {
        let mut request = Request::new(Body::from(body));
        *request.uri_mut() = "/v1/status".parse().unwrap();
        request
    }

    #[track_caller]
    fn check(error: &ApiError, kind: ErrorKind, cause: &str) {
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.cause.contains(cause), "{error:?}");
        assert!(3 < error.hint.len(), "{error:?}");
    }

    #[tokio::test]
    async fn long_body_is_not_read() {
        let (inputs, _node) = mpsc::channel(1);
        let long = request(vec![b' '; BODY_LEN_MAX + 1]);
        let Err(error) = call(&Calls::new(inputs), long).await else {
            panic!("a body of any length is read")
        };
        check(&error, ErrorKind::Usage, "is longer than");
    }

    #[tokio::test]
    async fn programs_have_a_limit() {
        let (inputs, mut node) = mpsc::channel(1);
        let calls = Calls::new(inputs);
        let mut open: Vec<Call> = (0..CALLS_MAX).map_while(|_| calls.begin()).collect();
        assert_eq!(open.len(), CALLS_MAX);
        let Err(error) = call(&calls, request(Vec::new())).await else {
            panic!("any number of programs is answered")
        };
        check(&error, ErrorKind::Unreachable, "128 programs already");
        open.pop();
        assert!(matches!(node.recv().await, Some(Input::ApiGone { .. })));
        assert!(calls.begin().is_some());
    }

    #[tokio::test]
    async fn node_that_stops_says_so() {
        let (inputs, node) = mpsc::channel(1);
        drop(node);
        let Err(error) = call(&Calls::new(inputs), request(Vec::new())).await else {
            panic!("a node that is gone answers")
        };
        check(&error, ErrorKind::Unreachable, "the node is stopping");
    }

    #[tokio::test]
    async fn program_that_reads_too_slowly_is_told_and_loses_its_call() {
        let (inputs, _node) = mpsc::channel(1);
        let calls = Calls::new(inputs);
        let mut call = calls.begin().unwrap();
        let note = || Event::Note {
            text: "x".to_owned(),
        };
        for _ in 0..2 * LINES_MAX {
            calls.event(call.id, note());
        }
        assert!(calls.waiting().is_empty());
        let mut last = None;
        while let Some(line) = call.next().await {
            last = Some(line);
        }
        let Some(Line::Error(error)) = last else {
            panic!("the last line is no error: {last:?}")
        };
        check(&error, ErrorKind::Timeout, "too slowly");
    }

    #[tokio::test]
    async fn request_reaches_the_node_and_its_first_line_comes_back() {
        let (inputs, mut node) = mpsc::channel(1);
        let calls = Calls::new(inputs);
        let asked = call(&calls, request(Vec::new()));
        let answered = async {
            let Some(Input::Api { call, request }) = node.recv().await else {
                panic!("nothing was asked")
            };
            assert_eq!(request, Asked::Status);
            let error = ApiError::new(ErrorKind::Degraded, "it rains", "wait");
            calls.reply(call, Err(error));
        };
        let (asked, ()) = tokio::join!(asked, answered);
        assert!(matches!(asked, Ok((Line::Error(_), _))));
    }
}
