//! Invoices: a pure function of usage statements that either side can compute again, byte for byte.
//!
//! ```text
//! statements of one buyer whose span ends in the month
//!   └─ by item, in sequence, up to the first gap (the rest is pending, never guessed)
//!        └─ one line per run of equal price: reserved time × price, rounded once, half to even
//! ```
//! What rounding leaves over goes into the item's next line of the same invoice. It does not go
//! from one month into the next: an invoice can be checked from its own statements alone, and a
//! month loses less than a micro-unit per item.
//! Invariant: a statement belongs to exactly one month, and within it to at most one line.

use std::collections::BTreeMap;
use std::fmt;

use mesh_base::digest::Digest;
use mesh_base::identity::OrgId;
use mesh_base::money::{Currency, Money, MoneyError, Price};
use mesh_base::name::Name;
use mesh_base::time::{Wall, civil};
use serde::{Deserialize, Serialize};

use crate::record::{BodyError, RecordId, list_fits, text_fits};
use crate::usage::Usage;

/// Most lines of one invoice: they must fit into one record.
pub const LINES_MAX: usize = 140;

/// A calendar month in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Period {
    /// The year.
    pub year: i64,
    /// The month, 1 to 12.
    pub month: u8,
}

impl Period {
    /// Returns the month that contains a time.
    pub fn of(wall: Wall) -> Self {
        let (year, month, _) = civil(wall.day());
        // A civil month is 1 to 12.
        Self {
            year,
            month: u8::try_from(month).unwrap_or(1),
        }
    }

    /// Returns the month before.
    pub fn before(self) -> Self {
        match self.month {
            0 | 1 => Self {
                year: self.year - 1,
                month: 12,
            },
            month => Self {
                month: month - 1,
                ..self
            },
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

/// How final an invoice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum InvoiceState {
    /// May be replaced by a later revision.
    Draft,
    /// Stands; corrections are reversals.
    Final,
}

/// What a buyer owes a seller for one month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Number in the seller's series.
    pub number: String,
    /// Who is to be paid.
    pub seller: OrgId,
    /// Who is to pay.
    pub buyer: OrgId,
    /// The month.
    pub period: Period,
    /// A higher revision of the same number replaces a lower one.
    pub revision: u32,
    /// How final it is.
    pub state: InvoiceState,
    /// One line per item and price.
    pub lines: Vec<Line>,
    /// Sum of the lines.
    pub total: Money,
}

/// The charge for one item at one price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The order.
    pub order: RecordId,
    /// What the customer calls the service.
    pub name: Name,
    /// The item.
    pub item: Digest,
    /// First statement charged.
    pub usage_from: u64,
    /// Last statement charged.
    pub usage_to: u64,
    /// How many statements.
    pub usage_count: u32,
    /// Digest over the statements' record ids, in their order.
    pub usage_digest: Digest,
    /// Reserved time charged.
    pub reserved_ms: u64,
    /// The price per month.
    pub price: Price,
    /// The charge, rounded half to even.
    pub amount: Money,
    /// What rounding left over, for the item's next line; in micro-units × ms of a month.
    pub carry: i64,
}

impl Invoice {
    pub(crate) fn check(&self) -> Result<(), BodyError> {
        text_fits("number", &self.number)?;
        list_fits("lines", self.lines.len(), LINES_MAX)
    }
}

/// What an invoice says above its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// Number in the seller's series.
    pub number: String,
    /// Who is to be paid.
    pub seller: OrgId,
    /// Who is to pay.
    pub buyer: OrgId,
    /// The month.
    pub period: Period,
    /// Grows with every draft of the same number.
    pub revision: u32,
    /// Only statements priced in this currency are charged; others need their own invoice.
    pub currency: Currency,
}

/// A usage statement with what the invoice must say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Name of its record.
    pub id: RecordId,
    /// What it says.
    pub usage: &'a Usage,
    /// What the customer calls the service.
    pub name: &'a Name,
}

/// Why no invoice could be drafted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Two different statements of one item have the same number: a node has contradicted itself.
    #[error("two statements of item {} have number {sequence}", item.short())]
    Twice {
        /// The item.
        item: Digest,
        /// The number.
        sequence: u64,
    },
    /// More lines than one invoice holds.
    #[error("an invoice has at most {LINES_MAX} lines, this needs {0}")]
    Lines(usize),
    /// A sum does not fit.
    #[error("the amounts do not add up")]
    Money(#[source] MoneyError),
}

