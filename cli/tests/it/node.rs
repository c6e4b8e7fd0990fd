//! A node played by the test: a socket, a closure that answers, and a record of what was asked.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use mesh_api::line::Line;
use mesh_api::{ApiError, Reply, Request, http};

/// How the played node behaves towards one request.
pub enum Answer {
    /// Sends these lines and ends the response.
    Lines(Vec<Line>),
    /// Sends this text as body.
    Text(&'static str),
    /// Sends log events for as long as somebody reads.
    Endless,
    /// Says nothing until the caller leaves.
    Silence,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Lines(vec![Line::last(Ok(reply))])
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        Self::Lines(vec![Line::last(Err(error))])
    }
}

type Asked = Arc<Mutex<Vec<Request>>>;

/// A played node; it stops when it is dropped.
pub struct Node {
    home: PathBuf,
    asked: Asked,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Node {
    /// Plays a node that answers with `answer`.
    pub fn playing(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        Self::at(folder, home, answer)
    }

    /// As [`Node::playing`], with a home whose path is too long for a socket address.
    pub fn far_away(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("a".repeat(80)).join("b".repeat(80));
        std::fs::create_dir_all(&home).unwrap();
        Self::at(folder, home, answer)
    }

    fn at(
        folder: tempfile::TempDir,
        home: PathBuf,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = in_folder(&home, UnixListener::bind);
        let (asked, over) = (Asked::default(), Arc::new(AtomicBool::new(false)));
        let (record, stop) = (asked.clone(), over.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                serve(stream.unwrap(), &record, &answer);
            }
        });
        Self {
            home,
            asked,
            over,
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Returns what was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs `meshctl` against this node; `line` is split at spaces.
    pub fn run(&self, line: &str) -> Ran {
        Ran::of(self.command(line))
    }

    /// Prepares `meshctl` against this node.
    pub fn command(&self, line: &str) -> Command {
        let mut command = meshctl(line);
        command.arg("--home").arg(&self.home);
        command
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(in_folder(&self.home, UnixStream::connect));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Prepares `meshctl` with an empty environment; `line` is split at spaces.
pub fn meshctl(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
    command.args(line.split(' ').filter(|word| !word.is_empty()));
    command.env_clear().env("HOME", "/nonexistent");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run left behind.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs a command to its end.
    pub fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Does something with the socket of a home, however long its path is.
fn in_folder<T>(home: &Path, act: impl FnOnce(PathBuf) -> std::io::Result<T>) -> T {
    let folder = File::open(home).unwrap();
    act(Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join("meshnode.sock"))
    .unwrap()
}

fn serve(mut stream: UnixStream, asked: &Asked, answer: &impl Fn(&Request) -> Answer) {
    let Some((method, target, body)) = read_request(&mut stream) else {
        return;
    };
    let answer = match http::from_http(&method, &target, &body) {
        Ok(request) => {
            asked.lock().unwrap().push(request.clone());
            answer(&request)
        }
        Err(error) => error.into(),
    };
    // The caller may leave at any time; that is what some tests are about.
    drop(respond(&mut stream, answer));
}

fn respond(stream: &mut UnixStream, answer: Answer) -> std::io::Result<()> {
    if matches!(answer, Answer::Silence) {
        stream.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n")?;
    stream.write_all(b"connection: close\r\n\r\n")?;
    match answer {
        Answer::Lines(lines) => lines
            .iter()
            .try_for_each(|line| stream.write_all(line.to_text().as_bytes())),
        Answer::Text(text) => stream.write_all(text.as_bytes()),
        Answer::Endless => {
            let line = Line::Event(mesh_api::Event::Log {
                text: "still here\n".into(),
            });
            loop {
                stream.write_all(line.to_text().as_bytes())?;
            }
        }
        Answer::Silence => Ok(()),
    }
}

fn read_request(stream: &mut UnixStream) -> Option<(String, String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let len = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; len.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((method, target, body))
}
