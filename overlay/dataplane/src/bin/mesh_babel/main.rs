//! The Babel speaker alone on the machine's own interfaces: for tests and for trying things out.
//!
//! ```text
//!   mesh-babel --router-id 0200000000000001 --interface eth0 --announce 2001:db8:1::/48
//! ```
//! Puts what it learns into the kernel's routing table. A line on standard input asks for
//! `routes`, `neighbours`, `counters` or an `end`; each answer is one line of JSON. The end of
//! standard input is an end too.

mod options;
mod show;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::process::ExitCode;
use std::time::Duration;

use mesh_base::time::{Moment, Now, Wall};
use mesh_dataplane::lan::ways::{Way, Ways};
use mesh_dataplane::lan::{Change, Lans};
use mesh_routing::babel::event::{Event, Reach, Transmit};
use mesh_routing::babel::link::LinkId;
use mesh_routing::babel::speaker::{Config, Speaker};
use mesh_routing::babel::words::{Metric, Prefix, Seqno};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use options::Options;

/// A question is a word; more than this without a line's end is none.
const QUESTION_LEN_MAX: usize = 256;

fn main() -> ExitCode {
    match Options::read(std::env::args().skip(1)).map(run) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "mesh-babel: {error}");
    ExitCode::FAILURE
}

fn now() -> io::Result<Now> {
    let micros = |clock| -> io::Result<i64> {
        let time = clock_gettime(clock)?;
        Ok(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000)
    };
    Ok(Now {
        mono: Moment(micros(ClockId::CLOCK_BOOTTIME)?.unsigned_abs()),
        wall: Wall(micros(ClockId::CLOCK_REALTIME)? / 1000),
    })
}

/// A router.
struct Router {
    options: Options,
    lans: Lans,
    speaker: Speaker,
    ways: Option<Ways>,
    /// The number of each link's interface.
    indexes: BTreeMap<LinkId, u32>,
    /// Packets that are held back, in the order in which they go.
    held: VecDeque<(Moment, Transmit)>,
    question: Vec<u8>,
}

fn run(options: Options) -> io::Result<()> {
    let begin = now()?;
    let config = Config {
        router_id: options.router_id,
        seqno: Seqno(u16::try_from(begin.wall.0.div_euclid(1000) & 0xffff).unwrap_or_default()),
        seed: begin.mono.0,
    };
    let mut speaker = Speaker::new(config, begin.mono);
    for prefix in &options.announce {
        speaker.announce(*prefix, Metric::ZERO, begin.mono);
    }
    let mut router = Router {
        lans: Lans::open(options.wanted())?,
        speaker,
        ways: if options.kernel {
            Some(Ways::open()?)
        } else {
            None
        },
        indexes: BTreeMap::new(),
        held: VecDeque::new(),
        question: Vec::new(),
        options,
    };
    router.take_changes(begin.mono)?;
    while router.turn()? {}
    if let Some(ways) = &mut router.ways {
        ways.clear();
    }
    Ok(())
}

/// Returns the link of the interface at a place of the list.
fn link_of(at: usize) -> LinkId {
    LinkId(u32::try_from(at).unwrap_or(u32::MAX))
}

impl Router {
    /// Waits for something and does it; returns whether to go on.
    fn turn(&mut self) -> io::Result<bool> {
        let (is_asked, is_told) = self.wait()?;
        let mono = now()?.mono;
        if is_told {
            self.take_changes(mono)?;
        }
        while let Some((at, heard)) = self.lans.receive(now()?) {
            let (link, mono) = (link_of(at), now()?.mono);
            self.speaker
                .handle_packet(link, heard.source, heard.cast, &heard.payload, mono);
            self.drain(mono)?;
        }
        let mono = now()?.mono;
        if self.speaker.poll_timeout().is_some_and(|due| due <= mono) {
            self.speaker.handle_timeout(mono);
        }
        self.drain(mono)?;
        if is_asked { self.answer() } else { Ok(true) }
    }

