//! Babel routers on the plots of a yard: ours, babeld, BIRD.
//!
//! All say hello twice a second and tell their table every two, so that tests are quick, but a
//! babeld that is to be measured. Each announces its plot's own address. A router ends when it is
//! dropped.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::until::until;
use crate::yard::Yard;

/// Longest until a router can be asked.
const STARTED: Duration = Duration::from_secs(20);

/// Where Debian puts them; not every user's `PATH` leads there.
const BABELD: &str = "/usr/sbin/babeld";
const BIRD: &str = "/usr/sbin/bird";
const BIRDC: &str = "/usr/sbin/birdc";

/// How packets are authenticated.
#[derive(Debug, Clone, Copy)]
pub struct Secret {
    /// `hmac-sha256` or `blake2s128`.
    pub algorithm: &'static str,
    /// Thirty-two characters.
    pub text: &'static str,
}

impl Secret {
    /// Returns the line of a file of keys.
    pub fn line(self) -> String {
        format!("{}:{}", self.algorithm, self.hex())
    }

    fn hex(self) -> String {
        let bytes = self.text.bytes();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A process that is ended with its owner.
#[derive(Debug)]
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Ended {
    /// Returns a line of the process's status in KiB: `VmRSS` or `VmHWM`.
    fn memory(&self, line: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let found = status.lines().find_map(|text| text.strip_prefix(line));
        let words = found.and_then(|text| text.split_whitespace().nth(1));
        words
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no {line}"))
    }
}

/// Our own router.
#[derive(Debug)]
pub struct Ours {
    child: Ended,
    answers: BufReader<ChildStdout>,
}

impl Ours {
    /// Starts it on a plot's interfaces, with more words of its command line.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        yard: &Yard,
        plot: &str,
        interfaces: &[&str],
        secret: Option<Secret>,
        words: &[&str],
    ) -> anyhow::Result<Self> {
        let number = yard.number(plot)?;
        let own = format!("{}/128", yard.address(plot)?);
        let mut line = format!(
            "--router-id 02000000000000{number:02} --announce {own} --hello-ms 500 --update-ms 2000"
        );
        for interface in interfaces {
            line.push_str(&format!(" --interface {interface}"));
        }
        if let Some(secret) = secret {
            line.push_str(&format!(" --key {}", secret.line()));
        }
        let line = line.split(' ').chain(words.iter().copied());
        let words: Vec<String> = line.map(str::to_owned).collect();
        let mut child = yard.start(plot, &yard.program("mesh-babel"), &words)?;
        let answers = child.stdout.take().context("it has an output")?;
        Ok(Self {
            child: Ended(child),
            answers: BufReader::new(answers),
        })
    }

    /// Asks for `routes`, `neighbours` or `counters`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&mut self, question: &str) -> anyhow::Result<Value> {
        let input = self.child.0.stdin.as_mut().context("it has an input")?;
        writeln!(input, "{question}").context("it does not listen")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))
    }

    /// Returns a counter; zero if nothing was counted.
    ///
    /// # Errors
    /// It does not answer.
    pub fn count(&mut self, what: &str) -> anyhow::Result<u64> {
        let counters = self.ask("counters")?;
        Ok(counters.get(what).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Returns its neighbours.
    ///
    /// # Errors
    /// It does not answer.
    pub fn neighbours(&mut self) -> anyhow::Result<Vec<Value>> {
        let all = self.ask("neighbours")?;
        Ok(all.as_array().cloned().unwrap_or_default())
    }

    /// Returns the neighbour of a plot's number.
    ///
    /// # Errors
    /// It does not answer.
    pub fn neighbour(&mut self, number: usize) -> anyhow::Result<Option<Value>> {
        let address = format!("fe80::{number}");
        let is_it = |one: &Value| one.get("address").is_some_and(|it| *it == address);
        Ok(self.neighbours()?.into_iter().find(is_it))
    }

    /// Returns the router-id of the route that is used to a prefix.
    ///
    /// # Errors
    /// It does not answer.
    pub fn origin(&mut self, prefix: &str) -> anyhow::Result<Option<String>> {
        let routes = self.ask("routes")?;
        let routes = routes.as_array().into_iter().flatten();
        let mut used = routes.filter(|route| {
            route.get("prefix").is_some_and(|it| *it == prefix)
                && route.get("state").is_some_and(|it| *it == "via")
        });
        let way = used
            .next()
            .and_then(|route| route.pointer("/ways/0/router_id"));
        Ok(way.and_then(Value::as_str).map(str::to_owned))
    }

    /// Returns the memory that it uses, and the most that it used, in KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> anyhow::Result<(u64, u64)> {
        Ok((self.child.memory("VmRSS")?, self.child.memory("VmHWM")?))
    }
}

/// Debian's babeld.
#[derive(Debug)]
pub struct Babeld {
    child: Ended,
    socket: PathBuf,
}

