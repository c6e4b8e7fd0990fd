//! Bytes on the local API: requests of programs, and the lines with which a node answers.

use mesh_api::http::{from_http, to_http};
use mesh_api::line::Line;

use crate::Outcome;

/// Reads a request: its method and target on the first line, its body on the rest.
pub fn api_request(data: &[u8]) -> Outcome {
    let split = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (head, body) = data.split_at(split);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    let Ok(head) = std::str::from_utf8(head) else {
        return Outcome::Refused;
    };
    let (method, target) = head.split_once(' ').unwrap_or((head, ""));
    let Ok(request) = from_http(method, target, body) else {
        return Outcome::Refused;
    };
    let http = to_http(&request);
    let again = from_http(http.method.as_str(), &http.target, http.body.as_bytes());
    assert_eq!(
        again.as_ref(),
        Ok(&request),
        "a request survives the way there and back"
    );
    Outcome::Read
}

/// Reads one line of a response.
pub fn api_line(data: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(data) else {
        return Outcome::Refused;
    };
    let Ok(line) = Line::from_text(text) else {
        return Outcome::Refused;
    };
    assert_eq!(
        Line::from_text(&line.to_text()).as_ref(),
        Ok(&line),
        "a line survives"
    );
    Outcome::Read
}
