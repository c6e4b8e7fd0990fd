//! The first process inside: makes the sandbox, starts the main process, reaps, runs checks.
//!
//! Single-threaded, without power, obeys only its shim: when that connection ends, it ends, and the
//! kernel ends everything in its process namespace. Nothing inside can signal or trace it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::error::sentence;
use crate::link::Link;
use crate::{process, sandbox, seccomp, sys};
use mesh_compute::words::{FromInside, Outcome, Plan, Run, ToInside};

/// What a command may print before the rest is thrown away.
const SAID_LEN_MAX: usize = 8 * 1024;
/// How often the ready file is looked at: far below what a start takes.
const READY_PERIOD: Duration = Duration::from_millis(2);

/// Lives as the first process inside; ends with the shim's connection.
pub fn live(plan: &Plan, shim: Link, output: OwnedFd) -> ! {
    let code = match Inside::begin(plan, shim, output) {
        Ok(mut inside) => match inside.serve() {
            Ok(()) => 0,
            Err(_) => 1,
        },
        Err(_) => 1,
    };
    sys::exit(code)
}

struct Inside<'a> {
    plan: &'a Plan,
    shim: Link,
    output: OwnedFd,
    children: SignalFd,
    filter: Option<Vec<libc::sock_filter>>,
    main: Option<Pid>,
    /// Until when the ready file is awaited.
    ready_by: Option<Instant>,
    checks: BTreeMap<Pid, Check>,
}

/// A command on its way.
struct Check {
    id: u64,
    output: File,
    said: Vec<u8>,
    deadline: Instant,
    timed_out: bool,
    /// Whether nobody can print any more.
    silent: bool,
}

impl<'a> Inside<'a> {
    fn begin(plan: &'a Plan, shim: Link, output: OwnedFd) -> io::Result<Self> {
        let _ = nix::sys::prctl::set_name(c"mesh-inside");
        let Some(_go) = shim.receive::<ToInside>()? else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        if plan.walled().is_none() {
            enter_namespaces(plan, &shim)?;
        }
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let children =
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // A second way to end with the shim, beside the end of the connection. After the change of
        // user, which would have cleared it.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        let filter = match plan.walled() {
            None => {
                seal(&shim)?;
                seccomp::filter()
            }
            // Loaded already, by which all that we start has it.
            Some(walled) => {
                match process::enter(plan, &walled.tool) {
                    Ok(asked) => shim.send(&FromInside::Supervised, Some(asked.as_fd()))?,
                    Err(error) => return Err(fail(&shim, &sentence(&error))),
                }
                None
            }
        };
        let mut inside = Self {
            plan,
            shim,
            output,
            children,
            filter,
            main: None,
            ready_by: None,
            checks: BTreeMap::new(),
        };
        if let Err(error) = inside.start_main() {
            let program = plan.run.first().map(String::as_str).unwrap_or_default();
            return Err(fail(
                &inside.shim,
                &format!("cannot start {program}: {error}"),
            ));
        }
        let main = inside.main.map(Pid::as_raw);
        inside.shim.send(&FromInside::Up { main }, None)?;
        Ok(inside)
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            self.wait()?;
            self.read_outputs()?;
            let mut drained = 0;
            while self.children.read_signal()?.is_some() && drained < 64 {
                drained += 1;
            }
            self.reap()?;
            self.look_at_clock()?;
            if self.is_spoken_to()? && !self.obey()? {
                return Ok(());
            }
        }
    }

    fn is_spoken_to(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.shim.as_fd(), PollFlags::POLLIN)];
        Ok(0 < poll(&mut fds, PollTimeout::ZERO)?)
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.shim.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        for check in self.checks.values().filter(|check| !check.silent) {
            fds.push(PollFd::new(check.output.as_fd(), PollFlags::POLLIN));
        }
        let nearest = self.checks.values().filter(|check| !check.timed_out);
        let mut patience = nearest
            .map(|check| check.deadline.saturating_duration_since(Instant::now()))
            .min();
        if self.ready_by.is_some() {
            patience = Some(patience.map_or(READY_PERIOD, |rest| rest.min(READY_PERIOD)));
        }
        let timeout = match patience {
            // Rounded up, so that a deadline has passed when we wake.
            Some(rest) => PollTimeout::try_from(rest.as_millis() + 1).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn start_main(&mut self) -> io::Result<()> {
        if self.plan.run.is_empty() {
            return Ok(());
        }
        if let Some(ready) = &self.plan.ready {
            // One that a killed run left would tell too early.
            let _ = std::fs::remove_file(self.here(&ready.path));
        }
        let mut command = self.command(&self.plan.run)?;
        command.stdin(Stdio::null());
        command
            .stdout(self.output.try_clone()?)
            .stderr(self.output.try_clone()?);
        let child = command.spawn()?;
        self.main = Some(pid_of(child.id()));
        match &self.plan.ready {
            Some(ready) => {
                let patience = Duration::from_millis(ready.timeout_ms.into());
                self.ready_by = Some(Instant::now() + patience);
                Ok(())
            }
            None => self.shim.send(&FromInside::Ready, None),
        }
    }

    fn command(&self, argv: &[String]) -> io::Result<Command> {
        let walled = self.plan.walled();
        let shown = walled.map(|walled| process::shown(self.plan, &walled.tool, argv));
        let shown = shown.transpose()?;
        let argv = shown.as_deref().unwrap_or(argv);
        let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&self.plan.env)
            .current_dir(self.here(&self.plan.data_inside));
        if let Some(walled) = walled {
            let (name, loader) = process::variable(&walled.tool);
            command.env(name, loader);
            // SAFETY: two system calls without memory between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    // Groups of others cannot be joined from a session of one's own.
                    nix::unistd::setsid()?;
                    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                    Ok(())
                });
            }
        } else {
            command.process_group(0);
        }
        let filter = self.filter.clone();
        // SAFETY: between fork and exec this only makes one system call on memory that was
        // allocated before, and this process has a single thread.
        unsafe {
            command.pre_exec(move || match &filter {
                Some(filter) => sys::set_filter(filter),
                None => Ok(()),
            });
        }
        Ok(command)
    }

    /// Returns where a path of the instance is for this process.
    fn here(&self, path: &str) -> PathBuf {
        match self.plan.walled() {
            None => path.into(),
            Some(_) => process::outside(self.plan, path),
        }
    }

    /// Does what the shim says; false when it is gone.
    fn obey(&mut self) -> io::Result<bool> {
        let Some(arrived) = self.shim.receive::<ToInside>()? else {
            return Ok(false);
        };
        match arrived.message {
            ToInside::Go => {}
            ToInside::Run { id, run } => {
                if let Err(error) = self.start_check(id, &run) {
                    let said = format!("cannot start {}: {error}", run.argv.join(" "));
                    let outcome = Outcome {
                        how: "not started".to_owned(),
                        said,
                    };
                    self.shim.send(&FromInside::Ran { id, outcome }, None)?;
                }
            }
            ToInside::Signal(number) => {
                if let (Some(main), Ok(signal)) = (self.main, Signal::try_from(number)) {
                    let _ = kill(main, signal);
                }
            }
        }
        Ok(true)
    }

    fn start_check(&mut self, id: u64, run: &Run) -> io::Result<()> {
        let mut stdin = File::from(nix::sys::memfd::memfd_create(
            c"stdin",
            nix::sys::memfd::MFdFlags::MFD_CLOEXEC,
        )?);
        stdin.write_all(run.stdin.as_bytes())?;
        stdin.rewind()?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let mut command = self.command(&run.argv)?;
        command
            .stdin(stdin)
            .stdout(write.try_clone()?)
            .stderr(write);
        let child = command.spawn()?;
        let deadline = Instant::now() + Duration::from_millis(run.timeout_ms.into());
        let check = Check {
            id,
            output: read.into(),
            said: Vec::new(),
            deadline,
            timed_out: false,
            silent: false,
        };
        self.checks.insert(pid_of(child.id()), check);
        Ok(())
    }

    fn read_outputs(&mut self) -> io::Result<()> {
        for check in self.checks.values_mut() {
            check.read_output()?;
        }
        Ok(())
    }

    /// Takes the exit status of every process that ended, ours and adopted ones.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => continue,
                status => status?,
            };
            let (Some(pid), Some(how)) = (status.pid(), words(status)) else {
                continue;
            };
            if self.main == Some(pid) {
                self.main = None;
                self.ready_by = None;
                self.shim.send(&FromInside::Exited(how), None)?;
            } else if let Some(mut check) = self.checks.remove(&pid) {
                check.read_output()?;
                let how = if check.timed_out {
                    "timeout".to_owned()
                } else {
                    how
                };
                let said = String::from_utf8_lossy(&check.said).into_owned();
                let ran = FromInside::Ran {
                    id: check.id,
                    outcome: Outcome { how, said },
                };
                self.shim.send(&ran, None)?;
            }
        }
    }

    fn look_at_clock(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for (pid, check) in &mut self.checks {
            if !check.timed_out && check.deadline <= now {
                check.timed_out = true;
                let group = Pid::from_raw(-pid.as_raw());
                let _ = kill(group, Signal::SIGKILL);
            }
        }
        let (Some(by), Some(ready)) = (self.ready_by, &self.plan.ready) else {
            return Ok(());
        };
        let content = std::fs::read(self.here(&ready.path)).unwrap_or_default();
        if String::from_utf8_lossy(&content).contains(&ready.contains) {
            self.ready_by = None;
            return self.shim.send(&FromInside::Ready, None);
        }
        if by <= now {
            self.ready_by = None;
            return self.shim.send(&FromInside::NotReady, None);
        }
        Ok(())
    }
}

