//! The membership gate: after Noise has proven a key, both sides show certificates and say yes or
//! no.
//!
//! ```text
//!   Noise XX (prologue meshstead/1) → chain ⇄ chain → verdict ⇄ verdict → yamux
//! ```
//! It is the security upgrade of the transport, so a stranger never reaches a protocol. Both sides
//! send before they read, the verdict travels as a readable sentence, and both sides log it. The
//! whole takes at most five seconds. Decides nothing by itself: it judges by a copy of the node's
//! roster, so that gate and node never disagree about who is a member, expired, revoked or double.
//!
//! Invariant: a connection that leaves the gate belongs to the key of the chain noted in
//! [`Gate::chain_of`].

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use libp2p::core::UpgradeInfo;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade};
use libp2p::identity::Keypair;
use libp2p::noise;
use mesh_base::certificate::{CHAIN_LEN_MAX, Chain};
use mesh_base::codec;
use mesh_base::identity::NodeId;
use mesh_base::time::Wall;
use mesh_federation::members::Roster;
use mesh_peer::message::{VERDICT_LEN_MAX, Verdict};
use mesh_peer::refusal::{Reason, sentence};
use tokio::sync::mpsc;

use crate::swarm::identity;

/// Protocol name under which the upgrade is negotiated.
const PROTOCOL: &str = "/meshstead/gate/1";
/// Noise prologue: programs of another network cannot even finish the handshake.
const PROLOGUE: &[u8] = b"meshstead/1";
/// Time for Noise, chains and verdicts together; a slow line needs five round trips.
const DEADLINE: Duration = Duration::from_secs(5);
/// Most admitted chains kept; more than the swarm's connection limit.
const ADMITTED_MAX: usize = 1024;

/// Whom we trust and what we show, from now on.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Trusted organisations, their members, and whom they have revoked.
    pub roster: Arc<Roster>,
    /// Our own certificates.
    pub chain: Chain,
}

/// Why a connection did not pass the gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Noise could not be set up or finished: not a Meshstead node, or of another network.
    #[error("the Noise handshake failed")]
    Noise(#[from] noise::Error),
    /// The other side went away or sent something too long.
    #[error("the other side ended the admission")]
    Ended(#[from] std::io::Error),
    /// It took longer than the gate waits.
    #[error("the admission took longer than {} seconds", DEADLINE.as_secs())]
    Deadline,
    /// We refused it.
    #[error("{peer} is refused here: {reason}")]
    Refused {
        /// The key that Noise proved.
        peer: String,
        /// Why.
        reason: String,
    },
    /// It refused us.
    #[error("{peer} refused us: {reason}")]
    RefusedUs {
        /// The key that Noise proved.
        peer: String,
        /// Why, in its words.
        reason: String,
    },
}

struct Shared {
    trust: RwLock<Option<Trust>>,
    admitted: Mutex<BTreeMap<PeerId, Chain>>,
    refusals: mpsc::Sender<Reason>,
    wall: fn() -> Wall,
}

/// Why the gate refuses: the word that it counts, and the sentence that the other side reads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct No {
    reason: Reason,
    sentence: String,
}

impl No {
    fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        Self {
            reason,
            sentence: sentence.into(),
        }
    }
}

