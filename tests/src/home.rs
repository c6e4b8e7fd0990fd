//! One machine with its node, as its owner uses it: settings, start, stop, commands, logs.
//!
//! A home has a folder of its own (`MESHSTEAD_HOME`) and maybe a network namespace of its own.
//! Which one it is, nobody sees who uses it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::said::{Asked, Said};
use crate::until::until;

/// Longest that a command may take: software may have to be fetched and unpacked first.
const COMMAND_LIMIT: Duration = Duration::from_secs(240);

/// Debian's own client; a wrapper of the same name may stand before it in `PATH`.
const PSQL: &str = "/usr/bin/psql";

/// Who hears what is typed in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Nobody.
    Quiet,
    /// Standard output, as on a screen.
    Aloud,
}

/// One machine with its node.
#[derive(Debug, Clone)]
pub struct Home {
    /// The node's name.
    pub name: String,
    /// Where the node keeps its things.
    pub folder: PathBuf,
    /// Where the programs are.
    programs: PathBuf,
    /// What is put before each command to run it on this machine.
    entry: Vec<String>,
    voice: Voice,
    /// What was typed here, by all copies of this home.
    history: Arc<Mutex<Vec<String>>>,
}

impl Home {
    /// Makes a home on this very machine.
    pub fn new(name: &str, folder: PathBuf, programs: &Path) -> Self {
        Self {
            name: name.to_owned(),
            folder,
            programs: programs.to_path_buf(),
            entry: Vec::new(),
            voice: Voice::Quiet,
            history: Arc::default(),
        }
    }

    /// Puts words before each command, as `nsenter` needs them.
    pub fn entered_by(mut self, entry: Vec<String>) -> Self {
        self.entry = entry;
        self
    }

    /// Returns the same home, used by somebody without any right: in a user namespace where it is
    /// not root.
    pub fn without_rights(&self) -> Self {
        let mut home = self.clone();
        let words = [
            "unshare",
            "--user",
            "--map-user=1000",
            "--map-group=1000",
            "--",
        ];
        home.entry.extend(words.map(str::to_owned));
        home
    }

    /// Returns the same home, used by somebody without any right on a machine whose owner has
    /// switched user namespaces off.
    pub fn without_namespaces(&self) -> Self {
        let mut home = self.without_rights();
        // What stands last opens the namespace; rights are kept for the next step only.
        home.entry.pop();
        let off = "echo 0 > /proc/sys/user/max_user_namespaces && \
                   exec setpriv --inh-caps=-all --ambient-caps=-all -- \"$@\"";
        let words = ["--keep-caps", "--", "sh", "-c", off, "sh"];
        home.entry.extend(words.map(str::to_owned));
        home
    }

    /// Returns the same home, used by whoever runs its daemon, on the same machine and no other:
    /// each command of somebody without rights has a user namespace of its own otherwise.
    ///
    /// # Errors
    /// There is no daemon.
    pub fn beside_daemon(&self) -> anyhow::Result<Self> {
        let pid = self.daemon()?.to_string();
        let words = [
            "nsenter",
            "-t",
            &pid,
            "-U",
            "-n",
            "--preserve-credentials",
            "--",
        ];
        let words = words.map(str::to_owned);
        Ok(self.clone().entered_by(words.to_vec()))
    }

    /// Returns the same home, with its commands run in the network of a process of it.
    pub fn in_network_of(&self, pid: Pid) -> Self {
        let words = ["nsenter", "-t", &pid.to_string(), "-n", "--"].map(str::to_owned);
        self.clone().entered_by(words.to_vec())
    }

