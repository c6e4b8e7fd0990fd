//! The JSON that programs print: a reply, or a failure, with the name and version of its form.
//!
//! ```json
//! {"schema": "meshstead.services/1", "ordered": [], "held": []}
//! ```
//! Fields stand in the order of the types. A script may rely on the fields of a schema: a field
//! that goes away or changes its meaning gives the schema a new number, a new field does not.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::ApiError;
use crate::reply::Reply;

/// The schema of a failure.
pub const ERROR_SCHEMA: &str = "meshstead.error/1";

/// Returns a reply as one JSON object.
pub fn of_reply(reply: &Reply) -> Value {
    let mut fields = fields_of(reply);
    // The schema says what the tag says, and its version too.
    fields.shift_remove("kind");
    with_schema(reply.schema(), fields)
}

/// Returns a failure as one JSON object.
pub fn of_error(error: &ApiError) -> Value {
    let mut fields = fields_of(error);
    fields.insert("exit_code".to_owned(), error.kind.exit_code().into());
    with_schema(ERROR_SCHEMA, fields)
}

/// Returns any other struct as one JSON object.
pub fn of_struct(schema: &str, value: &impl Serialize) -> Value {
    with_schema(schema, fields_of(value))
}

/// Returns the rows of a reply: the entries of its list, or the whole reply if it is not a list.
///
/// Used for one JSON object per line and for comma-separated values. Services that we ordered and
/// those held for others are both rows; the field `list` tells them apart.
pub fn rows(reply: &Reply) -> Vec<Value> {
    let document = of_reply(reply);
    let lists: &[&str] = match reply {
        Reply::Peers { .. } => &["peers"],
        Reply::Routes { .. } => &["routes"],
        Reply::Links { .. } => &["links"],
        Reply::Trace(_) => &["hops"],
        Reply::Netcheck(_) => &["paths"],
        Reply::Clients { .. } => &["clients"],
        Reply::Members { .. } => &["members"],
        Reply::Orgs { .. } => &["orgs"],
        Reply::Agreements { .. } => &["agreements"],
        Reply::Offers { .. } => &["offers"],
        Reply::Recipes { .. } => &["recipes"],
        Reply::Plan(_) => &["candidates"],
        Reply::Services { .. } => &["ordered", "held"],
        Reply::Usage { .. } => &["usage"],
        Reply::Invoices { .. } => &["invoices"],
        Reply::Invoice(_) | Reply::Verdict(_) => &["lines"],
        Reply::Heads { .. } => &["heads"],
        _ => return vec![document],
    };
    let mut rows = Vec::new();
    for list in lists {
        let entries = document.get(*list).and_then(Value::as_array);
        for entry in entries.into_iter().flatten() {
            let mut row = entry.as_object().cloned().unwrap_or_default();
            if 1 < lists.len() {
                row.shift_insert(0, "list".to_owned(), (*list).into());
            }
            rows.push(with_schema(reply.schema(), row));
        }
    }
    rows
}

fn fields_of(value: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        // Not reached by the types of this crate: all of them are structs or tagged enums.
        Ok(other) => Map::from_iter([("value".to_owned(), other)]),
        Err(_) => Map::new(),
    }
}

fn with_schema(schema: &str, mut fields: Map<String, Value>) -> Value {
    fields.shift_insert(0, "schema".to_owned(), schema.into());
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::reply::{Verdict, VerdictLine};

    #[test]
    fn reply_carries_its_schema_first_and_no_tag() {
        let reply = Reply::Logs {
            name: "a".into(),
            bytes: 2,
        };
        assert_eq!(
            of_reply(&reply).to_string(),
            r#"{"schema":"meshstead.logs/1","name":"a","bytes":2}"#
        );
    }

    #[test]
    fn failure_carries_its_exit_code() {
        let error = ApiError::new(ErrorKind::NotFound, "no \"a\"", "try b");
        assert_eq!(
            of_error(&error).to_string(),
            concat!(
                r#"{"schema":"meshstead.error/1","kind":"not_found","cause":"no \"a\"","#,
                r#""hint":"try b","exit_code":5}"#
            )
        );
    }

    #[test]
    fn rows_are_the_entries_of_the_list() {
        let line = VerdictLine {
            check: "sum".into(),
            holds: true,
            sentence: "fits".into(),
        };
        let verdict = Verdict {
            subject: "1".into(),
            holds: true,
            lines: vec![line],
        };
        let rows = rows(&Reply::Verdict(verdict));
        assert_eq!(
            rows.iter().map(Value::to_string).collect::<Vec<_>>(),
            [r#"{"schema":"meshstead.verdict/1","check":"sum","holds":true,"sentence":"fits"}"#]
        );
        assert_eq!(super::rows(&Reply::Peers { peers: vec![] }).len(), 0);
    }
}
