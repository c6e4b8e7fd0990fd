//! Streams that carry links of the data plane where UDP does not: one each way per peer.
//!
//! ```text
//!   data plane ─► queue (bounded in bytes; what does not fit or waits too long is dropped)
//!                   └─► writer ─► stream, opened by the first datagram, closed when idle
//!   stream ─► reader (length and shape checked first) ─► data plane
//! ```
//! A frame is its length in two bytes, then a WireGuard message; who is at the other end has passed
//! the gate, and the message's session proves the rest. A queue is short on purpose: what is inside
//! has its own congestion control, which must see losses and not seconds of waiting. Who sends
//! what is no WireGuard message loses its stream and for a while its place, and is counted. Decides
//! nothing about when a link goes this way. Invariant: nothing here makes a sender wait.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{AlreadyRegistered, Control, OpenStreamError};
use mesh_base::identity::NodeId;
use mesh_dataplane::limits::OUTER_LEN_MAX;
use mesh_dataplane::streams::Streams;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::swarm::identity;
use crate::swarm::lanes::{Arrival, Open};

/// The protocol of both directions.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/meshstead/wireguard/1");
/// Most bytes that wait for one peer: a fifth of a second at 10 Mbit/s.
const QUEUE_BYTES_MAX: usize = 256 * 1024;
/// Most datagrams that wait for one peer.
const QUEUE_FRAMES_MAX: usize = 1024;
/// Longest that a datagram may have waited: whoever sent it has given it up by then.
const STALE: Duration = Duration::from_millis(500);
/// Bytes that are written at once.
const BATCH_LEN: usize = 16 * 1024;
/// Room of a reader: a full batch.
const READ_LEN: usize = 2 * BATCH_LEN;
/// Longest wait for a stream to open, and the wait before it is tried again.
const OPEN_WAIT: Duration = Duration::from_secs(5);
const REOPEN_WAIT: Duration = Duration::from_millis(250);
/// How long a peer that does not know the protocol, or sends garbage, is left alone.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// A stream without datagrams is closed after this: the link goes by UDP again.
const IDLE_WAIT: Duration = Duration::from_secs(30);
/// Bytes of the length before each datagram.
const HEAD_LEN: usize = 2;
/// A longest frame that is not whole yet leaves room to read the rest.
const _: () = assert!(HEAD_LEN + OUTER_LEN_MAX < READ_LEN);
/// Length of WireGuard's shortest message, a keepalive.
const MESSAGE_LEN_MIN: usize = 32;

/// Who takes what came from a peer.
type Sink = Box<dyn Fn(NodeId, &[&[u8]]) + Send + Sync>;

/// A datagram, and when it began to wait.
type Waiting = (Instant, Vec<u8>);

struct Lane {
    frames: mpsc::Sender<Waiting>,
    waiting_bytes: Arc<AtomicUsize>,
    /// Whether the other side does not want this.
    is_refused: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    lanes: Mutex<BTreeMap<NodeId, Lane>>,
    sink: OnceLock<Sink>,
}

/// The streams of this node; clones share them.
#[derive(Clone, Default)]
pub struct Tunnels(Arc<Shared>);

impl Tunnels {
    /// Says who takes what comes; until then it is dropped.
    pub fn lead_to(&self, sink: impl Fn(NodeId, &[&[u8]]) + Send + Sync + 'static) {
        // Only the first counts, and there is only one data plane.
        let _ = self.0.sink.set(Box::new(sink));
    }

    /// Makes a queue and a writer for a peer that has a connection over the underlay. Runs inside
    /// tokio.
    pub fn open(&self, node: NodeId, peer: PeerId, control: Control) {
        let (lane, writer) = Lane::new(peer, control);
        tokio::spawn(writer.run());
        self.lanes().insert(node, lane);
    }

    /// Forgets a peer that has no such connection any more; its writer ends.
    pub fn close(&self, node: &NodeId) {
        self.lanes().remove(node);
    }