    /// Returns whether a question waits, and whether the kernel has news.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mono = now()?.mono;
        let held = self.held.front().map(|(due, _)| *due);
        let due = self.speaker.poll_timeout().into_iter().chain(held).min();
        let pause = due.map_or(Duration::from_secs(1), |due| due.since(mono));
        // Up to the next whole millisecond, or the last one would be spent in circles.
        let millis = pause.as_micros().div_ceil(1000).min(1000);
        let input = io::stdin();
        let all: Vec<BorrowedFd<'_>> = std::iter::once(input.as_fd())
            .chain(self.lans.descriptors())
            .collect();
        let mut fds: Vec<PollFd<'_>> = all
            .iter()
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut came = fds.iter().map(|fd| fd.any().unwrap_or(false));
        Ok((came.next() == Some(true), came.next() == Some(true)))
    }

    fn take_changes(&mut self, mono: Moment) -> io::Result<()> {
        for change in self.lans.refresh() {
            match change {
                Change::Up(at, usable) => {
                    let overhead = self.lans.socket(at).map_or(0, |socket| socket.overhead());
                    let mut config = self.options.link(usable.address);
                    config.payload_max = config.payload_max.saturating_sub(overhead);
                    self.indexes.insert(link_of(at), usable.index);
                    self.speaker.handle_link_up(link_of(at), config, mono);
                }
                Change::Down(at, usable) => {
                    if let Some(ways) = &mut self.ways {
                        ways.forget(usable.index);
                    }
                    self.indexes.remove(&link_of(at));
                    self.speaker.handle_link_down(link_of(at), mono);
                }
                Change::Missing(at) => {
                    writeln!(io::stderr(), "there is no {}", self.lans.name(at))?;
                }
                Change::Refused(at, error) => {
                    writeln!(io::stderr(), "cannot use {}: {error}", self.lans.name(at))?;
                }
            }
        }
        self.drain(mono)
    }

    fn drain(&mut self, mono: Moment) -> io::Result<()> {
        while let Some(event) = self.speaker.poll_event() {
            match event {
                Event::RouteChanged { prefix, reach } => self.set_way(prefix, reach)?,
                other => writeln!(io::stderr(), "{other:?}")?,
            }
        }
        let later = mono + self.options.delay;
        while let Some(packet) = self.speaker.poll_transmit(mono) {
            self.held.push_back((later, packet));
        }
        while self.held.front().is_some_and(|(due, _)| *due <= mono) {
            let Some((_, Transmit { link, to, bytes })) = self.held.pop_front() else {
                break;
            };
            let at = usize::try_from(link.0).unwrap_or(usize::MAX);
            if let Some(socket) = self.lans.socket(at) {
                // What a network does not carry is said again by the speaker.
                let _ = socket.send(to, bytes);
            }
        }
        Ok(())
    }

    fn set_way(&mut self, prefix: Prefix, reach: Reach) -> io::Result<()> {
        let Some(ways) = &mut self.ways else {
            return Ok(());
        };
        let way = match reach {
            Reach::Via(hop) => self.indexes.get(&hop.link).map(|interface| Way::Via {
                gateway: hop.address,
                interface: *interface,
            }),
            Reach::Held => Some(Way::Unreachable),
            Reach::Gone => None,
        };
        // A route over an interface that has just gone; the news of that is on its way.
        if let Err(error) = ways.set(prefix, way) {
            writeln!(io::stderr(), "cannot set the way to {prefix}: {error}")?;
        }
        Ok(())
    }

    fn answer(&mut self) -> io::Result<bool> {
        let mut bytes = [0; QUESTION_LEN_MAX];
        let len = io::stdin().read(&mut bytes)?;
        if len == 0 || QUESTION_LEN_MAX < self.question.len() {
            return Ok(false);
        }
        self.question.extend(bytes.iter().take(len));
        while let Some(end) = self.question.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.question.drain(..=end).collect();
            let mono = now()?.mono;
            let said = match line.trim_ascii() {
                b"routes" => show::routes(&self.speaker, mono),
                b"neighbours" => show::neighbours(&self.speaker, mono),
                b"counters" => show::counters(&self.speaker, &mut self.lans),
                b"end" => return Ok(false),
                _ => "{\"error\":\"routes, neighbours, counters or end\"}".to_owned(),
            };
            let mut out = io::stdout().lock();
            writeln!(out, "{said}")?;
            out.flush()?;
        }
        Ok(true)
    }
}
