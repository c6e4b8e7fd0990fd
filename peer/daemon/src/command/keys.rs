//! `meshnode keys`: what only the organisation's root key can do.

use clap::Subcommand;
use mesh_api::ErrorKind;
use mesh_base::certificate::Chain;
use mesh_base::identity::SecretKey;
use mesh_peer::entry::Entry;
use mesh_peer::genesis::recertify;

use crate::clock;
use crate::command::start::unusable;
use crate::command::{home_flag, print};
use crate::failure::Failure;
use crate::home::Home;
use crate::journal;
use crate::keys;

/// Renew what the organisation's root key has signed
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Renew this master's certificate; needs keys/org-root.key here and the node stopped
    Renew,
}

impl Keys {
    /// Signs a new certificate and puts it into the journal, where the next start finds it.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let Self::Renew = self;
        if !journal::exists(&home.journal()) {
            return Err(
                Failure::new(format!("there is no node in {}", home.path().display()))
                    .hint("found an organisation: `meshnode init --org NAME`")
                    .kind(ErrorKind::NotFound),
            );
        }
        let _lock = home.lock().map_err(|error| unusable(&error))?;
        let root = keys::read(&home.org_root_key()).map_err(|error| {
            Failure::caused("cannot renew the certificate", &error).hint(format!(
                "put the root key back for a moment: {}",
                home.org_root_key().display()
            ))
        })?;
        let until = renew(home, &root)?;
        print(&format!("certificate   valid until {until}\n"))?;
        eprintln!("\nNext:\n  meshnode{} start", home_flag(home));
        Ok(())
    }
}

fn renew(home: &Home, root: &SecretKey) -> Result<mesh_base::time::Wall, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::caused("cannot renew", error);
    let salt = keys::salt().map_err(|error| failed(&error))?;
    let (mut journal, entries) =
        journal::open(&home.journal(), salt).map_err(|error| failed(&error))?;
    let last = entries
        .iter()
        .rev()
        .find_map(|bytes| match Entry::from_bytes(bytes) {
            Ok(Entry::Chain(chain)) => Some(chain),
            _ => None,
        });
    let old = last.as_ref().and_then(Chain::leaf).ok_or_else(|| {
        Failure::new("this machine belongs to no organisation")
            .hint("found one: `meshnode init --org NAME`")
            .kind(ErrorKind::NotFound)
    })?;
    if old.org.key() != &root.public() || old.issuer != root.public() {
        return Err(
            Failure::new("the root key here has not signed this node's certificate")
                .hint("a member's certificate is renewed by its leader: see `meshnode status`")
                .kind(ErrorKind::NotAuthorised),
        );
    }
    let certificate = recertify(old, root, clock::now().wall);
    let until = certificate.body.not_after;
    let entry = Entry::Chain(Chain(vec![certificate])).to_bytes();
    journal.append(&entry).map_err(|error| failed(&error))?;
    journal.sync().map_err(|error| failed(&error))?;
    Ok(until)
}

#[cfg(test)]
mod tests {
    use mesh_base::time::{Moment, Now, Wall};
    use mesh_peer::genesis::{self, MASTER_VALID};

    use super::*;

    /// A home whose organisation was founded two years ago.
    fn founded(folder: &std::path::Path) -> (Home, SecretKey) {
        let home = Home::locate(Some(folder.join("home")));
        home.prepare().unwrap();
        let node = keys::create(&home.node_key()).unwrap();
        let root = keys::create(&home.org_root_key()).unwrap();
        let now = Now {
            mono: Moment(0),
            wall: Wall(clock::now().wall.0 - 2 * 365 * 24 * 3600 * 1000),
        };
        let (org, name) = ("bakery".parse().unwrap(), "bakery-1".parse().unwrap());
        let entries = genesis::found(&node, &root, &org, &name, now).unwrap();
        journal::write_first(&home.journal(), [7; 16], &entries).unwrap();
        (home, root)
    }

    #[test]
    fn root_key_renews_a_masters_certificate_and_the_next_start_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let (home, _) = founded(folder.path());
        let before = clock::now().wall;
        Keys::Renew.run(&home).unwrap();
        let (_, entries) = journal::open(&home.journal(), [7; 16]).unwrap();
        let last = Entry::from_bytes(entries.last().unwrap()).unwrap();
        let Entry::Chain(chain) = last else {
            panic!("{last:?}")
        };
        assert!(before + MASTER_VALID <= chain.valid_until().unwrap());
        let body = chain.leaf().unwrap();
        let now = clock::now().wall;
        assert!(
            chain
                .verify(&body.node, now, |org| *org == body.org)
                .is_ok()
        );
    }

    #[test]
    fn other_root_key_or_none_renews_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (home, _) = founded(folder.path());
        let other = SecretKey::from_seed([9; 32]);
        assert!(renew(&home, &other).is_err());
        std::fs::remove_file(home.org_root_key()).unwrap();
        assert!(Keys::Renew.run(&home).is_err());
        let (_, entries) = journal::open(&home.journal(), [7; 16]).unwrap();
        assert_eq!(entries.len(), 2);
    }
}
