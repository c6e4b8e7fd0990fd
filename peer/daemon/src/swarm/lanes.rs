//! Frames of bytes between admitted peers: one outgoing stream per peer and lane, bounded both
//! ways.
//!
//! ```text
//!   send ─► queue (bounded; what does not fit is dropped and counted) ─► writer ─► stream
//!   stream ─► reader (length checked first) ─► frames channel (waits: back-pressure)
//! ```
//! A frame is its length in four bytes, then the bytes. A frame that was under way when a stream
//! broke is lost; that it broke is told, so that the node repeats what matters at once and not when
//! it next compares notes; a lane that breaks again and again is opened ever more rarely. Control
//! never waits behind bulk: each lane has its own stream, queue and writer. Frames are delivered
//! only after it was told that their sender is connected: the stream of one who dialed comes up
//! beside the swarm's task, and sometimes before it. Decides nothing about what frames mean.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{PeerId, StreamProtocol};
use libp2p_stream::{AlreadyRegistered, Control};
use mesh_base::identity::NodeId;
use mesh_peer::message::{Lane, MESSAGE_LEN_MAX};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::swarm::identity;

/// Most frames that wait in one queue; a control frame is some hundred bytes.
const QUEUE_FRAMES_MAX: usize = 1024;
/// Most bytes that wait for one peer on the control lane.
const CONTROL_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that wait for one peer on the ledger lane: eight of the largest messages.
const LEDGER_BYTES_MAX: usize = 8 * MESSAGE_LEN_MAX;
/// Most incoming streams of one peer on one lane: the living one and one whose end is not seen yet.
const STREAMS_MAX: usize = 3;
/// Wait before a stream that could not be opened is tried again, and after the first break.
const REOPEN_WAIT: Duration = Duration::from_millis(250);
/// Longest wait after a break: a lane that never holds makes the node repeat itself twice a minute,
/// and what is queued goes at most this much later once it holds.
const REOPEN_WAIT_MAX: Duration = Duration::from_secs(30);
/// A stream that lasted this long has worked, so its break counts as a first one: repeating
/// everything this often is bearable, even if somebody breaks each stream on purpose.
const STEADY: Duration = Duration::from_secs(10);

/// How long a stream may be ahead of the word that its peer is connected; a machine that is this
/// slow loses the stream, which its writer opens again.
const TOLD_WAIT_MAX: Duration = Duration::from_secs(10);

/// Returns the libp2p protocol of a lane.
pub fn protocol(lane: Lane) -> StreamProtocol {
    match lane {
        Lane::Control => StreamProtocol::new("/meshstead/control/1"),
        Lane::Ledger => StreamProtocol::new("/meshstead/ledger/1"),
    }
}

/// Something that arrived on a lane.
#[derive(Debug)]
pub enum Arrival {
    /// A whole frame.
    Frame {
        /// Who sent it.
        from: NodeId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A frame that claims to be longer than any message, or is no datagram where one should be;
    /// its stream was closed.
    Oversized {
        /// Who sent it.
        from: NodeId,
    },
}

struct Queue {
    frames: mpsc::Sender<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl Queue {
    fn push(&self, bytes: Vec<u8>) -> bool {
        let len = bytes.len();
        let waiting = self.waiting_bytes.fetch_add(len, Ordering::Relaxed);
        if self.bytes_max < waiting.saturating_add(len) || self.frames.try_send(bytes).is_err() {
            self.waiting_bytes.fetch_sub(len, Ordering::Relaxed);
            return false;
        }
        true
    }
}

struct PeerQueues {
    control: Queue,
    ledger: Queue,
}

/// Queues to every connected peer; clones share them.
#[derive(Clone)]
pub struct Outgoing {
    control: Control,
    peers: Arc<Mutex<BTreeMap<NodeId, PeerQueues>>>,
    dropped: Arc<AtomicU64>,
    broken: mpsc::Sender<PeerId>,
}

impl Outgoing {
    /// Returns queues that write through `control`. Whose lane broke is told to `broken`.
    pub fn new(control: Control, broken: mpsc::Sender<PeerId>) -> Self {
        Self {
            broken,
            control,
            peers: Arc::default(),
            dropped: Arc::default(),
        }
    }

