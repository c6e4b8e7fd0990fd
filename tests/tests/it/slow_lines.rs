//! A line between a home and the Internet has the quality that was asked for, as programs feel it.
//!
//! What the line decides is tested where it is decided, in virtual time; here real packets pass, on
//! a machine that may be busy: times are exact from below only.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_tests::home::Home;
use mesh_tests::inside::inside;
use mesh_tests::lab::Lab;
use mesh_tests::line::Line;
use mesh_tests::link::{Habits, MILLION, TooBig};
use mesh_tests::nat::NatKind;
use mesh_tests::nat_router::WITNESSES;
use mesh_tests::runner::Place;
use mesh_tests::until::until;

const SEED: u64 = 5;

/// How long a kernel may take to notice that a cable is in.
const SOON: Duration = Duration::from_secs(20);

/// The one that is pinged.
fn there() -> String {
    WITNESSES[0].to_string()
}

/// Pings over a slow line that loses packets, then over the same line mended.
pub fn ping_feels_delay_and_loss(place: &Place) -> anyhow::Result<()> {
    let homes = [("a", NatKind::Double)];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let home = lab.home("a")?;
    let (plain, _) = ping(home, 20)?;
    ensure!(plain == 20, "{plain} of 20 pings over a cable");
    let up = Habits {
        delay: Duration::from_millis(30),
        loss: MILLION / 5,
        ..Habits::CLEAR
    };
    let down = Habits {
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(20),
        ..Habits::CLEAR
    };
    println!("seed {SEED}");
    let line = Line::lay(lab.router("a")?, up, down, SEED)?;
    let (received, times) = ping(home, 200)?;
    let [sent, _] = line.fates();
    ensure!(
        received + sent.lost == 200 && (10..80).contains(&sent.lost),
        "{received} of 200 came back, a fifth is lost: {sent:?}"
    );
    let [least, mean, ..] = times;
    ensure!(80.0 <= least, "the least is {least} ms, not 80 and more");
    ensure!(
        (85.0..200.0).contains(&mean),
        "the mean is {mean} ms, not 90 and a little"
    );
    println!("measured: over 80 to 100 ms pings take {least} ms at least, {mean} ms in the mean");

    line.set(Habits::CLEAR, Habits::CLEAR);
    let (received, [least, ..]) = ping(home, 20)?;
    ensure!(received == 20, "{received} of 20 pings over a mended line");
    ensure!(least < 30.0, "the least over a mended line is {least} ms");

    lab.cut("a")?;
    ensure!(!fits(home, 100)?, "a line that is cut carries packets");
    lab.heal("a")?;
    until("a line that was cut carries packets", SOON, || {
        Ok(fits(home, 100)?.then_some(()))
    })
}

/// Sends what does not fit: the home is told through both its boxes, or it is not.
pub fn narrow_line_tells_or_is_silent(place: &Place) -> anyhow::Result<()> {
    let homes = [("a", NatKind::Double)];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let home = lab.home("a")?;
    let narrow = |too_big| Habits {
        mtu: 1300,
        too_big,
        ..Habits::CLEAR
    };
    let silent = narrow(TooBig::Silent);
    let line = Line::lay(lab.router("a")?, silent, silent, SEED)?;
    ensure!(fits(home, 1300)?, "a packet of 1300 bytes");
    ensure!(!fits(home, 1301)?, "a packet of 1301 bytes fits");
    ensure!(path_mtu(home)?.is_none(), "a silent line tells");

    let told = narrow(TooBig::Told);
    line.set(told, told);
    ensure!(!fits(home, 1301)?, "a packet of 1301 bytes fits");
    let known = path_mtu(home)?;
    ensure!(known == Some(1300), "it is told {known:?}, not 1300");
    Ok(())
}

/// Loads a narrow line and a wide one.
pub fn rate_is_what_was_asked_for(place: &Place) -> anyhow::Result<()> {
    const BYTES: usize = 2_000_000;
    let homes = [("a", NatKind::PortRestricted)];
    let lab = Lab::behind(&homes, &place.folder, &place.programs)?;
    let down = Habits {
        rate: Some(10_000_000),
        queue: 100_000,
        ..Habits::CLEAR
    };
    let line = Line::lay(lab.router("a")?, Habits::CLEAR, down, SEED)?;
    let took = load(&lab, BYTES)?;
    let least = Duration::from_secs_f64(BYTES as f64 * 8.0 / 10e6);
    ensure!(
        least <= took && took < 3 * least,
        "it took {took:?}, and {least:?} at best"
    );
    line.set(Habits::CLEAR, Habits::CLEAR);
    let wide = load(&lab, 20 * BYTES)?;
    println!(
        "measured: {:.1} Mbit/s of 10 over a narrow line, {:.0} over a wide one",
        BYTES as f64 * 8e-6 / took.as_secs_f64(),
        20.0 * BYTES as f64 * 8e-6 / wide.as_secs_f64()
    );
    ensure!(wide < 20 * took, "a wide line is as slow as a narrow one");
    Ok(())
}

/// Returns how many pings were answered, and least, mean and most milliseconds.
fn ping(home: &Home, count: usize) -> anyhow::Result<(u64, [f64; 3])> {
    let count = count.to_string();
    let words = ["-n", "-q", "-c", &count, "-i", "0.01", "-W", "2", &there()];
    let said = home.run("ping", &words)?;
    let read = || {
        let line = said.stdout.lines().find(|line| line.contains("received"))?;
        let (_, rest) = line.split_once(", ")?;
        let received = rest.split(' ').next()?.parse().ok()?;
        let line = said.stdout.lines().find(|line| line.starts_with("rtt"))?;
        let times = line.split(" = ").nth(1)?.split(['/', ' ']);
        let times: Vec<f64> = times.map_while(|time| time.parse().ok()).collect();
        Some((received, *times.first_chunk()?))
    };
    read().with_context(|| format!("no summary:\n{said}"))
}

/// Returns whether an IPv4 packet of this length comes back whole.
fn fits(home: &Home, len: usize) -> anyhow::Result<bool> {
    let data = (len - 28).to_string();
    let words = ["-n", "-q", "-c1", "-W1", "-M", "do", "-s", &data, &there()];
    Ok(home.run("ping", &words)?.code == 0)
}

/// Returns what the home's kernel knows of the path.
fn path_mtu(home: &Home) -> anyhow::Result<Option<usize>> {
    let route = home.run("ip", &["route", "get", &there()])?.ok()?.stdout;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).and_then(|word| word.parse().ok()))
}

/// Returns how long a home takes to receive so many bytes over TCP.
fn load(lab: &Lab, bytes: usize) -> anyhow::Result<Duration> {
    let listener = TcpListener::bind((WITNESSES[0], 0))?;
    let to = listener.local_addr()?;
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Ok((mut stream, _)) = listener.accept() {
                // Whoever does not get them all says so.
                let _ = stream.write_all(&vec![0; bytes]);
            }
        });
        let start = Instant::now();
        let mut stream = inside(lab.holder("a")?, || Ok(TcpStream::connect(to)?))?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        ensure!(all.len() == bytes, "{} of {bytes} bytes", all.len());
        Ok(start.elapsed())
    })
}
