//! Homes in network namespaces of their own, joined by a street.
//!
//! ```text
//!      street (a bridge in the test's own namespace, 10.77.0.0/24)
//!    ┌────┴─────┬───────────┬───────────┐
//!   v1         v2          v3          v4      the street's ends: pulled down to cut a home off
//!    │          │           │           │
//!  eth0       eth0        eth0        eth0     10.77.0.1 … 10.77.0.N
//!  home 1     home 2      home 3      home 4
//! ```
//! The test is root in a user namespace of its own, and needs no more: see [`crate::ground`].
//! Namespaces end with their last process, so a lab needs no cleaning up.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::home::Home;
use crate::until::until;

/// Most homes on a street: what its /24 can number.
const HOMES_MAX: usize = 250;

/// A street of homes.
#[derive(Debug)]
pub struct Lab {
    homes: Vec<Home>,
    /// Processes that hold the homes' namespaces open.
    holders: Vec<Child>,
}

impl Lab {
    /// Builds a street of homes with these names; their folders come to lie in `folder`.
    ///
    /// # Errors
    /// A namespace or a link cannot be made.
    pub fn new(names: &[&str], folder: &Path, programs: &Path) -> anyhow::Result<Self> {
        ensure!(
            names.len() <= HOMES_MAX,
            "a street has at most {HOMES_MAX} homes"
        );
        ip("link set lo up")?;
        ip("link add street type bridge")?;
        ip("link set street up")?;
        let mut lab = Self {
            homes: Vec::new(),
            holders: Vec::new(),
        };
        for (number, name) in (1..).zip(names) {
            lab.build(number, name, folder.join(name), programs)?;
        }
        Ok(lab)
    }

    /// Returns a home by its name.
    ///
    /// # Errors
    /// There is no such home.
    pub fn home(&self, name: &str) -> anyhow::Result<&Home> {
        let home = self.homes.iter().find(|home| home.name == name);
        home.with_context(|| format!("{name} is not on this street"))
    }

    /// Cuts a home off.
    ///
    /// # Errors
    /// Its link cannot be changed.
    pub fn cut(&self, name: &str) -> anyhow::Result<()> {
        ip(&format!("link set v{} down", self.number(name)?))
    }

    /// Joins a home again.
    ///
    /// # Errors
    /// Its link cannot be changed.
    pub fn heal(&self, name: &str) -> anyhow::Result<()> {
        ip(&format!("link set v{} up", self.number(name)?))
    }

    /// Returns a home's address on the street.
    ///
    /// # Errors
    /// There is no such home.
    pub fn address(&self, name: &str) -> anyhow::Result<Ipv4Addr> {
        let number = u8::try_from(self.number(name)?).context("a street has few homes")?;
        Ok(Ipv4Addr::new(10, 77, 0, number))
    }

    /// Returns the process that holds a home's namespace open.
    ///
    /// # Errors
    /// There is no such home.
    pub fn holder(&self, name: &str) -> anyhow::Result<u32> {
        let holder = self.holders.get(self.number(name)? - 1);
        Ok(holder.context("a home has a holder")?.id())
    }

    fn number(&self, name: &str) -> anyhow::Result<usize> {
        let at = self.homes.iter().position(|home| home.name == name);
        Ok(at.with_context(|| format!("{name} is not on this street"))? + 1)
    }

    fn build(
        &mut self,
        number: usize,
        name: &str,
        folder: PathBuf,
        programs: &Path,
    ) -> anyhow::Result<()> {
        let holder = Command::new("unshare")
            .args(["--net", "--", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run unshare")?;
        let pid = holder.id();
        self.holders.push(holder);
        let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
        until("a network namespace", Duration::from_secs(10), || {
            Ok((net(&pid.to_string())? != net("self")?).then_some(()))
        })?;
        ip(&format!(
            "link add v{number} type veth peer name eth0 netns {pid}"
        ))?;
        ip(&format!("link set v{number} master street up"))?;
        let pid = pid.to_string();
        let entry: Vec<String> = ["nsenter", "-t", &pid, "-n", "--"]
            .map(str::to_owned)
            .into_iter()
            .collect();
        let home = Home::new(name, folder, programs).entered_by(entry);
        let address = format!("10.77.0.{number}/24");
        home.run("ip", &["link", "set", "lo", "up"])?.ok()?;
        home.run("ip", &["address", "add", &address, "dev", "eth0"])?
            .ok()?;
        home.run("ip", &["link", "set", "eth0", "up"])?.ok()?;
        self.homes.push(home);
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for holder in &mut self.holders {
            // It may have gone already; then there is nothing left to do.
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// Runs `ip` with words separated by spaces.
fn ip(words: &str) -> anyhow::Result<()> {
    let output = Command::new("ip")
        .args(words.split(' '))
        .stdin(Stdio::null())
        .output()
        .context("cannot run ip")?;
    if !output.status.success() {
        bail!(
            "ip {words}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