impl Babeld {
    /// Starts it on a plot's interfaces, each with more words of its configuration, and with more
    /// lines of configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        yard: &Yard,
        plot: &str,
        interfaces: &[(&str, &str)],
        secret: Option<Secret>,
        lines: &[&str],
    ) -> anyhow::Result<Self> {
        let mut config: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        if let Some(secret) = secret {
            let (kind, hex) = (secret.algorithm, secret.hex());
            config.push(format!("key id k type {kind} value {hex}"));
        }
        let key = if secret.is_some() { " key k" } else { "" };
        for (interface, words) in interfaces {
            // It takes a veth for a radio.
            config.push(format!(
                "interface {interface} type wired hello-interval 0.5 update-interval 2{key}{words}"
            ));
        }
        let names = interfaces.iter().map(|(name, _)| *name);
        Self::launch(yard, plot, &names.collect::<Vec<_>>(), config)
    }

    /// Starts it on cables at its own pace, changed only by `words` of its configuration.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_as_shipped(
        yard: &Yard,
        plot: &str,
        cables: &[&str],
        words: &str,
    ) -> anyhow::Result<Self> {
        // It takes a veth for a radio, which would make it slower.
        let config = cables
            .iter()
            .map(|cable| format!("interface {cable} type wired {words}"));
        Self::launch(yard, plot, cables, config.collect())
    }

    fn launch(
        yard: &Yard,
        plot: &str,
        interfaces: &[&str],
        mut config: Vec<String>,
    ) -> anyhow::Result<Self> {
        let socket = yard.file(&format!("{plot}-babeld"));
        // What an earlier life left would be in the way.
        let _ = fs::remove_file(&socket);
        let own = format!("{}/128", yard.address(plot)?);
        let number = yard.number(plot)?;
        config.push(format!("router-id 02:00:00:00:00:00:00:{number:02}"));
        config.push(format!("redistribute local ip {own} allow"));
        config.push("redistribute local deny".to_owned());
        // No file of numbers of its life before, and none of its process.
        let socket_name = socket.to_string_lossy();
        let mut words: Vec<String> = ["-I", "", "-S", "", "-g", &*socket_name]
            .map(str::to_owned)
            .to_vec();
        for line in config {
            words.extend(["-C".to_owned(), line]);
        }
        words.extend(interfaces.iter().map(|name| (*name).to_owned()));
        let child = Ended(yard.start(plot, BABELD, &words)?);
        let babeld = Self { child, socket };
        until("babeld answers", STARTED, || Ok(babeld.dump().ok()))?;
        Ok(babeld)
    }

    /// Returns what it tells of interfaces, neighbours and routes, line by line.
    ///
    /// # Errors
    /// It does not answer.
    pub fn dump(&self) -> anyhow::Result<Vec<String>> {
        let mut stream = UnixStream::connect(&self.socket).context("babeld does not listen")?;
        stream.set_read_timeout(Some(STARTED))?;
        stream.write_all(b"dump\nquit\n")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Returns a field of its neighbour of a plot's number: `reach`, `ureach`, `rtt`, `rttcost`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn neighbour(&self, number: usize, field: &str) -> anyhow::Result<Option<String>> {
        let address = format!(" address fe80::{number} ");
        let is_it = |line: &&String| line.starts_with("add neighbour") && line.contains(&address);
        let dump = self.dump()?;
        let line = dump.iter().find(is_it);
        let value = line.and_then(|line| {
            let mut words = line.split(' ').skip_while(|word| *word != field);
            words.nth(1)
        });
        Ok(value.map(str::to_owned))
    }

    /// Returns the router-id of the route that it uses to a prefix.
    ///
    /// # Errors
    /// It does not answer.
    pub fn origin(&self, prefix: &str) -> anyhow::Result<Option<String>> {
        let prefix = format!(" prefix {prefix} ");
        let is_it = |line: &&String| {
            line.starts_with("add route")
                && line.contains(&prefix)
                && line.contains("installed yes")
        };
        let dump = self.dump()?;
        let line = dump.iter().find(is_it);
        let id = line.and_then(|line| line.split(" id ").nth(1)?.split(' ').next());
        Ok(id.map(str::to_owned))
    }

    /// Returns the memory that it uses, in KiB.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> anyhow::Result<u64> {
        self.child.memory("VmRSS")
    }
}

/// Debian's BIRD.
#[derive(Debug)]
pub struct Bird {
    _child: Ended,
}

impl Bird {
    /// Starts it on a plot's interfaces.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(
        yard: &Yard,
        plot: &str,
        interfaces: &[&str],
        secret: Option<Secret>,
    ) -> anyhow::Result<Self> {
        let (number, own) = (yard.number(plot)?, yard.address(plot)?);
        let key = secret.map_or(String::new(), |Secret { algorithm, text }| {
            let algorithm = algorithm.replace('-', " ");
            format!("authentication mac; password \"{text}\" {{ algorithm {algorithm}; }};")
        });
        let names: Vec<String> = interfaces.iter().map(|it| format!("\"{it}\"")).collect();
        let names = names.join(", ");
        let config = format!(
            "log stderr all;
            router id 0.0.0.{number};
            protocol device {{ scan time 1; }}
            protocol static {{ ipv6; route {own}/128 blackhole; }}
            protocol kernel {{ ipv6 {{ import none; export where source = RTS_BABEL; }}; }}
            protocol babel {{
              ipv6 {{ import all; export all; }};
              interface {names} {{
                type wired; hello interval 500 ms; update interval 2 s; {key}
              }};
            }}\n"
        );
        let (file, socket) = (format!("{plot}-bird.conf"), format!("{plot}-bird"));
        let (file, socket) = (yard.file(&file), yard.file(&socket));
        fs::write(&file, config)?;
        let words = [
            "-f",
            "-c",
            &file.to_string_lossy(),
            "-s",
            &socket.to_string_lossy(),
        ];
        let words = words.map(str::to_owned);
        let child = Ended(yard.start(plot, BIRD, &words)?);
        until("BIRD answers", STARTED, || {
            let asked = Command::new(BIRDC)
                .arg("-s")
                .arg(&socket)
                .arg("show status")
                .output();
            let asked = asked.context("cannot run birdc")?;
            Ok(asked.status.success().then_some(()))
        })?;
        Ok(Self { _child: child })
    }
}
