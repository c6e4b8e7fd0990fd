//! Who has which changes, what to send next, and who acknowledged what.
//!
//! ```text
//! connected ──► list(reply) ──► list ──► missing changes ──► frontier of it (= on disk there)
//!     own change ─────────────────────► changes ──────────► frontier
//!     every 10 s ── summary ── differs ──► list(reply) …
//! ```
//! Every message may be lost: changes that stay unacknowledged are repeated with growing waits, and
//! the summaries find whatever else is missing, whoever wrote it, so two peers that cannot talk are
//! repaired by a third. Acknowledgements stay valid when a peer disconnects: they say what is on
//! its disk.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::codec;
use mesh_base::digest::Digest;
use mesh_base::identity::{NodeId, OrgId};
use mesh_base::time::Moment;
use mesh_ledger::document::{DocId, Frontier};
use mesh_ledger::ledger::Ledger;

use crate::limits::{
    DELTA_MAX, LIST_INTERVAL, LISTS_MAX, RESEND_WAIT, RESEND_WAIT_MAX, SUMMARY_INTERVAL,
};
use crate::message::{FRONTIERS_MAX, Message};

#[derive(Debug, Clone, Copy)]
struct Sent {
    seq: u64,
    next: Moment,
    wait: Duration,
}

#[derive(Debug)]
struct PeerState {
    org: OrgId,
    connected: bool,
    synced: bool,
    acked: BTreeMap<DocId, u64>,
    sent: BTreeMap<DocId, Sent>,
    list_next: Moment,
    summary_next: Moment,
    /// Complete lists heard since then.
    heard: (u32, Moment),
}

/// The replication machine. It only decides; the node sends what it returns, after the journal.
#[derive(Debug)]
pub struct Replication {
    own_org: OrgId,
    peers: BTreeMap<NodeId, PeerState>,
}

impl Replication {
    /// Starts without peers.
    pub fn new(own_org: OrgId) -> Self {
        Self {
            own_org,
            peers: BTreeMap::new(),
        }
    }

    /// Notes a connection; returns what to say first.
    pub fn handle_connected(
        &mut self,
        peer: NodeId,
        org: OrgId,
        ledger: &Ledger,
        now: Moment,
    ) -> Vec<Message> {
        let state = self.peers.entry(peer).or_insert_with(|| PeerState {
            org,
            connected: true,
            synced: false,
            acked: BTreeMap::new(),
            sent: BTreeMap::new(),
            list_next: now,
            summary_next: now,
            heard: (0, now),
        });
        state.connected = true;
        state.synced = false;
        state.sent.clear();
        state.list_next = now + LIST_INTERVAL;
        state.summary_next = now + SUMMARY_INTERVAL;
        lists(ledger, self.own_org, org, true)
    }

    /// Notes the end of a connection; what the peer acknowledged stays known.
    pub fn handle_disconnected(&mut self, peer: &NodeId) {
        if let Some(state) = self.peers.get_mut(peer) {
            state.connected = false;
            state.synced = false;
            state.sent.clear();
        }
    }

