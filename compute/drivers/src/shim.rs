//! The small process that owns one instance: sandbox, log, TUN, meters, exit status.
//!
//! Started by the daemon through [`shim_main`] with the plan on its standard input; detaches and
//! outlives the daemon, which finds it again by the socket in the instance folder. Single-threaded.
//! Invariant: as long as anything of the instance runs, its shim does; when the shim ends, for
//! whatever reason, the first process inside ends with it and the kernel ends the rest.
//!
//! ```text
//! Starting --ready, init done--> Running --Stop--> Stopping --main ended--> (status written, gone)
//!      |  sandbox, ready file or init failed                                        ^
//!      +---------------------------- kill -------------------------------------------+
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mesh_compute::recipe::Limits;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::cgroup::Groups;
use crate::error::sentence;
use crate::files::{self, write_whole};
use crate::link::{Arrived, Link, Listener};
use crate::log::Writer;
use crate::usage::{self, Depth};
use crate::warden::Warden;
use crate::{inside, kin, process, sandbox, sys};
use mesh_compute::words::{
    FromInside, FromShim, Outcome, Plan, Run, SOCKET, STATUS, State, Status, ToInside, ToShim,
};

/// The first argument that makes a program a shim.
pub const SHIM: &str = "shim";
/// The second with which it only finds out whether a sandbox can be made here.
pub(crate) const TRY: &str = "try";
/// The same for one without namespaces.
pub(crate) const TRY_PROCESS: &str = "try-process";
/// How often limits are watched that the system does not enforce.
const WATCH_PERIOD: Duration = Duration::from_secs(2);
/// Longest plan that is read.
const PLAN_LEN_MAX: u64 = 1 << 20;

/// Acts as a shim; call it when the first argument is [`SHIM`]. Never returns.
///
/// The second argument is `run`, `prepare`, `try` or `try-process`; further ones only make the
/// process list readable.
pub fn shim_main(arguments: Vec<OsString>) -> ! {
    let mode = arguments.first().and_then(|mode| mode.to_str());
    let result = match mode {
        Some("run") => run(),
        Some("prepare") => prepare(),
        Some(TRY) => try_namespaces(),
        Some(TRY_PROCESS) => process::try_here(),
        _ => Err(io::Error::other("a shim is started by the daemon only")),
    };
    match result {
        Ok(()) => sys::exit(0),
        Err(error) => {
            eprintln!("{error}");
            sys::exit(1)
        }
    }
}

/// Makes what an instance needs, for nothing in it. Some systems give them and no power in
/// them, so the first thing that a sandbox does is done too.
fn try_namespaces() -> io::Result<()> {
    // Without it an instance has no network, and nobody reaches it.
    let tun = File::options().read(true).write(true).open("/dev/net/tun");
    tun.map_err(|error| io::Error::other(format!("cannot open /dev/net/tun ({error})")))?;
    let tried = sys::clone_into(sandbox::NAMESPACES);
    match tried.map_err(|error| no_namespaces(&error))? {
        sys::Side::Child => {
            let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            let refused = mount(none, "/", none, flags, none).err();
            sys::exit(refused.map_or(0, |errno| errno as i32))
        }
        sys::Side::Parent(first) => match waitpid(Pid::from_raw(first), None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, errno) => {
                Err(no_namespaces(&io::Error::from_raw_os_error(errno)))
            }
            _ => Err(lost()),
        },
    }
}

fn no_namespaces(error: &io::Error) -> io::Error {
    io::Error::other(format!("this system allows us no namespaces ({error})"))
}

fn read_plan() -> io::Result<Plan> {
    let mut bytes = Vec::new();
    io::stdin().take(PLAN_LEN_MAX).read_to_end(&mut bytes)?;
    let mut plan = mesh_compute::words::read(&bytes)?;
    process::straighten(&mut plan)?;
    Ok(plan)
}

