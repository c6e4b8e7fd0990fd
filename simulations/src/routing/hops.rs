//! What every node forwards by: for each destination the wire over which each node sends.
//!
//! Kept by destination, for walks and looks at one destination touch one row.

use super::arena::{NodeAt, Number, WireAt};

const NONE: u32 = u32::MAX;

/// Next hops of all nodes to all nodes.
#[derive(Debug)]
pub struct Hops {
    count: usize,
    wires: Vec<u32>,
}

impl Hops {
    /// Returns the hops of nodes that know nobody.
    pub fn new(count: usize) -> Self {
        Self {
            count,
            wires: vec![NONE; count * count],
        }
    }

    /// Returns over which wire a node sends.
    pub fn get(&self, from: NodeAt, to: NodeAt) -> Option<WireAt> {
        let wire = self.wires.get(self.place(from, to)).copied();
        wire.filter(|wire| *wire != NONE).map(WireAt)
    }

    /// Notes over which wire a node sends.
    pub fn set(&mut self, from: NodeAt, to: NodeAt, via: Option<WireAt>) {
        let place = self.place(from, to);
        if let Some(wire) = self.wires.get_mut(place) {
            *wire = via.map_or(NONE, |wire| wire.0);
        }
    }

    /// Notes that a node sends nothing any more.
    pub fn forget(&mut self, from: NodeAt) {
        for to in 0..self.count {
            self.set(from, NodeAt::at(to), None);
        }
    }

    fn place(&self, from: NodeAt, to: NodeAt) -> usize {
        to.place() * self.count + from.place()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_node_sends_nothing_and_others_do() {
        let mut hops = Hops::new(3);
        let (a, b, c) = (NodeAt(0), NodeAt(1), NodeAt(2));
        hops.set(a, c, Some(WireAt(7)));
        hops.set(b, c, Some(WireAt(8)));
        hops.forget(a);
        assert_eq!((hops.get(a, c), hops.get(b, c)), (None, Some(WireAt(8))));
        assert_eq!(hops.get(c, b), None);
    }
}
