//! `meshctl order` and `meshctl plan`.

use std::collections::BTreeMap;

use clap::Args;
use mesh_api::error::{ApiError, ErrorKind};
use mesh_api::guest::Guest;
use mesh_api::reply::Reply;
use mesh_api::request::{OrderRequest, Request};
use mesh_api::screen;
use mesh_api::service::{OrderReply, PlanReply};
use mesh_base::money::Price;
use mesh_base::name::Name;

use crate::amount;
use crate::failure::Failure;
use crate::session::{Session, unexpected};

/// Order a service.
///
/// A node is chosen, holds the capacity, gets the order and brings the service up.
///
/// Examples:
///   meshctl recipe ls
///   meshctl order postgres --name crm-db
///   meshctl order postgres --set database=crm --memory 512M --max-price 0.20EUR/month
///   meshctl order postgres --name crm-db --allow org:library
///   meshctl order postgres --plan
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct OrderArguments {
    /// What to order; `meshctl recipe ls` lists the choice.
    recipe: Name,
    /// Name of the service; without it the node chooses one.
    #[arg(long)]
    name: Option<Name>,
    /// Parameter of the recipe; may be given again.
    #[arg(long = "set", short = 's', value_name = "NAME=VALUE", value_parser = amount::pair)]
    set: Vec<(String, String)>,
    /// Parameter of the recipe, read from a file; may be given again.
    #[arg(long, value_name = "NAME=FILE", value_parser = amount::pair)]
    set_file: Vec<(String, String)>,
    /// Only on this node.
    #[arg(long)]
    node: Option<Name>,
    /// Only on nodes of this organisation.
    #[arg(long)]
    org: Option<Name>,
    /// Memory instead of the recipe's, for example 512M or 6G.
    #[arg(long, value_name = "SIZE", value_parser = amount::mebibytes)]
    memory: Option<u32>,
    /// Processor cores instead of the recipe's, for example 0.5.
    #[arg(long, value_name = "CORES", value_parser = amount::cpu_millis)]
    cpu: Option<u32>,
    /// Disk instead of the recipe's, for example 2G.
    #[arg(long, value_name = "SIZE", value_parser = amount::mebibytes)]
    disk: Option<u32>,
    /// Pay at most this, for example 0.20EUR/month.
    #[arg(long, value_name = "PRICE")]
    max_price: Option<Price>,
    /// Let others in besides our organisation: org:NAME, org:KEY, or mesh for every organisation
    /// that the provider admits; may be given again. Final: order anew to change it.
    #[arg(long, value_name = "WHO")]
    allow: Vec<Guest>,
    /// Show the plan and do nothing.
    #[arg(long, conflicts_with = "plan_token")]
    plan: bool,
    /// Carry out exactly the plan with this token, or fail if it is stale.
    #[arg(long, value_name = "TOKEN")]
    plan_token: Option<String>,
    /// With a plan: exit code 10 if it would change something.
    #[arg(long)]
    detailed_exitcode: bool,
}

impl OrderArguments {
    /// Orders, unless only a plan is wanted.
    pub fn order(self, session: &Session) -> Result<(), Failure> {
        if self.plan {
            return self.plan(session);
        }
        let request = Request::Order(Box::new(self.to_request(false)?));
        let (reply, mut progress) = session.work(&request)?;
        let Reply::Order(order) = &reply else {
            return Err(unexpected(&reply));
        };
        let safety = screen::safety(&order.safety);
        progress.finish(&format!("{}   ({safety})", screen::span(order.elapsed_ms)));
        session.show(&reply, || order_screen(order))?;
        if order
            .url
            .as_ref()
            .is_some_and(|url| screen::without_password(url) != *url)
        {
            session.say(&format!(
                "hint: with its password: meshctl show {} --field url\n",
                screen::plain(&order.name)
            ));
        }
        Ok(())
    }

    /// Plans only.
    pub fn plan(self, session: &Session) -> Result<(), Failure> {
        let reply = session.ask(&Request::Order(Box::new(self.to_request(true)?)))?;
        let Reply::Plan(plan) = &reply else {
            return Err(unexpected(&reply));
        };
        session.show(&reply, || plan_screen(plan))?;
        if plan.candidates.is_empty() {
            return Err(Failure::Verdict(ApiError::new(
                ErrorKind::CannotPlace,
                format!("no node can take {}", plan.recipe),
                "ask for less, or see who sells what: meshctl offer ls",
            )));
        }
        let command = format!(
            "meshctl order {} --name {} --plan-token {}",
            plan.recipe, plan.name, plan.token
        );
        if self.detailed_exitcode {
            return Err(Failure::Verdict(ApiError::new(
                ErrorKind::PlanHasChanges,
                format!("the plan would order {}", plan.name),
                format!("carry it out with the same options and its token: {command}"),
            )));
        }
        session.say(&screen::plain(&format!("hint: carry it out: {command}")));
        session.say("\n");
        Ok(())
    }

    fn to_request(&self, plan_only: bool) -> Result<OrderRequest, Failure> {
        Ok(OrderRequest {
            recipe: self.recipe.clone(),
            name: self.name.clone(),
            parameters: self.parameters()?,
            node: self.node.clone(),
            org: self.org.clone(),
            memory_mib: self.memory,
            cpu_millis: self.cpu,
            disk_mib: self.disk,
            price_cap: self.max_price,
            allow: self.allow.iter().cloned().collect(),
            plan_only,
            plan: self.plan_token.clone(),
        })
    }

    fn parameters(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut pairs = self.set.clone();
        for (name, file) in &self.set_file {
            pairs.push((name.clone(), read_value(name, file)?));
        }
        let mut parameters = BTreeMap::new();
        for (name, value) in pairs {
            if parameters.contains_key(&name) {
                return Err(Failure::new(
                    ErrorKind::Usage,
                    format!("the parameter {name} is given twice"),
                    "give each parameter once",
                ));
            }
            parameters.insert(name, value);
        }
        Ok(parameters)
    }
}

fn read_value(name: &str, file: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|problem| {
        Failure::new(
            ErrorKind::Usage,
            format!("cannot read {file} for the parameter {name}: {problem}"),
            "name a text file that you may read",
        )
    })?;
    // The line feed that editors put at the end is not meant.
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// The lines that tell where the service is.
fn order_screen(order: &OrderReply) -> String {
    let at = match order.port {
        Some(port) => format!("[{}]:{port}", order.address),
        None => order.address.to_string(),
    };
    match &order.url {
        Some(url) => format!(
            "  {}     {at}\n",
            screen::plain(&screen::without_password(url))
        ),
        None => format!("  {}     {at}\n", screen::plain(&order.name)),
    }
}

fn plan_screen(plan: &PlanReply) -> String {
    let rows = plan.candidates.iter().map(|candidate| {
        vec![
            candidate.node.clone(),
            candidate.org.clone(),
            candidate.price.to_string(),
            screen::rtt(candidate.rtt_us),
            candidate.reason.clone(),
        ]
    });
    let mut text = screen::table(&["NODE", "ORG", "PRICE", "RTT", "REASON"], rows.collect());
    let refused = plan
        .refused
        .iter()
        .map(|node| vec![node.node.clone(), node.reason.clone()]);
    let refused = screen::columns(refused.collect(), "  ");
    if !refused.is_empty() {
        text.push_str(&format!("refused:\n{refused}"));
    }
    text
}
