//! Authentication on one interface: seals what goes out, opens what comes in, challenges.
//!
//! Leaves sending to the caller: challenges and answers wait in [`MacMachine::poll_answer`] as
//! packets that are sealed like every other. Knows nothing about routes.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv6Addr;

use mesh_base::time::{Moment, Now};
use rand_core::CryptoRng;

use super::frame::{self, Said};
use super::key::{Keys, Path};
use super::limits::{ANSWERS_MAX, NEIGHBOURS_MAX, SILENCE_MAX};
use super::neighbour::{Freshness, Neighbour, Nonce, Way};
use crate::babel::wire::{HEADER_LEN, kind, reader};

/// Length of the index under which we count.
const INDEX_LEN: usize = 8;

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// It is no packet of Babel.
    Malformed,
    /// It has no MAC.
    Unsigned,
    /// No MAC is one of ours.
    WrongKey,
    /// It does not count itself.
    Uncounted,
    /// It counts under an index that the sender has not proven; the sender is challenged.
    Unproven,
    /// It was taken before, or is too old to tell.
    Replayed,
    /// There is no room for another neighbour.
    Crowded,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// A neighbour sent it, and it was not taken before.
    Accept,
    /// It must not be read.
    Drop(Dropped),
}

/// A packet that authentication wants to send; to be sealed, and sent to one neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The neighbour.
    pub to: Ipv6Addr,
    /// Header and body.
    pub packet: Vec<u8>,
}

/// The authentication of one interface.
///
/// Call [`MacMachine::open`] for each packet that came and [`MacMachine::seal`] for each that goes,
/// in the order in which they go; take [`MacMachine::poll_answer`] until it is none after each
/// `open`.
/// Invariant: a packet is accepted at most once, and only from who answered a challenge of ours.
#[derive(Debug)]
pub struct MacMachine {
    keys: Keys,
    index: [u8; INDEX_LEN],
    /// How many packets were sealed under the index.
    counter: u32,
    neighbours: BTreeMap<Ipv6Addr, Neighbour>,
    answers: VecDeque<Answer>,
    dropped: BTreeMap<Dropped, u64>,
}

impl MacMachine {
    /// Begins under a new index.
    pub fn new(keys: Keys, rng: &mut impl CryptoRng) -> Self {
        Self {
            keys,
            index: draw(rng),
            counter: 0,
            neighbours: BTreeMap::new(),
            answers: VecDeque::new(),
            dropped: BTreeMap::new(),
        }
    }

    /// Judges a packet that came.
    pub fn open(
        &mut self,
        payload: &[u8],
        path: Path,
        now: Now,
        rng: &mut impl CryptoRng,
    ) -> Verdict {
        match self.judge(payload, path, now.mono, rng) {
            Ok(()) => Verdict::Accept,
            Err(reason) => {
                let count = self.dropped.entry(reason).or_default();
                *count = count.saturating_add(1);
                Verdict::Drop(reason)
            }
        }
    }

    /// Takes other keys; neighbours stay believed.
    pub fn change_keys(&mut self, keys: Keys) {
        self.keys = keys;
    }

    /// Counts and signs a packet of header and body, as a writer finishes it (RFC 8967, §4.2).
    pub fn seal(&mut self, mut packet: Vec<u8>, path: Path, rng: &mut impl CryptoRng) -> Vec<u8> {
        let Some(counter) = self.counter.checked_add(1) else {
            // All counters of this index are used up; neighbours will challenge us once.
            self.index = draw(rng);
            self.counter = 0;
            return self.seal(packet, path, rng);
        };
        self.counter = counter;
        frame::append_counter(&mut packet, counter, self.index);
        self.keys.seal(kind::MAC, path, packet)
    }

    /// Returns the next challenge or answer to send.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// Returns how many bytes [`MacMachine::seal`] adds to a packet.
    pub fn overhead(&self) -> usize {
        frame::counter_len(INDEX_LEN) + self.keys.trailer_len()
    }

