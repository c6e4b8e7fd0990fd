//! Sockets that carry one JSON message at a time, with a descriptor if needed.
//!
//! Sequenced packets: a message is whole or not there. A path longer than a socket address can hold
//! is reached through the descriptor of its folder.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    UnixAddr, accept4, bind, connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;

/// Longest message; the output of a command is cut far below it.
const MESSAGE_LEN_MAX: usize = 128 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// What arrived.
pub struct Arrived<T> {
    /// The message.
    pub message: T,
    /// The descriptor that came along.
    pub fd: Option<OwnedFd>,
}

impl Link {
    /// Returns two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Self(left), Self(right)))
    }

    /// Connects to the socket of a name in a folder.
    pub fn connect(folder: &Path, name: &str) -> io::Result<Self> {
        let link = new_socket()?;
        let folder = File::open(folder)?;
        connect(link.as_raw_fd(), &address(&folder, name)?)?;
        Ok(Self(link))
    }

    /// Sends one message.
    pub fn send<T: Serialize>(&self, message: &T, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if MESSAGE_LEN_MAX < bytes.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let raw = fd.map(|fd| [fd.as_raw_fd()]);
        let rights = raw.as_ref().map(|raw| ControlMessage::ScmRights(raw));
        let control: Vec<ControlMessage<'_>> = rights.into_iter().collect();
        let part = [IoSlice::new(&bytes)];
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &part,
            &control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Waits for one message; none when the other side is gone.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<Arrived<T>>> {
        let mut bytes = vec![0; MESSAGE_LEN_MAX];
        let mut room = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let (len, fd) = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut room), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::ECONNRESET) => return Ok(None),
                Err(error) => return Err(error.into()),
                Ok(got) => {
                    let raw = got.cmsgs()?.find_map(|control| match control {
                        ControlMessageOwned::ScmRights(raw) => raw.first().copied(),
                        _ => None,
                    });
                    break (got.bytes, raw.map(sys::own));
                }
            }
        };
        if len == 0 {
            return Ok(None);
        }
        let bytes = bytes.get(..len).unwrap_or_default();
        Ok(Some(Arrived {
            message: mesh_compute::words::read(bytes)?,
            fd,
        }))
    }

    /// Ends the connection for all handles of this end.
    pub fn shut_down(&self) {
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for connections.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Makes a socket of a name in a folder, for our own user only; an old one is replaced.
    pub fn bind(folder: &Path, name: &str) -> io::Result<Self> {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = new_socket()?;
        let folder = File::open(folder)?;
        bind(socket.as_raw_fd(), &address(&folder, name)?)?;
        // The folder is closed to others, so nobody connects before this.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private)?;
        listen(&socket, Backlog::new(4)?)?;
        Ok(Self(socket))
    }

    /// Takes one connection.
    pub fn accept(&self) -> io::Result<Link> {
        let raw = accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
        Ok(Link(sys::own(raw)))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

/// Names a socket through its folder's descriptor: 108 bytes are too few for real paths.
fn address(folder: &File, name: &str) -> io::Result<UnixAddr> {
    Ok(UnixAddr::new(
        format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()).as_str(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_and_descriptor_arrive_together() {
        let (left, right) = Link::pair().unwrap();
        let file = tempfile::tempfile().unwrap();
        left.send(&"hello", Some(file.as_fd())).unwrap();
        let arrived = right.receive::<String>().unwrap().unwrap();
        assert_eq!(arrived.message, "hello");
        assert!(arrived.fd.is_some());
    }

    #[test]
    fn closed_end_is_seen_as_nothing() {
        let (left, right) = Link::pair().unwrap();
        drop(left);
        assert!(right.receive::<String>().unwrap().is_none());
    }

    #[test]
    fn socket_works_under_a_path_longer_than_an_address() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(90)).join("b".repeat(90));
        std::fs::create_dir_all(&deep).unwrap();
        let listener = Listener::bind(&deep, "s").unwrap();
        let client = Link::connect(&deep, "s").unwrap();
        client.send(&1_u8, None).unwrap();
        assert_eq!(
            listener
                .accept()
                .unwrap()
                .receive::<u8>()
                .unwrap()
                .unwrap()
                .message,
            1
        );
    }
}
