//! What the speaker knows, as lines of JSON. All values are numbers, addresses and words of ours,
//! so nothing needs escaping.

use mesh_base::time::Moment;
use mesh_dataplane::lan::Lans;
use mesh_routing::babel::route::Selected;
use mesh_routing::babel::speaker::Speaker;

/// Returns every route that is in use.
pub fn routes(speaker: &Speaker, now: Moment) -> String {
    let views = speaker.routes(now);
    list(views.iter().map(|route| {
        let state = match route.selected {
            Selected::Own => "own",
            Selected::Via(_) => "via",
            Selected::None if route.held_until.is_some() => "held",
            Selected::None => "none",
        };
        let ways = list(route.ways.iter().map(|way| {
            format!(
                "{{\"link\":{},\"next_hop\":\"{}\",\"router_id\":\"{}\",\"metric\":{},\
                 \"claimed\":{},\"feasible\":{},\"selected\":{}}}",
                way.link.0,
                way.next_hop,
                way.router_id,
                way.metric.0,
                way.claimed.metric.0,
                way.feasible,
                way.selected,
            )
        }));
        format!(
            "{{\"prefix\":\"{}\",\"state\":\"{state}\",\"ways\":{ways}}}",
            route.prefix
        )
    }))
}

/// Returns every neighbour.
pub fn neighbours(speaker: &Speaker, now: Moment) -> String {
    let views = speaker.neighbours(now);
    list(views.iter().map(|it| {
        format!(
            "{{\"link\":{},\"address\":\"{}\",\"hellos\":{},\"unicast_hellos\":{},\"rxcost\":{},\
             \"txcost\":{},\"cost\":{},\"rtt_us\":{},\"rtt_penalty\":{}}}",
            it.link.0,
            it.address,
            it.hellos,
            it.unicast_hellos,
            it.rxcost.0,
            it.txcost.0,
            it.cost.0,
            it.rtt
                .map_or("null".to_owned(), |rtt| rtt.as_micros().to_string()),
            it.rtt_penalty.0,
        )
    }))
}

/// Returns what was counted: by the speaker, why TLVs were ignored, by authentication.
pub fn counters(speaker: &Speaker, lans: &mut Lans) -> String {
    let counts = speaker.counters().iter();
    let mut fields: Vec<String> = counts
        .map(|(what, count)| format!("\"{}\":{count}", what.word()))
        .collect();
    let ignored = speaker.ignored().iter();
    fields.extend(ignored.map(|(reason, count)| format!("\"ignored {reason:?}\":{count}")));
    for at in 0..lans.len() {
        let refused = lans.socket(at).map(|socket| socket.refused());
        for (reason, count) in refused.unwrap_or_default() {
            fields.push(format!("\"refused {at} {reason:?}\":{count}"));
        }
    }
    format!("{{{}}}", fields.join(","))
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}