/// In what an invoice differs from what its statements say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvoiceMismatch {
    /// A statement that it cites is not here: the invoice is pending, not wrong.
    #[error("statement {sequence} of item {} is not here yet", item.short())]
    Missing {
        /// The item.
        item: Digest,
        /// The statement's number.
        sequence: u64,
    },
    /// The statements allow no invoice.
    #[error("no invoice follows from the statements")]
    Draft(#[source] DraftError),
    /// A line is not what the statements say.
    #[error("line {index} is not what the statements say")]
    Line {
        /// Its place, from 0.
        index: usize,
    },
    /// The number of lines or the total is not what the lines say.
    #[error("the total is not what the statements say")]
    Total,
}

type ByItem<'a> = BTreeMap<Digest, BTreeMap<u64, Statement<'a>>>;

/// Drafts the invoice that follows from statements.
///
/// Those of other months and currencies are left out. The order of the statements does not matter,
/// nor does hearing one twice.
pub fn draft<'a>(
    heading: Heading,
    statements: impl IntoIterator<Item = Statement<'a>>,
) -> Result<Invoice, DraftError> {
    let items = by_item(heading.period, heading.currency, statements)?;
    let mut lines = Vec::new();
    for statements in items.values() {
        let mut carry = 0;
        for run in runs(statements) {
            let line = line(&run, carry).map_err(DraftError::Money)?;
            carry = line.as_ref().map_or(carry, |line| line.carry);
            lines.extend(line);
        }
    }
    if LINES_MAX < lines.len() {
        return Err(DraftError::Lines(lines.len()));
    }
    let total = lines
        .iter()
        .try_fold(Money::zero(heading.currency), |sum, line| {
            sum.plus(line.amount)
        })
        .map_err(DraftError::Money)?;
    Ok(Invoice {
        number: heading.number,
        seller: heading.seller,
        buyer: heading.buyer,
        period: heading.period,
        revision: heading.revision,
        state: InvoiceState::Draft,
        lines,
        total,
    })
}

/// Computes an invoice again from the statements that it cites.
///
/// Later statements of the month may be there already: the invoice is judged by what it cites.
pub fn verify<'a>(
    invoice: &Invoice,
    statements: impl IntoIterator<Item = Statement<'a>>,
) -> Result<(), InvoiceMismatch> {
    let mut cited: BTreeMap<Digest, u64> = BTreeMap::new();
    for line in &invoice.lines {
        let last = cited.entry(line.item).or_default();
        *last = line.usage_to.max(*last);
    }
    let wanted = |statement: &Statement<'_>| {
        cited
            .get(&statement.usage.item)
            .is_some_and(|last| statement.usage.sequence <= *last)
    };
    let statements: Vec<Statement<'a>> = statements.into_iter().filter(wanted).collect();
    let items = by_item(
        invoice.period,
        invoice.total.currency,
        statements.iter().copied(),
    )
    .map_err(InvoiceMismatch::Draft)?;
    for line in &invoice.lines {
        missing(line, &items)?;
    }
    let heading = Heading {
        number: invoice.number.clone(),
        seller: invoice.seller,
        buyer: invoice.buyer,
        period: invoice.period,
        revision: invoice.revision,
        currency: invoice.total.currency,
    };
    let again = draft(heading, statements).map_err(InvoiceMismatch::Draft)?;
    let pairs = again.lines.iter().zip(&invoice.lines);
    if let Some(index) = pairs.into_iter().position(|(right, shown)| right != shown) {
        return Err(InvoiceMismatch::Line { index });
    }
    if again.lines.len() != invoice.lines.len() || again.total != invoice.total {
        return Err(InvoiceMismatch::Total);
    }
    Ok(())
}

