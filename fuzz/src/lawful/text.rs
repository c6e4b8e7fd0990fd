//! Invites, recipes, amounts and words.

use mesh_base::certificate::Role;
use mesh_federation::invite::{Invite, Kind};

use super::{digest, hours_later, ledger, name, node, own_org};

/// A recipe that uses every table of the format, each once.
const SMALL_RECIPE: &str = include_str!("small_recipe.toml");
/// A recipe that people order.
const POSTGRES: &str = include_str!("../../../catalog/postgres.toml");

/// Returns an invite of each kind.
pub fn invites() -> Vec<(&'static str, Vec<u8>)> {
    let invite = |kind| Invite {
        kind,
        org: own_org(),
        org_name: name("bakery"),
        host: node(10),
        doors: vec![([192, 0, 2, 1], 7654).into()],
        secret: [5; 16],
        expires: hours_later(1),
        issuer: node(10),
    };
    let member = invite(Kind::Member { role: Role::Node });
    let agreement = invite(Kind::Agreement(Box::new(ledger::terms())));
    vec![
        ("member", member.to_text().into_bytes()),
        ("agreement", agreement.to_text().into_bytes()),
    ]
}

/// Returns a small recipe and a real one.
pub fn recipes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("small", SMALL_RECIPE.as_bytes().to_vec()),
        ("postgres", POSTGRES.as_bytes().to_vec()),
    ]
}

/// Returns amounts and prices.
pub fn amounts() -> Vec<(&'static str, Vec<u8>)> {
    let texts = [
        ("cents", "0.12EUR"),
        ("negative", "-0.000046 EUR"),
        ("most", "9223372036854.775807EUR"),
        ("price", "0.12EUR/month"),
        ("dear", "9223372036854.775807CHF/month"),
    ];
    texts
        .map(|(name, text)| (name, text.as_bytes().to_vec()))
        .into()
}

/// Returns a name, a key and a digest.
pub fn words() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("name", b"crm-db-2".to_vec()),
        ("key", node(11).to_string().into_bytes()),
        ("digest", digest(1).to_string().into_bytes()),
        ("guest", b"org:library".to_vec()),
    ]
}

/// Returns settings files as a person writes them.
pub fn settings() -> Vec<(&'static str, Vec<u8>)> {
    let tables = "# Of this machine.\n[capacity]\nslots = 4\nmemory_mib = 2_048\n\n\
                  [network]\nlisten = [\"[::]:4001\", \"0.0.0.0:4001\"]\nadvertise = []\n";
    let dotted = "metering.period = \"1h\"\nlog = { level = 'info', format = \"json\" }\n";
    vec![
        ("tables", tables.as_bytes().to_vec()),
        ("dotted", dotted.as_bytes().to_vec()),
    ]
}
