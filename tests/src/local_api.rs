//! Asks a node over its local socket, as any program may: HTTP with lines of JSON.
//!
//! For tests that ask thousands of times; everywhere else the node's own programs are asked.
//! One connection, one question at a time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Longest time that a node may be silent: much more than a disk needs.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Longest answer that is read.
const ANSWER_LEN_MAX: u64 = 16 * 1024 * 1024;

/// A connection to a node.
#[derive(Debug)]
pub struct LocalApi(BufReader<UnixStream>);

impl LocalApi {
    /// Connects to the node of a home.
    ///
    /// # Errors
    /// Nobody answers there.
    pub fn connect(home: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(home.join("meshnode.sock")).context("no node answers")?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The node refuses, or is gone.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, "")
    }

    /// Wants something made.
    ///
    /// # Errors
    /// The node refuses, or is gone.
    pub fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask("POST", path, &body.to_string())
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Value> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: node\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let answer = self.answer()?;
        let last = answer.lines().last().context("an empty answer")?;
        let line: Value = serde_json::from_str(last).context("not a line of the API")?;
        if let Some(reply) = line.get("reply") {
            return Ok(reply.clone());
        }
        // Another type than that of a lost connection: whoever is refused was told so.
        Err(Refused(format!("{method} {path}: {line}")).into())
    }

    fn answer(&mut self) -> anyhow::Result<String> {
        let status = self.line()?;
        ensure!(status.starts_with("HTTP/1.1 "), "not HTTP: {status}");
        let (mut len, mut is_chunked) = (0, false);
        loop {
            let header = self.line()?.to_ascii_lowercase();
            match header.split_once(": ") {
                Some(("content-length", value)) => len = value.parse()?,
                Some(("transfer-encoding", value)) => is_chunked = value == "chunked",
                _ if header.is_empty() => break,
                _ => {}
            }
        }
        let mut body = Vec::new();
        if !is_chunked {
            self.take(len, &mut body)?;
            return Ok(String::from_utf8(body)?);
        }
        loop {
            let chunk = u64::from_str_radix(&self.line()?, 16).context("not a chunk")?;
            self.take(chunk, &mut body)?;
            ensure!(self.line()?.is_empty(), "a chunk does not end");
            if chunk == 0 {
                return Ok(String::from_utf8(body)?);
            }
        }
    }

    fn take(&mut self, len: u64, into: &mut Vec<u8>) -> anyhow::Result<()> {
        ensure!(len <= ANSWER_LEN_MAX, "an answer of {len} bytes");
        let read = self.0.by_ref().take(len).read_to_end(into)?;
        ensure!(read as u64 == len, "the node is gone");
        Ok(())
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => bail!("the node is gone"),
        }
    }
}

/// The node said no.
#[derive(Debug)]
pub struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn asked(answer: &'static str) -> anyhow::Result<Value> {
        let folder = tempfile::tempdir()?;
        let listener = UnixListener::bind(folder.path().join("meshnode.sock"))?;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = [0; 4];
                stream.read_exact(&mut asked).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            LocalApi::connect(folder.path())?.get("/v1/status")
        })
    }

    #[test]
    fn last_line_is_the_answer_however_it_is_cut() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"reply\":\"ok\"}";
        assert_eq!(asked(whole).unwrap(), "ok");
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                      b\r\n{\"event\":1}\r\n2\r\n\n{\r\n\
                      d\r\n\"reply\":\"ok\"}\r\n0\r\n\r\n";
        assert_eq!(asked(chunks).unwrap(), "ok");
    }

    #[test]
    fn refusal_is_told_from_a_node_that_is_gone() {
        let no = "HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\n\r\n{\"error\":{}}";
        assert!(asked(no).unwrap_err().is::<Refused>());
        let gone = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"re";
        assert!(!asked(gone).unwrap_err().is::<Refused>());
        assert!(!asked("").unwrap_err().is::<Refused>());
    }
}
