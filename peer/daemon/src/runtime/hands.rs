//! Does what the node wants done; every effect has its one place here, and none makes the node
//! wait.
//!
//! What takes time is handed to somebody: frames to lanes, knocks to a task, steps to the compute
//! workers. Decides nothing.

use mesh_base::codec;
use mesh_base::identity::SecretKey;
use mesh_peer::message::{JOIN_REPLY_LEN_MAX, JoinReply, JoinRequest};
use mesh_peer::port::{Effect, Input};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::api::Calls;
use crate::names;
use crate::runtime::compute::Compute;
use crate::runtime::overlay::Overlay;
use crate::runtime::shared::Shared;
use crate::swarm::door::{self, Door};
use crate::swarm::gate::Trust;
use crate::swarm::network::Network;

/// Everybody who does something.
pub struct Hands {
    /// The control network.
    pub network: Network,
    /// The join door.
    pub door: Door,
    /// Programs that wait.
    pub calls: Calls,
    /// Instances.
    pub compute: Compute,
    /// The data plane.
    pub overlay: Shared<Overlay>,
    /// Who answers for names.
    pub names: names::Teller,
    /// Where answers go.
    pub inputs: mpsc::Sender<Input>,
    /// Where tasks run.
    pub tasks: Handle,
    /// Our key, for knocking.
    pub secret: SecretKey,
}

impl Hands {
    /// Performs one effect.
    pub fn perform(&mut self, effect: Effect) {
        match effect {
            // The loop appends by itself: nothing may come between an entry and the journal.
            Effect::Append { .. } => {}
            // The node repeats what matters until it is acknowledged.
            Effect::Send { to, message } => {
                self.network.send(&to, message.lane(), message.to_bytes());
            }
            Effect::Dial { peer, addresses } => self.network.dial(&peer, addresses),
            Effect::Hangup { peer } => self.network.hangup(&peer),
            Effect::Trust { roster, chain } => self.network.trust(Trust { roster, chain }),
            Effect::Door { open } => self.door.open(open),
            Effect::Answer { visit, reply } => self.door.answer(visit.0, codec::encode(&*reply)),
            Effect::Knock {
                call,
                host,
                addresses,
                request,
            } => {
                let (secret, inputs) = (self.secret.clone(), self.inputs.clone());
                self.tasks.spawn(async move {
                    let reply = knock(&secret, &host, &addresses, &request).await;
                    let _ = inputs.send(Input::Knocked { call, reply }).await;
                });
            }
            Effect::ApiEvent { call, event } => self.calls.event(call, *event),
            Effect::ApiReply { call, reply } => self.calls.reply(call, *reply),
            Effect::Compute(step) => self.compute.step(step),
            Effect::ReadLog {
                ticket,
                item,
                offset,
            } => self.compute.read_log(ticket, item, offset),
            Effect::Clients(clients) => {
                self.overlay
                    .with(|overlay| overlay.plane().set_clients(&clients));
            }
            Effect::Names(names) => self.names.tell(names),
            Effect::Explain { call, question } => {
                let guide = self.overlay.with(|overlay| overlay.guide());
                let inputs = self.inputs.clone();
                self.tasks.spawn(async move {
                    let found = guide.find(question).await;
                    let _ = inputs.send(Input::Explained { call, found }).await;
                });
            }
            Effect::Overlay(plan) => {
                let open = self.overlay.with(|overlay| overlay.apply(&plan));
                let inputs = self.inputs.clone();
                self.tasks.spawn(async move {
                    for (service, port, local) in open {
                        let _ = inputs
                            .send(Input::Forwarded {
                                service,
                                port,
                                local,
                            })
                            .await;
                    }
                });
            }
        }
    }
}

/// Knocks at a join door; what went wrong comes back as one line.
pub async fn knock(
    secret: &SecretKey,
    host: &mesh_base::identity::NodeId,
    addresses: &[std::net::SocketAddr],
    request: &JoinRequest,
) -> Result<JoinReply, String> {
    let bytes = door::knock(secret, host, addresses, codec::encode(request))
        .await
        .map_err(|error| error.to_string())?;
    codec::decode(&bytes, JOIN_REPLY_LEN_MAX)
        .map_err(|error| format!("the answer cannot be read: {error}"))
}
