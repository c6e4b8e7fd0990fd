//! What was asked of a node and what it said, and whether it still holds.
//!
//! ```text
//!   client-N   lets a WireGuard device in, puts it out, lets it in with another key …
//!   prices     offers postgres at another price each time: a signed record in the catalogue
//! ```
//! Each of them asks for one thing after the other, so after any crash a node must be where its
//! last answer left it or one step further, for the question on its way. Anything else is lost or
//! invented. Knows what the local API answers and nothing of how the node keeps it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use mesh_tests::chance::Chance;
use mesh_tests::local_api::LocalApi;
use serde_json::{Value, json};

/// Most clients that a node lets in.
pub const CLIENTS: usize = 32;

/// Who offers prices.
const PRICES: &str = "prices";
/// How the name of the document begins that holds them.
const CATALOGUE: &str = "catalog";

/// How far one of those who ask has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desk {
    who: String,
    /// Questions that were answered.
    pub told: u64,
    /// Questions that were asked.
    pub asked: u64,
}

impl Desk {
    /// Returns all who ask: some clients, and who offers prices last.
    pub fn all(clients: usize) -> Vec<Self> {
        let clients = (0..clients).map(|number| format!("client-{number}"));
        let all = clients.chain([PRICES.to_owned()]);
        all.map(|who| Self {
            who,
            told: 0,
            asked: 0,
        })
        .collect()
    }

    /// Tells whether it writes into the signed ledger, which costs more the longer it is.
    pub fn is_signed(&self) -> bool {
        self.who == PRICES
    }

    /// Asks for the next thing; what is said meanwhile is noted in words that [`Book::note`] reads.
    ///
    /// # Errors
    /// The node refuses, or is gone.
    pub fn ask(
        &mut self,
        api: &mut LocalApi,
        note: &dyn Fn(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let next = self.told + 1;
        note(json!({ "asked": self.who, "number": next }))?;
        self.asked = next;
        match self.who.as_str() {
            PRICES => api.post("/v1/orgs/invites", &invite(next))?,
            name => match key_after(name, next) {
                Some(key) => api.post("/v1/clients", &json!({ "name": name, "key": key }))?,
                None => api.post("/v1/clients/removals", &json!({ "name": name }))?,
            },
        };
        self.told = next;
        note(json!({ "told": self.who, "number": next }))?;
        if self.is_signed() {
            note(api.get("/v1/ledger/heads")?)?;
        }
        Ok(())
    }
}

fn invite(number: u64) -> Value {
    let euro = |micros: u64| json!({ "micros": micros, "currency": "EUR" });
    let price = json!({ "per_month": euro(1000 * number) });
    json!({
        "sell": [{ "recipe": "postgres", "price": price }],
        "credit": euro(10_000_000),
        // Few may be open at once.
        "valid_s": 1,
        "settlement_days": 30,
    })
}

/// Returns the key under which a client is let in after so many questions; none if it is not.
fn key_after(name: &str, number: u64) -> Option<String> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if number.is_multiple_of(2) {
        return None;
    }
    let seed = name.bytes().fold(number, |seed, byte| {
        seed.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
    });
    let mut chance = Chance::new(seed);
    let mut letter = |step: usize| {
        let some: Vec<u8> = LETTERS.iter().step_by(step).copied().collect();
        chance.one(&some).map_or('A', char::from)
    };
    // 32 bytes are 42 letters and four bits: the last letter is one of every fourth.
    let mut key: String = (0..42).map(|_| letter(1)).collect();
    key.push(letter(4));
    key.push('=');
    Some(key)
}

/// What became of questions that were on their way when a node ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct OnTheWay {
    /// How many there were.
    pub all: usize,
    /// How many of them had arrived: nobody was told, and they are there.
    pub arrived: usize,
}

/// What a node was asked and what it said.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// By who asked: answered, asked.
    desks: BTreeMap<String, (u64, u64)>,
    /// By document: how many records it was said to have, and its head then.
    heads: BTreeMap<String, BTreeMap<u64, String>>,
}

