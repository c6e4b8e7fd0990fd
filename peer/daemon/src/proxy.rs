//! Proxies on loopback ports: programs of this machine come into the overlay by SOCKS or HTTP.
//!
//! ```text
//!   curl ─► 127.0.0.1:PORT ─► read ─► place ─► socket in the overlay ═ bytes both ways ═
//! ```
//! What is read and where it may lead is decided in [`mesh_peer::proxy`]; here are sockets and
//! deadlines. Anybody on this machine can connect, as to a loopback port of a service. Connections
//! over the limit are told so and closed: the new is refused, the old is kept.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_dataplane::connection::Connection;
use mesh_dataplane::forward::{self, Dialer};
use mesh_peer::names::Names;
use mesh_peer::proxy::http::{self, Problem, Wish};
use mesh_peer::proxy::socks::{self, Reply, SocksError};
use mesh_peer::proxy::{Destination, NoWay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// Most connections through both proxies; a browser has some tens.
const CONNECTIONS_MAX: usize = 256;
/// Longest wait for a program to say what it wants, and to hear what we say.
const WORD_WAIT: Duration = Duration::from_secs(10);
/// Pause after a socket failed, most likely for want of descriptors: others must close first.
const PAUSE: Duration = Duration::from_millis(100);

/// Where a proxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyPlace {
    /// At a remembered port of 127.0.0.1, where programs need it: not if the overlay is on the
    /// host.
    Auto,
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

/// Which language a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// SOCKS 5.
    Socks,
    /// HTTP.
    Http,
}

/// Why a proxy is not where it was meant to be.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {at}")]
pub struct ProxyError {
    /// The configured place.
    at: SocketAddr,
    /// Why not.
    source: io::Error,
}

/// What every connection needs.
#[derive(Clone)]
pub struct Server {
    dialer: Arc<dyn Dialer>,
    names: watch::Receiver<Arc<Names>>,
    places: Arc<Semaphore>,
}

impl ProxyPlace {
    /// Reads a setting. Loopback only: a proxy for others would lend them our rights.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "off" => Some(Self::Off),
            _ => {
                let at: SocketAddr = text.parse().ok()?;
                (at.ip().is_loopback() && at.port() != 0).then_some(Self::At(at))
            }
        }
    }

    /// Begins to listen; `needed` says whether programs have no other way. `port` is the one that
    /// is remembered, and becomes the one that is. Runs inside tokio.
    pub fn listen(self, needed: bool, port: &mut u16) -> Result<Option<TcpListener>, ProxyError> {
        let at = |at: SocketAddr| {
            let listener = std::net::TcpListener::bind(at)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        match self {
            Self::At(place) => match at(place) {
                Ok(listener) => Ok(Some(listener)),
                Err(source) => Err(ProxyError { at: place, source }),
            },
            Self::Auto if needed => {
                let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let listener = at(local(*port)).or_else(|_| at(local(0)));
                let listened = listener.and_then(|one| Ok((one.local_addr()?.port(), one)));
                match listened {
                    Ok((chosen, listener)) => {
                        *port = chosen;
                        Ok(Some(listener))
                    }
                    // Everything else works without.
                    Err(error) => {
                        tracing::warn!(%error, "a proxy has no port");
                        Ok(None)
                    }
                }
            }
            _ => Ok(None),
        }
    }
}

impl Server {
    /// Prepares connections through `dialer` to places that `names` know.
    pub fn new(dialer: Arc<dyn Dialer>, names: watch::Receiver<Arc<Names>>) -> Self {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self {
            dialer,
            names,
            places,
        }
    }