/// Runs the plan's `init` commands in a sandbox of its own and waits for them.
fn prepare() -> io::Result<()> {
    let plan = read_plan()?;
    sys::close_on_exec();
    let cell = Cell::make(&plan, &mut Vec::new())?;
    cell.link.send(&ToInside::Go, None)?;
    cell.await_up(&plan)?;
    for (id, run) in (0..).zip(&plan.init) {
        cell.link.send(
            &ToInside::Run {
                id,
                run: run.clone(),
            },
            None,
        )?;
        loop {
            let FromInside::Ran { outcome, .. } = cell.hear(&plan)?.message else {
                continue;
            };
            if !outcome.is_success() {
                cell.kill();
                let program = run.argv.first().map(String::as_str).unwrap_or_default();
                return Err(io::Error::other(format!(
                    "{program}: {}",
                    outcome.sentence()
                )));
            }
            break;
        }
    }
    cell.kill();
    Ok(())
}

fn lost() -> io::Error {
    io::Error::other("the first process inside is gone")
}

fn run() -> io::Result<()> {
    let plan = read_plan()?;
    // Before the socket of whoever holds it could be replaced. The first process inside has it too,
    // so it is free only when nothing of the instance runs.
    let _held = hold(&plan.folder)?;
    let listener = Listener::bind(&plan.folder, SOCKET)?;
    // The daemon waits for this process; from here on its child is on its own.
    if let sys::Side::Parent(_) = sys::fork()? {
        sys::exit(0);
    }
    nix::unistd::setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    sys::close_on_exec();
    let _ = nix::unistd::chdir("/");
    let log = Writer::open(&plan.folder)?;
    let mut shim = Shim::begin(plan, listener, log)?;
    shim.serve()
}

/// What whoever runs an instance without namespaces is told.
const WEAKER: &str = "this system gives no namespaces: Landlock and a supervisor keep it apart";
/// How long the last words of a shim that ends may take.
const HOLD_PATIENCE: Duration = Duration::from_secs(5);
/// How often the hold is tried meanwhile.
const HOLD_PERIOD: Duration = Duration::from_millis(2);

/// Takes an instance for this shim alone: a daemon that was killed may have started another one
/// that its successor does not know of.
fn hold(folder: &Path) -> io::Result<Flock<File>> {
    let until = Instant::now() + HOLD_PATIENCE;
    loop {
        match Flock::lock(File::open(folder)?, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() < until => {
                std::thread::sleep(HOLD_PERIOD);
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                return Err(io::Error::other("another shim holds this instance"));
            }
            Err((_, errno)) => return Err(errno.into()),
        }
    }
}

/// Returns whether a shim holds an instance, or what it has started.
pub(crate) fn is_held(folder: &Path) -> bool {
    let Ok(folder) = File::open(folder) else {
        return false;
    };
    let free = Flock::lock(folder, FlockArg::LockSharedNonblock);
    matches!(free, Err((_, Errno::EWOULDBLOCK)))
}

/// A sandbox with its first process, seen from outside.
struct Cell {
    link: Link,
    first: i32,
    output: File,
    groups: Groups,
    /// Of one without namespaces.
    guarded: Option<Guarded>,
}

/// What keeps a sandbox without namespaces.
struct Guarded {
    /// Closed by our end, which the guardian then sees.
    alive: OwnedFd,
    /// The folder of the run.
    run: PathBuf,
}

