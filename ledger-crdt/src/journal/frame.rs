//! Bytes of the journal's files (little-endian).
//!
//! ```text
//! file   = header frame*
//! header = magic[8] salt[16] number:u64 before[16] count:u64 body_len:u64 check[8]
//! frame  = 0xa5 version len:u32 synced:u64 before[16] check[16] payload[len]
//! check  = SHA-256(salt, frame up to `check`, payload)[..16]   before = the last frame's check
//! ```
//! `synced` says how much of the file was known to be on disk when the frame was written. It tells
//! a torn tail from damage: if anything whole after a bad place says that this place had been
//! synced, something has destroyed what was promised; if nothing says so, the bytes were never
//! promised. The salt, unknown to peers, keeps frames out of what they can make us store. A file of
//! the first version has a header of magic, salt and check only. `count` and `body_len` say how
//! much a snapshot holds, for it is whole or worthless; they are zero in a segment.

use mesh_base::digest::Digest;

use crate::journal::ENTRY_LEN_MAX;

/// Length of a header.
pub const HEADER_LEN: usize = 72;
/// Length of the header of a first version's file.
pub const FIRST_HEADER_LEN: usize = 32;
/// Length of a frame without its payload.
pub const FRAME_HEADER_LEN: usize = 46;

const MAGIC_FIRST: &[u8; 8] = b"MSJRNL01";
const MAGIC_SEGMENT: &[u8; 8] = b"MSJSEG02";
const MAGIC_SNAPSHOT: &[u8; 8] = b"MSJSNP02";
/// What of a header its check covers: all before it.
const HEADER_CHECKED_LEN: usize = HEADER_LEN - 8;
/// What of a frame's header the check covers: all before itself.
const CHECKED_LEN: usize = 30;
const MARKER: u8 = 0xa5;
const VERSION: u8 = 1;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Entries as they came.
    Segment,
    /// What is left of all entries up to a segment.
    Snapshot,
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// The journal's salt.
    pub salt: [u8; 16],
    /// Its own number, or that of the last segment that a snapshot replaces.
    pub number: u64,
    /// The check of the last frame before this segment, or of the last one that a snapshot
    /// replaces.
    pub before: [u8; 16],
    /// How many entries a snapshot has.
    pub count: u64,
    /// How long they are with their frames.
    pub body_len: u64,
}

impl Header {
    /// Returns the bytes at the start of a file.
    pub fn to_bytes(self) -> Vec<u8> {
        let magic = match self.kind {
            Kind::Segment => MAGIC_SEGMENT,
            Kind::Snapshot => MAGIC_SNAPSHOT,
        };
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(magic);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.before);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.body_len.to_le_bytes());
        let check: [u8; 8] = first(Digest::of(&bytes));
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads the start of a file; none if it is no header or not what was written.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADER_LEN)?;
        let (checked, check) = header.split_at(HEADER_CHECKED_LEN);
        let expect: [u8; 8] = first(Digest::of(checked));
        if check != expect {
            return None;
        }
        let (magic, rest) = checked.split_first_chunk::<8>()?;
        let kind = match magic {
            MAGIC_SEGMENT => Kind::Segment,
            MAGIC_SNAPSHOT => Kind::Snapshot,
            _ => return None,
        };
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (before, rest) = rest.split_first_chunk::<16>()?;
        let (count, body_len) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind,
            salt: *salt,
            number: u64::from_le_bytes(*number),
            before: *before,
            count: u64::from_le_bytes(*count),
            body_len: u64::from_le_bytes(body_len.try_into().ok()?),
        })
    }
}

/// Returns the salt of a file of the first version; none if its header is not what was written.
pub fn first_version_salt(bytes: &[u8]) -> Option<[u8; 16]> {
    let rest = bytes.strip_prefix(MAGIC_FIRST)?;
    let (salt, rest) = rest.split_first_chunk::<16>()?;
    let (check, _) = rest.split_first_chunk::<8>()?;
    let expect: [u8; 8] = first(Digest::of_parts(&[MAGIC_FIRST, salt]));
    (*check == expect).then_some(*salt)
}

