//! The namespace helper without the daemon around it, and an echo service inside such a namespace:
//! for tests and for trying things out.
//!
//! `mesh-netns netns` is the helper. `mesh-netns echo PID` enters the namespaces of process PID,
//! prints a TCP port of `[::]` there and sends back whatever arrives on it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

use nix::sched::{CloneFlags, setns};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["netns"] => return mesh_dataplane::netns::helper_main(),
        ["echo", pid] => echo(pid),
        _ => Err(io::Error::other(
            "usage: mesh-netns netns | mesh-netns echo PID",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "mesh-netns: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(pid: &str) -> io::Result<()> {
    let user = File::open(format!("/proc/{pid}/ns/user"))?;
    let net = File::open(format!("/proc/{pid}/ns/net"))?;
    // Refused if we are in it already, as root without a user namespace is.
    let _ = setns(user, CloneFlags::CLONE_NEWUSER);
    setns(net, CloneFlags::CLONE_NEWNET)?;
    let listener = TcpListener::bind("[::]:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || send_back(stream));
    }
    Ok(())
}

fn send_back(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = stream.read(&mut buffer)?;
        match buffer.get(..len) {
            Some([]) | None => return Ok(()),
            Some(bytes) => stream.write_all(bytes)?,
        }
    }
}