impl Cell {
    fn make(plan: &Plan, notes: &mut Vec<String>) -> io::Result<Self> {
        if nix::unistd::geteuid().is_root() {
            // Groups of root must not follow inside. Root of a user namespace may be refused, and
            // an ordinary user cannot shed its own.
            let _ = nix::unistd::setgroups(&[]);
        }
        let groups = Groups::make(
            &plan.label,
            Limits {
                memory_mib: plan.memory_mib,
                cpu_millis: plan.cpu_millis,
                pids: plan.pids,
            },
        );
        notes.extend(groups.notes.iter().cloned());
        let (link, theirs) = Link::pair()?;
        let (output, printed) = pipe2(OFlag::O_CLOEXEC)?;
        let walled = plan.walled();
        if let Some(walled) = walled {
            process::clear(&walled.run).map_err(|error| io::Error::other(sentence(&error)))?;
            // Whoever loses its parent below the guardian comes to us, if the guardian is gone.
            nix::sys::prctl::set_child_subreaper(true)?;
            notes.push(WEAKER.to_owned());
        }
        let (held, alive) = pipe2(OFlag::O_CLOEXEC)?;
        let namespaces = walled.map_or(sandbox::NAMESPACES, |_| 0);
        let first = match sys::clone_into(namespaces) {
            Err(error) => return Err(no_namespaces(&error)),
            Ok(sys::Side::Parent(first)) => first,
            Ok(sys::Side::Child) => {
                drop((link, output, alive));
                // The groups are their maker's to remove.
                std::mem::forget(groups);
                if walled.is_some() {
                    process::guard(plan, theirs, printed, held)
                }
                inside::live(plan, theirs, printed)
            }
        };
        let cell = Self {
            link,
            first,
            output: output.into(),
            groups,
            guarded: walled.map(|walled| Guarded {
                alive,
                run: walled.run.clone(),
            }),
        };
        if walled.is_none() {
            map_ids(plan, first)?;
        }
        if let Err(error) = cell.groups.add(first) {
            notes.push(format!(
                "limits are not enforced: cannot join the cgroup ({error})"
            ));
        }
        if let Some(guarded) = &cell.guarded {
            // Only now: what it starts must be in its groups.
            nix::unistd::write(&guarded.alive, &[1])?;
        }
        Ok(cell)
    }

    /// Waits until a sandbox without a main process stands.
    fn await_up(&self, plan: &Plan) -> io::Result<()> {
        loop {
            match self.hear(plan)?.message {
                FromInside::Up { .. } => return Ok(()),
                FromInside::Failed(reason) => return Err(io::Error::other(reason)),
                _ => {}
            }
        }
    }

    /// Waits for the next word from inside.
    fn hear(&self, plan: &Plan) -> io::Result<Arrived<FromInside>> {
        let mut arrived = self.link.receive::<FromInside>()?.ok_or_else(lost)?;
        self.take_warden(plan, &mut arrived)?;
        Ok(arrived)
    }

    /// Begins to supervise if that is what was said.
    fn take_warden(&self, plan: &Plan, arrived: &mut Arrived<FromInside>) -> io::Result<()> {
        if let (FromInside::Supervised, Some(walled)) = (&arrived.message, plan.walled()) {
            let asked = arrived.fd.take().ok_or_else(lost)?;
            // The guardian has one child.
            let inside = kin::child_of(self.first).ok_or_else(lost)?;
            let grounds = process::grounds(plan, walled);
            Warden::new(asked, grounds, inside).start()?;
        }
        Ok(())
    }

    /// Ends everything inside and waits until it is gone.
    fn kill(&self) {
        if let Some(guarded) = &self.guarded {
            // What does not end is found again before the data is touched.
            let _ = kin::end_all();
            let _ = files::remove(&guarded.run);
            return;
        }
        let first = Pid::from_raw(self.first);
        let _ = kill(first, Signal::SIGKILL);
        // The kernel reports the first process dead only after all others inside are.
        while waitpid(first, None) == Err(Errno::EINTR) {}
    }
}

fn map_ids(plan: &Plan, first: i32) -> io::Result<()> {
    let write = |name: &str, text: String| std::fs::write(format!("/proc/{first}/{name}"), text);
    let one = |inner: u32, outer: u32| format!("{inner} {outer} 1\n");
    write("setgroups", "deny".to_owned())?;
    write("uid_map", one(plan.inner.uid, plan.outer.uid))?;
    write("gid_map", one(plan.inner.gid, plan.outer.gid))
}

struct Shim {
    plan: Plan,
    cell: Cell,
    listener: Listener,
    daemon: Option<Link>,
    log: Writer,
    tun: Option<OwnedFd>,
    status: Status,
    /// Next first-start command.
    init_next: usize,
    kill_at: Option<Instant>,
    watch_at: Instant,
    ended: bool,
    /// The main process, as the first one inside sees it.
    main: Option<i32>,
}