impl Book {
    /// Notes what was said.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn note(&mut self, word: &Value) -> anyhow::Result<()> {
        if word.get("heads").is_some() {
            for (document, records, head) in heads(word)? {
                self.heads
                    .entry(document)
                    .or_default()
                    .insert(records, head);
            }
            return Ok(());
        }
        let number = word.get("number").and_then(Value::as_u64);
        let number = number.with_context(|| format!("no number in {word}"))?;
        let who = |what: &str| Some(word.get(what)?.as_str()?.to_owned());
        if let Some(who) = who("asked") {
            self.desks.entry(who).or_default().1 = number;
        } else if let Some(who) = who("told") {
            self.desks.entry(who).or_default().0 = number;
        }
        Ok(())
    }

    /// Notes how far those have come who ask.
    pub fn note_desks(&mut self, desks: &[Desk]) {
        for desk in desks {
            self.desks.insert(desk.who.clone(), (desk.told, desk.asked));
        }
    }

    /// Asks the node for everything and compares; what it says now must hold later too. Those who
    /// ask go on from what was found.
    ///
    /// # Errors
    /// Something is lost or invented.
    pub fn check(&mut self, api: &mut LocalApi, desks: &mut [Desk]) -> anyhow::Result<OnTheWay> {
        let mut on_the_way = OnTheWay::default();
        let clients = clients(&api.get("/v1/clients")?)?;
        let heads_now = api.get("/v1/ledger/heads")?;
        let prices = self.check_heads(&heads_now)?;
        for (who, (told, asked)) in &self.desks {
            let is_so = |number: &u64| match who.as_str() {
                PRICES => prices == *number,
                name => clients.get(name) == key_after(name, *number).as_ref(),
            };
            let found = (*told..=*asked).find(is_so).with_context(|| {
                let found = match who.as_str() {
                    PRICES => format!("{prices} prices"),
                    name => format!("the key {:?}", clients.get(name)),
                };
                format!("{who} was told {told} and has asked for {asked}; there is {found}")
            })?;
            on_the_way.all += usize::from(told < asked);
            on_the_way.arrived += usize::from(*told < found);
            if let Some(desk) = desks.iter_mut().find(|desk| desk.who == *who) {
                (desk.told, desk.asked) = (found, found);
            }
        }
        if let Some(stranger) = clients.keys().find(|name| !self.desks.contains_key(*name)) {
            bail!("nobody has ever let {stranger} in");
        }
        self.note(&heads_now)?;
        self.note_desks(desks);
        Ok(on_the_way)
    }

    /// Compares the ledger's documents with what was said of them; returns how many prices there
    /// are.
    fn check_heads(&self, now: &Value) -> anyhow::Result<u64> {
        let now: BTreeMap<String, (u64, String)> = heads(now)?
            .into_iter()
            .map(|(document, records, head)| (document, (records, head)))
            .collect();
        for (document, told) in &self.heads {
            let (most, _) = told.last_key_value().context("something was said")?;
            let (records, head) = now.get(document).cloned().unwrap_or_default();
            ensure!(
                *most <= records,
                "{document} had {most} records, and now it has {records}"
            );
            ensure!(
                told.get(&records).is_none_or(|told| *told == head),
                "{document} has another record {records} now"
            );
        }
        let prices = now.iter().find(|(name, _)| name.starts_with(CATALOGUE));
        Ok(prices.map_or(0, |(_, (records, _))| *records))
    }
}

/// Lets the node check every record that it holds.
///
/// # Errors
/// One does not hold.
pub fn verify(api: &mut LocalApi) -> anyhow::Result<()> {
    let verdict = api.get("/v1/ledger/verdict")?;
    ensure!(
        verdict.get("holds").and_then(Value::as_bool) == Some(true),
        "the ledger does not agree with itself: {verdict}"
    );
    Ok(())
}

fn heads(reply: &Value) -> anyhow::Result<Vec<(String, u64, String)>> {
    let head = |row: &Value| {
        let text = |field| Some(row.get(field)?.as_str()?.to_owned());
        let records = row.get("records")?.as_u64()?;
        Some((text("document")?, records, text("head")?))
    };
    let rows = reply.get("heads").and_then(Value::as_array);
    let all: Option<Vec<_>> = rows.context("no heads")?.iter().map(head).collect();
    all.with_context(|| format!("a head says too little: {reply}"))
}

fn clients(reply: &Value) -> anyhow::Result<BTreeMap<String, String>> {
    let client = |row: &Value| {
        let text = |field| Some(row.get(field)?.as_str()?.to_owned());
        Some((text("name")?, text("key")?))
    };
    let rows = reply.get("clients").and_then(Value::as_array);
    let all: Option<BTreeMap<_, _>> = rows.context("no clients")?.iter().map(client).collect();
    all.with_context(|| format!("a client says too little: {reply}"))
}