    /// Notes what a peer has; returns what it lacks and what we lack.
    pub fn handle_frontiers(
        &mut self,
        peer: &NodeId,
        complete: bool,
        reply: bool,
        list: &[(DocId, Frontier)],
        ledger: &Ledger,
        now: Moment,
    ) -> Vec<Message> {
        let own_org = self.own_org;
        let Some(state) = self.peers.get_mut(peer) else {
            return Vec::new();
        };
        if complete && !state.may_list(now) {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut lacking = Vec::new();
        for (doc, theirs) in list.iter().take(FRONTIERS_MAX) {
            if !doc.may_read(&own_org) || !doc.may_read(&state.org) {
                continue;
            }
            let own = ledger.frontier(doc);
            let ours = own.map_or(0, |frontier| frontier.seq);
            // What we do not have we never send: to remember it would let a peer fill our memory.
            if own.is_some() {
                state.acked.insert(*doc, theirs.seq);
            }
            out.extend(fork(ledger, doc, theirs));
            if ours < theirs.seq && !ledger.is_frozen(doc) {
                lacking.push((*doc, own.unwrap_or_default()));
            }
            if complete {
                state.sent.remove(doc);
            }
        }
        if !lacking.is_empty() {
            out.push(Message::Frontiers {
                complete: false,
                reply: false,
                list: lacking,
            });
        }
        if complete {
            state.synced = true;
            state.summary_next = now + SUMMARY_INTERVAL;
            if list.len() < FRONTIERS_MAX {
                forget_unnamed(state, list);
            }
            if reply {
                out.extend(lists(ledger, own_org, state.org, false));
            }
            out.extend(proofs(ledger, state.org));
            let ours = shared(ledger, own_org, state.org);
            out.extend(missing(state, ours, ledger, now));
        } else {
            let named = list.iter().map(|(doc, _)| doc);
            let ours = named.filter(|doc| doc.may_read(&own_org) && doc.may_read(&state.org));
            let ours = ours
                .filter_map(|doc| Some((*doc, ledger.frontier(doc)?)))
                .collect();
            out.extend(missing(state, ours, ledger, now));
        }
        out
    }

    /// Compares a peer's summary with ours; returns our list if they differ.
    pub fn handle_summary(
        &mut self,
        peer: &NodeId,
        digest: Digest,
        ledger: &Ledger,
        now: Moment,
    ) -> Vec<Message> {
        let own_org = self.own_org;
        let Some(state) = self.peers.get_mut(peer) else {
            return Vec::new();
        };
        if summary(ledger, own_org, state.org) == digest || now < state.list_next {
            return Vec::new();
        }
        state.list_next = now + LIST_INTERVAL;
        lists(ledger, own_org, state.org, true)
    }

    /// Notes a new change of a document; returns the peers that should get it at once.
    pub fn handle_changed(&mut self, doc: &DocId, seq: u64, now: Moment) -> Vec<NodeId> {
        let mut out = Vec::new();
        for (peer, state) in &mut self.peers {
            if !state.connected || !state.synced || !doc.may_read(&state.org) {
                continue;
            }
            let sent = Sent {
                seq,
                next: now + RESEND_WAIT,
                wait: RESEND_WAIT,
            };
            state.sent.insert(*doc, sent);
            out.push(*peer);
        }
        out
    }

    /// Repeats what stayed unacknowledged and compares summaries; call on each tick.
    pub fn handle_tick(&mut self, ledger: &Ledger, now: Moment) -> Vec<(NodeId, Message)> {
        let own_org = self.own_org;
        let mut out = Vec::new();
        for (peer, state) in &mut self.peers {
            if !state.connected {
                continue;
            }
            if !state.synced {
                if state.list_next <= now {
                    state.list_next = now + LIST_INTERVAL;
                    out.extend(
                        lists(ledger, own_org, state.org, true)
                            .into_iter()
                            .map(|m| (*peer, m)),
                    );
                }
                continue;
            }
            if state.summary_next <= now {
                state.summary_next = now + SUMMARY_INTERVAL;
                let digest = summary(ledger, own_org, state.org);
                out.push((*peer, Message::Summary { digest }));
            }
            out.extend(
                resend(state, ledger, now)
                    .into_iter()
                    .map(|message| (*peer, message)),
            );
        }
        out
    }

    /// Returns how many peers have a document up to `seq` on their disks.
    pub fn copies(&self, doc: &DocId, seq: u64) -> usize {
        self.peers
            .values()
            .filter(|state| state.has(doc, seq))
            .count()
    }

    /// Returns whether a peer has a document up to `seq` on its disk.
    pub fn acked(&self, peer: &NodeId, doc: &DocId, seq: u64) -> bool {
        self.peers
            .get(peer)
            .is_some_and(|state| state.has(doc, seq))
    }

    /// Returns when the next repetition or summary is due.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.peers
            .values()
            .filter(|state| state.connected)
            .map(|state| {
                let own = if state.synced {
                    state.summary_next
                } else {
                    state.list_next
                };
                state
                    .sent
                    .values()
                    .map(|sent| sent.next)
                    .min()
                    .map_or(own, |next| next.min(own))
            })
            .min()
    }
}

