//! Ordinary interfaces as links of a Babel speaker: a local network with babeld, BIRD or the like.
//!
//! ```text
//!   rtnetlink ──► Interfaces ──► Lans::refresh ──► Change::Up / Down ──► the speaker's links
//!                                    │
//!   UDP 6696, ff02::1:6 ◄──────► Socket ◄──► MacMachine ──► Heard ──► the speaker
//!                                                                       │ routes
//!   the kernel's routing table ◄────────────── Ways ◄───────────────────┘
//! ```
//! | room | idea |
//! |---|---|
//! | [`interface`] | what the kernel says about a named interface |
//! | [`socket`] | datagrams of one interface, authenticated if there are keys |
//! | [`ways`] | our routes in the kernel's table |
//!
//! Decides nothing about routes. Invariant: there is a socket for exactly the interfaces that can
//! be used, and it speaks from the address that they have now.

pub mod interface;
pub mod socket;
pub mod ways;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use mesh_base::time::Now;
use mesh_routing::babel::mac::key::Keys;

use self::interface::{Interfaces, State, Usable};
use self::socket::{Heard, Socket};

/// An interface that should carry Babel.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name, as `ip link` shows it.
    pub name: String,
    /// Keys, if packets there are authenticated.
    pub keys: Option<Keys>,
}

/// What became of an interface; named by its place in the list of those that are wanted.
#[derive(Debug)]
pub enum Change {
    /// It can be used.
    Up(usize, Usable),
    /// It can no longer.
    Down(usize, Usable),
    /// There is none of that name; said once until there is.
    Missing(usize),
    /// It could be used, and we cannot; tried again when something changes.
    Refused(usize, io::Error),
}

/// The interfaces that are wanted.
#[derive(Debug)]
pub struct Lans {
    interfaces: Interfaces,
    places: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    wanted: Wanted,
    socket: Option<Socket>,
    is_missing: bool,
}

impl Lans {
    /// Watches interfaces of the network namespace that we are in.
    pub fn open(wanted: Vec<Wanted>) -> io::Result<Self> {
        let places = wanted.into_iter().map(|wanted| Place {
            wanted,
            socket: None,
            is_missing: false,
        });
        Ok(Self {
            interfaces: Interfaces::open()?,
            places: places.collect(),
        })
    }

    /// Looks at every interface and returns what changed.
    pub fn refresh(&mut self) -> Vec<Change> {
        self.interfaces.drain();
        let mut changes = Vec::new();
        for (at, place) in self.places.iter_mut().enumerate() {
            let state = self.interfaces.state(&place.wanted.name);
            // What the kernel will not tell is no reason to give a link up.
            let Ok(state) = state else {
                continue;
            };
            place.take(at, state, &mut changes);
        }
        changes
    }

    /// Returns how many interfaces are wanted.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns whether none is wanted.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns the name of an interface.
    pub fn name(&self, at: usize) -> &str {
        self.places.get(at).map_or("", |place| &place.wanted.name)
    }

    /// Returns the socket of an interface that can be used.
    pub fn socket(&mut self, at: usize) -> Option<&mut Socket> {
        self.places.get_mut(at)?.socket.as_mut()
    }

    /// Returns the next datagram that waits at any interface, and at which.
    pub fn receive(&mut self, now: Now) -> Option<(usize, Heard)> {
        self.places.iter_mut().enumerate().find_map(|(at, place)| {
            let heard = place.socket.as_mut()?.receive(now)?;
            Some((at, heard))
        })
    }

    /// Returns what becomes readable when there is something to do: news, then datagrams.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let sockets = self.places.iter().filter_map(|place| place.socket.as_ref());
        std::iter::once(self.interfaces.as_fd()).chain(sockets.map(AsFd::as_fd))
    }
}

impl Place {
    fn take(&mut self, at: usize, state: State, changes: &mut Vec<Change>) {
        let now = match state {
            State::Up(usable) => Some(usable),
            State::Unknown | State::Down => None,
        };
        let before = self.socket.as_ref().map(Socket::usable);
        if let Some(before) = before.filter(|before| now != Some(*before)) {
            self.socket = None;
            changes.push(Change::Down(at, before));
        }
        if state == State::Unknown && !self.is_missing {
            changes.push(Change::Missing(at));
        }
        self.is_missing = state == State::Unknown;
        let (Some(usable), None) = (now, &self.socket) else {
            return;
        };
        match Socket::open(&self.wanted, usable) {
            Ok(socket) => {
                self.socket = Some(socket);
                changes.push(Change::Up(at, usable));
            }
            Err(error) => changes.push(Change::Refused(at, error)),
        }
    }
}
