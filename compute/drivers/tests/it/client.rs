//! A neighbour at the other end of an instance's TUN: asks the database as a customer would.
//!
//! Runs as a process of its own, in a network namespace of its own, with the instance's TUN as its
//! standard input; carries packets between the two TUNs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Asks the database behind a TUN; returns what psql printed.
pub fn ask(tun: OwnedFd, tree: &Path, url: &str, sql: &str) -> Result<String, String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("client")
        .arg(tree)
        .args([url, sql])
        .stdin(Stdio::from(tun));
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The process.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let [tree, url, sql] = arguments.as_slice() else {
        panic!("tree, url, sql")
    };
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).unwrap();
    std::fs::write("/proc/self/setgroups", "deny").unwrap();
    std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).unwrap();
    std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).unwrap();
    let ours: File = mesh_drivers::tun::make("fd73::1".parse().unwrap())
        .unwrap()
        .into();
    let theirs: File = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .unwrap()
        .into();
    for (from, to) in [(&ours, &theirs), (&theirs, &ours)] {
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        std::thread::spawn(move || carry(from, to));
    }
    let tree = Path::new(tree);
    let mut psql = Command::new(tree.join("lib64/ld-linux-x86-64.so.2"));
    psql.arg("--library-path")
        .arg(tree.join("usr/lib/x86_64-linux-gnu"));
    psql.arg(tree.join("usr/lib/postgresql/15/bin/psql"));
    psql.args(["-XAtqc".as_ref(), sql.as_os_str(), url.as_os_str()]);
    psql.env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null());
    if psql.status().unwrap().success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn carry(mut from: File, mut to: File) {
    let mut packet = [0; 2048];
    while let Ok(len) = from.read(&mut packet) {
        let _ = to.write(&packet[..len]);
    }
}