impl PeerState {
    /// Whether another complete list is answered: each may make us send everything that we have.
    fn may_list(&mut self, now: Moment) -> bool {
        let (count, since) = &mut self.heard;
        if LIST_INTERVAL <= now.since(*since) {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        *count <= LISTS_MAX
    }

    fn has(&self, doc: &DocId, seq: u64) -> bool {
        self.acked.get(doc).is_some_and(|acked| seq <= *acked)
    }
}

/// Returns the digest over every document that both organisations may read, as far as we have it.
///
/// Frozen ones do not count: which of its writer's histories a replica has will differ for ever.
pub fn summary(ledger: &Ledger, own: OrgId, other: OrgId) -> Digest {
    let mut list = shared(ledger, own, other);
    list.retain(|(doc, _)| !ledger.is_frozen(doc));
    Digest::of(&codec::encode(&list))
}

fn shared(ledger: &Ledger, own: OrgId, other: OrgId) -> Vec<(DocId, Frontier)> {
    let mut list = ledger.frontiers_for(other);
    list.retain(|(doc, _)| doc.may_read(&own));
    list
}

/// The complete list. Beyond [`FRONTIERS_MAX`] documents it is cut, and the reader knows by its
/// length that what it leaves out need not be missing.
fn lists(ledger: &Ledger, own: OrgId, other: OrgId, reply: bool) -> Vec<Message> {
    let mut list = shared(ledger, own, other);
    list.truncate(FRONTIERS_MAX);
    vec![Message::Frontiers {
        complete: true,
        reply,
        list,
    }]
}

/// What to send a peer that is equally far and yet has another history: its writer has signed two,
/// and who gets the other one finds the proof in it.
fn fork(ledger: &Ledger, doc: &DocId, theirs: &Frontier) -> Option<Message> {
    let own = ledger.frontier(doc)?;
    let forked = own.seq == theirs.seq && own.head != theirs.head && !ledger.is_frozen(doc);
    if !forked {
        return None;
    }
    let last = ledger.since(doc, own.seq.saturating_sub(1), DELTA_MAX)?;
    Some(Message::Changes(Box::new(last)))
}

/// Lists are compared at the beginning and when something differs: it may be that the peer was away
/// when a proof was spread.
fn proofs(ledger: &Ledger, org: OrgId) -> impl Iterator<Item = Message> {
    let readable = ledger
        .proofs()
        .filter(move |proof| proof.one.doc.may_read(&org));
    readable.map(|proof| Message::Proof(Box::new(proof.clone())))
}

fn forget_unnamed(state: &mut PeerState, list: &[(DocId, Frontier)]) {
    let named: std::collections::BTreeSet<&DocId> = list.iter().map(|(doc, _)| doc).collect();
    state.acked.retain(|doc, _| named.contains(doc));
    state.sent.retain(|doc, _| named.contains(doc));
}

/// Sends what the peer's last word shows it lacks and what is not under way.
fn missing(
    state: &mut PeerState,
    ours: Vec<(DocId, Frontier)>,
    ledger: &Ledger,
    now: Moment,
) -> Vec<Message> {
    if !state.synced {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (doc, ours) in ours {
        let acked = state.acked.get(&doc).copied().unwrap_or(0);
        if ours.seq <= acked || ledger.is_frozen(&doc) {
            state.sent.remove(&doc);
            continue;
        }
        if state
            .sent
            .get(&doc)
            .is_some_and(|sent| now < sent.next && acked < sent.seq)
        {
            continue;
        }
        if let Some(delta) = ledger.since(&doc, acked, DELTA_MAX) {
            let sent = Sent {
                seq: ours.seq,
                next: now + RESEND_WAIT,
                wait: RESEND_WAIT,
            };
            state.sent.insert(doc, sent);
            out.push(Message::Changes(Box::new(delta)));
        }
    }
    out
}

fn resend(state: &mut PeerState, ledger: &Ledger, now: Moment) -> Vec<Message> {
    let mut out = Vec::new();
    let acked = &state.acked;
    state.sent.retain(|doc, _| !ledger.is_frozen(doc));
    for (doc, sent) in &mut state.sent {
        if now < sent.next {
            continue;
        }
        sent.wait = (sent.wait * 2).min(RESEND_WAIT_MAX);
        sent.next = now + sent.wait;
        let have = acked.get(doc).copied().unwrap_or(0);
        out.extend(
            ledger
                .since(doc, have, DELTA_MAX)
                .map(|delta| Message::Changes(Box::new(delta))),
        );
    }
    out
}