    /// Accepts streams; who sends garbage is told to `arrivals`.
    pub fn receive(
        &self,
        control: &mut Control,
        arrivals: &mpsc::Sender<Arrival>,
    ) -> Result<(), AlreadyRegistered> {
        let mut incoming = control.accept(PROTOCOL)?;
        let (tunnels, arrivals) = (self.clone(), arrivals.clone());
        let open = Arc::new(Open::default());
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let Some(from) = identity::node_id(&peer) else {
                    continue;
                };
                let Some(place) = Open::take(&open, from) else {
                    tracing::debug!(%peer, "a peer opens too many streams for datagrams");
                    continue;
                };
                let (tunnels, arrivals) = (tunnels.clone(), arrivals.clone());
                tokio::spawn(async move {
                    let read = tunnels.read_all(from, stream).await;
                    if read.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData) {
                        let _ = arrivals.send(Arrival::Oversized { from }).await;
                        // Its place is taken meanwhile.
                        tokio::time::sleep(REFUSED_WAIT).await;
                    }
                    drop(place);
                });
            }
        });
        Ok(())
    }

    async fn read_all<S: AsyncRead + Unpin>(&self, from: NodeId, mut stream: S) -> io::Result<()> {
        let mut buffer = vec![0; READ_LEN];
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            let len = stream.read(room).await?;
            if len == 0 {
                return Ok(());
            }
            filled += len;
            let bytes = buffer.get(..filled).unwrap_or_default();
            let (datagrams, used) = split(bytes)?;
            if let Some(sink) = self.0.sink.get() {
                sink(from, &datagrams);
            }
            buffer.copy_within(used..filled, 0);
            filled -= used;
        }
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Lane>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Streams for Tunnels {
    fn is_open(&self, to: NodeId) -> bool {
        let lanes = self.lanes();
        let lane = lanes.get(&to);
        lane.is_some_and(|lane| !lane.is_refused.load(Ordering::Relaxed))
    }

    fn send(&self, to: NodeId, datagram: &[u8]) -> bool {
        self.lanes()
            .get(&to)
            .is_some_and(|lane| lane.push(datagram))
    }
}

impl Lane {
    /// Makes a queue, and who writes what waits in it.
    fn new(peer: PeerId, control: Control) -> (Self, Writer) {
        let (frames, waiting) = mpsc::channel(QUEUE_FRAMES_MAX);
        let lane = Self {
            frames,
            waiting_bytes: Arc::default(),
            is_refused: Arc::default(),
        };
        let writer = Writer {
            control,
            peer,
            frames: waiting,
            waiting_bytes: Arc::clone(&lane.waiting_bytes),
            is_refused: Arc::clone(&lane.is_refused),
        };
        (lane, writer)
    }

    fn push(&self, datagram: &[u8]) -> bool {
        let len = datagram.len();
        let waiting = self.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        let fits = waiting.saturating_add(len) <= QUEUE_BYTES_MAX && len <= OUTER_LEN_MAX;
        let put = || self.frames.try_send((Instant::now(), datagram.to_vec()));
        if !fits || put().is_err() {
            self.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            return false;
        }
        true
    }
}

/// Returns the whole datagrams at the beginning of some bytes, and how many bytes they are.
fn split(bytes: &[u8]) -> io::Result<(Vec<&[u8]>, usize)> {
    let (mut datagrams, mut rest) = (Vec::new(), bytes);
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_LEN>() {
        let len = usize::from(u16::from_be_bytes(*head));
        if !(MESSAGE_LEN_MIN..=OUTER_LEN_MAX).contains(&len) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let Some((datagram, after)) = after.split_at_checked(len) else {
            break;
        };
        let [1..=4, 0, 0, 0, ..] = datagram else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        datagrams.push(datagram);
        rest = after;
    }
    Ok((datagrams, bytes.len() - rest.len()))
}

/// Writes the datagrams of one queue; opens its stream when there are some.
struct Writer {
    control: Control,
    peer: PeerId,
    frames: mpsc::Receiver<Waiting>,
    waiting_bytes: Arc<AtomicUsize>,
    is_refused: Arc<AtomicBool>,
}

