//! Recipes: software that knows how it should be administered, read from TOML.
//!
//! Decides what a recipe may say and refuses everything else with the line it stands on. Leaves
//! values to [`crate::parameter`], substitution to [`crate::template`], doing to the drivers.
//! Invariant: every hole of a parsed recipe names something that will have a value when it is
//! filled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_base::digest::Digest;
use mesh_base::name::Name;

use crate::parameter::{self, Parameter, ParameterError};
use crate::promise::{self, PromisePlan};
use crate::template::{Template, TemplateError};

pub use crate::wire::RecipeError;

/// Longest recipe text that is read; ours have under 8 KiB.
pub const RECIPE_LEN_MAX: usize = 256 * 1024;

/// A checked recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub(crate) digest: Digest,
    /// What orders call it.
    pub name: Name,
    /// What people call it.
    pub title: String,
    /// Version of the recipe, free text.
    pub version: String,
    /// A sentence or two.
    pub description: String,
    /// What an administrator should know and do.
    pub runbook: String,
    /// Where the software comes from.
    pub source: Source,
    /// What is added to the unpacked tree.
    pub tree: Tree,
    /// Whom the processes run as, inside.
    pub user: User,
    /// Where the data folder appears inside; the only place that keeps what is written.
    pub data: String,
    /// Run once per node, in the sandbox, on an empty data folder; must leave no secrets there.
    pub prepare: Vec<Command>,
    /// Files made when an instance is created, path inside to text; all lie in the data folder.
    pub files: BTreeMap<String, Template>,
    /// The main process.
    pub run: Vec<Template>,
    /// Environment of every process.
    pub env: BTreeMap<String, Template>,
    /// When the main process counts as started.
    pub ready: Option<ReadyFile>,
    /// Run once, after the first start on fresh data. If one fails, the data is made anew.
    pub init: Vec<Command>,
    /// How to stop.
    pub stop: Stop,
    /// Ports that the service listens on, by name.
    pub ports: BTreeMap<String, u16>,
    /// What an instance may use unless the order says otherwise.
    pub limits: Limits,
    /// What an order may say.
    pub parameters: BTreeMap<String, Parameter>,
    /// What the customer gets.
    pub publishes: BTreeMap<String, Template>,
    /// What must hold.
    pub promises: BTreeMap<String, PromiseSpec>,
}

/// Where software comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Debian packages, unpacked without their maintainer scripts.
    Debian(Debian),
}

/// A set of Debian packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    /// The release's code name.
    pub suite: String,
    /// Packages that are wanted; what they depend on comes along.
    pub packages: Vec<String>,
    /// Packages that are left out though others depend on them; a final `*` stands for any ending.
    pub without: Vec<String>,
    /// Paths that are not unpacked, relative to the root, with shell wildcards.
    pub drop: Vec<String>,
}

/// What is added to an unpacked tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Empty folders, relative to the root.
    pub folders: Vec<String>,
    /// Symbolic links: path relative to the root, and target.
    pub links: BTreeMap<String, String>,
    /// Lines of `/etc/passwd`.
    pub passwd: Vec<String>,
    /// Lines of `/etc/group`.
    pub group: Vec<String>,
}

/// Whom the processes run as, inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id, not zero.
    pub uid: u32,
    /// Group id, not zero.
    pub gid: u32,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; no shell in between.
    pub argv: Vec<Template>,
    /// What it reads; where secrets belong, since arguments can be seen.
    pub stdin: Option<Template>,
    /// It is killed after so long.
    pub timeout_ms: u32,
}

/// A file whose content tells that the main process is ready; removed before each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyFile {
    /// Path inside.
    pub path: String,
    /// Text that appears in it.
    pub contains: String,
    /// The start has failed after so long.
    pub timeout_ms: u32,
}

/// How to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Signal that asks the main process to end.
    pub signal: Signal,
    /// After so long everything is killed.
    pub grace_ms: u32,
}