/// Identifies first-start commands among those of the daemon, whose ids count from 1.
const INIT_ID: u64 = 0;

impl Shim {
    fn begin(plan: Plan, listener: Listener, log: Writer) -> io::Result<Self> {
        let mut status = Status {
            boot: boot_id(),
            state: State::Starting,
            how: String::new(),
            initialised: plan.init.is_empty(),
            cpu_ms: plan.cpu_ms_before,
            notes: Vec::new(),
            first: None,
            groups: Vec::new(),
        };
        let mut notes = Vec::new();
        let cell = match Cell::make(&plan, &mut notes) {
            Ok(cell) => cell,
            Err(error) => {
                refuse(&listener, &error);
                status.state = State::Stopped;
                status.how = error.to_string();
                save(&plan, &status)?;
                return Err(error);
            }
        };
        status.notes = notes;
        status.groups.clone_from(&cell.groups.folders);
        // Without namespaces whoever ends us lets our guardian end the rest.
        let own = nix::unistd::getpid().as_raw();
        let first = cell.guarded.as_ref().map_or(cell.first, |_| own);
        status.first = usage::start_of(first).map(|ticks| (first, ticks));
        // Inside waits for our word, so nothing runs that the status does not know.
        save(&plan, &status)?;
        cell.link.send(&ToInside::Go, None)?;
        Ok(Self {
            plan,
            cell,
            listener,
            daemon: None,
            log,
            tun: None,
            status,
            init_next: 0,
            kill_at: None,
            watch_at: Instant::now() + WATCH_PERIOD,
            ended: false,
            main: None,
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        while !self.ended {
            let [calls, inside, printed, daemon] = self.wait()?;
            if printed {
                self.copy_output()?;
            }
            if inside {
                self.hear_inside()?;
            }
            if daemon && !self.ended {
                self.hear_daemon()?;
            }
            if calls {
                self.answer_call()?;
            }
            self.look_at_clock()?;
        }
        Ok(())
    }

    /// Waits for: a call, the first process, output, the daemon.
    fn wait(&self) -> io::Result<[bool; 4]> {
        let mut fds = vec![
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.cell.link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.cell.output.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(
            self.daemon
                .iter()
                .map(|link| PollFd::new(link.as_fd(), PollFlags::POLLIN)),
        );
        let now = Instant::now();
        let mut until = self.kill_at;
        if !self.cell.groups.limits_memory {
            until = Some(until.map_or(self.watch_at, |at| at.min(self.watch_at)));
        }
        let timeout = match until {
            Some(at) => {
                let rest = at.saturating_duration_since(now).as_millis() + 1;
                PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = [false; 4];
        for (flag, fd) in ready.iter_mut().zip(&fds) {
            *flag = fd.any().unwrap_or(false);
        }
        Ok(ready)
    }

    fn copy_output(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        let len = self.cell.output.read(&mut bytes)?;
        // A full disk must not stop the service: what cannot be written is lost.
        let _ = self.log.write(bytes.get(..len).unwrap_or_default());
        Ok(())
    }

    fn note(&mut self, text: &str) {
        let _ = self.log.write(format!("mesh: {text}\n").as_bytes());
    }

    fn tell(&mut self, message: &FromShim) {
        if let Some(daemon) = &self.daemon
            && daemon.send(message, None).is_err()
        {
            self.daemon = None;
        }
    }

    /// Takes a new daemon; the one before it is gone or about to go.
    fn answer_call(&mut self) -> io::Result<()> {
        let link = self.listener.accept()?;
        let hello = FromShim::Hello {
            state: self.status.state,
            notes: self.status.notes.clone(),
            doors: self.plan.walled().map(|walled| walled.doors),
        };
        // Until the TUN is there, a daemon that calls while we start would get a hello without it.
        if link
            .send(&hello, self.tun.as_ref().map(AsFd::as_fd))
            .is_ok()
        {
            self.daemon = Some(link);
        }
        Ok(())
    }

    fn hear_daemon(&mut self) -> io::Result<()> {
        let arrived = self.daemon.as_ref().map(Link::receive::<ToShim>);
        let Some(Ok(Some(arrived))) = arrived else {
            self.daemon = None;
            return Ok(());
        };
        match arrived.message {
            ToShim::Stop => self.stop(),
            ToShim::Run { id, run } => self.ask_inside(id, run),
            ToShim::Meter { id } => {
                let usage = self.measure(Depth::TimeAndMemory);
                self.tell(&FromShim::Metered {
                    id,
                    cpu_ms: self.status.cpu_ms,
                    memory_mib: usage,
                });
                Ok(())
            }
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        if self.status.state == State::Stopping {
            return Ok(());
        }
        self.status.state = State::Stopping;
        let grace = Duration::from_millis(self.plan.grace_ms.into());
        self.kill_at = Some(Instant::now() + grace);
        if self.cell.guarded.is_none() {
            let word = ToInside::Signal(self.plan.stop_signal);
            return self.cell.link.send(&word, None);
        }
        // What was started is proot, which keeps signals for itself; its child is the service.
        let service = self.main.and_then(kin::child_of);
        if let (Some(pid), Ok(signal)) = (service, Signal::try_from(self.plan.stop_signal)) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }

    fn ask_inside(&self, id: u64, run: Run) -> io::Result<()> {
        self.cell.link.send(&ToInside::Run { id, run }, None)
    }

    fn hear_inside(&mut self) -> io::Result<()> {
        let mut arrived = match self.cell.link.receive::<FromInside>() {
            Ok(Some(arrived)) => arrived,
            Ok(None) | Err(_) => return self.end("the first process inside ended".to_owned()),
        };
        self.cell.take_warden(&self.plan, &mut arrived)?;
        match arrived.message {
            FromInside::Supervised => Ok(()),
            FromInside::Tun => {
                self.tun = arrived.fd;
                self.greet_again();
                Ok(())
            }
            FromInside::Note(note) => {
                self.note(&note);
                self.status.notes.push(note);
                Ok(())
            }
            FromInside::Up { main } => {
                self.main = main;
                Ok(())
            }
            FromInside::Failed(reason) => self.fail(reason),
            FromInside::NotReady => {
                let seconds = self
                    .plan
                    .ready
                    .as_ref()
                    .map_or(0, |ready| ready.timeout_ms / 1000);
                self.fail(format!("it was not ready after {seconds} s; see its log"))
            }
            FromInside::Ready => self.initialise(),
            FromInside::Ran {
                id: INIT_ID,
                outcome,
            } => self.continue_init(&outcome),
            FromInside::Ran { id, outcome } => {
                self.tell(&FromShim::Ran { id, outcome });
                Ok(())
            }
            FromInside::Exited(how) => self.end(how),
        }
    }

    /// Sends the TUN to a daemon that called before it was made.
    fn greet_again(&mut self) {
        let hello = FromShim::Hello {
            state: self.status.state,
            notes: self.status.notes.clone(),
            doors: self.plan.walled().map(|walled| walled.doors),
        };
        if let (Some(daemon), Some(tun)) = (&self.daemon, &self.tun) {
            let _ = daemon.send(&hello, Some(tun.as_fd()));
        }
    }

    fn initialise(&mut self) -> io::Result<()> {
        match self.plan.init.get(self.init_next) {
            Some(run) if !self.status.initialised => self.ask_inside(INIT_ID, run.clone()),
            _ => self.started(),
        }
    }

    fn continue_init(&mut self, outcome: &Outcome) -> io::Result<()> {
        if !outcome.is_success() {
            return self.fail(format!("its first start failed: {}", outcome.sentence()));
        }
        self.init_next += 1;
        self.initialise()
    }

    fn started(&mut self) -> io::Result<()> {
        self.status.initialised = true;
        // First-start commands hold secrets; they are not needed again.
        self.plan.init.clear();
        if self.status.state == State::Starting {
            self.status.state = State::Running;
        }
        save(&self.plan, &self.status)?;
        self.tell(&FromShim::Started);
        Ok(())
    }

    fn fail(&mut self, reason: String) -> io::Result<()> {
        self.note(&reason);
        self.finish(&reason)?;
        self.tell(&FromShim::Failed { reason });
        Ok(())
    }

    fn end(&mut self, how: String) -> io::Result<()> {
        let state = self.status.state;
        let how = if self.status.how.is_empty() {
            how
        } else {
            self.status.how.clone()
        };
        self.finish(&how)?;
        if state == State::Starting {
            let reason = format!("it ended while it was starting ({how}); see its log");
            self.tell(&FromShim::Failed { reason });
        } else {
            self.tell(&FromShim::Exited { how });
        }
        Ok(())
    }

    /// Ends everything inside, keeps what it printed, writes the last status.
    fn finish(&mut self, how: &str) -> io::Result<()> {
        self.measure(Depth::Time);
        self.cell.kill();
        let mut rest = Vec::new();
        // Should one be left, it must not keep us.
        let _ = fcntl(&self.cell.output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        // All writers are dead, so this ends.
        let _ = (&self.cell.output).take(1 << 20).read_to_end(&mut rest);
        let _ = self.log.write(&rest);
        self.status.state = State::Stopped;
        self.status.how = how.to_owned();
        self.ended = true;
        save(&self.plan, &self.status)
    }

    /// Updates processor time and returns memory in MiB if it was asked for.
    fn measure(&mut self, depth: Depth) -> u64 {
        let counted = self.cell.groups.memory_mib();
        let depth = if counted.is_some() {
            Depth::Time
        } else {
            depth
        };
        let usage = usage::read(self.cell.first, depth);
        let total = self.plan.cpu_ms_before + usage.cpu_ms;
        self.status.cpu_ms = self.status.cpu_ms.max(total);
        counted.unwrap_or(usage.memory_mib)
    }

    fn look_at_clock(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) && !self.ended {
            self.kill_at = None;
            return self.end("signal 9".to_owned());
        }
        if self.watch_at <= now && !self.ended && !self.cell.groups.limits_memory {
            self.watch_at = now + WATCH_PERIOD;
            if self.cell.guarded.is_some() {
                let count = kin::count(self.cell.first);
                let pids = usize::try_from(self.plan.pids).unwrap_or(usize::MAX);
                if pids < count {
                    return self.end(format!("ran {count} processes, its limit is {pids}"));
                }
            }
            let memory_mib = self.measure(Depth::TimeAndMemory);
            if u64::from(self.plan.memory_mib) < memory_mib {
                let limit = self.plan.memory_mib;
                return self.end(format!(
                    "used {memory_mib} MiB of memory, its limit is {limit} MiB"
                ));
            }
        }
        Ok(())
    }
}

/// Tells the daemon that is about to call why nothing starts.
fn refuse(listener: &Listener, error: &io::Error) {
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(2_000_u16)).is_ok_and(|ready| 0 < ready)
        && let Ok(link) = listener.accept()
    {
        let _ = link.send(
            &FromShim::Failed {
                reason: error.to_string(),
            },
            None,
        );
    }
}

fn save(plan: &Plan, status: &Status) -> io::Result<()> {
    let bytes = serde_json::to_vec(status)?;
    write_whole(&plan.folder.join(STATUS), &bytes, 0o600).map_err(io::Error::other)
}

/// Returns what tells this boot of the machine from others.
pub(crate) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instance_is_held_once_and_by_whoever_inherited_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_held(folder.path()));
        let held = hold(folder.path()).unwrap();
        assert!(is_held(folder.path()));
        // As the first process inside has it, when the shim is killed.
        let inherited = held.as_fd().try_clone_to_owned().unwrap();
        std::mem::forget(held);
        assert!(is_held(folder.path()));
        drop(inherited);
    }
}
