//! A program that knows no proxy comes through one: a port of a home whose connections are led to a
//! place in the mesh by SOCKS or by HTTP's CONNECT.
//!
//! Written from the standards and not with the product's own code, so that both cannot be wrong in
//! the same way. Names are left to the proxy.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::Pid;

use crate::inside::inside;

/// Longest wait for the proxy.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// SOCKS 5, with a name (RFC 1928).
    Socks(SocketAddr),
    /// HTTP, CONNECT (RFC 9110, 9.3.6).
    Http(SocketAddr),
}

/// Opens a port on 127.0.0.1 of the home of `machine` that leads to `name`:`port`. Returns it. It
/// serves until the test ends.
///
/// # Errors
/// The home cannot be entered.
pub fn open(machine: Pid, proxy: Proxy, name: &str, port: u16) -> anyhow::Result<u16> {
    let listener = inside(machine, || {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port")
    })?;
    let local = listener.local_addr()?.port();
    let name = name.to_owned();
    thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let name = name.clone();
            thread::spawn(move || {
                // Its client sees a closed connection.
                if let Err(error) = lead(machine, proxy, &name, port, client) {
                    println!("a proxy refused: {error:#}");
                }
            });
        }
    });
    Ok(local)
}

fn lead(
    machine: Pid,
    proxy: Proxy,
    name: &str,
    port: u16,
    client: TcpStream,
) -> anyhow::Result<()> {
    let (Proxy::Socks(at) | Proxy::Http(at)) = proxy;
    let mut server = inside(machine, || TcpStream::connect(at).context("no proxy"))?;
    server.set_read_timeout(Some(PATIENCE))?;
    match proxy {
        Proxy::Socks(_) => socks(&mut server, name, port)?,
        Proxy::Http(_) => connect(&mut server, name, port)?,
    }
    server.set_read_timeout(None)?;
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    let upward = thread::spawn(move || copy(up.0, up.1));
    copy(down.0, down.1)?;
    let _ = upward.join();
    Ok(())
}

fn socks(server: &mut TcpStream, name: &str, port: u16) -> anyhow::Result<()> {
    server.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    server.read_exact(&mut method)?;
    ensure!(method == [5, 0], "the proxy wants {method:?}");
    let len = u8::try_from(name.len())?;
    let request = [&[5, 1, 0, 3, len], name.as_bytes(), &port.to_be_bytes()];
    server.write_all(&request.concat())?;
    let mut reply = [0; 10];
    server.read_exact(&mut reply)?;
    ensure!(reply.starts_with(&[5, 0]), "the proxy replied {reply:?}");
    Ok(())
}

fn connect(server: &mut TcpStream, name: &str, port: u16) -> anyhow::Result<()> {
    write!(
        server,
        "CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        server.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(
        head.starts_with("HTTP/1.1 200 "),
        "the proxy answered {head}"
    );
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}
