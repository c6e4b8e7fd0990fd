//! How programs of this machine come into the overlay besides by loopback ports: which proxies
//! listen, and whose namespace they may enter.
//!
//! Opened before the names, which write their own port into the same file. Decides nothing about
//! what passes: see [`crate::proxy`].

use std::path::Path;
use std::sync::Arc;

use mesh_api::ErrorKind;
use mesh_api::status::Entrances;
use tokio::net::TcpListener;

use crate::config::Config;
use crate::failure::Failure;
use crate::names::Teller;
use crate::ports::Ports;
use crate::proxy::{Language, ProxyError, Server};
use crate::swarm::across::Sockets;

/// The proxies that listen, and serve nobody yet.
pub struct Proxies {
    socks: Option<TcpListener>,
    http: Option<TcpListener>,
}

impl Proxies {
    /// Opens what the settings say. Only a configured place that cannot be had is an error. Runs
    /// inside tokio.
    pub fn listen(
        config: &Config,
        ports: &mut Ports,
        file: &Path,
        sockets: &Sockets,
    ) -> Result<Self, Failure> {
        let before = *ports;
        // On the host every program has a way already.
        let needed = !matches!(sockets, Sockets::Host);
        let proxies = Self {
            socks: config
                .socks
                .listen(needed, &mut ports.socks)
                .map_err(taken)?,
            http: config.http.listen(needed, &mut ports.http).map_err(taken)?,
        };
        if *ports != before
            && let Err(error) = ports.remember(file)
        {
            tracing::warn!(%error, "the ports of the proxies are not remembered");
        }
        Ok(proxies)
    }

    /// Starts to serve; returns what programs may be told. Runs inside tokio.
    pub fn serve(self, sockets: Sockets, names: &Teller) -> Entrances {
        let at = |proxy: &Option<TcpListener>| proxy.as_ref()?.local_addr().ok();
        let entrances = Entrances {
            socks: at(&self.socks),
            http: at(&self.http),
            namespace: match &sockets {
                Sockets::Namespace(namespace) => Some(namespace.pid()),
                Sockets::Host | Sockets::Stack(_) => None,
            },
        };
        let server = Server::new(Arc::new(sockets), names.table());
        for (listener, language) in [(self.socks, Language::Socks), (self.http, Language::Http)] {
            if let Some(listener) = listener {
                tokio::spawn(server.clone().serve(listener, language));
            }
        }
        entrances
    }
}

fn taken(error: ProxyError) -> Failure {
    Failure::caused("cannot start a proxy", &error)
        .hint("choose another place: see proxy.socks and proxy.http in `meshnode config show`")
        .kind(ErrorKind::Conflict)
}
