//! Looks at handshake messages before anybody opens them, the cheapest test first.
//!
//! ```text
//!   shape ─► mac1: does it know our key? ─► mac2: our cookie? ─► Handshakes ─┬► open
//!    ns        0.3 µs                        none: ns; else 2 µs             └► cookie or nothing
//! ```
//! Opening takes a key exchange, 40 µs and more. How much may be opened or answered is decided by
//! [`Handshakes`]; here are the hashes, which are boringtun's: one of its rate limiters never asks
//! for a cookie and so looks at mac1 only, another always asks and so looks at both. Its own
//! counting is of no use to us: after a hundred of anybody's junk in a second, everybody has to
//! prove himself, and all the junk is answered, at 2 µs and a datagram each.

use std::net::IpAddr;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet as Message, TunnResult};
use mesh_base::time::Moment;
use mesh_routing::handshakes::{Handshake, Handshakes, Proof, Reply, Standing};
use mesh_routing::table::DropReason;

use crate::session::Local;

/// Length of mac2, with which a handshake message ends; zeros mean that there is none.
const MAC2_LEN: usize = 16;

/// What came of a look.
pub enum Looked<'datagram, 'out> {
    /// It may be opened.
    Open(Message<'datagram>),
    /// This is to be sent back.
    Cookie(&'out [u8]),
}

/// Stands before the handshakes of one data plane.
pub struct Guard {
    mac1: RateLimiter,
    both: RateLimiter,
    handshakes: Handshakes,
}

impl Guard {
    /// Makes the guard of whoever has this half of all sessions.
    pub fn new(local: &Local) -> Self {
        Self {
            mac1: local.limiter(u64::MAX),
            both: local.limiter(0),
            handshakes: Handshakes::new(local.draw()),
        }
    }

    /// Notes that something came from there that only a peer can make.
    pub fn note_peer(&mut self, address: IpAddr) {
        self.handshakes.handle_proven(address);
    }

    /// Looks at an initiation or a response. Whether a peer is expected at `from` is asked only of
    /// what knows our key.
    pub fn look<'datagram, 'out>(
        &mut self,
        datagram: &'datagram [u8],
        from: IpAddr,
        is_expected: impl FnOnce() -> bool,
        out: &'out mut [u8],
        now: Moment,
    ) -> Result<Looked<'datagram, 'out>, DropReason> {
        let stranger = DropReason::Stranger;
        let checked = self.mac1.verify_packet(None, datagram, out);
        let message = checked.map_err(|_| stranger)?;
        let standing = match is_expected() {
            true => Standing::Known,
            false => Standing::Stranger,
        };
        let handshake = Handshake {
            address: from,
            standing,
            proof: self.proof(datagram, from, out),
        };
        match self.handshakes.handle_handshake(handshake, now) {
            Reply::Open => Ok(Looked::Open(message)),
            Reply::Ignore => Err(DropReason::Congested),
            Reply::Prove => match self.both.verify_packet(Some(from), datagram, out) {
                Err(TunnResult::WriteToNetwork(cookie)) => Ok(Looked::Cookie(cookie)),
                _ => Err(stranger),
            },
        }
    }

    fn proof(&self, datagram: &[u8], from: IpAddr, out: &mut [u8]) -> Proof {
        let mac2 = datagram.last_chunk::<MAC2_LEN>();
        if mac2.is_none_or(|mac2| *mac2 == [0; MAC2_LEN]) {
            return Proof::Nothing;
        }
        match self.both.verify_packet(Some(from), datagram, out) {
            Ok(_) => Proof::Cookie,
            Err(_) => Proof::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_routing::limits::HANDSHAKES_PER_PLACE;

    use super::*;
    use crate::session::{INITIATION_LEN, Opened, Session as _, WireGuard};

    const NOW: Moment = Moment(1_000_000_000);

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// An initiator, and the guard of whom it calls.
    fn ends() -> (WireGuard, Guard) {
        let (alice, bob) = (Local::new([1; 32]), Local::new([2; 32]));
        let session = WireGuard::new(&alice, bob.public().to_bytes(), 1);
        (session, Guard::new(&bob))
    }

    fn initiation(session: &mut WireGuard) -> [u8; INITIATION_LEN] {
        let mut datagram = [0; INITIATION_LEN];
        session.initiate(&mut datagram).unwrap();
        datagram
    }

    /// Returns the cookie, if one is asked for.
    fn look(guard: &mut Guard, bytes: &[u8], from: IpAddr) -> Result<Option<Vec<u8>>, DropReason> {
        let mut out = [0; 256];
        match guard.look(bytes, from, || false, &mut out, NOW)? {
            Looked::Open(_) => Ok(None),
            Looked::Cookie(cookie) => Ok(Some(cookie.to_vec())),
        }
    }

    /// Repeats one until it is not opened any more; returns the cookie that came then.
    fn exhaust(guard: &mut Guard, datagram: &[u8], from: IpAddr) -> Vec<u8> {
        let cookie = (0..1000).find_map(|_| look(guard, datagram, from).unwrap());
        cookie.expect("it does not open whatever comes")
    }

    #[test]
    fn who_does_not_know_our_key_is_a_stranger_and_takes_no_room() {
        let (mut session, mut guard) = ends();
        let right = initiation(&mut session);
        let mut wrong = right;
        wrong[120] ^= 1;
        for _ in 0..10_000 {
            let looked = look(&mut guard, &wrong, address(1));
            assert_eq!(looked, Err(DropReason::Stranger));
        }
        assert_eq!(look(&mut guard, &right, address(1)), Ok(None));
    }

    #[test]
    fn who_comes_back_with_its_cookie_is_opened_and_only_from_its_address() {
        let (mut session, mut guard) = ends();
        let datagram = initiation(&mut session);
        let cookie = exhaust(&mut guard, &datagram, address(1));
        let opened = session.open(&cookie, &mut [0; 256]);
        assert_eq!(opened, Ok(Opened::Cookie));
        let again = initiation(&mut session);
        assert_eq!(look(&mut guard, &again, address(1)), Ok(None));
        assert_ne!(look(&mut guard, &again, address(2)), Ok(None), "elsewhere");
    }

    #[test]
    fn junk_that_looks_like_a_cookie_proves_nothing_and_answers_have_a_limit() {
        let (mut session, mut guard) = ends();
        let mut datagram = initiation(&mut session);
        datagram[INITIATION_LEN - MAC2_LEN..].fill(7);
        exhaust(&mut guard, &datagram, address(1));
        let mut answered = 0;
        for _ in 0..10_000 {
            let looked = look(&mut guard, &datagram, address(1));
            assert_ne!(looked, Ok(None), "it is not opened");
            answered += u64::from(looked.is_ok());
        }
        assert!(answered <= HANDSHAKES_PER_PLACE, "{answered}");
    }
}