    /// Starts any other program on this machine and does not wait for its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Asked> {
        let typed = self.typed(program, arguments);
        Asked::start(typed, self.command(Path::new(program), arguments))
    }

    /// Chooses who hears what is typed.
    pub fn heard(mut self, voice: Voice) -> Self {
        self.voice = voice;
        self
    }

    /// Returns the same home, unheard: for looks that a user would not repeat on the screen.
    pub fn quietly(&self) -> Self {
        self.clone().heard(Voice::Quiet)
    }

    /// Runs `meshnode` and returns what it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn meshnode(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        self.say("meshnode", &self.programs.join("meshnode"), arguments)
    }

    /// Runs `meshctl` and returns what it said.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn meshctl(&self, arguments: &[&str]) -> anyhow::Result<Said> {
        self.say("meshctl", &self.programs.join("meshctl"), arguments)
    }

    /// Starts `meshctl` and does not wait for its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn meshctl_begin(&self, arguments: &[&str]) -> anyhow::Result<Asked> {
        let typed = self.typed("meshctl", arguments);
        self.remember(&typed);
        if self.voice == Voice::Aloud {
            println!("{typed}");
        }
        Asked::start(
            typed,
            self.command(&self.programs.join("meshctl"), arguments),
        )
    }

    /// Starts `meshnode` and does not wait for its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn meshnode_begin(&self, arguments: &[&str]) -> anyhow::Result<Asked> {
        let typed = self.typed("meshnode", arguments);
        self.remember(&typed);
        Asked::start(
            typed,
            self.command(&self.programs.join("meshnode"), arguments),
        )
    }

    /// Returns a command of one of our programs on this machine, for whoever wants to watch it
    /// while it runs.
    pub fn unstarted(&self, program: &str, arguments: &[&str]) -> Command {
        self.remember(&self.typed(program, arguments));
        self.command(&self.programs.join(program), arguments)
    }

    /// Returns the same, but stopped before the program begins: for whoever wants to trace it from
    /// its first system call. SIGCONT lets it begin.
    pub fn unstarted_and_stopped(&self, program: &str, arguments: &[&str]) -> Command {
        self.remember(&self.typed(program, arguments));
        let program = self.programs.join(program).to_string_lossy().into_owned();
        let stop = ["-c", "kill -STOP $$; exec \"$@\"", "sh", &program];
        self.command(Path::new("/bin/sh"), &[&stop, arguments].concat())
    }

    /// Runs any other program on this machine.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Said> {
        self.say(program, Path::new(program), arguments)
    }

    /// Runs `ip` on this machine with words separated by spaces.
    ///
    /// # Errors
    /// It fails.
    pub fn ip(&self, words: &str) -> anyhow::Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        self.run("ip", &words)?.ok().map(drop)
    }

    /// Starts any other program on this machine and lets it run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Asked> {
        let typed = self.typed(program, arguments);
        self.remember(&typed);
        Asked::start(typed, self.command(Path::new(program), arguments))
    }

    /// Asks a database a question with Debian's `psql`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn psql(&self, url: &str, question: &str) -> anyhow::Result<Said> {
        // No settings of the user's, bare values, an error ends it, and soon.
        let arguments = ["-X", "-At", "-v", "ON_ERROR_STOP=1", url, "-c", question];
        let shown = format!(
            "{}$ psql \"{}\" -c '{question}'",
            self.name,
            hide_password(url)
        );
        self.speak(shown, self.command(Path::new(PSQL), &arguments))
    }

    /// Writes a setting into the node's settings file.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn configure(&self, key: &str, value: impl Into<toml::Value>) -> anyhow::Result<()> {
        let path = self.folder.join("config.toml");
        let text = if path.exists() {
            fs::read_to_string(&path)?
        } else {
            String::new()
        };
        let mut settings: toml::Table = text.parse().context("config.toml is damaged")?;
        let (section, name) = key
            .split_once('.')
            .context("a key has a section and a name")?;
        let empty = || toml::Value::Table(toml::Table::new());
        let section = settings.entry(section).or_insert_with(empty);
        let table = section
            .as_table_mut()
            .context("a section of config.toml is a value")?;
        table.insert(name.to_owned(), value.into());
        fs::create_dir_all(&self.folder).context("cannot make the home's folder")?;
        fs::write(&path, settings.to_string()).context("cannot write config.toml")
    }

    /// Starts the daemon; it answers when this returns.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> anyhow::Result<()> {
        self.meshnode(&["start"])?.ok().map(drop)
    }

    /// Stops the daemon.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.meshnode(&["stop"])?.ok().map(drop)
    }

    /// Returns the process id of the daemon, from the lock that it holds.
    ///
    /// # Errors
    /// There is no daemon.
    pub fn daemon(&self) -> anyhow::Result<Pid> {
        let path = self.folder.join("meshnode.lock");
        let text = fs::read_to_string(&path).context("no daemon has run here")?;
        Ok(Pid::from_raw(
            text.trim().parse().context("the lock names no process")?,
        ))
    }

    /// Kills the daemon without a warning and waits until it is gone.
    ///
    /// # Errors
    /// There is no daemon, or it does not go.
    pub fn kill_daemon(&self) -> anyhow::Result<()> {
        let pid = self.daemon()?;
        kill(pid, Signal::SIGKILL).context("cannot kill the daemon")?;
        until("the daemon is gone", Duration::from_secs(10), || {
            Ok(kill(pid, None).is_err().then_some(()))
        })
    }

    /// Returns the connection string of a service, as it works on this machine.
    ///
    /// # Errors
    /// There is no such service, or it has none yet.
    pub fn url(&self, service: &str) -> anyhow::Result<String> {
        self.meshctl(&["show", service, "--field", "url"])?.value()
    }

    /// Returns what the node says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> anyhow::Result<serde_json::Value> {
        self.meshnode(&["status", "--json"])?.json()
    }

    /// Returns how many entries of the node's journal are on disk.
    ///
    /// # Errors
    /// The node does not answer.
    pub fn journal_position(&self) -> anyhow::Result<u64> {
        let status = self.quietly().status()?;
        let position = status
            .get("journal_position")
            .and_then(serde_json::Value::as_u64);
        position.context("no journal position")
    }

    /// Returns the node's address in the overlay; nobody hears the question.
    ///
    /// # Errors
    /// The node does not answer, or has none.
    pub fn overlay_address(&self) -> anyhow::Result<String> {
        let status = self.quietly().status()?;
        let address = status.get("address").and_then(serde_json::Value::as_str);
        address.map(str::to_owned).context("a node has an address")
    }

    /// Returns the path of one of the node's keys, as a command's word.
    pub fn key(&self, name: &str) -> String {
        let path = self.folder.join("keys").join(name);
        path.to_string_lossy().into_owned()
    }

    /// Returns a port that the node chose.
    ///
    /// # Errors
    /// It has chosen none for this.
    pub fn port(&self, of: &str) -> anyhow::Result<i64> {
        let text = fs::read_to_string(self.folder.join("ports.toml"))?;
        let ports: toml::Table = text.parse()?;
        let port = ports.get(of).and_then(toml::Value::as_integer);
        port.with_context(|| format!("no {of} port"))
    }

    /// Returns the daemon's log.
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.join("meshnode.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn say(&self, word: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Said> {
        self.speak(
            self.typed(word, arguments),
            self.command(program, arguments),
        )
    }

    /// Returns what was typed here so far.
    pub fn history(&self) -> Vec<String> {
        self.history
            .lock()
            .map(|history| history.clone())
            .unwrap_or_default()
    }

    fn remember(&self, typed: &str) {
        if let Ok(mut history) = self.history.lock() {
            history.push(typed.to_owned());
        }
    }

    fn speak(&self, typed: String, command: Command) -> anyhow::Result<Said> {
        self.remember(&typed);
        if self.voice == Voice::Aloud {
            println!("{typed}");
        }
        let said = Said::by(typed, command, COMMAND_LIMIT)?;
        if self.voice == Voice::Aloud {
            for line in said.stderr.lines().chain(said.stdout.lines()) {
                println!("  {line}");
            }
        }
        Ok(said)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = match self.entry.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args(arguments).env("MESHSTEAD_HOME", &self.folder);
        // A lost network must become an error within a test's time.
        command.env("PGCONNECT_TIMEOUT", "4");
        command
    }

    /// Returns a command as its user would type it.
    fn typed(&self, word: &str, arguments: &[&str]) -> String {
        let mut typed = format!("{}$ {word}", self.name);
        for argument in arguments {
            typed.push(' ');
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/=@%+".contains(c);
            if !argument.is_empty() && argument.chars().all(is_plain) {
                typed.push_str(&shorten(argument));
            } else {
                typed.push_str(&format!("'{argument}'"));
            }
        }
        typed
    }
}

