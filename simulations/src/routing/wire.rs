//! A wire: one tunnel between two nodes, what the weather does to it, and since when it is sound.
//!
//! ```text
//!   told:   lower ─► both links go down at once            raise ─► both come up
//!   silent: cut   ─► nothing arrives from one end, nobody is told
//! ```
//! A node that restarts has no session: what was meant for its life before cannot be opened, and
//! whoever hears of its new life knows it by that. Invariant: `disturbed_at` is the last moment at
//! which anything about the wire or its ends changed.

use std::ops::{Index, IndexMut};
use std::time::Duration;

use mesh_base::time::Moment;

use super::arena::NodeAt;
use crate::chance::Chance;

/// A wire that loses more, of a thousand, is no way that must survive.
pub const SOUND_LOSS: u64 = 100;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one with the lower number.
    Near,
    /// The other.
    Far,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// Returns the other one.
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// Something at each end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ends<T> {
    near: T,
    far: T,
}

impl<T> Ends<T> {
    /// Returns what is at the near and at the far end.
    pub fn new(near: T, far: T) -> Self {
        Self { near, far }
    }
}

impl<T> Index<Side> for Ends<T> {
    type Output = T;

    fn index(&self, side: Side) -> &T {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }
}

impl<T> IndexMut<Side> for Ends<T> {
    fn index_mut(&mut self, side: Side) -> &mut T {
        match side {
            Side::Near => &mut self.near,
            Side::Far => &mut self.far,
        }
    }
}

/// What the weather does to packets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Of a thousand packets so many are lost.
    pub loss: u64,
    /// So many arrive twice.
    pub twice: u64,
    /// How much longer than the delay a packet may take; packets change places.
    pub jitter: Duration,
    /// How much longer every packet takes.
    pub detour: Duration,
}

/// A tunnel between two nodes.
#[derive(Debug)]
pub struct Wire {
    /// Who is at which end.
    pub nodes: Ends<NodeAt>,
    /// The least time that a packet takes.
    pub delay: Duration,
    /// What the weather does.
    pub weather: Weather,
    /// Whether nothing arrives that this end sends.
    pub cut: Ends<bool>,
    /// Whether both links are up.
    pub is_up: bool,
    /// Packets of before it was up do not arrive.
    pub session: u32,
    /// Which life of its peer each end has a session with; zero for none.
    pub heard: Ends<u32>,
    /// Whether a shell tells its speaker that a session began anew, or the speaker finds out.
    pub is_told: bool,
    /// When the latest packet from each end arrives, of those that are on their way or were.
    pub newest: Ends<Moment>,
    /// When anything about it changed.
    pub disturbed_at: Moment,
}

impl Wire {
    /// Returns a wire that is down.
    pub fn new(near: NodeAt, far: NodeAt, delay: Duration) -> Self {
        Self {
            nodes: Ends::new(near, far),
            delay,
            weather: Weather::default(),
            cut: Ends::default(),
            is_up: false,
            session: 0,
            heard: Ends::default(),
            is_told: false,
            newest: Ends::default(),
            disturbed_at: Moment(0),
        }
    }

    /// Returns at which end a node is.
    pub fn side(&self, node: NodeAt) -> Side {
        if self.nodes[Side::Near] == node {
            Side::Near
        } else {
            Side::Far
        }
    }

    /// Returns who is at the other end.
    pub fn peer(&self, node: NodeAt) -> NodeAt {
        self.nodes[self.side(node).other()]
    }

    /// Returns whether packets get through both ways, but for a few.
    pub fn is_sound(&self) -> bool {
        let cut = self.cut[Side::Near] || self.cut[Side::Far];
        self.is_up && !cut && self.weather.loss <= SOUND_LOSS
    }

    /// Draws how long a packet takes.
    pub fn time(&self, chance: &mut Chance) -> Duration {
        self.delay + self.weather.detour + chance.span(Duration::ZERO, self.weather.jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_that_is_cut_or_loses_much_is_not_sound() {
        let mut wire = Wire::new(NodeAt(1), NodeAt(2), Duration::ZERO);
        assert!(!wire.is_sound());
        wire.is_up = true;
        assert!(wire.is_sound());
        wire.weather.loss = SOUND_LOSS + 1;
        assert!(!wire.is_sound());
        wire.weather.loss = 0;
        wire.cut[Side::Far] = true;
        assert!(!wire.is_sound());
    }

    #[test]
    fn peer_is_who_is_at_the_other_end() {
        let wire = Wire::new(NodeAt(1), NodeAt(2), Duration::ZERO);
        assert_eq!(
            (wire.peer(NodeAt(1)), wire.peer(NodeAt(2))),
            (NodeAt(2), NodeAt(1))
        );
    }
}
