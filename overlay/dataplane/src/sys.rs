//! Small things that the standard library lacks: locks after a panic, jitter, wakers, descriptors.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Locks; a panic of another thread leaves counters and tables that are whole, so we go on.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a number that differs from call to call; for spreading load, not for secrets.
pub fn scatter() -> u64 {
    RandomState::new().hash_one(0u8)
}

/// Returns a duration below `max`.
pub fn jitter(max: Duration) -> Duration {
    let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(scatter() % micros)
}

/// Makes reads and writes of a descriptor return at once.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Wakes a thread that polls.
#[derive(Debug)]
pub struct Waker(EventFd);

impl Waker {
    /// Makes a waker that has not been used.
    pub fn new() -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self(EventFd::from_flags(flags)?))
    }

    /// Wakes whoever polls it.
    pub fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake anyway.
        let _ = self.0.write(1);
    }

    /// Takes note of having been woken.
    pub fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