/// Shortens what nobody reads, as an invite of several lines.
fn shorten(argument: &str) -> String {
    const SHOWN: usize = 48;
    match argument.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", argument.get(..at).unwrap_or_default()),
        None => argument.to_owned(),
    }
}

/// Takes the password out of a connection string, for the screen.
fn hide_password(url: &str) -> String {
    let hidden = url.split_once("://").and_then(|(scheme, rest)| {
        let (login, place) = rest.split_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{place}"))
    });
    hidden.unwrap_or_else(|| url.to_owned())
}

/// Waits until a node sees all the named peers connected.
///
/// # Errors
/// It does not within the limit.
pub fn sees(home: &Home, peers: &[&str], limit: Duration) -> anyhow::Result<()> {
    let what = format!("{} sees {}", home.name, peers.join(", "));
    let home = home.quietly();
    until(&what, limit, || {
        let status = home.status()?;
        let Some(rows) = status.get("peers").and_then(serde_json::Value::as_array) else {
            bail!("status has no peers: {status}");
        };
        let is_connected = |peer: &str| {
            rows.iter().any(|row| {
                let name = row.get("name").and_then(serde_json::Value::as_str);
                let connected = row.get("connected").and_then(serde_json::Value::as_bool);
                name == Some(peer) && connected == Some(true)
            })
        };
        Ok(peers.iter().all(|peer| is_connected(peer)).then_some(()))
    })
}

