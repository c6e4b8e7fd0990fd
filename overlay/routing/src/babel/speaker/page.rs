//! A packet that is being written, and the small things that go into it.

use crate::babel::mail::Mail;
use crate::babel::wire::tlv::Tlv;
use crate::babel::wire::writer::{Pushed, Writer};

/// A packet that is being written.
pub(super) struct Page {
    pub writer: Writer,
    /// What its acknowledgement will say.
    pub opaque: Option<u16>,
    /// Whether something did not fit.
    pub is_full: bool,
    /// Whether nothing was said that is worth a packet.
    pub is_idle: bool,
}

impl Page {
    pub fn push(&mut self, tlv: &Tlv) -> Pushed {
        if self.is_full {
            return Pushed::Full;
        }
        let pushed = self.writer.push(tlv);
        match pushed {
            Pushed::Written => self.is_idle = false,
            Pushed::Full => self.is_full = true,
            Pushed::Refused => {}
        }
        pushed
    }

    /// Writes what is small: acknowledgements, and the probe that stands at the beginning.
    pub fn small(&mut self, mail: &mut Mail) {
        mail.probe = false;
        while let Some(opaque) = mail.acks.pop_first() {
            if self.push(&Tlv::Ack { opaque }) == Pushed::Full {
                mail.acks.insert(opaque);
                return;
            }
        }
    }

    /// Writes requests; behind the updates, so that a retraction is read before the request that
    /// comes of it. Returns whether it asks for the whole table.
    pub fn requests(&mut self, mail: &mut Mail) -> bool {
        while let Some(((prefix, router_id), asking)) = mail.requests.pop_first() {
            let tlv = Tlv::SeqnoRequest {
                prefix,
                router_id,
                seqno: asking.seqno,
                hop_count: asking.hop_count,
            };
            if self.push(&tlv) == Pushed::Full {
                mail.requests.insert((prefix, router_id), asking);
                return false;
            }
        }
        let mut asked = false;
        if mail.table_request {
            let pushed = self.push(&Tlv::RouteRequest { prefix: None });
            mail.table_request = pushed == Pushed::Full;
            asked = pushed == Pushed::Written;
        }
        while let Some(prefix) = mail.route_requests.pop_first() {
            let tlv = Tlv::RouteRequest {
                prefix: Some(prefix),
            };
            if self.push(&tlv) == Pushed::Full {
                mail.route_requests.insert(prefix);
                break;
            }
        }
        asked
    }
}