fn by_item<'a>(
    period: Period,
    currency: Currency,
    statements: impl IntoIterator<Item = Statement<'a>>,
) -> Result<ByItem<'a>, DraftError> {
    let mut items = ByItem::new();
    for statement in statements {
        let usage = statement.usage;
        if usage.period() != period || usage.price.per_month.currency != currency {
            continue;
        }
        let old = items
            .entry(usage.item)
            .or_default()
            .insert(usage.sequence, statement);
        if old.is_some_and(|old| old.id != statement.id) {
            return Err(DraftError::Twice {
                item: usage.item,
                sequence: usage.sequence,
            });
        }
    }
    Ok(items)
}

/// Fails with the first statement that a line cites and that is not here.
fn missing(line: &Line, items: &ByItem<'_>) -> Result<(), InvoiceMismatch> {
    let absent = |sequence| {
        Err(InvoiceMismatch::Missing {
            item: line.item,
            sequence,
        })
    };
    let Some(statements) = items.get(&line.item) else {
        return absent(line.usage_from);
    };
    if line.usage_to < line.usage_from {
        return Ok(());
    }
    let mut expect = line.usage_from;
    for sequence in statements
        .range(line.usage_from..=line.usage_to)
        .map(|(number, _)| *number)
    {
        if sequence != expect {
            return absent(expect);
        }
        expect = expect.saturating_add(1);
    }
    if expect <= line.usage_to {
        absent(expect)
    } else {
        Ok(())
    }
}

/// Splits an item's statements, up to the first gap, where order or price changes.
fn runs<'a>(statements: &BTreeMap<u64, Statement<'a>>) -> Vec<Vec<Statement<'a>>> {
    let mut runs: Vec<Vec<Statement<'a>>> = Vec::new();
    for statement in statements.values() {
        let Some(run) = runs.last_mut() else {
            runs.push(vec![*statement]);
            continue;
        };
        let Some(last) = run.last() else { break };
        if last.usage.sequence.checked_add(1) != Some(statement.usage.sequence) {
            break;
        }
        let same = last.usage.price == statement.usage.price
            && last.usage.order == statement.usage.order
            && last.usage.agreement == statement.usage.agreement;
        if same {
            run.push(*statement);
        } else {
            runs.push(vec![*statement]);
        }
    }
    runs
}

fn line(run: &[Statement<'_>], carry: i64) -> Result<Option<Line>, MoneyError> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else {
        return Ok(None);
    };
    let reserved_ms = run
        .iter()
        .try_fold(0_u64, |sum, statement| {
            sum.checked_add(statement.usage.reserved_ms)
        })
        .ok_or(MoneyError::Overflow)?;
    let (amount, carry) = first.usage.price.charge(reserved_ms, carry)?;
    let ids: Vec<&[u8]> = run
        .iter()
        .map(|statement| &statement.id.0.as_bytes()[..])
        .collect();
    Ok(Some(Line {
        order: first.usage.order,
        name: first.name.clone(),
        item: first.usage.item,
        usage_from: first.usage.sequence,
        usage_to: last.usage.sequence,
        usage_count: u32::try_from(run.len()).map_err(|_| MoneyError::Overflow)?,
        usage_digest: Digest::of_parts(&ids),
        reserved_ms,
        price: first.usage.price,
        amount,
        carry,
    }))
}

#[cfg(test)]
mod tests {
    use mesh_base::codec;
    use mesh_base::identity::SecretKey;

    use super::*;
    use crate::fixture::{HOUR, START, key, org, price, record_id, usage};
    use crate::record::{Body, RECORD_LEN_MAX, RECORD_VERSION, Record, SignedRecord};

    /// Statements of one item with made-up record ids.
    fn statements(order: u8, sequences: impl IntoIterator<Item = u64>) -> Vec<(RecordId, Usage)> {
        let order = record_id(order);
        let statement = |sequence: u64| {
            let id = RecordId(Digest::of_parts(&[
                order.0.as_bytes(),
                &sequence.to_be_bytes(),
            ]));
            (id, usage(order, sequence))
        };
        sequences.into_iter().map(statement).collect()
    }

    fn heading() -> Heading {
        Heading {
            number: "2026-11/1".to_owned(),
            seller: org(1),
            buyer: org(2),
            period: Period::of(START),
            revision: 1,
            currency: Currency::EUR,
        }
    }

