//! Instances that this node holds: their machines, their steps, and what they make known.
//!
//! A step leaves only after everything said so far is on disk; a fact becomes a record for the
//! customer, an entry for ourselves, or both. Which orders are held is decided in `provider`.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_base::codec;
use mesh_compute::instance::Instance;
use mesh_compute::instance::state::{Fact, Memory, Plan, State};
use mesh_compute::promise::PromisePlan;
use mesh_compute::recipe::{PromiseSpec, Recipe};
use mesh_compute::step::{Event, InstanceSpec, ItemId};
use mesh_ledger::document::DocKind;
use mesh_ledger::grant::{ItemState, Progress, Ready, RefusalReason, Release};
use mesh_ledger::record::{Body, RecordId};
use mesh_ledger::usage::Why;

use crate::entry::Entry;
use crate::limits::SAMPLE_INTERVAL_MAX;
use crate::message::Message;
use crate::node::Node;
use crate::port::Effect;
use crate::provider::parameters_digest;
use crate::view::{OrderView, item_of};

/// How long after a start promises may take: a database that recovers after a crash needs minutes.
const READY_WITHIN: Duration = Duration::from_secs(120);

impl Node {
    pub(crate) fn begin_instance(
        &mut self,
        view: &OrderView,
        values: &BTreeMap<String, String>,
        memory: Option<Memory>,
    ) {
        let Some(recipe) = self.recipes.get(&view.order.recipe).cloned() else {
            return;
        };
        let address = self.service_address(&view.order.service);
        let spec = InstanceSpec {
            item: ItemId(item_of(&view.id)),
            name: view.order.name.to_string(),
            recipe: recipe.digest(),
            address,
            values: values.clone(),
            memory_mib: view.order.memory_mib,
            cpu_millis: view.order.cpu_millis,
            pids: recipe.limits.pids,
        };
        let plan = Plan {
            spec,
            promises: promises(&recipe),
            ready_within: READY_WITHIN,
            meter_period: self.config.metering_period.min(SAMPLE_INTERVAL_MAX),
        };
        self.changed = true;
        let instance = match memory {
            Some(memory) => Instance::restore(plan, memory, self.now),
            None => Instance::new(plan, self.now),
        };
        self.provider.instances.insert(view.id, instance);
        self.provider
            .statements
            .insert(view.id, self.now.mono + self.config.metering_period);
    }

    pub(crate) fn compute_event(&mut self, event: &Event) {
        let now = self.now;
        if let Event::SoftwareReady { recipe, .. } = event {
            self.provider.software.insert(*recipe);
        }
        let item = match event {
            Event::SoftwareReady { .. } | Event::SoftwareFailed { .. } => None,
            Event::Created { item }
            | Event::Started { item }
            | Event::Probed { item, .. }
            | Event::Stopped { item, .. }
            | Event::Metered { item, .. }
            | Event::Destroyed { item }
            | Event::Failed { item, .. } => Some(*item),
        };
        match item {
            Some(item) => {
                if let Some(instance) = self.provider.instances.get_mut(&RecordId(item.0)) {
                    instance.handle_event(event, now);
                } else if matches!(event, Event::Destroyed { .. }) {
                    self.release(RecordId(item.0));
                }
            }
            // Software is shared: every instance hears of it and takes what is its own.
            None => {
                for instance in self.provider.instances.values_mut() {
                    instance.handle_event(event, now);
                }
            }
        }
    }

    /// Gives back what was granted to an order that has no instance here any more.
    fn release(&mut self, order: RecordId) {
        let Some(view) = self.view.orders.get(&order).cloned() else {
            return;
        };
        let granted = view.granted().filter(|(_, a)| a.node == self.id);
        let Some((attempt, _)) = granted else {
            return;
        };
        let final_usage = self.state_usage(order, Why::Destroy);
        self.provider.forget_usage(&order);
        self.provider.allocator.release(order, attempt);
        let release = Body::Release(Release {
            order,
            attempt,
            final_usage,
        });
        self.must_write(DocKind::Grants, Some(view.org), vec![release]);
    }

    /// Carries out what the instance machines want and writes what they say.
    pub(crate) fn drain_instances(&mut self) {
        let orders: Vec<RecordId> = self.provider.instances.keys().copied().collect();
        for order in orders {
            let mut facts = Vec::new();
            if let Some(instance) = self.provider.instances.get_mut(&order) {
                while let Some(fact) = instance.poll_fact() {
                    facts.push(fact);
                }
            }
            for fact in facts {
                self.instance_fact(order, fact);
            }
            // Steps wait for the journal: nothing is executed that a crash could make us forget.
            while let Some(step) = self
                .provider
                .instances
                .get_mut(&order)
                .and_then(Instance::poll_step)
            {
                self.out.durable(Effect::Compute(step));
            }
        }
    }

