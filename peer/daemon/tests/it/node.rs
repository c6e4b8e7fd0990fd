//! A home of its own for each test, commands run in it, and the daemon ended at the end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A node's folder; its daemon ends with it.
pub struct Node {
    folder: tempfile::TempDir,
    home: String,
}

/// What a command said.
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Results.
    pub out: String,
    /// Talk.
    pub err: String,
}

impl Node {
    /// Makes an empty home.
    pub fn new() -> Self {
        Self::at("home")
    }

    /// Makes an empty home whose path is longer than a socket's may be.
    pub fn deep() -> Self {
        Self::at(&"d".repeat(120))
    }

    fn at(home: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        Self {
            folder,
            home: home.to_owned(),
        }
    }

    /// Makes a home and founds an organisation there.
    pub fn founded(org: &str) -> Self {
        let node = Self::new();
        node.run(&["init", "--org", org]).check(0);
        node
    }

    /// Returns a path inside the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(&self.home).join(name)
    }

    /// Runs a command of `meshnode` on this home.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let output = command(&self.path(""), arguments)
            .output()
            .expect("the program runs");
        Said::of(&output)
    }

    /// Runs a command whose stdout is a file.
    pub fn run_into(&self, arguments: &[&str], out: &std::fs::File) {
        let stdout = out.try_clone().unwrap();
        let status = command(&self.path(""), arguments).stdout(stdout).status();
        assert!(status.unwrap().success(), "{arguments:?}");
    }

    /// Starts the daemon with its interface in a namespace of its own.
    pub fn start(&self) {
        self.run(&["start", "--set", "network.tun=namespace"])
            .check(0);
    }

    /// Returns the daemon's process.
    pub fn pid(&self) -> String {
        std::fs::read_to_string(self.path("meshnode.lock"))
            .expect("a running daemon names its process")
            .trim()
            .to_owned()
    }

    /// Returns the status as JSON.
    pub fn status(&self) -> serde_json::Value {
        let said = self.run(&["status", "--json"]);
        said.check(0);
        serde_json::from_str(&said.out).expect("status is JSON")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = command(&self.path(""), &["stop"]).output();
    }
}

impl Said {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub fn check(&self, code: i32) {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.out, self.err
        );
    }

    /// Fails the test unless the command failed with this code, a cause with `cause` in it, and a
    /// hint with `hint` in it.
    #[track_caller]
    pub fn check_failure(&self, code: i32, cause: &str, hint: &str) {
        self.check(code);
        let line = |start: &str| self.err.lines().find(|line| line.starts_with(start));
        assert!(
            line("error: ").is_some_and(|line| line.contains(cause)),
            "{}",
            self.err
        );
        assert!(
            line("hint: ").is_some_and(|line| line.contains(hint)),
            "{}",
            self.err
        );
    }
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshnode"));
    command.arg("--home").arg(home).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MESHSTEAD_")) {
        command.env_remove(name);
    }
    // These nodes stand on the machine's own network, which they leave alone, and its router.
    command.env("MESHSTEAD_REACH_PORT_MAPPING", "off");
    command.env("MESHSTEAD_NETWORK_MDNS", "off");
    command
}
