//! Tells systemd-resolved to ask this node for names of the mesh, and only for those; takes it back
//! at the end.
//!
//! The settings hang on the overlay's interface: should we die, they go with it. Touches nothing
//! unless resolved runs and lives in our own network namespace, for it knows interfaces by number
//! only. Decides nothing about names.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mesh_peer::names::{NODES_ZONE, SERVICES_ZONE, ZONE};
use tokio::process::Command;

use crate::runtime::overlay::TUN_NAME;

/// The folder that is there while systemd-resolved runs.
const RUNNING: &str = "/run/systemd/resolve";
/// The program that speaks to it.
const PROGRAM: &str = "resolvectl";
/// Longest wait for the program, for a start and a stop must not hang on it.
const WAIT: Duration = Duration::from_millis(1500);

/// The promise to undo what was said.
pub struct Hook(PathBuf);

impl Hook {
    /// Says it; an error is a reason for people.
    pub async fn engage(at: SocketAddr) -> Result<Self, String> {
        if !Path::new(RUNNING).is_dir() {
            return Err("systemd-resolved does not run".to_owned());
        }
        let net = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
        match (net("1"), net("self")) {
            (Ok(machine), Ok(own)) if machine == own => Self::through(PROGRAM.into(), at).await,
            (Ok(_), Ok(_)) => Err("this network is not systemd-resolved's".to_owned()),
            _ => Err("only root may tell systemd-resolved".to_owned()),
        }
    }

    async fn through(program: PathBuf, at: SocketAddr) -> Result<Self, String> {
        let hook = Self(program);
        let zones = [ZONE, NODES_ZONE, SERVICES_ZONE].map(|zone| format!("~{zone}"));
        let [forward, nodes, services] = zones.each_ref().map(String::as_str);
        // A plain address means port 53, in every version.
        let server = if at.port() == 53 {
            at.ip().to_string()
        } else {
            at.to_string()
        };
        let said = async {
            hook.run(&["dns", TUN_NAME, &server]).await?;
            hook.run(&["domain", TUN_NAME, forward, nodes, services])
                .await?;
            hook.run(&["default-route", TUN_NAME, "no"]).await
        };
        match said.await {
            Ok(()) => Ok(hook),
            Err(why) => {
                hook.undo().await;
                Err(why)
            }
        }
    }

    /// Takes it back.
    pub async fn undo(self) {
        if let Err(error) = self.run(&["revert", TUN_NAME]).await {
            tracing::debug!(error, "systemd-resolved forgets with the interface");
        }
    }

    async fn run(&self, arguments: &[&str]) -> Result<(), String> {
        let program = self.0.display();
        let mut command = Command::new(&self.0);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = match tokio::time::timeout(WAIT, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(format!("cannot run {program}: {error}")),
            Err(_) => return Err(format!("{program} does not end")),
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let line: String = said
            .lines()
            .next()
            .unwrap_or("")
            .chars()
            .take(200)
            .collect();
        Err(format!("{program} refused: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that writes down what it is asked and refuses one word.
    fn program(folder: &Path, refused: &str) -> PathBuf {
        let path = folder.join("resolvectl");
        let log = folder.join("log");
        let text = format!(
            "#!/bin/sh\necho \"$*\" >> {}\n\
             if [ \"$1\" = '{refused}' ]; then echo no >&2; exit 1; fi\n",
            log.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn what_is_said_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = "[fd6d::1]:53".parse().unwrap();
        let hook = Hook::through(program(folder.path(), ""), at).await.unwrap();
        hook.undo().await;
        let said = std::fs::read_to_string(folder.path().join("log")).unwrap();
        let lines = [
            "dns mesh0 fd6d::1",
            "domain mesh0 ~mesh.internal ~d.6.d.f.ip6.arpa ~3.7.d.f.ip6.arpa",
            "default-route mesh0 no",
            "revert mesh0",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), lines);
    }

    #[tokio::test]
    async fn refusal_is_told_and_nothing_is_left_half_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = "[fd6d::1]:5300".parse().unwrap();
        let refused = Hook::through(program(folder.path(), "domain"), at).await;
        assert!(refused.err().unwrap().ends_with("refused: no"));
        let said = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(said.starts_with("dns mesh0 [fd6d::1]:5300\n"), "{said}");
        assert!(said.ends_with("revert mesh0\n"), "{said}");
    }

    #[tokio::test]
    async fn missing_program_is_a_reason() {
        let at = "[fd6d::1]:53".parse().unwrap();
        let refused = Hook::through("/no/such/program".into(), at).await;
        assert!(refused.err().unwrap().contains("/no/such/program"));
    }
}