/// Waits until each of some nodes sees all others of them connected.
///
/// # Errors
/// One does not within the limit, which each has for itself.
pub fn see_each_other(homes: &[&Home], limit: Duration) -> anyhow::Result<()> {
    homes.iter().try_for_each(|home| {
        let others = homes.iter().filter(|other| other.name != home.name);
        let names: Vec<&str> = others.map(|other| other.name.as_str()).collect();
        sees(home, &names, limit)
    })
}

/// Returns over how many links a node reaches another: one is directly. None if it does not answer
/// or its packets came by links that are not known.
///
/// # Errors
/// The command cannot be run.
pub fn links_between(from: &Home, to: &str) -> anyhow::Result<Option<u64>> {
    let words = ["ping", to, "--count", "1", "--json"];
    let ping = from.quietly().meshnode(&words)?;
    if ping.code != 0 {
        return Ok(None);
    }
    let ping = ping.json()?;
    Ok(ping.get("hops_there").and_then(serde_json::Value::as_u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_not_shown() {
        let url = "postgresql://crm:secret@127.0.0.1:4711/crm";
        assert_eq!(hide_password(url), "postgresql://crm:…@127.0.0.1:4711/crm");
        assert_eq!(hide_password("no url"), "no url");
    }

    #[test]
    fn settings_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new("a", folder.path().to_owned(), Path::new("/bin"));
        home.configure("capacity.slots", 1).unwrap();
        home.configure("metering.period", "1s").unwrap();
        home.configure("capacity.slots", 0).unwrap();
        let text = fs::read_to_string(folder.path().join("config.toml")).unwrap();
        let settings: toml::Table = text.parse().unwrap();
        assert_eq!(settings["capacity"]["slots"].as_integer(), Some(0));
        assert_eq!(settings["metering"]["period"].as_str(), Some("1s"));
    }

    #[test]
    fn typed_command_reads_as_on_a_screen() {
        let home = Home::new("bakery-1", "/nowhere".into(), Path::new("/bin"));
        let typed = home.typed("meshctl", &["order", "postgres", "--name", "crm db"]);
        assert_eq!(typed, "bakery-1$ meshctl order postgres --name 'crm db'");
    }
}