    fn drafted(statements: &[(RecordId, Usage)]) -> Result<Invoice, DraftError> {
        let name = "crm".parse().unwrap();
        draft(
            heading(),
            statements.iter().map(|(id, usage)| Statement {
                id: *id,
                usage,
                name: &name,
            }),
        )
    }

    #[track_caller]
    fn check(invoice: &Invoice, known: &[(RecordId, Usage)], expect: Result<(), InvoiceMismatch>) {
        let name = "crm".parse().unwrap();
        let known = known.iter().map(|(id, usage)| Statement {
            id: *id,
            usage,
            name: &name,
        });
        assert_eq!(verify(invoice, known), expect);
    }

    #[test]
    fn line_charges_the_reserved_time_of_its_statements() {
        let invoice = drafted(&statements(1, 1..=3)).unwrap();
        let [line] = invoice.lines.as_slice() else {
            panic!("one line")
        };
        assert_eq!(
            (line.usage_from, line.usage_to, line.usage_count),
            (1, 3, 3)
        );
        assert_eq!(line.reserved_ms, 3 * HOUR);
        // 0.12 EUR × 3 h / 720 h = 500 micro-units, exactly.
        assert_eq!((invoice.total.micros, line.carry), (500, 0));
        assert_eq!(invoice.total, line.amount);
    }

    #[test]
    fn order_and_repetition_of_statements_do_not_matter() {
        let mut known = statements(1, 1..=9);
        known.extend(statements(2, 1..=4));
        let invoice = drafted(&known).unwrap();
        assert_eq!(invoice.lines.len(), 2);
        known.reverse();
        known.extend(statements(1, 3..=5));
        assert_eq!(
            codec::encode(&drafted(&known).unwrap()),
            codec::encode(&invoice)
        );
    }

    #[test]
    fn statements_after_a_gap_are_pending() {
        let mut known = statements(1, 1..=3);
        known.extend(statements(1, 5..=6));
        assert_eq!(
            drafted(&known).unwrap(),
            drafted(&statements(1, 1..=3)).unwrap()
        );
    }

    #[test]
    fn change_of_price_begins_a_line_and_carries_the_rest() {
        let mut known = statements(1, 1..=4);
        for (_, usage) in known.iter_mut().skip(2) {
            usage.price = price("0.13EUR/month");
        }
        let invoice = drafted(&known).unwrap();
        let [first, second] = invoice.lines.as_slice() else {
            panic!("two lines")
        };
        assert_eq!((first.usage_to, second.usage_from), (2, 3));
        // 0.12 × 2/720 = 333.33.. and 0.13 × 2/720 = 361.11..: 333 and 361, and 0.44 carried.
        assert_eq!((first.amount.micros, second.amount.micros), (333, 361));
        let exact = i128::from(price("0.25EUR/month").per_month.micros) * i128::from(2 * HOUR);
        let charged = i128::from(invoice.total.micros) * mesh_base::money::MONTH_MS;
        assert_eq!(exact - charged, i128::from(second.carry));
    }

    #[test]
    fn statement_belongs_to_the_month_of_its_last_moment() {
        // 2026-11-23T06:00Z plus 186 h is the end of November.
        let known = statements(1, 1..=200);
        let invoice = drafted(&known).unwrap();
        assert_eq!(invoice.lines[0].usage_to, 186);
        let next = Heading {
            period: Period {
                year: 2026,
                month: 12,
            },
            ..heading()
        };
        let name = "crm".parse().unwrap();
        let known = known.iter().map(|(id, usage)| Statement {
            id: *id,
            usage,
            name: &name,
        });
        assert_eq!(draft(next, known).unwrap().lines[0].usage_from, 187);
        assert_eq!(
            Period {
                year: 2026,
                month: 1
            }
            .before(),
            Period {
                year: 2025,
                month: 12
            }
        );
        assert_eq!(
            Period {
                year: 2026,
                month: 12
            }
            .before()
            .to_string(),
            "2026-11"
        );
    }

    #[test]
    fn other_currencies_need_their_own_invoice() {
        let mut known = statements(1, 1..=2);
        known[1].1.price = price("0.12CHF/month");
        assert_eq!(drafted(&known).unwrap().lines[0].usage_to, 1);
    }