    fn instance_fact(&mut self, order: RecordId, fact: Fact) {
        let now = self.now;
        match fact {
            Fact::State(state) => self.instance_state(order, &state),
            Fact::Software { .. } => self.tell_step(order, "software_ready"),
            Fact::Created => {
                self.remember_item(order);
                self.tell_step(order, "created");
            }
            Fact::Started => {
                if let Some(meter) = self.provider.meters.get_mut(&order) {
                    meter.handle_running(true, now);
                }
                self.tell_step(order, "started");
            }
            Fact::Ended { how } => {
                if let Some(meter) = self.provider.meters.get_mut(&order) {
                    meter.handle_running(false, now);
                }
                tracing::info!(order = %order.short(), how, "an instance ended");
            }
            Fact::Metered(meters) => self.metered(order, meters),
            Fact::Trouble(trouble) => {
                *self.provider.restarts.entry(order).or_default() += 1;
                tracing::warn!(order = %order.short(), %trouble, "an instance is in trouble");
            }
        }
    }

    fn remember_item(&mut self, order: RecordId) {
        if let Some(entry) = self.item_entry(order) {
            self.out.append(&entry);
        }
    }

    /// Returns the journal entry that remembers what an instance is now.
    fn item_entry(&mut self, order: RecordId) -> Option<Entry> {
        let memory = self.provider.instances.get(&order).map(Instance::memory)?;
        self.provider.memories.insert(order, memory.clone());
        let order = item_of(&order);
        Some(Entry::Item { order, memory })
    }

    fn instance_state(&mut self, order: RecordId, state: &State) {
        let Some(view) = self.view.orders.get(&order).cloned() else {
            return;
        };
        let Some((attempt, granted)) = view.granted() else {
            return;
        };
        // On disk together with its record: a state that is remembered but was not told never would
        // be.
        let together: Vec<Entry> = self.item_entry(order).into_iter().collect();
        let body = match state {
            State::Ready => self.ready_record(&view, attempt),
            State::Fetching | State::Creating | State::Destroying | State::Stopping => {
                together.iter().for_each(|entry| {
                    self.out.append(entry);
                });
                return;
            }
            State::Starting => progress(order, ItemState::Starting),
            State::Degraded(_) => progress(order, ItemState::Broken),
            State::Stopped => progress(order, ItemState::Stopped),
            State::Failed(trouble) => {
                let sentence = RefusalReason::sentence(&trouble.to_string());
                progress(order, ItemState::Failed(sentence))
            }
            State::Destroyed => {
                let final_usage = self.state_usage(order, Why::Destroy);
                self.provider.allocator.release(order, attempt);
                self.provider.instances.remove(&order);
                self.provider.forget_usage(&order);
                Body::Release(Release {
                    order,
                    attempt,
                    final_usage,
                })
            }
        };
        if granted.node == self.id {
            self.must_write_with(DocKind::Grants, Some(view.org), vec![body], together);
        }
    }

    fn ready_record(&mut self, view: &OrderView, attempt: u32) -> Body {
        let values = self.own_secret(&view.id).unwrap_or_default();
        let plain = codec::encode(&values);
        let connection = self.seal_to(&view.customer, &view.id, &plain);
        Body::Ready(Ready {
            order: view.id,
            attempt,
            connection_digest: parameters_digest(&view.order.nonce, &plain),
            connection,
            key: view.customer.key().short(),
        })
    }

    /// Hurries a step to the customer who waits; never a fact.
    fn tell_step(&mut self, order: RecordId, step: &str) {
        let Some(customer) = self.view.orders.get(&order).map(|view| view.customer) else {
            return;
        };
        if customer == self.id {
            self.remote_step(customer, order, step);
            return;
        }
        self.out.send(
            customer,
            Message::Step {
                order: order.0,
                step: step.to_owned(),
            },
        );
    }
}

fn progress(order: RecordId, state: ItemState) -> Body {
    Body::Progress(Progress { order, state })
}

fn promises(recipe: &Recipe) -> Vec<PromisePlan> {
    let plan = |(name, promise): (&String, &PromiseSpec)| PromisePlan {
        name: name.clone(),
        kind: promise.kind,
        period: Duration::from_millis(u64::from(promise.period_ms)),
        timeout: Duration::from_millis(u64::from(promise.command.timeout_ms)),
        fails: u32::from(promise.fails),
        window: u32::from(promise.window),
    };
    recipe.promises.iter().map(plan).collect()
}
