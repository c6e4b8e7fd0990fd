//! What a program did to the files of one folder, in order: the log that the preload shim
//! (`examples/powercut`) writes and that [`crate::plate`] plays again.
//!
//! ```text
//! log  = record*
//! record = len:u32 kind:u8 fields          (little-endian; len counts kind and fields)
//! ```
//! Files and folders are numbered by their inode; a number that is made again is a new file. Paths
//! are relative to the folder, which itself is the empty path. Every record is appended by one call
//! of write(2), so several processes may share a log: whoever acknowledges something appends
//! [`Call::Said`], and what stands before it happened before.

use std::fs::File;
use std::io::Write as _;

use anyhow::{Context as _, bail};

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A regular file was made.
    Made {
        /// Its number.
        number: u64,
        /// Its permissions.
        mode: u32,
        /// Its name.
        path: Vec<u8>,
    },
    /// A folder was made.
    Folder {
        /// Its number.
        number: u64,
        /// Its permissions.
        mode: u32,
        /// Its name.
        path: Vec<u8>,
    },
    /// Bytes were written.
    Wrote {
        /// Into which file.
        number: u64,
        /// Where they begin.
        at: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A file was cut or grown.
    Sized {
        /// Which file.
        number: u64,
        /// Its length now.
        len: u64,
    },
    /// A file or a folder is on disk: fsync or fdatasync has returned.
    Synced {
        /// Which.
        number: u64,
    },
    /// The kernel was asked to write a file soon, which promises nothing: sync_file_range.
    Hurried {
        /// Which file.
        number: u64,
    },
    /// A name was changed.
    Renamed {
        /// The old one.
        from: Vec<u8>,
        /// The new one.
        to: Vec<u8>,
    },
    /// A name was removed.
    Removed {
        /// Which.
        path: Vec<u8>,
    },
    /// Something that cannot be played again, such as a hard link.
    Strange {
        /// The name of the call.
        call: Vec<u8>,
    },
    /// Somebody outside was told something, or asked for it.
    Said {
        /// What.
        words: Vec<u8>,
    },
}

impl Call {
    /// Returns the record.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match self {
            Self::Made { number, mode, path } => put(&mut body, 1, &[*number], *mode, &[path]),
            Self::Folder { number, mode, path } => put(&mut body, 2, &[*number], *mode, &[path]),
            Self::Wrote { number, at, bytes } => put(&mut body, 3, &[*number, *at], 0, &[bytes]),
            Self::Sized { number, len } => put(&mut body, 4, &[*number, *len], 0, &[]),
            Self::Synced { number } => put(&mut body, 5, &[*number], 0, &[]),
            Self::Hurried { number } => put(&mut body, 6, &[*number], 0, &[]),
            Self::Renamed { from, to } => {
                put(&mut body, 7, &[from.len() as u64], 0, &[from, to]);
            }
            Self::Removed { path } => put(&mut body, 8, &[], 0, &[path]),
            Self::Strange { call } => put(&mut body, 9, &[], 0, &[call]),
            Self::Said { words } => put(&mut body, 10, &[], 0, &[words]),
        }
        // A write of more than 2 GiB is not one that we test with.
        let mut record = (body.len() as u32).to_le_bytes().to_vec();
        record.append(&mut body);
        record
    }

    /// Appends the record to a log that was opened for appending.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn append(&self, log: &File) -> anyhow::Result<()> {
        let mut log = log;
        log.write_all(&self.to_bytes())
            .context("cannot write the log of calls")
    }

    /// Reads all records of a log. One that is cut short at the end was never made: its program was
    /// killed meanwhile.
    ///
    /// # Errors
    /// It is no such log.
    pub fn read_all(mut log: &[u8]) -> anyhow::Result<Vec<Self>> {
        let mut calls = Vec::new();
        while let Some((len, rest)) = log.split_first_chunk::<4>() {
            let len = usize::try_from(u32::from_le_bytes(*len))?;
            let Some((body, rest)) = rest.split_at_checked(len) else {
                break;
            };
            calls.push(Self::read(body).context("not a log of calls")?);
            log = rest;
        }
        Ok(calls)
    }

    fn read(body: &[u8]) -> anyhow::Result<Self> {
        let mut body = Fields(body);
        let [kind] = body.take()?;
        Ok(match kind {
            1 | 2 => {
                let (number, mode) = (body.number()?, u32::from_le_bytes(body.take()?));
                let path = body.rest();
                match kind {
                    1 => Self::Made { number, mode, path },
                    _ => Self::Folder { number, mode, path },
                }
            }
            3 => Self::Wrote {
                number: body.number()?,
                at: body.number()?,
                bytes: body.rest(),
            },
            4 => Self::Sized {
                number: body.number()?,
                len: body.number()?,
            },
            5 => Self::Synced {
                number: body.number()?,
            },
            6 => Self::Hurried {
                number: body.number()?,
            },
            7 => {
                let len = usize::try_from(body.number()?)?;
                let (from, to) = body.0.split_at_checked(len).context("too short")?;
                Self::Renamed {
                    from: from.to_vec(),
                    to: to.to_vec(),
                }
            }
            8 => Self::Removed { path: body.rest() },
            9 => Self::Strange { call: body.rest() },
            10 => Self::Said { words: body.rest() },
            _ => bail!("no call is of kind {kind}"),
        })
    }
}

/// Writes a record's body: its numbers, permissions if it is about a new name, its bytes.
fn put(body: &mut Vec<u8>, kind: u8, numbers: &[u64], mode: u32, bytes: &[&[u8]]) {
    body.push(kind);
    for number in numbers {
        body.extend_from_slice(&number.to_le_bytes());
    }
    if kind <= 2 {
        body.extend_from_slice(&mode.to_le_bytes());
    }
    for part in bytes {
        body.extend_from_slice(part);
    }
}

/// What is left of a record's body.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().context("too short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn rest(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_comes_back_and_a_torn_one_does_not() {
        let (number, mode, path) = (7, 0o600, b"keys/node.key".to_vec());
        let calls = [
            Call::Folder {
                number,
                mode,
                path: b"keys".to_vec(),
            },
            Call::Made {
                number,
                mode,
                path: path.clone(),
            },
            Call::Wrote {
                number,
                at: 9,
                bytes: vec![1, 2, 3],
            },
            Call::Sized { number, len: 5 },
            Call::Synced { number },
            Call::Hurried { number },
            Call::Renamed {
                from: path.clone(),
                to: b"b".to_vec(),
            },
            Call::Removed { path },
            Call::Strange {
                call: b"link".to_vec(),
            },
            Call::Said {
                words: b"yes".to_vec(),
            },
        ];
        let mut log: Vec<u8> = calls.iter().flat_map(Call::to_bytes).collect();
        assert_eq!(Call::read_all(&log).unwrap(), calls);
        log.pop();
        assert_eq!(Call::read_all(&log).unwrap(), calls[..calls.len() - 1]);
        assert!(Call::read_all(&[1, 0, 0, 0, 99]).is_err());
    }
}