impl Writer {
    async fn run(mut self) {
        // None when the peer has no connection any more.
        while let Some(first) = self.next().await {
            let opened = self.control.open_stream(self.peer, PROTOCOL);
            match timeout(OPEN_WAIT, opened).await {
                Ok(Ok(stream)) => {
                    tracing::debug!(peer = %self.peer, "a link may go by a stream");
                    if let Err(error) = self.write_all(stream, first).await {
                        tracing::debug!(peer = %self.peer, %error, "a link's stream broke");
                        tokio::time::sleep(REOPEN_WAIT).await;
                    }
                }
                Ok(Err(OpenStreamError::UnsupportedProtocol(_))) => {
                    self.is_refused.store(true, Ordering::Relaxed);
                    tokio::time::sleep(REFUSED_WAIT).await;
                    self.is_refused.store(false, Ordering::Relaxed);
                }
                Ok(Err(_)) | Err(_) => tokio::time::sleep(REOPEN_WAIT).await,
            }
        }
    }

    /// Takes what waits longest; what has waited for too long is dropped.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let waiting = self.frames.recv().await?;
            if let Some(datagram) = self.fresh(waiting) {
                return Some(datagram);
            }
        }
    }

    fn fresh(&self, (since, datagram): Waiting) -> Option<Vec<u8>> {
        self.waiting_bytes
            .fetch_sub(datagram.len(), Ordering::Relaxed);
        (since.elapsed() <= STALE).then_some(datagram)
    }

    /// Returns without error when the link is silent or the peer gone.
    async fn write_all<S: AsyncWrite + Unpin>(
        &mut self,
        mut stream: S,
        first: Vec<u8>,
    ) -> io::Result<()> {
        let mut batch = Vec::with_capacity(BATCH_LEN + HEAD_LEN + OUTER_LEN_MAX);
        let mut next = Some(first);
        while let Some(datagram) = next {
            batch.clear();
            put(&mut batch, &datagram);
            while batch.len() < BATCH_LEN
                && let Ok(waiting) = self.frames.try_recv()
            {
                if let Some(datagram) = self.fresh(waiting) {
                    put(&mut batch, &datagram);
                }
            }
            stream.write_all(&batch).await?;
            stream.flush().await?;
            next = timeout(IDLE_WAIT, self.next()).await.unwrap_or_default();
        }
        stream.close().await
    }
}

