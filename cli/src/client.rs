//! One exchange with the node over its socket: a request there, lines back.
//!
//! Decides which socket is tried, how long to wait, and how each way of not getting an answer is
//! told. Leaves the form of request and lines to `mesh_api`. Invariant: a line longer than the
//! limit, or a connection that ends too soon, is a failure and never half an answer.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mesh_api::error::ErrorKind;
use mesh_api::event::Event;
use mesh_api::http;
use mesh_api::line::{self, Line};
use mesh_api::paths::Surroundings;
use mesh_api::reply::Reply;
use mesh_api::request::Request;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use tokio::net::UnixStream;

use crate::failure::Failure;

/// Longest path that a socket address holds on Linux (`sun_path`, without the final zero).
const SOCKET_PATH_LEN_MAX: usize = 107;

/// Takes each event as it comes.
pub type OnEvent<'a> = &'a mut dyn FnMut(Event) -> Result<(), Failure>;

/// Knows where the node is.
#[derive(Debug)]
pub struct Client {
    surroundings: Surroundings,
}

impl Client {
    /// Looks at the environment; a named home wins.
    pub fn new(named: Option<PathBuf>) -> Self {
        let path = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
        Self {
            surroundings: Surroundings {
                named,
                xdg_data: path("XDG_DATA_HOME"),
                user_home: path("HOME"),
                root: nix::unistd::geteuid().is_root(),
            },
        }
    }

    /// Sends a request, hands on each event, and returns the reply.
    pub fn ask(
        &self,
        request: &Request,
        limit: Option<Duration>,
        on_event: OnEvent<'_>,
    ) -> Result<Reply, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|problem| {
            Failure::new(
                ErrorKind::Failure,
                format!("cannot start: {problem}"),
                "see whether the limits of this user leave room for open files",
            )
        })?;
        runtime.block_on(async {
            let Some(limit) = limit else {
                return self.exchange(request, on_event).await;
            };
            match tokio::time::timeout(limit, self.exchange(request, on_event)).await {
                Ok(result) => result,
                Err(_) => Err(too_late(request, limit)),
            }
        })
    }

    async fn exchange(&self, request: &Request, on_event: OnEvent<'_>) -> Result<Reply, Failure> {
        let stream = self.connect().await?;
        let request = http::to_http(request);
        let broken = |problem: hyper::Error| hung_up(&problem.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The task ends with the runtime; its error reaches us as the error of the body.
        tokio::spawn(connection);
        let message = hyper::Request::builder()
            .method(request.method.as_str())
            .uri(&request.target)
            .header("host", "meshnode")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(request.body)))
            .map_err(|problem| {
                Failure::new(
                    ErrorKind::Usage,
                    format!("cannot ask this: {problem}"),
                    "use shorter, plainer names",
                )
            })?;
        let response = sender.send_request(message).await.map_err(broken)?;
        read_lines(response.into_body(), on_event).await
    }

    async fn connect(&self) -> Result<UnixStream, Failure> {
        let sockets = self.surroundings.sockets();
        let mut refused = None;
        for socket in &sockets {
            match connect_to(socket).await {
                Ok(stream) => return Ok(stream),
                Err(problem) if problem.kind() == io::ErrorKind::PermissionDenied => {
                    refused.get_or_insert(socket);
                }
                Err(_) => {}
            }
        }
        Err(match refused {
            Some(socket) => Failure::new(
                ErrorKind::NotAuthorised,
                format!("you may not use {}", socket.display()),
                "run meshctl as the user that runs meshnode",
            ),
            None => self.no_daemon(sockets.first().map(PathBuf::as_path)),
        })
    }

    fn no_daemon(&self, socket: Option<&Path>) -> Failure {
        let socket = socket
            .unwrap_or(Path::new(mesh_api::paths::SOCKET))
            .display();
        let home = self.surroundings.home();
        let option = match &self.surroundings.named {
            Some(named) => format!(" --home {}", named.display()),
            None => String::new(),
        };
        let hint = if home.is_dir() {
            format!("start it with: meshnode start{option}")
        } else {
            format!(
                "there is no node in {} yet: make one with meshnode init{option} --org NAME, \
                 or join with meshnode join{option} INVITE; \
                 then start it with: meshnode start{option}",
                home.display()
            )
        };
        Failure::new(
            ErrorKind::Unreachable,
            format!("no daemon answers at {socket}"),
            hint,
        )
    }
}

/// Connects to a socket whose path may be longer than a socket address.
async fn connect_to(socket: &Path) -> io::Result<UnixStream> {
    if socket.as_os_str().len() <= SOCKET_PATH_LEN_MAX {
        return UnixStream::connect(socket).await;
    }
    let (Some(folder), Some(file)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = open(folder, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(file);
    UnixStream::connect(short).await
}

async fn read_lines(mut body: Incoming, on_event: OnEvent<'_>) -> Result<Reply, Failure> {
    let mut open: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|problem| hung_up(&problem.to_string()))?;
        let Ok(bytes) = frame.into_data() else {
            continue;
        };
        let mut rest: &[u8] = &bytes;
        while let Some((head, tail)) = split_line(rest) {
            open.extend_from_slice(head);
            if let Some(reply) = read_line(&open, on_event)? {
                return Ok(reply);
            }
            open.clear();
            rest = tail;
        }
        open.extend_from_slice(rest);
        if line::LINE_LEN_MAX < open.len() {
            return Err(hung_up("a line of its answer is too long"));
        }
    }
    // A last line without a line feed is whole if it can be read.
    match read_line(&open, on_event)? {
        Some(reply) => Ok(reply),
        None => Err(hung_up("the answer has no end")),
    }
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, tail) = bytes.split_at_checked(end)?;
    Some((head, tail.split_first()?.1))
}

fn read_line(bytes: &[u8], on_event: OnEvent<'_>) -> Result<Option<Reply>, Failure> {
    let text = String::from_utf8_lossy(bytes);
    if text.trim().is_empty() {
        return Ok(None);
    }
    match Line::from_text(&text)? {
        Line::Event(event) => on_event(event).map(|()| None),
        Line::Reply(reply) => Ok(Some(*reply)),
        Line::Error(error) => Err(error.into()),
    }
}

fn hung_up(how: &str) -> Failure {
    Failure::new(
        ErrorKind::Unreachable,
        format!("the daemon hung up before it answered: {how}"),
        "see whether it still runs: meshctl status",
    )
}

fn too_late(request: &Request, limit: Duration) -> Failure {
    let hint = match request {
        Request::Order(order) => match &order.name {
            Some(name) => format!("the order goes on: see `meshctl show {name}`"),
            None => "the order goes on: see `meshctl ps`".to_owned(),
        },
        Request::SetState { name, .. } => {
            format!("the node goes on with it: see `meshctl show {name}`")
        }
        _ => "see `meshctl status`, or wait longer with --timeout".to_owned(),
    };
    let seconds = limit.as_secs();
    Failure::new(
        ErrorKind::Timeout,
        format!("no answer within {seconds} s"),
        hint,
    )
}