/// The gate of one node; clones share trust and admitted chains.
#[derive(Clone)]
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// Returns a gate that refuses everybody until [`Gate::trust`] is called.
    pub fn new(refusals: mpsc::Sender<Reason>, wall: fn() -> Wall) -> Self {
        let shared = Shared {
            trust: RwLock::new(None),
            admitted: Mutex::new(BTreeMap::new()),
            refusals,
            wall,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Replaces whom we trust and what we show.
    pub fn trust(&self, trust: Trust) {
        *self
            .shared
            .trust
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(trust);
    }

    /// Returns the verified chain that an admitted peer showed last.
    pub fn chain_of(&self, peer: &PeerId) -> Option<Chain> {
        self.admitted().get(peer).cloned()
    }

    /// Returns the security upgrade for one transport.
    pub fn upgrade(&self, keypair: &Keypair) -> Result<Upgrade, noise::Error> {
        let noise = noise::Config::new(keypair)?.with_prologue(PROLOGUE.to_vec());
        Ok(Upgrade {
            noise,
            gate: self.clone(),
        })
    }

    fn admitted(&self) -> std::sync::MutexGuard<'_, BTreeMap<PeerId, Chain>> {
        self.shared
            .admitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshot(&self) -> Option<Trust> {
        self.shared
            .trust
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note_refusal(&self, reason: Reason) {
        // A flood of strangers must not fill memory: what does not fit is only logged.
        let _ = self.shared.refusals.try_send(reason);
    }

    /// Exchanges chains and verdicts over a proven Noise session.
    async fn admit<S>(&self, peer: PeerId, session: &mut S) -> Result<(), GateError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let trust = self.snapshot();
        let own = trust
            .as_ref()
            .map_or_else(|| Chain(Vec::new()), |trust| trust.chain.clone());
        write(session, &codec::encode(&own)).await?;
        let theirs = read(session, CHAIN_LEN_MAX).await?;
        let judged = judge(peer, theirs, trust, (self.shared.wall)()).await;
        let verdict = match &judged {
            Ok(_) => Verdict::Admitted,
            Err(no) => Verdict::Refused(no.sentence.clone()),
        };
        write(session, &codec::encode(&verdict)).await?;
        let said = read(session, VERDICT_LEN_MAX).await;
        let chain = judged.map_err(|No { reason, sentence }| {
            let word = reason.as_str();
            tracing::info!(%peer, word, reason = sentence, "a peer is refused at the gate");
            self.note_refusal(reason);
            GateError::Refused {
                peer: peer.to_string(),
                reason: sentence,
            }
        })?;
        match codec::decode::<Verdict>(&said?, VERDICT_LEN_MAX) {
            Ok(Verdict::Admitted) => {}
            Ok(Verdict::Refused(reason)) => {
                let reason = readable(&reason);
                tracing::info!(%peer, %reason, "a peer refused us at its gate");
                self.note_refusal(Reason::RefusedUs);
                return Err(GateError::RefusedUs {
                    peer: peer.to_string(),
                    reason,
                });
            }
            Err(error) => return Err(GateError::Ended(std::io::Error::other(error))),
        }
        let mut admitted = self.admitted();
        if ADMITTED_MAX <= admitted.len() && !admitted.contains_key(&peer) {
            // The map only outgrows the connections by peers that the swarm's limits turned away.
            admitted.pop_first();
        }
        admitted.insert(peer, chain);
        Ok(())
    }
}

/// Returns the chain if it proves membership, else the sentence that the other side will read.
async fn judge(peer: PeerId, bytes: Vec<u8>, trust: Option<Trust>, now: Wall) -> Result<Chain, No> {
    let starting = || No::new(Reason::Starting, "this node is still starting; try again");
    let trust = trust.ok_or_else(starting)?;
    let stranger = || No::new(Reason::OtherKey, "your key is not ed25519");
    let node = identity::node_id(&peer).ok_or_else(stranger)?;
    let chain: Chain = codec::decode(&bytes, CHAIN_LEN_MAX).map_err(|error| {
        let sentence = format!("your certificates cannot be read: {error}");
        No::new(Reason::BadCertificate, sentence)
    })?;
    // The slow hash must not stop the connections that share this thread.
    let judged = tokio::task::spawn_blocking(move || verified(chain, &node, &trust, now)).await;
    judged.unwrap_or_else(|_| Err(No::new(Reason::Starting, "this node is stopping")))
}

fn verified(chain: Chain, node: &NodeId, trust: &Trust, now: Wall) -> Result<Chain, No> {
    match trust.roster.judge(node, &chain, now) {
        Ok(_) => Ok(chain),
        Err(error) => Err(No::new(Reason::from(&error), sentence(&error))),
    }
}

/// Cuts a stranger's sentence to what a log line can take.
fn readable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect()
}

async fn write<S: AsyncWrite + Unpin>(session: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    // Proof of the default: chains and verdicts are far shorter than 64 KiB.
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    session.write_all(&len.to_be_bytes()).await?;
    session.write_all(bytes).await?;
    session.flush().await
}

async fn read<S: AsyncRead + Unpin>(session: &mut S, len_max: usize) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 2];
    session.read_exact(&mut len).await?;
    let len = usize::from(u16::from_be_bytes(len));
    if len_max < len {
        return Err(std::io::Error::other(format!(
            "{len} bytes, at most {len_max} are allowed"
        )));
    }
    let mut bytes = vec![0; len];
    session.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The security upgrade: Noise, then the gate.
#[derive(Clone)]
pub struct Upgrade {
    noise: noise::Config,
    gate: Gate,
}