fn put(batch: &mut Vec<u8>, datagram: &[u8]) {
    // Proof of the default: no queue takes a datagram above the limit, which is far below.
    let len = u16::try_from(datagram.len()).unwrap_or_default();
    batch.extend_from_slice(&len.to_be_bytes());
    batch.extend_from_slice(datagram);
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use mesh_base::identity::SecretKey;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    fn node() -> NodeId {
        NodeId(SecretKey::from_seed([1; 32]).public())
    }

    fn message(len: usize) -> Vec<u8> {
        let mut message = vec![7; len];
        message[..4].copy_from_slice(&[4, 0, 0, 0]);
        message
    }

    fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for datagram in datagrams {
            put(&mut bytes, datagram);
        }
        bytes
    }

    /// Reads some bytes to their end; returns what came out.
    async fn read(bytes: Vec<u8>) -> (io::Result<()>, Vec<Vec<u8>>) {
        let (tunnels, got) = (Tunnels::default(), Arc::new(Mutex::new(Vec::new())));
        let into = Arc::clone(&got);
        tunnels.lead_to(move |_, datagrams| {
            let owned = datagrams.iter().map(|datagram| datagram.to_vec());
            into.lock().unwrap().extend(owned);
        });
        let done = tunnels.read_all(node(), Cursor::new(bytes)).await;
        let got = got.lock().unwrap().clone();
        (done, got)
    }

    #[tokio::test]
    async fn datagrams_come_out_as_they_went_in() {
        let sent: Vec<_> = (32..OUTER_LEN_MAX).step_by(97).map(message).collect();
        let many = [sent.clone(), sent.clone(), sent].concat();
        let (done, got) = read(framed(&many)).await;
        assert!(done.is_ok());
        assert_eq!(got, many);
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_stream_and_is_told() {
        let good = message(32);
        let mut wrong_kind = message(64);
        wrong_kind[0] = 5;
        for bad in [message(OUTER_LEN_MAX + 1), message(31), wrong_kind] {
            let (done, got) = read(framed(&[good.clone(), bad])).await;
            assert_eq!(done.unwrap_err().kind(), io::ErrorKind::InvalidData);
            assert!(got.is_empty(), "nothing of what came with it is taken");
        }
    }

    #[test]
    fn frames_that_arrive_cut_anywhere_are_taken_when_they_are_whole() {
        let sent = [message(32), message(100), message(OUTER_LEN_MAX)];
        let bytes = framed(&sent);
        for cut in 0..=bytes.len() {
            let (datagrams, used) = split(&bytes[..cut]).unwrap();
            assert_eq!(datagrams, sent[..datagrams.len()]);
            assert_eq!(used, framed(&sent[..datagrams.len()]).len());
            let (rest, _) = split(&bytes[used..]).unwrap();
            assert_eq!(rest, sent[datagrams.len()..]);
        }
    }

    #[test]
    fn two_hundred_thousand_random_streams_are_survived() {
        let mut state = 0x5eed_u64;
        let mut chance = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as usize % below
        };
        let (mut taken, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let mut bytes = framed(&[message(32 + chance(40)), message(32 + chance(40))]);
            for _ in 0..chance(3) {
                let at = chance(bytes.len());
                bytes[at] = chance(256) as u8;
            }
            bytes.truncate(bytes.len() - chance(3));
            match split(&bytes) {
                Ok((datagrams, used)) => {
                    assert!(used <= bytes.len());
                    let lens = datagrams.iter().map(|datagram| datagram.len());
                    assert_eq!(lens.map(|len| HEAD_LEN + len).sum::<usize>(), used);
                    taken += datagrams.len();
                }
                Err(_) => refused += 1,
            }
        }
        assert!(0 < taken && 0 < refused, "{taken} taken, {refused} refused");
    }

    fn lane() -> (Lane, Writer) {
        let control = libp2p_stream::Behaviour::new().new_control();
        Lane::new(identity::peer_id(&node()).unwrap(), control)
    }

    #[tokio::test]
    async fn queue_is_bounded_in_bytes_and_in_datagrams() {
        let (lane, _writer) = lane();
        let long = message(OUTER_LEN_MAX);
        let most = (0..).take_while(|_| lane.push(&long)).count();
        assert_eq!(most, QUEUE_BYTES_MAX / OUTER_LEN_MAX);
        let (lane, _writer) = self::lane();
        let short = message(32);
        let most = (0..).take_while(|_| lane.push(&short)).count();
        assert_eq!(most, QUEUE_FRAMES_MAX);
        assert!(!lane.push(&message(OUTER_LEN_MAX + 1)));
    }

    #[tokio::test]
    async fn what_waited_too_long_is_not_written() {
        let (lane, mut writer) = lane();
        let earlier = Instant::now().checked_sub(2 * STALE).unwrap();
        lane.waiting_bytes.fetch_add(100, Ordering::Relaxed);
        lane.frames.try_send((earlier, message(100))).unwrap();
        assert!(lane.push(&message(50)));
        assert_eq!(writer.next().await, Some(message(50)));
        assert_eq!(lane.waiting_bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn writer_frames_what_waits_and_ends_with_its_queue() {
        let (lane, mut writer) = lane();
        assert!(lane.push(&message(40)));
        drop(lane);
        let (near, mut far) = tokio::io::duplex(4096);
        let done = writer.write_all(near.compat(), message(33)).await;
        assert!(done.is_ok());
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut bytes)
            .await
            .unwrap();
        assert_eq!(bytes, framed(&[message(33), message(40)]));
    }
}