    /// Serves one proxy until the task is dropped.
    pub async fn serve(self, listener: TcpListener, language: Language) {
        loop {
            let client = match listener.accept().await {
                Ok((client, _)) => client,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept for a proxy");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let place = Arc::clone(&self.places).try_acquire_owned();
            let server = self.clone();
            let Ok(place) = place else {
                tracing::warn!("too many connections through the proxies");
                if language == Language::Http {
                    // It fits into the socket's empty buffer, or is not said.
                    let _ = client.try_write(&Problem::Busy.answer());
                }
                continue;
            };
            tokio::spawn(async move {
                let served = match language {
                    Language::Socks => server.socks(client).await,
                    Language::Http => server.http(client).await,
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection through a proxy ended");
                }
                drop(place);
            });
        }
    }

    async fn socks(&self, mut client: TcpStream) -> io::Result<()> {
        let mut said = Vec::new();
        let greeted = hear(
            &mut client,
            &mut said,
            socks::MESSAGE_LEN_MAX,
            socks::read_greeting,
        );
        let greeted = greeted.await?;
        if let Some(answer) = socks::method(greeted.map(drop)) {
            tell(&mut client, &answer).await?;
        }
        let Ok(len) = greeted else {
            return farewell(client).await;
        };
        said.drain(..len.min(said.len()));
        let asked = hear(
            &mut client,
            &mut said,
            socks::MESSAGE_LEN_MAX,
            socks::read_request,
        );
        let outcome = match asked.await? {
            Ok((destination, len)) => {
                said.drain(..len.min(said.len()));
                self.connect(&destination).await.map_err(Refused::reply)
            }
            Err(SocksError::Request(reply)) => Err(reply),
            Err(_) => return farewell(client).await,
        };
        match outcome {
            Ok(mut server) => {
                tell(&mut client, &Reply::Succeeded.message()).await?;
                server.write_all(&said).await?;
                forward::splice(client, server).await
            }
            Err(reply) => {
                tell(&mut client, &reply.message()).await?;
                farewell(client).await
            }
        }
    }

    async fn http(&self, mut client: TcpStream) -> io::Result<()> {
        let mut said = Vec::new();
        let head = hear(&mut client, &mut said, http::HEAD_LEN_MAX, http::read_head).await;
        let asked = match head {
            Ok(asked) => asked,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Problem::TooSlow),
            Err(error) => return Err(error),
        };
        let outcome = match asked {
            Ok((wish, len)) => {
                said.drain(..len.min(said.len()));
                let (to, first) = match wish {
                    Wish::Tunnel(to) => (to, None),
                    Wish::Request(to, head) => (to, Some(head)),
                };
                let connected = self.connect(&to).await.map_err(Refused::problem);
                connected.map(|server| (server, first))
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok((mut server, first)) => {
                match first {
                    None => tell(&mut client, http::OPEN).await?,
                    Some(head) => server.write_all(&head).await?,
                }
                server.write_all(&said).await?;
                forward::splice(client, server).await
            }
            Err(problem) => {
                tell(&mut client, &problem.answer()).await?;
                farewell(client).await
            }
        }
    }

    async fn connect(&self, to: &Destination) -> Result<Connection, Refused> {
        let names = Arc::clone(&self.names.borrow());
        let place = to.place(&names).map_err(Refused::NoWay)?;
        let connected = forward::connect(Arc::clone(&self.dialer), place).await;
        connected.map_err(|error| Refused::Connect(error.kind()))
    }
}

/// Why nobody is connected to.
enum Refused {
    NoWay(NoWay),
    Connect(io::ErrorKind),
}

impl Refused {
    fn reply(self) -> Reply {
        match self {
            Self::NoWay(no_way) => no_way.into(),
            Self::Connect(io::ErrorKind::ConnectionRefused) => Reply::Refused,
            Self::Connect(io::ErrorKind::TimedOut) => Reply::Expired,
            Self::Connect(
                io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::PermissionDenied,
            ) => Reply::HostUnreachable,
            Self::Connect(_) => Reply::Failed,
        }
    }

