//! Things named by their number, in the order in which they were made.
//!
//! Invariant: nothing is ever taken out, so a number that was handed out names something for ever.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A number that names a thing of one kind.
pub trait Number: Copy {
    /// Returns the name of the thing at a place.
    fn at(place: usize) -> Self;
    /// Returns the place.
    fn place(self) -> usize;
}

/// A simulated node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAt(pub u32);

/// A simulated wire between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WireAt(pub u32);

impl Number for NodeAt {
    fn at(place: usize) -> Self {
        Self(u32::try_from(place).unwrap_or(u32::MAX))
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

impl Number for WireAt {
    fn at(place: usize) -> Self {
        Self(u32::try_from(place).unwrap_or(u32::MAX))
    }

    fn place(self) -> usize {
        self.0 as usize
    }
}

/// Things of one kind.
#[derive(Debug)]
pub struct Arena<K, T> {
    things: Vec<T>,
    kind: PhantomData<K>,
}

impl<K: Number, T> Arena<K, T> {
    /// Returns an arena without things.
    pub fn new() -> Self {
        Self {
            things: Vec::new(),
            kind: PhantomData,
        }
    }

    /// Returns an arena of equal things.
    pub fn filled(thing: T, count: usize) -> Self
    where
        T: Clone,
    {
        Self {
            things: vec![thing; count],
            kind: PhantomData,
        }
    }

    /// Adds a thing and returns its number.
    pub fn push(&mut self, thing: T) -> K {
        self.things.push(thing);
        K::at(self.things.len() - 1)
    }

    /// Returns every number.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = K> + use<K, T> {
        (0..self.things.len()).map(K::at)
    }

    /// Returns every thing.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.things.iter()
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.things.len()
    }
}

impl<K: Number, T> Index<K> for Arena<K, T> {
    type Output = T;

    fn index(&self, number: K) -> &T {
        // Proof: see the invariant of this file.
        let thing = self.things.get(number.place());
        thing.expect("a number that was handed out names something")
    }
}

impl<K: Number, T> IndexMut<K> for Arena<K, T> {
    fn index_mut(&mut self, number: K) -> &mut T {
        // Proof: see the invariant of this file.
        let thing = self.things.get_mut(number.place());
        thing.expect("a number that was handed out names something")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_names_what_was_pushed() {
        let mut arena = Arena::new();
        let names: Vec<WireAt> = "abc".chars().map(|letter| arena.push(letter)).collect();
        assert_eq!(
            names.iter().map(|name| arena[*name]).collect::<String>(),
            "abc"
        );
        assert_eq!(arena.numbers().collect::<Vec<_>>(), names);
        arena[WireAt(1)] = 'x';
        assert_eq!(arena.iter().collect::<String>(), "axc");
    }
}