    /// Makes queues and writers for a peer that is connected now.
    pub fn open(&self, node: NodeId, peer: PeerId) {
        let queues = PeerQueues {
            control: self.queue(peer, Lane::Control, CONTROL_BYTES_MAX),
            ledger: self.queue(peer, Lane::Ledger, LEDGER_BYTES_MAX),
        };
        self.peers().insert(node, queues);
    }

    /// Drops the queues of a peer that is not connected any more; its writers end.
    pub fn close(&self, node: &NodeId) {
        self.peers().remove(node);
    }

    /// Queues a frame. What cannot be queued is dropped and counted; returns whether it was queued.
    pub fn send(&self, node: &NodeId, lane: Lane, bytes: Vec<u8>) -> bool {
        let queued = bytes.len() <= MESSAGE_LEN_MAX
            && self.peers().get(node).is_some_and(|queues| match lane {
                Lane::Control => queues.control.push(bytes),
                Lane::Ledger => queues.ledger.push(bytes),
            });
        if !queued {
            let count = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // Powers of two: a flood of drops must not become a flood of lines.
            if count.is_power_of_two() {
                let peer = node.key().short();
                tracing::debug!(count, peer, ?lane, "frames were dropped since the start");
            }
        }
        queued
    }

    fn queue(&self, peer: PeerId, lane: Lane, bytes_max: usize) -> Queue {
        let (frames, waiting) = mpsc::channel(QUEUE_FRAMES_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            control: self.control.clone(),
            peer,
            lane,
            frames: waiting,
            waiting_bytes: Arc::clone(&waiting_bytes),
            broken: self.broken.clone(),
        };
        tokio::spawn(writer.run());
        Queue {
            frames,
            waiting_bytes,
            bytes_max,
        }
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<NodeId, PeerQueues>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who was said to be connected; clones share it.
#[derive(Clone, Default)]
pub struct Told(watch::Sender<BTreeSet<NodeId>>);

impl Told {
    /// Lets frames of a peer through from now on, for it was said that it is connected.
    pub fn connected(&self, node: NodeId) {
        self.0.send_modify(|told| {
            told.insert(node);
        });
    }

    /// Holds back what its next connection brings, for it was said that this one ended.
    pub fn disconnected(&self, node: &NodeId) {
        self.0.send_modify(|told| {
            told.remove(node);
        });
    }

    /// Waits until frames of a peer may be delivered. Returns false if it waited in vain.
    async fn wait_for(&self, node: NodeId) -> bool {
        let mut told = self.0.subscribe();
        let is_told = told.wait_for(|told| told.contains(&node));
        let in_time = tokio::time::timeout(TOLD_WAIT_MAX, is_told).await;
        in_time.is_ok_and(|told| told.is_ok())
    }
}

/// Writes the frames of one queue; opens its stream again when it breaks.
struct Writer {
    control: Control,
    peer: PeerId,
    lane: Lane,
    frames: mpsc::Receiver<Vec<u8>>,
    waiting_bytes: Arc<AtomicUsize>,
    broken: mpsc::Sender<PeerId>,
}

impl Writer {
    async fn run(mut self) {
        let mut wait = Duration::ZERO;
        // The queue is closed when the peer disconnects; then this task has nothing to do any more.
        while !self.frames.is_closed() {
            match self
                .control
                .open_stream(self.peer, protocol(self.lane))
                .await
            {
                Ok(stream) => {
                    let lasted = self.write_until_broken(stream).await;
                    wait = wait_after(wait, lasted);
                    tokio::time::sleep(wait).await;
                }
                // Nobody was told of anything, so there is nothing to brake.
                Err(error) => {
                    tracing::debug!(peer = %self.peer, lane = ?self.lane, %error, "no lane yet");
                    tokio::time::sleep(REOPEN_WAIT).await;
                }
            }
        }
    }

    /// Writes until the queue is closed, or until the stream breaks, which is told. Returns how
    /// long that was, without the wait for whoever is told.
    async fn write_until_broken<S: AsyncWrite + Unpin>(&mut self, stream: S) -> Duration {
        let opened = Instant::now();
        let written = self.write_all(stream).await;
        let lasted = opened.elapsed();
        if let Err(error) = written {
            let (peer, lane) = (self.peer, self.lane);
            tracing::debug!(%peer, ?lane, %error, "a lane broke");
            let _ = self.broken.send(peer).await;
        }
        lasted
    }

    /// Returns without error when the queue is closed.
    async fn write_all<S: AsyncWrite + Unpin>(&mut self, mut stream: S) -> io::Result<()> {
        while let Some(bytes) = self.frames.recv().await {
            self.waiting_bytes.fetch_sub(bytes.len(), Ordering::Relaxed);
            write_frame(&mut stream, &bytes).await?;
            if self.frames.is_empty() {
                stream.flush().await?;
            }
        }
        stream.close().await
    }
}

/// Returns how long to wait after a stream that `lasted`, if the wait before it was `before`: every
/// break makes the node repeat much, which a stream that breaks at once must not do without end.
fn wait_after(before: Duration, lasted: Duration) -> Duration {
    if STEADY <= lasted {
        REOPEN_WAIT
    } else {
        before.saturating_mul(2).clamp(REOPEN_WAIT, REOPEN_WAIT_MAX)
    }
}

/// Accepts the streams of both lanes and delivers the frames of those who are `told` to `arrivals`.
pub fn receive(
    control: &mut Control,
    arrivals: &mpsc::Sender<Arrival>,
    told: &Told,
) -> Result<(), AlreadyRegistered> {
    for lane in [Lane::Control, Lane::Ledger] {
        let mut incoming = control.accept(protocol(lane))?;
        let (arrivals, told) = (arrivals.clone(), told.clone());
        let open = Arc::new(Open::default());
        // libp2p drops streams silently while this loop does not take them: it only spawns.
        tokio::spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let Some(from) = identity::node_id(&peer) else {
                    continue;
                };
                let Some(place) = Open::take(&open, from) else {
                    tracing::debug!(%peer, ?lane, "a peer opens too many streams");
                    continue;
                };
                let (arrivals, told) = (arrivals.clone(), told.clone());
                tokio::spawn(async move {
                    if told.wait_for(from).await {
                        read_all(from, stream, &arrivals).await;
                    }
                    drop(place);
                });
            }
        });
    }
    Ok(())
}

/// Counts the open incoming streams of each peer on one lane.
#[derive(Default)]
pub(super) struct Open(Mutex<BTreeMap<NodeId, usize>>);

/// The place of one of them.
pub(super) struct Place {
    open: Arc<Open>,
    node: NodeId,
}

impl Open {
    /// Takes a place; none if the peer has as many as it may.
    pub(super) fn take(open: &Arc<Self>, node: NodeId) -> Option<Place> {
        let mut counts = open.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(node).or_insert(0);
        if STREAMS_MAX <= *count {
            return None;
        }
        *count += 1;
        Some(Place {
            open: Arc::clone(open),
            node,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.node);
            }
        }
    }
}