type Admission<S> =
    Pin<Box<dyn Future<Output = Result<(PeerId, noise::Output<S>), GateError>> + Send>>;

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(PROTOCOL)
    }
}

impl<S> InboundConnectionUpgrade<S> for Upgrade
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, noise::Output<S>);
    type Error = GateError;
    type Future = Admission<S>;

    fn upgrade_inbound(self, socket: S, info: Self::Info) -> Self::Future {
        let handshake = self.noise.upgrade_inbound(socket, info);
        Box::pin(pass(self.gate, handshake, DEADLINE))
    }
}

impl<S> OutboundConnectionUpgrade<S> for Upgrade
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, noise::Output<S>);
    type Error = GateError;
    type Future = Admission<S>;

    fn upgrade_outbound(self, socket: S, info: Self::Info) -> Self::Future {
        let handshake = self.noise.upgrade_outbound(socket, info);
        Box::pin(pass(self.gate, handshake, DEADLINE))
    }
}

async fn pass<S>(
    gate: Gate,
    handshake: impl Future<Output = Result<(PeerId, noise::Output<S>), noise::Error>>,
    deadline: Duration,
) -> Result<(PeerId, noise::Output<S>), GateError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let whole = async {
        let (peer, mut session) = handshake.await?;
        gate.admit(peer, &mut session).await?;
        Ok((peer, session))
    };
    tokio::time::timeout(deadline, whole)
        .await
        .map_err(|_| GateError::Deadline)?
}