impl Check {
    fn read_output(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        loop {
            match self.output.read(&mut bytes) {
                Ok(0) => {
                    self.silent = true;
                    return Ok(());
                }
                Ok(len) => {
                    let room = SAID_LEN_MAX.saturating_sub(self.said.len()).min(len);
                    self.said.extend(bytes.iter().take(room));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn enter_namespaces(plan: &Plan, shim: &Link) -> io::Result<()> {
    let sandbox = match sandbox::enter(plan) {
        Ok(sandbox) => sandbox,
        Err(error) => return Err(fail(shim, &sentence(&error))),
    };
    if let Some(tun) = &sandbox.tun {
        shim.send(&FromInside::Tun, Some(tun.as_fd()))?;
    }
    for note in sandbox.notes {
        shim.send(&FromInside::Note(note), None)?;
    }
    Ok(())
}

fn seal(shim: &Link) -> io::Result<()> {
    match sandbox::seal() {
        Ok(None) => Ok(()),
        Ok(Some(note)) => shim.send(&FromInside::Note(note), None),
        Err(error) => Err(fail(shim, &sentence(&error))),
    }
}

fn fail(shim: &Link, reason: &str) -> io::Error {
    let _ = shim.send(&FromInside::Failed(reason.to_owned()), None);
    io::ErrorKind::Other.into()
}

fn pid_of(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).unwrap_or(i32::MAX))
}

/// Returns how a process ended; none if it only stopped or went on.
pub fn words(status: WaitStatus) -> Option<String> {
    match status {
        WaitStatus::Exited(_, code) => Some(format!("exit {code}")),
        WaitStatus::Signaled(_, signal, _) => Some(format!("signal {}", signal as i32)),
        _ => None,
    }
}