/// A signal that asks to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hangup,
}

/// What an instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most memory, in MiB.
    pub memory_mib: u32,
    /// Most processor time, in thousandths of a core.
    pub cpu_millis: u32,
    /// Most processes and threads.
    pub pids: u32,
}

/// One promise: a command that must succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseSpec {
    /// The check, run inside the instance.
    pub command: Command,
    /// What it is for.
    pub kind: promise::Kind,
    /// How often it is run.
    pub period_ms: u32,
    /// So many bad runs …
    pub fails: u8,
    /// … among so many last ones count.
    pub window: u8,
}

/// Names that the drivers supply besides the parameters.
pub(crate) const SUPPLIED: [&str; 4] = ["name", "name_stem", "address", "memory_mib"];

impl Recipe {
    /// Reads a recipe; every fault names its line.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        crate::wire::parse(text)
    }

    /// Returns the name of this very text: the digest of its lines, however they end.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Checks what an order says and fills in defaults; secrets to be generated stay absent.
    pub fn check_parameters(
        &self,
        service: &Name,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        parameter::check_all(self.name.as_str(), &self.parameters, service, given)
    }

    /// Returns the secrets that are absent from checked values, with their lengths.
    pub fn secrets_to_generate<'a>(
        &'a self,
        values: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = (&'a str, usize)> {
        self.parameters
            .iter()
            .filter(|(name, _)| !values.contains_key(*name))
            .filter_map(|(name, parameter)| Some((name.as_str(), parameter.generate?)))
    }

    /// Checks parameters and makes the absent secrets; `fill` supplies random bytes.
    pub fn complete_parameters(
        &self,
        service: &Name,
        given: &BTreeMap<String, String>,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        let mut values = self.check_parameters(service, given)?;
        let wanted: Vec<(String, usize)> = self
            .secrets_to_generate(&values)
            .map(|(name, len)| (name.to_owned(), len))
            .collect();
        for (name, len) in wanted {
            values.insert(name, parameter::make_secret(len, &mut fill));
        }
        Ok(values)
    }

    /// Fills in what the customer gets. `host` is a DNS name, or an IPv6 address in brackets.
    pub fn publish(
        &self,
        host: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, TemplateError> {
        let mut all = values.clone();
        all.insert("host".to_owned(), host.to_owned());
        all.extend(self.port_values());
        self.publishes
            .iter()
            .map(|(name, template)| Ok((name.clone(), template.fill(&all)?)))
            .collect()
    }

    /// Returns `port` (if there is one port only) and `port_NAME` for each.
    pub fn port_values(&self) -> BTreeMap<String, String> {
        let mut values: BTreeMap<String, String> = self
            .ports
            .iter()
            .map(|(name, port)| (format!("port_{name}"), port.to_string()))
            .collect();
        if let (Some(port), 1) = (self.ports.values().next(), self.ports.len()) {
            values.insert("port".to_owned(), port.to_string());
        }
        values
    }

    /// Returns the promises as the supervision needs them.
    pub fn promise_plans(&self) -> Vec<PromisePlan> {
        let plan = |(name, promise): (&String, &PromiseSpec)| PromisePlan {
            name: name.clone(),
            kind: promise.kind,
            period: Duration::from_millis(promise.period_ms.into()),
            timeout: Duration::from_millis(promise.command.timeout_ms.into()),
            fails: promise.fails.into(),
            window: promise.window.into(),
        };
        self.promises.iter().map(plan).collect()
    }

    /// Returns the names of values that are needed again after the first start has succeeded.
    pub fn lasting_names(&self) -> BTreeSet<&str> {
        let promised = self.promises.values().flat_map(|promise| {
            promise
                .command
                .argv
                .iter()
                .chain(promise.command.stdin.as_ref())
        });
        self.run
            .iter()
            .chain(self.env.values())
            .chain(promised)
            .flat_map(Template::names)
            .collect()
    }
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
