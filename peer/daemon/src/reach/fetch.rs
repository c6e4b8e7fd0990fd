//! One request to a gateway's own web server, bounded in time and size.
//!
//! A connection of its own for each, as slow routers like it. No redirect is followed: the gateway
//! is asked where it said, or not at all. Decides nothing about the answer.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use mesh_routing::portmap::igd::FETCH_WAIT;
use mesh_routing::portmap::soap::{BODY_LEN_MAX, Post};
use mesh_routing::portmap::ssdp::Place;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Most that a gateway may write before its document begins.
const HEAD_LEN_MAX: usize = 16 * 1024;
/// Our patience ends before the mapper's, so that its answer is never another's.
const WAIT: Duration = FETCH_WAIT.saturating_sub(Duration::from_secs(1));

/// Fetches a document; none if there is no answer, or one that is too long.
pub async fn fetch(place: Place, post: Option<Post>) -> Option<String> {
    // A fault has a document too, so that the status says nothing that it does not.
    tokio::time::timeout(WAIT, ask(place, post)).await.ok()?
}

async fn ask(place: Place, post: Option<Post>) -> Option<String> {
    let stream = TcpStream::connect(place.at).await.ok()?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_LEN_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.ok()?;
    // Ends with this function, however that ends.
    let mut carried = JoinSet::new();
    carried.spawn(connection);
    let answer = sender.send_request(request(&place, post)?).await.ok()?;
    let body = Limited::new(answer.into_body(), BODY_LEN_MAX);
    let bytes = body.collect().await.ok()?.to_bytes();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn request(place: &Place, post: Option<Post>) -> Option<Request<Full<Bytes>>> {
    let method = match post {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(&place.path)
        .header(HOST, place.at.to_string())
        .header(CONNECTION, "close");
    let mut body = Bytes::new();
    if let Some(post) = post {
        request = request
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", post.action);
        body = post.body.into();
    }
    request.body(Full::new(body)).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, SocketAddrV4};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves one answer and returns what was asked, and what came of it.
    async fn served(answer: Vec<u8>, post: Option<Post>) -> (String, Option<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(at) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address was bound");
        };
        let place = Place {
            at: SocketAddrV4::new(*at.ip(), at.port()),
            path: "/a?b".to_owned(),
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 2_000];
            let len = stream.read(&mut asked).await.unwrap();
            // Whoever has read enough hangs up.
            let _ = stream.write_all(&answer).await;
            String::from_utf8(asked[..len].to_vec()).unwrap()
        };
        tokio::join!(serve, fetch(place, post))
    }

    #[tokio::test]
    async fn document_is_fetched_whatever_the_status() {
        let answer = b"HTTP/1.1 500 Fault\r\nContent-Length: 3\r\n\r\n<a>".to_vec();
        let post = Post {
            action: "\"x#y\"".to_owned(),
            body: "<b/>".to_owned(),
        };
        let (asked, got) = served(answer, Some(post)).await;
        assert_eq!(got.as_deref(), Some("<a>"));
        assert!(asked.starts_with("POST /a?b HTTP/1.1\r\n"), "{asked}");
        assert!(
            asked
                .to_ascii_lowercase()
                .contains("soapaction: \"x#y\"\r\n")
        );
    }

    #[tokio::test]
    async fn endless_document_is_given_up() {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(BODY_LEN_MAX * 4, b' ');
        let (asked, got) = served(answer, None).await;
        assert_eq!(got, None);
        assert!(asked.starts_with("GET /a?b HTTP/1.1\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn endless_head_is_given_up() {
        let mut answer = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
        answer.resize(BODY_LEN_MAX * 4, b'x');
        let (_, got) = served(answer, None).await;
        assert_eq!(got, None);
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        let place = Place {
            at: "127.0.0.1:1".parse().unwrap(),
            path: "/".to_owned(),
        };
        assert_eq!(fetch(place, None).await, None);
    }
}
