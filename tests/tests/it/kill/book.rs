//! What nodes said, and whether it still holds: the promises that no kill may break.
//!
//! Everything that a program printed is remembered with the node that said it. Later the same node
//! must know at least as much: ledger documents never get shorter, a statement of usage never goes
//! back, an order keeps its id and every attempt its outcome.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use mesh_tests::home::Home;
use serde_json::Value;

/// What was said.
#[derive(Debug, Default)]
pub struct Book {
    /// Length of each document, by node.
    documents: BTreeMap<(String, String), u64>,
    /// Last usage statement of each item, by node: its number, its end.
    usage: BTreeMap<(String, String), (u64, i64)>,
    /// When the first statement of each item begins.
    begins: BTreeMap<String, i64>,
    /// Our orders, by name.
    orders: BTreeMap<String, String>,
    /// What the customer read while ordering: the order, the tick, the node.
    ticks: Vec<(String, String)>,
}

impl Book {
    /// Asks a node for everything, compares it with what it said before, and remembers it.
    ///
    /// # Errors
    /// Something that it said is lost.
    pub fn note(&mut self, home: &Home) -> anyhow::Result<()> {
        let home = home.quietly();
        let heads = home.meshctl(&["ledger", "heads", "--json"])?.json()?;
        for head in rows(&heads, "heads")? {
            let (document, seq) = (text(head, "document")?, number(head, "seq")?);
            let key = (home.name.clone(), document.clone());
            let before = self.documents.insert(key, seq).unwrap_or(0);
            ensure!(
                before <= seq,
                "{} has lost changes of {document}: {before} were told, {seq} are there",
                home.name
            );
        }
        let usage = home.meshctl(&["usage", "--json"])?.json()?;
        for row in rows(&usage, "usage")? {
            self.note_usage(&home.name, row)?;
        }
        Ok(())
    }

    fn note_usage(&mut self, node: &str, row: &Value) -> anyhow::Result<()> {
        let (item, seq, until) = (text(row, "item")?, number(row, "seq")?, time(row, "until")?);
        let from = time(row, "from")?;
        let begin = *self.begins.entry(item.clone()).or_insert(from);
        ensure!(begin == from, "the first statement of {item} has changed");
        let told = self
            .usage
            .insert((node.to_owned(), item.clone()), (seq, until));
        let (seq_told, until_told) = told.unwrap_or((0, i64::MIN));
        ensure!(
            seq_told <= seq && until_told <= until,
            "{node} has lost usage of {item}: statement {seq_told} was told, {seq} is there"
        );
        Ok(())
    }

    /// Remembers what a command that asked for usage was answered, some time ago.
    ///
    /// # Errors
    /// The answer cannot be read.
    pub fn note_answer(&mut self, home: &Home, answer: &Value) -> anyhow::Result<()> {
        for row in rows(answer, "usage")? {
            let statement = (number(row, "seq")?, time(row, "until")?);
            let key = (home.name.clone(), text(row, "item")?);
            let told = self.usage.entry(key).or_insert(statement);
            *told = statement.max(*told);
        }
        Ok(())
    }

    /// Remembers what the customer read on the screen of its order.
    pub fn tick(&mut self, order: &str, tick: &str) {
        self.ticks.push((order.to_owned(), tick.to_owned()));
    }

    /// Tells whether the customer was told that its order is recorded.
    pub fn is_acknowledged(&self, order: &str) -> bool {
        self.ticks.iter().any(|(of, _)| of == order)
    }

    /// Compares an order with everything that its customer was told about it.
    ///
    /// # Errors
    /// Something is lost, or there is too much.
    pub fn check_order(&mut self, name: &str, shown: &Value) -> anyhow::Result<()> {
        let id = text(shown, "order")?;
        let known = self.orders.entry(name.to_owned()).or_insert(id.clone());
        ensure!(*known == id, "{name} is another order now");
        let outcomes: Vec<String> = rows(shown, "attempts")?
            .map(|row| text(row, "outcome"))
            .collect::<anyhow::Result<_>>()?;
        // Later ticks are hurried to the customer before their records: no promises yet.
        let reached = |tick: &str| {
            let too_early: &[&str] = match tick {
                "reserved" => &["asked"],
                "awarded" => &["asked", "reserved"],
                _ => &[],
            };
            let is_late = |outcome: &String| !too_early.contains(&outcome.as_str());
            outcomes.iter().any(is_late)
        };
        for (_, tick) in self.ticks.iter().filter(|(of, _)| of == name) {
            ensure!(
                reached(tick),
                "{name}: the customer read `{tick}`, and now its attempts are {outcomes:?}"
            );
        }
        let granted = |outcome: &&String| ["granted", "released"].contains(&outcome.as_str());
        let count = outcomes.iter().filter(granted).count();
        ensure!(count <= 1, "{name} was granted {count} times: {outcomes:?}");
        Ok(())
    }

    /// Returns the last statement of an item that a node spoke of.
    pub fn last_statement(&self, node: &str, item: &str) -> Option<u64> {
        let key = (node.to_owned(), item.to_owned());
        self.usage.get(&key).map(|(seq, _)| *seq)
    }

    /// Returns our orders: names and ids.
    pub fn orders(&self) -> impl Iterator<Item = (&str, &str)> {
        self.orders
            .iter()
            .map(|(name, id)| (name.as_str(), id.as_str()))
    }
}

/// Returns the rows of a list.
///
/// # Errors
/// There is no such list.
pub fn rows<'a>(value: &'a Value, list: &str) -> anyhow::Result<impl Iterator<Item = &'a Value>> {
    let rows = value.get(list).and_then(Value::as_array);
    Ok(rows
        .with_context(|| format!("no {list} in {value}"))?
        .iter())
}

/// Returns a text of a row.
///
/// # Errors
/// There is none.
pub fn text(row: &Value, field: &str) -> anyhow::Result<String> {
    let text = row.get(field).and_then(Value::as_str);
    Ok(text
        .with_context(|| format!("no {field} in {row}"))?
        .to_owned())
}

/// Returns a number of a row.
///
/// # Errors
/// There is none.
pub fn number(row: &Value, field: &str) -> anyhow::Result<u64> {
    let number = row.get(field).and_then(Value::as_u64);
    number.with_context(|| format!("no {field} in {row}"))
}

fn time(row: &Value, field: &str) -> anyhow::Result<i64> {
    let number = row.get(field).and_then(Value::as_i64);
    number.with_context(|| format!("no {field} in {row}"))
}
