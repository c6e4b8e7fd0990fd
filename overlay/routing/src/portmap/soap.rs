//! Talking to a UPnP gateway: its description, and the four actions that we use.
//!
//! WANIPConnection:1 and :2 and WANPPPConnection:1 have the same actions for IPv4. Decides nothing
//! but which of a gateway's connections is asked: the first that its description names.

use std::net::Ipv4Addr;

use super::ssdp::{Place, is_path, place};
use super::xml::{Step, escaped, steps};
use super::{Transport, Wish};

/// Longest description and longest answer; real ones have 3 to 10 KiB.
pub const BODY_LEN_MAX: usize = 64 * 1024;
/// There is no such mapping.
pub const NO_SUCH_ENTRY: u16 = 714;
/// Another machine has that outer port.
pub const CONFLICT: u16 = 718;
/// The gateway has only mappings without an end.
pub const ONLY_PERMANENT: u16 = 725;

/// Connections that can map ports, as descriptions name them.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// What mappings of ours are called in a router's list.
const DESCRIPTION: &str = "meshnode";

/// Where and how a gateway's connection is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Where.
    pub place: Place,
    /// Its kind: one of those that we know.
    service: &'static str,
}

/// One action, ready to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// The header `SOAPAction`.
    pub action: String,
    /// The document.
    pub body: String,
}

/// What we ask of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Its outer address.
    Address,
    /// Who has an outer port.
    Look {
        /// What it carries.
        transport: Transport,
        /// The outer port.
        external_port: u16,
    },
    /// A mapping.
    Add {
        /// What is to lead where.
        wish: Wish,
        /// Our address.
        own: Ipv4Addr,
        /// The outer port.
        external_port: u16,
        /// Seconds; zero is without an end.
        lease_s: u32,
    },
    /// The end of a mapping.
    Delete {
        /// What it carries.
        transport: Transport,
        /// The outer port.
        external_port: u16,
    },
}

/// What an action's answer says, as far as we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Said {
    /// The outer address.
    pub address: Option<Ipv4Addr>,
    /// Whose an outer port is.
    pub client: Option<Ipv4Addr>,
    /// To which port there it leads.
    pub port: Option<u16>,
    /// Why not.
    pub error: Option<u16>,
}

/// Finds the connection in a description that came from `from`.
pub fn control_of_description(document: &str, from: &Place) -> Option<Control> {
    let (mut kind, mut path) = (None, None);
    for step in steps(document) {
        match step {
            Step::Open {
                name: "service", ..
            } => (kind, path) = (None, None),
            Step::Open {
                name: "serviceType",
                text,
            } => kind = SERVICES.into_iter().find(|service| *service == text),
            Step::Open {
                name: "controlURL",
                text,
            } => path = Some(text),
            Step::Close("service") => {
                if let Some((service, url)) = kind.take().zip(path.take()) {
                    return Some(Control {
                        place: absolute(&url, from)?,
                        service,
                    });
                }
            }
            _ => {}
        }
    }
    None
}

/// Returns where a URL of a description leads; none if that is not on the gateway itself.
fn absolute(url: &str, from: &Place) -> Option<Place> {
    if url.contains("://") {
        return place(url, *from.at.ip());
    }
    let path = if url.starts_with('/') {
        url.to_owned()
    } else {
        format!("/{url}")
    };
    is_path(&path).then_some(Place { at: from.at, path })
}

impl Control {
    /// Returns what is to be posted for a question.
    pub fn post(&self, ask: Ask) -> Post {
        let (name, arguments) = match ask {
            Ask::Address => ("GetExternalIPAddress", Vec::new()),
            Ask::Look {
                transport,
                external_port,
            } => ("GetSpecificPortMappingEntry", key(transport, external_port)),
            Ask::Delete {
                transport,
                external_port,
            } => ("DeletePortMapping", key(transport, external_port)),
            Ask::Add {
                wish,
                own,
                external_port,
                lease_s,
            } => {
                let mut arguments = key(wish.transport, external_port);
                arguments.extend([
                    ("NewInternalPort", wish.port.to_string()),
                    ("NewInternalClient", own.to_string()),
                    ("NewEnabled", "1".to_owned()),
                    ("NewPortMappingDescription", DESCRIPTION.to_owned()),
                    ("NewLeaseDuration", lease_s.to_string()),
                ]);
                ("AddPortMapping", arguments)
            }
        };
        let service = self.service;
        let arguments: String = arguments
            .iter()
            .map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value)))
            .collect();
        Post {
            action: format!("\"{service}#{name}\""),
            body: format!(
                "<?xml version=\"1.0\"?>\r\n<s:Envelope \
                 xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
                 s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
                 <u:{name} xmlns:u=\"{service}\">{arguments}</u:{name}></s:Body></s:Envelope>\r\n"
            ),
        }
    }
}

