//! Answers queries over UDP and TCP (RFC 1035, 7766) to programs of this machine.
//!
//! One task for each UDP socket, which answers one datagram after the other; a limited number of
//! TCP connections, each for a limited time. Whoever is not on this machine gets nothing. Decides
//! nothing about names.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_peer::names::Names;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::names::wire::{self, QUERY_LEN_MAX};

/// Most TCP connections at once on one listener; others wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16;
/// Most queries on one connection, so that nobody keeps a place for ever.
const QUERIES_MAX: usize = 100;
/// Longest wait for a query, or for a reader of answers.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Pause after a socket failed, so that a lasting failure costs little.
const PAUSE: Duration = Duration::from_millis(100);

/// What every task of the server knows.
#[derive(Clone)]
pub struct Server {
    /// The newest table.
    pub names: watch::Receiver<Arc<Names>>,
    /// This node's overlay address, from which its own programs ask.
    pub own: Ipv6Addr,
}

impl Server {
    /// Answers datagrams until the task is dropped.
    pub async fn datagrams(self, socket: UdpSocket) {
        // One byte more shows what is too long.
        let mut buffer = vec![0; QUERY_LEN_MAX + 1];
        loop {
            let (len, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "a question about a name did not arrive");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            if !self.is_local(&from) {
                continue;
            }
            let names = Arc::clone(&self.names.borrow());
            let query = buffer.get(..len).unwrap_or_default();
            if let Some(answer) = wire::answer(query, &names) {
                // Whoever does not take it asks again.
                let _ = socket.try_send_to(&answer, from);
            }
        }
    }

    /// Answers connections until the task is dropped.
    pub async fn connections(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, from)) if self.is_local(&from) => {
                    let server = self.clone();
                    tokio::spawn(async move {
                        // It ends by the other side, by silence, or by what cannot be read.
                        let _ = server.connection(stream).await;
                        drop(place);
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "a connection about names did not come about");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        for _ in 0..QUERIES_MAX {
            let query = tokio::time::timeout(IDLE_MAX, read(&mut stream)).await??;
            let names = Arc::clone(&self.names.borrow());
            let Some(answer) = wire::answer(&query, &names) else {
                break;
            };
            let Ok(len) = u16::try_from(answer.len()) else {
                break;
            };
            let whole = [len.to_be_bytes().as_slice(), &answer].concat();
            tokio::time::timeout(IDLE_MAX, stream.write_all(&whole)).await??;
        }
        Ok(())
    }

    fn is_local(&self, from: &SocketAddr) -> bool {
        from.ip().is_loopback() || from.ip() == self.own
    }
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = usize::from(stream.read_u16().await?);
    if QUERY_LEN_MAX < len {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut query = vec![0; len];
    stream.read_exact(&mut query).await?;
    Ok(query)
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    fn server(own: Ipv6Addr) -> (watch::Sender<Arc<Names>>, Server) {
        let (told, names) = watch::channel(Arc::default());
        (told, Server { names, own })
    }

    fn query() -> Vec<u8> {
        let mut message = Message::query();
        let name = Name::from_ascii("mesh.internal.").unwrap();
        message.add_query(Query::query(name, RecordType::SOA));
        message.to_vec().unwrap()
    }

    #[track_caller]
    fn is_answer(bytes: &[u8]) {
        let said = Message::from_vec(bytes).unwrap();
        assert_eq!(said.metadata.response_code, ResponseCode::NoError);
        assert_eq!(said.answers.len(), 1);
    }

    #[tokio::test]
    async fn datagrams_are_answered_and_garbage_is_survived() {
        let (_told, server) = server(Ipv6Addr::UNSPECIFIED);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(server.datagrams(socket));
        let asker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        asker.send_to(&[7; 5], at).await.unwrap();
        asker.send_to(&query(), at).await.unwrap();
        let mut buffer = [0; 1500];
        let (len, _) = asker.recv_from(&mut buffer).await.unwrap();
        is_answer(&buffer[..len]);
    }

    #[tokio::test]
    async fn connection_answers_many_queries_and_ends_at_garbage() {
        let (_told, server) = server(Ipv6Addr::UNSPECIFIED);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(server.connections(listener));
        let mut stream = TcpStream::connect(at).await.unwrap();
        for _ in 0..3 {
            let query = query();
            let len = u16::try_from(query.len()).unwrap().to_be_bytes();
            stream
                .write_all(&[&len[..], &query].concat())
                .await
                .unwrap();
            is_answer(&read(&mut stream).await.unwrap());
        }
        stream.write_all(&[0xff; 2]).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
    }

    #[test]
    fn only_this_machine_is_answered() {
        let (_told, server) = server("fd6d::1".parse().unwrap());
        let check = |from: &str, local: bool| {
            assert_eq!(server.is_local(&from.parse().unwrap()), local, "{from}");
        };
        check("127.0.0.1:9", true);
        check("[::1]:9", true);
        check("[fd6d::1]:9", true);
        check("[fd6d::2]:9", false);
        check("10.77.0.1:53", false);
    }
}
