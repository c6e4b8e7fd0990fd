//! A network device whose cable is this process: a TUN device of the kernel.
//!
//! Packets are bare IP, one for each read and write, and checksums are complete. The device lives
//! in the namespace of the thread that opened it and ends with its descriptor.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use anyhow::{Context as _, ensure};
use nix::libc::{self, IFF_NO_PI, IFF_TUN, IFNAMSIZ, O_NONBLOCK};

/// Where the kernel gives them away.
const DEVICE: &str = "/dev/net/tun";

mod raw {
    use nix::libc;

    nix::ioctl_write_ptr_bad!(tun_set_iff, libc::TUNSETIFF, libc::ifreq);
}

/// A device.
#[derive(Debug)]
pub struct Tunnel(File);

impl Tunnel {
    /// Makes a device in the thread's namespace; it is down.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(O_NONBLOCK);
        let file = options
            .open(DEVICE)
            .with_context(|| format!("cannot open {DEVICE}"))?;
        ensure!(name.len() < IFNAMSIZ, "{name} is too long a name");
        let mut request = libc::ifreq {
            ifr_name: [0; IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                ifru_flags: (IFF_TUN | IFF_NO_PI) as libc::c_short,
            },
        };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is.
        unsafe { raw::tun_set_iff(file.as_raw_fd(), &request) }
            .with_context(|| format!("cannot make the device {name}"))?;
        Ok(Self(file))
    }

    /// Reads a packet; none if there is none now.
    ///
    /// # Errors
    /// The device is gone.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // It is down: nothing comes from it, which is no end.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a packet; one that the kernel does not take now is lost, as on any cable.
    pub fn write(&self, packet: &[u8]) -> bool {
        (&self.0).write(packet).is_ok()
    }
}

impl AsFd for Tunnel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