/// Returns what names a mapping, in the order of the standard.
fn key(transport: Transport, external_port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", external_port.to_string()),
        ("NewProtocol", transport.word().to_owned()),
    ]
}

/// Reads an answer; none if it is no SOAP at all.
pub fn said(document: &str) -> Option<Said> {
    let mut said = Said::default();
    let mut is_soap = false;
    for step in steps(document) {
        let Step::Open { name, text } = step else {
            continue;
        };
        match name {
            "Body" => is_soap = true,
            "NewExternalIPAddress" => said.address = text.parse().ok(),
            "NewInternalClient" => said.client = text.parse().ok(),
            "NewInternalPort" => said.port = text.parse().ok(),
            // A fault whose number cannot be read is one all the same.
            "errorCode" => said.error = Some(text.parse().unwrap_or(0)),
            "Fault" => said.error = said.error.or(Some(0)),
            _ => {}
        }
    }
    is_soap.then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from() -> Place {
        Place {
            at: "192.168.1.1:5000".parse().unwrap(),
            path: "/d.xml".to_owned(),
        }
    }

    fn description(url: &str) -> String {
        format!(
            "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:\
             Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL></service></serviceList>\
             <service><controlURL>{url}</controlURL><serviceType>{}</serviceType></service>\
             </device></root>",
            SERVICES[1]
        )
    }

    #[track_caller]
    fn check(url: &str, expect: Option<&str>) {
        let control = control_of_description(&description(url), &from());
        let got = control.map(|control| format!("{}{}", control.place.at, control.place.path));
        assert_eq!(got.as_deref(), expect, "{url}");
    }

    #[test]
    fn connection_is_found_behind_other_services() {
        check("/ctl", Some("192.168.1.1:5000/ctl"));
        check("ctl?a&amp;b", Some("192.168.1.1:5000/ctl?a&b"));
        check("http://192.168.1.1:6000/c", Some("192.168.1.1:6000/c"));
    }

    #[test]
    fn connection_elsewhere_is_refused() {
        check("http://192.168.1.9/c", None);
        check("http://127.0.0.1/c", None);
        check("/a b", None);
        check("", Some("192.168.1.1:5000/"));
        assert_eq!(control_of_description("<root/>", &from()), None);
    }

    #[test]
    fn actions_are_written_in_the_order_of_the_standard() {
        let control = control_of_description(&description("/ctl"), &from()).unwrap();
        let post = control.post(Ask::Add {
            wish: Wish {
                transport: Transport::Udp,
                port: 7,
            },
            own: Ipv4Addr::new(192, 168, 1, 2),
            external_port: 9,
            lease_s: 60,
        });
        assert_eq!(
            post.action,
            "\"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\""
        );
        let names: Vec<_> = steps(&post.body)
            .filter_map(|step| match step {
                Step::Open { name, text } => Some((name.to_owned(), text)),
                Step::Close(_) => None,
            })
            .skip(3)
            .collect();
        let expect = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", "9"),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", "7"),
            ("NewInternalClient", "192.168.1.2"),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "meshnode"),
            ("NewLeaseDuration", "60"),
        ];
        let expect = expect.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(names, expect);
    }

    #[test]
    fn answers_are_read() {
        let answer = |inside: &str| said(&format!("<s:Envelope><s:Body>{inside}</s:Body>"));
        let address = answer("<r><NewExternalIPAddress>11.0.0.1</NewExternalIPAddress></r>");
        assert_eq!(address.unwrap().address, Some(Ipv4Addr::new(11, 0, 0, 1)),);
        let entry = answer(
            "<NewInternalPort>7</NewInternalPort><NewInternalClient>10.0.0.2</NewInternalClient>",
        );
        let entry = entry.unwrap();
        assert_eq!(entry.port, Some(7));
        assert_eq!(entry.client, Some(Ipv4Addr::new(10, 0, 0, 2)));
        let fault = answer("<Fault><UPnPError><errorCode>718</errorCode></UPnPError></Fault>");
        assert_eq!(fault.unwrap().error, Some(CONFLICT));
        assert_eq!(answer("<Fault/>").unwrap().error, Some(0));
        assert_eq!(answer("<r/>"), Some(Said::default()));
        assert_eq!(said("<html><body>no</body></html>"), None);
    }
}
