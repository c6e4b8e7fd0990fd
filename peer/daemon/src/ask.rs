//! Asks the daemon of a home over its own socket, for the commands of this program.
//!
//! Plain HTTP/1.0: one request, the answer ends with the connection. Words and forms are
//! `mesh_api`'s.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mesh_api::line::{LINE_LEN_MAX, Line};
use mesh_api::{ApiError, ErrorKind, Reply, Request};

/// Longest wait for the next byte of an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Sends `request` and returns the last word; events before it are left out.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, ApiError> {
    let bytes = exchange(socket, request).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => ApiError::new(
            ErrorKind::Timeout,
            format!(
                "the node does not answer within {} s",
                ANSWER_WAIT.as_secs()
            ),
            "look at the end of its log, meshnode.log in its home",
        ),
        _ => ApiError::new(
            ErrorKind::Unreachable,
            format!("no node answers at {}: {error}", socket.display()),
            "start it: `meshnode start` (with --home DIR if it is not the usual one)",
        ),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or(("", ""));
    let last = body.lines().rfind(|line| !line.trim().is_empty());
    match last.map(Line::from_text).transpose()? {
        Some(Line::Reply(reply)) => Ok(*reply),
        Some(Line::Error(error)) => Err(error),
        // An answer ends with the connection: one that is empty was never given.
        Some(Line::Event(_)) | None => Err(ApiError::new(
            ErrorKind::Unreachable,
            "the node stopped before it had answered",
            "see why at the end of its log, then start it: `meshnode start`",
        )),
    }
}

fn exchange(socket: &Path, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    let http = mesh_api::http::to_http(request);
    let (method, target, body) = (http.method.as_str(), http.target, http.body);
    write!(
        stream,
        "{method} {target} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut bytes = Vec::new();
    stream.take(LINE_LEN_MAX as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[track_caller]
    fn check(answer: &'static str) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            let _ = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let error = ask(&socket, &Request::Status).unwrap_err();
        node.join().unwrap();
        assert_eq!(error.kind, ErrorKind::Unreachable);
        assert_eq!(error.cause, "the node stopped before it had answered");
    }

    #[test]
    fn answer_that_was_never_given_is_told_as_such() {
        check("");
        check("HTTP/1.0 200 OK\r\n\r\n");
    }
}
