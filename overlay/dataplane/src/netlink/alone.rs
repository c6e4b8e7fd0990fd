//! A network namespace of a test's own, and the tool that changes it.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Does work in a network of its own, which ends with it. Without root nothing is done: a thread
/// cannot enter a user namespace, and namespaces are then for the tests of whole programs.
pub fn alone(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let root = nix::unistd::geteuid().is_root();
        if root && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
            work();
        }
    });
    thread.join().unwrap();
}

/// Runs ip(8).
#[track_caller]
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}