    fn problem(self) -> Problem {
        match self {
            Self::NoWay(no_way) => no_way.into(),
            Self::Connect(io::ErrorKind::TimedOut) => Problem::Expired,
            Self::Connect(_) => Problem::BadGateway,
        }
    }
}

/// Reads until `read` has a verdict about what came, at most `max` bytes and [`WORD_WAIT`].
async fn hear<T, E>(
    client: &mut TcpStream,
    said: &mut Vec<u8>,
    max: usize,
    read: impl Fn(&[u8]) -> Result<Option<T>, E>,
) -> io::Result<Result<T, E>> {
    let heard = async {
        loop {
            match read(said) {
                Ok(None) => {}
                Ok(Some(word)) => return Ok(Ok(word)),
                Err(error) => return Ok(Err(error)),
            }
            // At the limit every reader has a verdict.
            let room = max.saturating_sub(said.len()).max(1);
            if (&mut *client).take(room as u64).read_buf(said).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    timeout(WORD_WAIT, heard).await?
}

async fn tell(client: &mut TcpStream, words: &[u8]) -> io::Result<()> {
    timeout(WORD_WAIT, client.write_all(words)).await?
}

/// Lets the program hear the last word: closing with bytes of its unread would take it away.
async fn farewell(mut client: TcpStream) -> io::Result<()> {
    let heard = async {
        client.shutdown().await?;
        let mut rest = [0; 1024];
        while client.read(&mut rest).await? != 0 {}
        Ok(())
    };
    timeout(WORD_WAIT, heard).await?
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use mesh_base::identity::{NodeId, OrgId, SecretKey};
    use mesh_dataplane::connection::Socket;
    use mesh_peer::names::{Bearer, Entry};

    use super::*;

    /// Stands for the overlay: every address leads to one port here, but port 9, which is closed.
    struct Here(SocketAddr);

    impl Dialer for Here {
        fn dial(&self, to: SocketAddrV6) -> io::Result<Socket> {
            if to.port() == 9 {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let stream = std::net::TcpStream::connect(self.0)?;
            stream.set_nonblocking(true)?;
            Ok(Socket::Kernel(stream.into()))
        }
    }

    fn names() -> Names {
        let org = OrgId(SecretKey::from_seed([1; 32]).public());
        let mut names = Names::default();
        names.add_org(org, &"bakery".parse().unwrap(), org);
        let entry = Entry {
            address: "fd73::7".parse().unwrap(),
            node: NodeId(SecretKey::from_seed([9; 32]).public()),
            bearer: Bearer::Service,
        };
        names.add(org, &"wiki".parse().unwrap(), entry);
        names
    }

    /// A proxy, and a service that reads to the end and says what it has read.
    async fn raise(language: Language) -> SocketAddr {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = service.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = service.accept().await {
                tokio::spawn(async move {
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await.unwrap();
                    stream.write_all(b"heard ").await.unwrap();
                    stream.write_all(&heard).await.unwrap();
                });
            }
        });
        let (_, table) = watch::channel(Arc::new(names()));
        let server = Server::new(Arc::new(Here(at)), table);
        let mut port = 0;
        let listener = ProxyPlace::Auto.listen(true, &mut port).unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(at.port(), port);
        tokio::spawn(server.serve(listener, language));
        at
    }

    /// Says everything, ends, and returns what came back.
    async fn ask(at: SocketAddr, words: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(words).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    fn request(name: &str, port: u16) -> Vec<u8> {
        let len = u8::try_from(name.len()).unwrap();
        let greeting = [5, 1, 0, 5, 1, 0, 3, len];
        [&greeting, name.as_bytes(), &port.to_be_bytes()].concat()
    }

    #[tokio::test]
    async fn socks_leads_to_names_and_passes_both_halves() {
        let at = raise(Language::Socks).await;
        let words = [request("wiki.bakery.mesh.internal", 80), b"hello".to_vec()].concat();
        let answer = ask(at, &words).await;
        assert_eq!(answer[..2], [5, 0]);
        assert_eq!(answer[2..12], Reply::Succeeded.message());
        assert_eq!(&answer[12..], b"heard hello");
    }

    #[tokio::test]
    async fn socks_refuses_with_the_code_that_says_why() {
        let at = raise(Language::Socks).await;
        let check = async |name: &str, port: u16, reply: Reply| {
            let answer = ask(at, &request(name, port)).await;
            assert_eq!(answer[2..], reply.message(), "{name}");
        };
        check("example.org", 80, Reply::NotAllowed).await;
        check("127.0.0.1", 80, Reply::NotAllowed).await;
        check("oven.bakery.mesh.internal", 80, Reply::HostUnreachable).await;
        check("wiki.bakery.mesh.internal", 9, Reply::Refused).await;
        assert_eq!(ask(at, &[5, 1, 2]).await, [5, 255]);
        assert_eq!(ask(at, b"GET / HTTP/1.1\r\n\r\n").await, b"");
    }

    #[tokio::test]
    async fn http_tunnels_and_passes_requests_on() {
        let at = raise(Language::Http).await;
        let tunnel = b"CONNECT wiki.bakery.mesh.internal:80 HTTP/1.1\r\n\r\nhello";
        let answer = ask(at, tunnel).await;
        assert_eq!(answer, [http::OPEN, b"heard hello"].concat());
        let get = b"POST http://wiki.bakery.mesh.internal/a HTTP/1.1\r\nHost: x\r\n\r\nbody";
        let answer = String::from_utf8(ask(at, get).await).unwrap();
        assert!(answer.starts_with("heard POST /a HTTP/1.1\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nbody"), "{answer}");
    }

    #[tokio::test]
    async fn http_refuses_with_the_status_that_says_why() {
        let at = raise(Language::Http).await;
        let check = async |line: &str, status: &str| {
            let answer = ask(at, format!("{line} HTTP/1.1\r\n\r\n").as_bytes()).await;
            let answer = String::from_utf8(answer).unwrap();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{line}: {answer}"
            );
        };
        check("CONNECT example.org:443", "403").await;
        check("CONNECT oven.bakery.mesh.internal:1", "502").await;
        check("CONNECT wiki.bakery.mesh.internal:9", "502").await;
        check("GET /", "400").await;
    }

    #[tokio::test]
    async fn remembered_port_is_used_again_and_replaced_when_it_is_taken() {
        let mut port = 0;
        let first = ProxyPlace::Auto.listen(true, &mut port).unwrap();
        let remembered = port;
        let second = ProxyPlace::Auto.listen(true, &mut port).unwrap();
        assert_ne!(port, remembered);
        drop((first, second));
        port = remembered;
        assert!(ProxyPlace::Auto.listen(true, &mut port).unwrap().is_some());
        assert_eq!(port, remembered);
        assert!(ProxyPlace::Auto.listen(false, &mut port).unwrap().is_none());
        assert!(ProxyPlace::Off.listen(true, &mut port).unwrap().is_none());
    }

    #[test]
    fn only_loopback_places_are_lawful() {
        let at = "127.0.0.1:1080".parse().unwrap();
        assert_eq!(ProxyPlace::read("127.0.0.1:1080"), Some(ProxyPlace::At(at)));
        assert_eq!(ProxyPlace::read("off"), Some(ProxyPlace::Off));
        for text in [
            "0.0.0.0:1080",
            "[::]:1",
            "192.0.2.1:1",
            "127.0.0.1:0",
            "",
            "on",
        ] {
            assert_eq!(ProxyPlace::read(text), None, "{text}");
        }
    }
}
