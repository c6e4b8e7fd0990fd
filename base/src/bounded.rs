//! Queues with a limit: what a peer can fill has an end, and what happens there is said by the
//! caller.

use std::collections::VecDeque;

/// A first-in first-out queue that refuses the new when it is full.
#[derive(Debug, Clone)]
pub struct Queue<T> {
    items: VecDeque<T>,
    len_max: usize,
}

impl<T> Queue<T> {
    /// Returns an empty queue that holds at most `len_max` items.
    pub fn new(len_max: usize) -> Self {
        Self {
            items: VecDeque::new(),
            len_max,
        }
    }

    /// Puts an item at the end; gives it back if the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.len_max <= self.items.len() {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Returns how many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queue_refuses_the_new_and_keeps_the_old() {
        let mut queue = Queue::new(2);
        assert_eq!(
            (queue.push(1), queue.push(2), queue.push(3)),
            (Ok(()), Ok(()), Err(3))
        );
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(1), Some(2), None)
        );
    }
}
