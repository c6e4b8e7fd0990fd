//! `meshnode wg`: lets stock WireGuard devices into the mesh through this node.
//!
//! The device's key pair is drawn here, in the command: the daemon learns the public half, and the
//! secret goes to stdout and nowhere else. So a file that was lost cannot be printed again; the
//! client is removed and let in anew.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use clap::{Args, Subcommand};
use mesh_api::client::{ClientAdded, WireguardKey};
use mesh_api::{ErrorKind, Reply, Request, chart, document};
use mesh_base::identity::SecretKey;
use mesh_base::name::Name;
use mesh_dataplane::session::is_weak;
use mesh_peer::places::is_wide;

use crate::ask::ask;
use crate::command::{other_answer, print, say};
use crate::failure::Failure;
use crate::home::Home;
use crate::{keys, qr};

/// Let phones and other WireGuard devices into the mesh through this node
#[derive(Debug, Subcommand)]
pub enum Wg {
    /// Let a device in and print the file that its WireGuard reads; it holds the device's secret
    Export(Export),
    /// List the devices that were let in
    List(List),
    /// Let a device in no longer; its session ends at once
    Remove(Remove),
}

/// What a new device's file shall hold.
#[derive(Debug, Args)]
pub struct Export {
    /// What to call the device
    name: Name,
    /// Draw the file as a QR code that WireGuard on a phone reads
    #[arg(long, conflicts_with = "public_key")]
    qr: bool,
    /// Where the device finds this node, if it is not what this node thinks
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = endpoint)]
    endpoint: Option<String>,
    /// The device's own public key, so that its secret never leaves it
    #[arg(long, value_name = "KEY")]
    public_key: Option<WireguardKey>,
}

/// How the list shall look.
#[derive(Debug, Args)]
pub struct List {
    /// Print JSON, also for errors
    #[arg(long)]
    json: bool,
}

/// Which device it is.
#[derive(Debug, Args)]
pub struct Remove {
    /// What the device is called
    name: Name,
}

impl Wg {
    /// Does what the subcommand says.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        match self {
            Self::Export(export) => export.run(home),
            Self::List(list) => list.run(home),
            Self::Remove(remove) => remove.run(home),
        }
    }
}

impl Export {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let (secret, key) = self.keys()?;
        let name = self.name.clone();
        let Reply::ClientAdded(added) = ask(&home.socket(), &Request::ClientAdd { name, key })?
        else {
            return Err(other_answer("a client"));
        };
        let endpoint =
            match (&self.endpoint, added.endpoints.first()) {
                (Some(endpoint), _) => endpoint.clone(),
                (None, Some(endpoint)) => endpoint.to_string(),
                (None, None) => {
                    return Err(Failure::new("this node knows no address of its own").hint(format!(
                    "remove the client, `meshnode wg remove {}`, and say where this node is: \
                     --endpoint ADDRESS:PORT",
                    self.name
                )));
                }
            };
        let conf = added.conf(&endpoint, secret);
        if secret.is_some() {
            keep_private();
        }
        let text = if self.qr {
            qr::draw(&conf).ok_or_else(too_long)?
        } else {
            conf
        };
        print(&text)?;
        say(&talk(&added, &endpoint, self.endpoint.is_some()));
        Ok(())
    }

    /// Returns the device's secret, if it is drawn here, and its public key.
    fn keys(&self) -> Result<(Option<WireguardKey>, WireguardKey), Failure> {
        let Some(key) = self.public_key else {
            let seed = keys::entropy();
            let seed = seed.map_err(|error| Failure::caused("cannot make a key", &error))?;
            let secret = SecretKey::from_seed(seed);
            let public = secret.public().to_x25519();
            return Ok((Some(WireguardKey(secret.to_x25519())), WireguardKey(public)));
        };
        if is_weak(&key.0) {
            return Err(
                Failure::new("this key has no secret half: anybody could be the device")
                    .hint("make a new pair: `(umask 077; wg genkey | tee secret | wg pubkey)`")
                    .kind(ErrorKind::Usage),
            );
        }
        Ok((None, key))
    }
}

impl List {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::ClientLs)?;
        if self.json {
            return print(&format!("{}\n", document::of_reply(&reply)));
        }
        match reply {
            Reply::Clients { clients } => print(&chart::clients(&clients)),
            _ => Err(other_answer("its clients")),
        }
    }
}

impl Remove {
    fn run(self, home: &Home) -> Result<(), Failure> {
        let reply = ask(&home.socket(), &Request::ClientRemove { name: self.name })?;
        match reply {
            Reply::ClientRemoved { name } => print(&format!("{name} is let in no longer\n")),
            _ => Err(other_answer("the end of a client")),
        }
    }
}

/// Lets nobody but its owner read the file that stdout is, if it is one: it is going to hold a
/// secret. Where that cannot be done the owner has been told that the file is a password.
fn keep_private() {
    let Ok(stdout) = std::io::stdout().as_fd().try_clone_to_owned() else {
        return;
    };
    let stdout = File::from(stdout);
    if stdout.metadata().is_ok_and(|stdout| stdout.is_file()) {
        let _ = stdout.set_permissions(Permissions::from_mode(0o600));
    }
}

/// What the owner should know about a file that was just made.
fn talk(added: &ClientAdded, endpoint: &str, is_said: bool) -> String {
    let ClientAdded {
        name,
        address,
        node,
        ..
    } = added;
    let mut text = format!(
        "{name} is {address} in the mesh. Keep the file as a password: whoever has it is {name}.\n\
         End to end begins at {node}: this machine sees what {name} says.\n"
    );
    let place = endpoint.parse::<SocketAddr>().ok().filter(|_| !is_said);
    if place.is_some_and(|place| !is_wide(&place.ip())) {
        text.push_str(&format!(
            "hint: {endpoint} leads here from the same network only; from elsewhere map the port \
             and say --endpoint ADDRESS:PORT (see meshnode netcheck)\n"
        ));
    }
    text
}

/// Not reached: the file is some 400 bytes, and a QR code holds 2900.
fn too_long() -> Failure {
    Failure::new("the file is too long for a QR code").hint("leave --qr out")
}

/// Reads `HOST:PORT`, `1.2.3.4:PORT` or `[2001:db8::1]:PORT`.
fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || "say ADDRESS:PORT, an IPv6 address in brackets".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_six = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
    let is_host = match host.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
        Some(inner) => is_six(inner),
        None => {
            let lawful = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            !host.is_empty() && host.len() <= 253 && host.chars().all(lawful)
        }
    };
    if is_port && is_host {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_a_host_and_a_port() {
        for right in ["192.0.2.7:9", "[2001:db8::1]:41641", "home.example:7"] {
            assert_eq!(endpoint(right).as_deref(), Ok(right));
        }
        for wrong in [
            "192.0.2.7",
            "192.0.2.7:0",
            "192.0.2.7:70000",
            "2001:db8::1",
            "2001:db8::1:7",
            ":7",
            "a b:7",
            "host\nPostUp = x:7",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_that_are_drawn_belong_together_and_differ() {
        let export = |key| Export {
            name: "phone".parse().unwrap(),
            qr: false,
            endpoint: None,
            public_key: key,
        };
        let (secret, public) = export(None).keys().unwrap();
        let local = mesh_dataplane::session::Local::new(secret.unwrap().0);
        assert_eq!(local.public().to_bytes(), public.0);
        assert_ne!(export(None).keys().unwrap().1, public);
        assert_eq!(export(Some(public)).keys().unwrap(), (None, public));
        assert!(export(Some(WireguardKey([0; 32]))).keys().is_err());
    }
}
