//! `meshnode init`: founds an organisation with this machine as its first node.

use clap::Args;
use mesh_api::ErrorKind;
use mesh_base::address::NodeAddress;
use mesh_base::identity::{NodeId, OrgId, SecretKey};
use mesh_base::name::Name;
use mesh_peer::genesis;

use crate::clock;
use crate::command::start::unusable;
use crate::command::{home_flag, print};
use crate::config::KEYS;
use crate::failure::Failure;
use crate::home::Home;
use crate::journal::{self, FirstError};
use crate::keys::{self, KeyFileError};
use crate::remember;

/// Found a new organisation with this machine as its first node
#[derive(Debug, Args)]
pub struct Init {
    /// Name of the organisation: lower-case letters, digits, hyphens
    #[arg(long, value_name = "NAME")]
    org: Name,
    /// Name of this node [default: the organisation's name and -1]
    #[arg(long, value_name = "NODE")]
    name: Option<Name>,
}

impl Init {
    /// Makes keys, certificate, charter and settings.
    pub fn run(self, home: &Home) -> Result<(), Failure> {
        let name = match self.name {
            Some(name) => name,
            None => default_name(&self.org)?,
        };
        home.prepare().map_err(|error| unusable(&error))?;
        let _lock = home.lock().map_err(|error| unusable(&error))?;
        refuse_second(home)?;
        let node = key(&home.node_key())?;
        let root = key(&home.org_root_key())?;
        let entries = genesis::found(&node, &root, &self.org, &name, clock::now())
            .map_err(|error| Failure::caused("cannot found the organisation", &error))?;
        write_settings(home)?;
        write_journal(home, &entries)?;
        self::report(home, &self.org, &name, &node, &root)
    }
}

fn report(
    home: &Home,
    org: &Name,
    name: &Name,
    node: &SecretKey,
    root: &SecretKey,
) -> Result<(), Failure> {
    let flag = home_flag(home);
    let address = NodeAddress::of(&NodeId(node.public())).0;
    print(&format!(
        "organisation  {org}  {}\nnode          {name}  {address}\nhome          {}\n",
        OrgId(root.public()),
        home.path().display(),
    ))?;
    eprintln!(
        "\nThe organisation's root key signs its masters and is not needed from day to day. \
         Keep it elsewhere:\n  mv {} /media/a-stick-in-a-drawer/\n\nNext:\n  \
         meshnode{flag} start\n  \
         meshctl{flag} member invite      # another machine of {org}",
        home.org_root_key().display(),
    );
    Ok(())
}

fn default_name(org: &Name) -> Result<Name, Failure> {
    format!("{org}-1")
        .parse()
        .map_err(|error: mesh_base::name::NotAName| {
            Failure::caused("cannot derive the node's name", &error)
                .hint("give it one: --name NODE")
                .kind(ErrorKind::Usage)
        })
}

/// Refuses to make a second node in one home.
pub fn refuse_second(home: &Home) -> Result<(), Failure> {
    if !journal::exists(&home.journal()) {
        return Ok(());
    }
    Err(exists(home))
}

fn exists(home: &Home) -> Failure {
    Failure::new(format!(
        "there is a node in {} already",
        home.path().display()
    ))
    .hint("start it: `meshnode start`, or choose another folder with --home DIR")
    .kind(ErrorKind::Conflict)
}

/// Makes a key, or takes the one that an interrupted attempt has left.
pub fn key(path: &std::path::Path) -> Result<SecretKey, Failure> {
    let made = match keys::create(path) {
        Err(KeyFileError::Exists(_)) => keys::read(path),
        made => made,
    };
    made.map_err(|error| {
        Failure::caused("cannot make a key", &error)
            .hint(format!("look at {} and its rights", path.display()))
    })
}

/// Writes the node's first journal.
pub fn write_journal(home: &Home, entries: &[Vec<u8>]) -> Result<(), Failure> {
    let salt = keys::salt().map_err(|error| Failure::caused("cannot begin a journal", &error))?;
    journal::write_first(&home.journal(), salt, entries).map_err(|error| match error {
        FirstError::Exists(_) => exists(home),
        error => Failure::caused("cannot begin a journal", &error)
            .hint("look at the free space and the rights of the home"),
    })
}

/// Writes a settings file in which every key stands as a comment; keeps one that is there.
pub fn write_settings(home: &Home) -> Result<(), Failure> {
    let path = home.config();
    if path.exists() {
        return Ok(());
    }
    let mut text = String::from(
        "# Settings of this node. All are optional; `meshnode config show` prints what is in \
         force.\n",
    );
    let mut table = "";
    for key in KEYS {
        let (section, name) = key.name.split_once('.').unwrap_or(("", key.name));
        if section != table {
            text.push_str(&format!("\n# [{section}]\n"));
            table = section;
        }
        text.push_str(&format!(
            "# {name} = \"\"    # {} ({})\n",
            key.sentence, key.unit
        ));
    }
    // Whole or not at all: after a power cut a file of zeros would keep the node from starting.
    remember::replace(&path, text.as_bytes())
        .map_err(|error| Failure::caused(format!("cannot write {}", path.display()), &error))
}