/// A frame to be written.
#[derive(Debug)]
pub struct Written {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What the next frame binds itself to.
    pub check: [u8; 16],
}

/// Makes the frame of an entry of 1 to [`ENTRY_LEN_MAX`] bytes.
pub fn write(salt: &[u8; 16], synced: u64, before: [u8; 16], payload: &[u8]) -> Written {
    let mut bytes = Vec::with_capacity(FRAME_HEADER_LEN + payload.len());
    bytes.extend_from_slice(&[MARKER, VERSION]);
    // The length was checked to fit far below 32 bits.
    bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&synced.to_le_bytes());
    bytes.extend_from_slice(&before);
    let check = frame_check(salt, &bytes, payload);
    bytes.extend_from_slice(&check);
    bytes.extend_from_slice(payload);
    Written { bytes, check }
}

fn frame_check(salt: &[u8; 16], header: &[u8], payload: &[u8]) -> [u8; 16] {
    first(Digest::of_parts(&[salt, header, payload]))
}

fn first<const N: usize>(digest: Digest) -> [u8; N] {
    // Proof: callers ask for at most the 32 bytes that a digest has.
    *digest
        .as_bytes()
        .first_chunk()
        .expect("a digest has 32 bytes")
}

/// A frame that is whole in itself, whatever stands before it.
struct Frame<'a> {
    synced: u64,
    before: [u8; 16],
    check: [u8; 16],
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8], salt: &[u8; 16]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_LEN>()?;
        let (checked, check) = header.split_at(CHECKED_LEN);
        let fields = checked.strip_prefix(&[MARKER, VERSION])?;
        let (len, fields) = fields.split_first_chunk::<4>()?;
        let (synced, before) = fields.split_first_chunk::<8>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        if len == 0 || ENTRY_LEN_MAX < len {
            return None;
        }
        let (payload, _) = rest.split_at_checked(len)?;
        let check: [u8; 16] = check.try_into().ok()?;
        if check != frame_check(salt, checked, payload) {
            return None;
        }
        let before = before.try_into().ok()?;
        Some(Self {
            synced: u64::from_le_bytes(*synced),
            before,
            check,
            payload,
        })
    }
}

/// What the frames of a file hold.
#[derive(Debug)]
pub struct Scan {
    /// Their payloads.
    pub entries: Vec<Vec<u8>>,
    /// The check of the last whole frame.
    pub before: [u8; 16],
    /// Where it ends.
    pub end: usize,
    /// Whether something whole after that says that it was on disk.
    pub was_synced: bool,
}

impl Scan {
    /// Reads frames from `start` on, of which the first is bound to `before`, as far as they are
    /// whole.
    pub fn over(bytes: &[u8], salt: &[u8; 16], start: usize, before: [u8; 16]) -> Self {
        let mut scan = Self {
            entries: Vec::new(),
            before,
            end: start,
            was_synced: false,
        };
        while let Some(rest) = bytes.get(scan.end..) {
            let next = Frame::read(rest, salt).filter(|frame| frame.before == scan.before);
            let Some(frame) = next else {
                scan.was_synced = is_promised(rest, salt, scan.end as u64);
                break;
            };
            scan.entries.push(frame.payload.to_vec());
            scan.before = frame.check;
            scan.end += FRAME_HEADER_LEN + frame.payload.len();
        }
        scan
    }
}

/// Returns whether a whole frame in `tail`, which begins at `at`, shows that this place had been
/// synced.
fn is_promised(tail: &[u8], salt: &[u8; 16], at: u64) -> bool {
    // Every byte may begin a frame, for a bad length says nothing about where the next one is. The
    // marker and version make the check of a wrong place cheap.
    let mut rest = tail;
    while let Some((_, shorter)) = rest.split_first() {
        if Frame::read(rest, salt).is_some_and(|frame| at < frame.synced) {
            return true;
        }
        rest = shorter;
    }
    false
}