#[cfg(test)]
pub(crate) mod tests {
    use mesh_base::address::NodeAddress;
    use mesh_base::certificate::{Body, CERTIFICATE_VERSION, Certificate, Role};
    use mesh_base::identity::{OrgId, SecretKey};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    const NOW: Wall = Wall(1_000_000);

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_seed([byte; 32])
    }

    /// Certifies `node` as a master of `org` until `not_after`.
    pub(crate) fn chain(node: &SecretKey, org: &SecretKey, not_after: Wall) -> Chain {
        let id = NodeId(node.public());
        let body = Body {
            version: CERTIFICATE_VERSION,
            node: id,
            prefix: NodeAddress::of(&id).prefix(),
            org: OrgId(org.public()),
            org_name: "bakery".parse().unwrap(),
            name: "bakery-1".parse().unwrap(),
            role: Role::Master,
            incarnation: 0,
            not_before: Wall(0),
            not_after,
            issuer: org.public(),
        };
        Chain(vec![Certificate::issue(body, org)])
    }

    /// Returns a roster that trusts these organisations, the first as its own.
    pub(crate) fn roster(orgs: &[SecretKey]) -> Roster {
        let mut orgs = orgs.iter().map(|org| OrgId(org.public()));
        let mut roster = Roster::new(orgs.next().unwrap(), "bakery".parse().unwrap());
        for org in orgs {
            roster.trust(org, "library".parse().unwrap()).unwrap();
        }
        roster
    }

    /// A side of a connection: its key, the chain it shows, whom it knows.
    struct Side {
        secret: SecretKey,
        chain: Chain,
        roster: Roster,
    }

    fn member(byte: u8) -> Side {
        let secret = key(byte);
        let chain = chain(&secret, &key(100), Wall(2_000_000));
        Side {
            secret,
            chain,
            roster: roster(&[key(100)]),
        }
    }

    /// Lets two sides meet over memory and returns how each one sees it.
    async fn meet(left: &Side, right: &Side) -> [Result<(), GateError>; 2] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let upgrade = |side: &Side| {
            let (refusals, _) = mpsc::channel(8);
            let gate = Gate::new(refusals, || NOW);
            gate.trust(Trust {
                roster: Arc::new(side.roster.clone()),
                chain: side.chain.clone(),
            });
            gate.upgrade(&identity::keypair(&side.secret)).unwrap()
        };
        let (left_up, right_up) = (upgrade(left), upgrade(right));
        let (left_got, right_got) = tokio::join!(
            left_up.upgrade_outbound(near.compat(), PROTOCOL),
            right_up.upgrade_inbound(far.compat(), PROTOCOL),
        );
        [left_got.map(|_| ()), right_got.map(|_| ())]
    }

    /// Lets a spoilt side dial a lawful member: the member refuses with `reason`, the other reads
    /// it.
    #[track_caller]
    fn check(spoilt: Side, reason: &str) {
        check_with(spoilt, member(2), reason);
    }

    #[track_caller]
    fn check_with(spoilt: Side, lawful: Side, reason: &str) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let [dialer, listener] = runtime.block_on(meet(&spoilt, &lawful));
        let said = match listener.unwrap_err() {
            GateError::Refused { reason, .. } => reason,
            other => panic!("{other}"),
        };
        assert!(said.contains(reason), "{said}");
        match dialer.unwrap_err() {
            GateError::RefusedUs { reason, .. } => assert_eq!(reason, said),
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn members_of_one_organisation_admit_each_other() {
        let [dialer, listener] = meet(&member(1), &member(2)).await;
        assert!(dialer.is_ok() && listener.is_ok());
    }

    #[test]
    fn stranger_without_certificate_is_refused_on_both_sides() {
        check(
            Side {
                chain: Chain(Vec::new()),
                ..member(1)
            },
            "no certificate was shown",
        );
    }

    #[test]
    fn foreign_organisation_is_refused_on_both_sides() {
        let secret = key(1);
        let chain = chain(&secret, &key(101), Wall(2_000_000));
        check(Side { chain, ..member(1) }, "is not trusted here");
    }

    #[test]
    fn expired_certificate_is_refused_on_both_sides() {
        let secret = key(1);
        let chain = chain(&secret, &key(100), NOW);
        check(Side { chain, ..member(1) }, "valid from");
    }

    #[test]
    fn revoked_member_is_refused_on_both_sides() {
        let mut lawful = member(2);
        let (org, node) = (OrgId(key(100).public()), NodeId(key(1).public()));
        lawful.roster.revoke(org, node, NOW, "sold").unwrap();
        check_with(member(1), lawful, "was revoked");
    }

    #[test]
    fn second_key_for_a_prefix_is_refused_on_both_sides() {
        let mut lawful = member(2);
        let known = member(3);
        let of_known = NodeId(known.secret.public());
        lawful.roster.admit(&of_known, &known.chain, NOW).unwrap();
        let mut forged = member(1);
        let mut body = forged.chain.0[0].body.clone();
        body.prefix = NodeAddress::of(&of_known).prefix();
        forged.chain = Chain(vec![Certificate::issue(body, &key(100))]);
        check_with(forged, lawful, "prefix belongs to another node");
    }

    #[test]
    fn stolen_certificate_is_refused_on_both_sides() {
        check(
            Side {
                chain: member(3).chain,
                ..member(1)
            },
            "for another key",
        );
    }

    #[tokio::test]
    async fn side_that_does_not_trust_us_says_so() {
        let distrusting = Side {
            roster: roster(&[key(102)]),
            ..member(1)
        };
        let [dialer, listener] = meet(&distrusting, &member(2)).await;
        assert!(matches!(dialer, Err(GateError::Refused { .. })));
        assert!(matches!(listener, Err(GateError::RefusedUs { .. })));
    }

    #[tokio::test]
    async fn other_network_does_not_finish_the_handshake() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (refusals, _kept) = mpsc::channel(8);
        let gate = Gate::new(refusals, || NOW);
        let ours = gate.upgrade(&identity::keypair(&key(1))).unwrap();
        let other = noise::Config::new(&identity::keypair(&key(2))).unwrap();
        let (ours, _) = tokio::join!(
            ours.upgrade_outbound(near.compat(), PROTOCOL),
            other.upgrade_inbound(far.compat(), "/noise"),
        );
        assert!(matches!(ours, Err(GateError::Noise(_))));
    }

    #[tokio::test]
    async fn silent_peer_is_left_after_the_deadline() {
        let (near, _far) = tokio::io::duplex(64 * 1024);
        let (refusals, _kept) = mpsc::channel(8);
        let gate = Gate::new(refusals, || NOW);
        let noise = noise::Config::new(&identity::keypair(&key(1))).unwrap();
        let handshake = noise.upgrade_outbound(near.compat(), PROTOCOL);
        let got = pass(gate, handshake, Duration::from_millis(20)).await;
        assert!(matches!(got, Err(GateError::Deadline)));
    }

    #[tokio::test]
    async fn too_long_certificate_ends_the_admission() {
        let mut bytes = futures::io::Cursor::new(vec![0xff, 0xff, 0]);
        let error = read(&mut bytes, CHAIN_LEN_MAX).await.unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
    }
}
