//! Babel packets: whole ones, their TLVs alone, and what authentication makes of both.

use std::net::Ipv6Addr;

use mesh_routing::babel::mac::key::{Algorithm, Key, Keys, Path};
use mesh_routing::babel::mac::machine::{MacMachine, Verdict};
use mesh_routing::babel::wire::reader::read;
use mesh_routing::babel::wire::tlv::Tlv;
use mesh_routing::babel::wire::writer::{PAYLOAD_MAX, Pushed, Writer};
use mesh_routing::babel::wire::{MAGIC, VERSION};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::Outcome;
use crate::lawful;

/// Whom packets come from: the first program of the recordings in mesh-routing.
const SENDER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa);
const RECEIVER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xb);
/// The group that all speakers of Babel are in.
const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 6);
/// The key of those recordings.
const SECRET: &[u8] = b"meshstead-golden-key-32-bytes-ok";
/// Most that is said in one go when it is said again: few, for values are larger than bytes.
const SAID_AGAIN_MAX: usize = 16;

/// Reads a packet and says again what it says.
pub fn babel(data: &[u8]) -> Outcome {
    let Ok(mut reader) = read(data, SENDER) else {
        return Outcome::Refused;
    };
    let mut said_count = 0;
    loop {
        let says: Vec<Tlv> = reader.by_ref().take(SAID_AGAIN_MAX).collect();
        if says.is_empty() {
            break;
        }
        said_count += says.len();
        say_again(&says);
    }
    assert!(
        said_count as u64 + reader.ignored().total() <= data.len() as u64,
        "each thing takes a byte"
    );
    match said_count {
        0 => Outcome::Refused,
        _ => Outcome::Read,
    }
}

/// Reads TLVs as the body of a packet.
pub fn babel_tlv(data: &[u8]) -> Outcome {
    babel(&packet(data))
}

/// Opens a packet, then seals TLVs and opens them, as a stranger's and as a neighbour's.
pub fn babel_mac(data: &[u8]) -> Outcome {
    if data.is_empty() {
        return Outcome::Refused;
    }
    let to_all = Path {
        source: SENDER,
        destination: ALL,
    };
    let to_one = Path {
        destination: RECEIVER,
        ..to_all
    };
    let back = Path {
        source: RECEIVER,
        destination: SENDER,
    };
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let (mut ours, mut theirs) = (machine(&mut rng), machine(&mut rng));
    let now = lawful::NOW;

    let verdict = ours.open(data, to_all, now, &mut rng);
    assert_ne!(verdict, Verdict::Accept, "a stranger is not believed");
    let sealed = theirs.seal(packet(data), to_one, &mut rng);
    let verdict = ours.open(&sealed, to_one, now, &mut rng);
    assert_ne!(verdict, Verdict::Accept, "a stranger is not believed");
    let mut is_asked = false;
    while let Some(answer) = ours.poll_answer() {
        is_asked = true;
        let sealed = ours.seal(answer.packet, back, &mut rng);
        let _ = theirs.open(&sealed, back, now, &mut rng);
    }
    while let Some(answer) = theirs.poll_answer() {
        let sealed = theirs.seal(answer.packet, to_one, &mut rng);
        let _ = ours.open(&sealed, to_one, now, &mut rng);
    }
    let sealed = theirs.seal(packet(data), to_all, &mut rng);
    let _ = ours.open(&sealed, to_all, now, &mut rng);
    let verdict = ours.open(&sealed, to_all, now, &mut rng);
    assert_ne!(verdict, Verdict::Accept, "a packet is taken once");
    if is_asked {
        return Outcome::Read;
    }
    Outcome::Refused
}

/// Writes what was read into packets; they must say the same.
fn say_again(says: &[Tlv]) {
    let mut writer = Writer::new(SENDER, PAYLOAD_MAX);
    for tlv in says {
        let pushed = writer.push(tlv);
        assert_eq!(pushed, Pushed::Written, "what is read is lawful and short");
    }
    let bytes = writer.finish(None);
    let again = read(&bytes, SENDER).expect("a writer makes packets");
    assert!(
        again.eq(says.iter().copied()),
        "a packet says what was said"
    );
}

/// Returns a packet with a body, or with as much of it as leaves room for a counter.
fn packet(body: &[u8]) -> Vec<u8> {
    let body = body.get(..0xff00).unwrap_or(body);
    // Proof: below 0xff00.
    let [high, low] = (body.len() as u16).to_be_bytes();
    [&[MAGIC, VERSION, high, low], body].concat()
}

fn machine(rng: &mut ChaCha20Rng) -> MacMachine {
    let key = Key::new(Algorithm::Blake2s128, SECRET).expect("the secret has 32 bytes");
    let keys = Keys::new(vec![key]).expect("one key is lawful");
    MacMachine::new(keys, rng)
}