async fn read_all<S: AsyncRead + Unpin>(
    from: NodeId,
    mut stream: S,
    arrivals: &mpsc::Sender<Arrival>,
) {
    loop {
        let arrival = match read_frame(&mut stream).await {
            Ok(bytes) => Arrival::Frame { from, bytes },
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let _ = arrivals.send(Arrival::Oversized { from }).await;
                return;
            }
            Err(_) => return,
        };
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

async fn write_frame<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(bytes).await
}

/// Reads one frame; a length above the limit is `InvalidData` and nothing of it is read.
async fn read_frame<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len);
    if MESSAGE_LEN_MAX < usize::try_from(len).unwrap_or(usize::MAX) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Grows with what really arrives: a peer that only claims a length costs nothing.
    let mut bytes = Vec::new();
    stream.take(u64::from(len)).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != u64::from(len) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::io::Cursor;
    use mesh_base::identity::SecretKey;

    use super::*;

    fn node() -> NodeId {
        NodeId(SecretKey::from_seed([1; 32]).public())
    }

    #[tokio::test]
    async fn frames_come_back_in_order_until_the_stream_ends() {
        let mut wire = Vec::new();
        for frame in [b"one".as_slice(), b"", b"three"] {
            write_frame(&mut wire, frame).await.unwrap();
        }
        let (arrivals, mut got) = mpsc::channel(8);
        read_all(node(), Cursor::new(wire), &arrivals).await;
        drop(arrivals);
        let mut frames = Vec::new();
        while let Some(Arrival::Frame { bytes, .. }) = got.recv().await {
            frames.push(bytes);
        }
        assert_eq!(frames, [b"one".to_vec(), b"".to_vec(), b"three".to_vec()]);
    }

    #[tokio::test]
    async fn frame_above_the_limit_is_reported_and_not_read() {
        let len = u32::try_from(MESSAGE_LEN_MAX + 1).unwrap();
        let (arrivals, mut got) = mpsc::channel(8);
        read_all(node(), Cursor::new(len.to_be_bytes()), &arrivals).await;
        assert!(matches!(got.recv().await, Some(Arrival::Oversized { .. })));
    }

    #[tokio::test]
    async fn half_a_frame_is_no_frame() {
        let (arrivals, mut got) = mpsc::channel(8);
        read_all(node(), Cursor::new([0, 0, 0, 9, 1, 2]), &arrivals).await;
        drop(arrivals);
        assert!(got.recv().await.is_none());
    }

    /// A stream whose other end is gone.
    struct Gone;

    impl AsyncWrite for Gone {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Written<usize> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Written<()> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Written<()> {
            Poll::Ready(Ok(()))
        }
    }

    type Written<T> = Poll<io::Result<T>>;

    fn writer() -> (Writer, mpsc::Sender<Vec<u8>>, mpsc::Receiver<PeerId>) {
        let (sender, frames) = mpsc::channel(8);
        let (broken, told) = mpsc::channel(8);
        let writer = Writer {
            control: libp2p_stream::Behaviour::new().new_control(),
            peer: identity::peer_id(&node()).unwrap(),
            lane: Lane::Ledger,
            frames,
            waiting_bytes: Arc::default(),
            broken,
        };
        (writer, sender, told)
    }

    #[tokio::test]
    async fn lane_that_broke_is_told_and_one_that_ended_is_not() {
        let (mut writer, frames, mut told) = writer();
        frames.send(b"lost".to_vec()).await.unwrap();
        writer.write_until_broken(Gone).await;
        assert_eq!(told.try_recv().ok(), identity::peer_id(&node()));
        drop(frames);
        writer.write_until_broken(Gone).await;
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn streams_that_do_not_last_are_opened_ever_more_rarely_until_one_does() {
        let short = STEADY.saturating_sub(Duration::from_millis(1));
        let mut waits = vec![wait_after(Duration::ZERO, short)];
        while waits.len() < 10 {
            waits.push(wait_after(*waits.last().unwrap(), short));
        }
        let millis: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        let doubled = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];
        assert_eq!(millis[..7], doubled);
        assert_eq!(millis[7..], [30_000; 3]);
        assert_eq!(wait_after(REOPEN_WAIT_MAX, STEADY), REOPEN_WAIT);
    }

    #[test]
    fn full_queue_drops_the_new() {
        let (frames, _kept) = mpsc::channel(QUEUE_FRAMES_MAX);
        let queue = Queue {
            frames,
            waiting_bytes: Arc::default(),
            bytes_max: 10,
        };
        assert!(queue.push(vec![0; 6]));
        assert!(!queue.push(vec![0; 6]));
        assert!(queue.push(vec![0; 4]));
    }

    #[test]
    fn peer_may_hold_few_streams_and_gets_its_places_back() {
        let open = Arc::new(Open::default());
        let mut places: Vec<Place> = (0..STREAMS_MAX)
            .map(|_| Open::take(&open, node()).unwrap())
            .collect();
        assert!(Open::take(&open, node()).is_none());
        places.pop();
        assert!(Open::take(&open, node()).is_some());
    }
}