    /// Returns how often packets were not taken, by reason.
    pub fn dropped(&self) -> &BTreeMap<Dropped, u64> {
        &self.dropped
    }

    /// Returns how many neighbours are remembered.
    pub fn neighbour_count(&self) -> usize {
        self.neighbours.len()
    }

    /// The whole of RFC 8967, §4.3, in its order.
    fn judge(
        &mut self,
        payload: &[u8],
        path: Path,
        now: Moment,
        rng: &mut impl CryptoRng,
    ) -> Result<(), Dropped> {
        let packet = reader::split(payload).map_err(|_| Dropped::Malformed)?;
        let tags = frame::tags(packet.trailer);
        if tags.clone().next().is_none() {
            return Err(Dropped::Unsigned);
        }
        let signed = payload.get(..HEADER_LEN + packet.body.len());
        if !signed.is_some_and(|signed| self.keys.verify(path, signed, tags)) {
            return Err(Dropped::WrongKey);
        }
        let known = self.neighbours.get(&path.source);
        let nonce = known.and_then(|known| known.nonce(now));
        let said = Said::read(packet.body, nonce.as_ref().map(Nonce::as_slice));
        let (counter, index) = said.counter.ok_or(Dropped::Uncounted)?;

        let way = if path.destination.is_multicast() {
            Way::Multicast
        } else {
            Way::Unicast
        };
        let neighbour = entry(&mut self.neighbours, path.source, now)?;
        let freshness = if said.answered {
            neighbour.prove(counter, index);
            Freshness::Fresh
        } else {
            neighbour.take(counter, index, way)
        };
        if freshness == Freshness::Old {
            return Err(Dropped::Replayed);
        }
        // Whoever lost its memory must be answered before it is believed, or two that did would
        // wait for each other.
        let challenge = said.challenge.filter(|_| way == Way::Unicast);
        if let Some(nonce) = challenge.filter(|_| neighbour.may_answer(now)) {
            let packet = frame::packet(kind::CHALLENGE_REPLY, nonce);
            push(&mut self.answers, path.source, packet);
        }
        if freshness == Freshness::Fresh {
            neighbour.heard = now;
            return Ok(());
        }
        if let Some(nonce) = neighbour.challenge(now, || draw(rng)) {
            let packet = frame::packet(kind::CHALLENGE_REQUEST, &nonce);
            push(&mut self.answers, path.source, packet);
        }
        Err(Dropped::Unproven)
    }
}

/// Returns what is remembered of a neighbour, making room for it if it is new.
fn entry(
    neighbours: &mut BTreeMap<Ipv6Addr, Neighbour>,
    source: Ipv6Addr,
    now: Moment,
) -> Result<&mut Neighbour, Dropped> {
    if !neighbours.contains_key(&source) && NEIGHBOURS_MAX <= neighbours.len() {
        // Old packets of many senders, played again, must not push out who is alive.
        let idle = neighbours.iter().filter(|(_, neighbour)| {
            !neighbour.is_proven() || SILENCE_MAX <= now.since(neighbour.heard)
        });
        let first = idle.min_by_key(|(_, neighbour)| (neighbour.is_proven(), neighbour.heard));
        let address = first.map(|(address, _)| *address).ok_or(Dropped::Crowded)?;
        neighbours.remove(&address);
    }
    let entry = neighbours.entry(source);
    Ok(entry.or_insert_with(|| Neighbour::new(now)))
}

fn push(answers: &mut VecDeque<Answer>, to: Ipv6Addr, packet: Vec<u8>) {
    // Who does not take them loses the newest; the neighbour will ask again.
    if answers.len() < ANSWERS_MAX {
        answers.push_back(Answer { to, packet });
    }
}

fn draw<const N: usize>(rng: &mut impl CryptoRng) -> [u8; N] {
    let mut bytes = [0; N];
    rng.fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests;