    #[test]
    fn two_statements_under_one_number_are_a_contradiction() {
        let mut known = statements(1, 1..=2);
        let mut other = known[1].clone();
        other.0 = record_id(77);
        known.push(other);
        let item = record_id(1).0;
        assert_eq!(
            drafted(&known),
            Err(DraftError::Twice { item, sequence: 2 })
        );
    }

    #[test]
    fn free_services_have_lines_too() {
        let mut known = statements(1, 1..=1);
        known[0].1.price = price("0EUR/month");
        let invoice = drafted(&known).unwrap();
        assert_eq!((invoice.lines.len(), invoice.total.micros), (1, 0));
    }

    #[test]
    fn invoice_is_confirmed_by_who_has_its_statements() {
        let invoice = drafted(&statements(1, 1..=5)).unwrap();
        check(&invoice, &statements(1, 1..=5), Ok(()));
        check(&invoice, &statements(1, 1..=8), Ok(()));
        let item = record_id(1).0;
        let missing = |sequence| Err(InvoiceMismatch::Missing { item, sequence });
        check(&invoice, &[], missing(1));
        check(&invoice, &statements(1, 1..=4), missing(5));
        check(&invoice, &statements(1, [1, 2, 4, 5]), missing(3));
    }

    #[test]
    fn every_altered_invoice_is_found_out() {
        let known = statements(1, 1..=5);
        let lawful = drafted(&known).unwrap();
        let altered = |spoil: &dyn Fn(&mut Invoice)| {
            let mut invoice = lawful.clone();
            spoil(&mut invoice);
            invoice
        };
        let line = Err(InvoiceMismatch::Line { index: 0 });
        check(
            &altered(&|i| i.lines[0].amount.micros += 1),
            &known,
            line.clone(),
        );
        check(
            &altered(&|i| i.lines[0].reserved_ms += 1),
            &known,
            line.clone(),
        );
        check(
            &altered(&|i| i.lines[0].usage_from = 2),
            &known,
            line.clone(),
        );
        check(
            &altered(&|i| i.lines[0].usage_count = 4),
            &known,
            line.clone(),
        );
        check(
            &altered(&|i| i.lines[0].name = "other".parse().unwrap()),
            &known,
            line.clone(),
        );
        check(
            &altered(&|i| i.lines[0].usage_digest = Digest::of(b"")),
            &known,
            line,
        );
        check(
            &altered(&|i| i.total.micros += 1),
            &known,
            Err(InvoiceMismatch::Total),
        );
        let twice = altered(&|i| i.lines.push(i.lines[0].clone()));
        check(&twice, &known, Err(InvoiceMismatch::Total));
        let far = altered(&|i| i.lines[0].usage_to = u64::MAX);
        let item = record_id(1).0;
        check(
            &far,
            &known,
            Err(InvoiceMismatch::Missing { item, sequence: 6 }),
        );
    }

    #[test]
    fn fullest_invoice_fits_into_a_record() {
        let mut known = Vec::new();
        for order in 0..=LINES_MAX {
            known.extend(statements(order as u8, 1..=1));
        }
        assert_eq!(drafted(&known), Err(DraftError::Lines(LINES_MAX + 1)));
        known.pop();
        let mut invoice = drafted(&known).unwrap();
        for line in &mut invoice.lines {
            line.name = "a".repeat(40).parse().unwrap();
            (line.usage_from, line.usage_to, line.usage_count) = (1 << 40, 1 << 41, u32::MAX);
            line.reserved_ms = u64::MAX;
            (line.amount.micros, line.carry) = (i64::MAX, i64::MIN);
            line.price.per_month.micros = i64::MAX;
        }
        invoice.number = "n".repeat(120);
        let doc = crate::document::DocId::between(
            crate::document::DocKind::Books,
            org(1),
            key(11).public(),
            org(2),
            u32::MAX,
        );
        let writer: SecretKey = key(11);
        let body = Body::Invoice(invoice);
        let author = writer.public();
        let record = Record {
            version: RECORD_VERSION,
            doc,
            author,
            term: u64::MAX,
            wall: START,
            body,
        };
        let signed = SignedRecord::sign(record, &writer);
        assert_eq!(signed.verify(), Ok(()));
        let len = signed.to_bytes().len();
        assert!(len <= RECORD_LEN_MAX, "{len}");
    }
}
