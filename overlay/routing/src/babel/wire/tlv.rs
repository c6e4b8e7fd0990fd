//! What a packet says, as values: one for each TLV of RFC 8966, §4.6 that means something.
//!
//! Reading resolves what a packet leaves implicit (router-id, next hop, omitted bytes of a prefix)
//! and skips what must be ignored, so that whoever takes these values needs no parser state.

use std::net::Ipv6Addr;

use crate::babel::words::{Metric, Prefix, RouterId, Seqno};

/// A time between messages, in hundredths of a second as on the wire (RFC 8966, §4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Centis(pub u16);

/// A microsecond clock modulo 2³² with an origin of the sender's own (RFC 9616, §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(pub u32);

/// To whom a hello was sent; each has a sequence number space of its own (RFC 8966, §3.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cast {
    /// To every neighbour on the link.
    Multicast,
    /// To us alone.
    Unicast,
}

/// One thing that a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tlv {
    /// Asks for an acknowledgement within a time (§4.6.3).
    AckRequest {
        /// To be echoed.
        opaque: u16,
        /// The answer is due within this time.
        within: Centis,
    },
    /// Acknowledges a packet that carried an [`Tlv::AckRequest`] (§4.6.4).
    Ack {
        /// That of the request.
        opaque: u16,
    },
    /// Says that the sender is alive (§4.6.5).
    Hello {
        /// Which sequence the number belongs to.
        cast: Cast,
        /// Counts the hellos of this sequence on this link.
        seqno: Seqno,
        /// Until the next one at most; zero promises none.
        interval: Centis,
        /// When this packet was sent (RFC 9616, §3.1).
        sent: Option<Stamp>,
    },
    /// "I heard you" (§4.6.6).
    Ihu {
        /// Who is meant; none means whoever receives it (only lawful when sent to one).
        address: Option<Ipv6Addr>,
        /// The cost of receiving from them, as the sender of this sees it.
        rxcost: Metric,
        /// Until the next one at most.
        interval: Centis,
        /// When they sent the hello last heard, and when it came here (RFC 9616, §3.1).
        echo: Option<(Stamp, Stamp)>,
    },
    /// Announces or retracts a route (§4.6.9).
    Update {
        /// What can be reached; none retracts everything that the sender announced.
        prefix: Option<Prefix>,
        /// Who originates it; none in a retraction that was read, and only there.
        router_id: Option<RouterId>,
        /// Where to send packets; in a retraction that was read, its sender.
        next_hop: Ipv6Addr,
        /// Until the next one at most.
        interval: Centis,
        /// The origin's sequence number.
        seqno: Seqno,
        /// From the sender to the origin; infinity is a retraction.
        metric: Metric,
    },
    /// Asks for an update now (§4.6.10).
    RouteRequest {
        /// About which prefix; none asks for the whole table.
        prefix: Option<Prefix>,
    },
    /// Asks for a route with a newer sequence number, hop by hop to the origin (§4.6.11).
    SeqnoRequest {
        /// About which prefix.
        prefix: Prefix,
        /// Whose number must grow.
        router_id: RouterId,
        /// At least this.
        seqno: Seqno,
        /// Hops that it may still travel; lawful ones are above zero.
        hop_count: u8,
    },
}
