//! Log lines of the daemon: level and form as configured, always to stderr.

use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// Begins to log. Called once, before the first thread.
pub fn start(config: &Config) {
    // libp2p tells its own name at each start of a swarm; ours is in our own lines. boringtun warns
    // of each handshake that is not answered, and a node behind others never answers directly.
    // libp2p_mdns takes each cable that is pulled for an error.
    let quiet = "libp2p_swarm=warn,libp2p_mdns=off,boringtun=off";
    let filter = EnvFilter::new(format!("{quiet},{}", config.log_level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would tell of a line that the disk has no room for by eprintln!, which panics there.
        .log_internal_errors(false)
        .with_ansi(false);
    // A second call would only mean that somebody logs already.
    let _ = if config.log_json {
        lines.json().try_init()
    } else {
        lines.try_init()
    };
}
