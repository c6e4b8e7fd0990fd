//! Command lines that cannot be read: the parser's paragraphs become one cause and one next step.
//!
//! Every program of ours ends with the same two lines, so the parser's own screen is folded here
//! once for all of them. Pure text: which parser wrote it does not matter.

use crate::error::{ApiError, ErrorKind};
use crate::screen::plain;

/// Most letters of an argument that are told.
const ARGUMENT_SHOWN: usize = 120;

/// Folds what a parser says about a command line of `program` into a cause and a hint; `command`
/// is the command that was meant, if one was named.
pub fn fold(program: &str, text: &str, command: Option<&str>) -> ApiError {
    let mut cause = Vec::new();
    let mut hint = None;
    let mut usage = None;
    let mut open = true;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(tip) = trimmed.strip_prefix("tip: ") {
            // "Pass it after `--`" is never what was meant: no command takes such values.
            if !tip.starts_with("to pass ") {
                hint.get_or_insert(tip);
            }
        } else if let Some(line) = trimmed.strip_prefix("Usage: ") {
            usage = Some(line);
        } else if trimmed.is_empty() {
            // An argument may begin with an empty line; the cause cannot.
            open = cause.is_empty();
        } else if open {
            cause.push(trimmed);
        } else if let Some(values) = trimmed.strip_prefix('[')
            && values.ends_with(']')
        {
            cause.push(trimmed);
        }
    }
    let cause = cause.join(" ");
    let cause = match cause.strip_prefix("error: ").unwrap_or(&cause).trim() {
        "" => "this command line cannot be read",
        cause => cause,
    };
    let hint = match (hint, usage) {
        (Some(tip), _) => tip.to_owned(),
        (None, Some(usage)) => match usage.split_once(" <COMMAND>") {
            Some((above, _)) => {
                let above = above.strip_suffix(" [OPTIONS]").unwrap_or(above);
                format!("list the commands: {above} --help")
            }
            None => format!("write: {usage}"),
        },
        (None, None) => help_of(program, command),
    };
    ApiError::new(ErrorKind::Usage, cause, hint)
}

/// Returns an argument as it may be told: on one line, without control characters, not for ever.
///
/// A parser quotes what it does not understand. A line that cannot be read is parsed again with
/// such arguments, so that no argument can write a cause or a hint of its own.
pub fn legible(argument: &str) -> String {
    let plain = plain(argument);
    match plain.char_indices().nth(ARGUMENT_SHOWN) {
        Some((end, _)) => format!("{}…", plain.get(..end).unwrap_or_default()),
        None => plain,
    }
}

/// Returns the failure of a command line that ends before it says what to do.
pub fn unfinished(program: &str, command: Option<&str>) -> ApiError {
    let whole = command.map_or_else(
        || program.to_owned(),
        |command| format!("{program} {command}"),
    );
    ApiError::new(
        ErrorKind::Usage,
        format!("`{whole}` needs a command after it"),
        help_of(program, command),
    )
}

fn help_of(program: &str, command: Option<&str>) -> String {
    match command {
        Some(command) => format!("see `{program} {command} --help`"),
        None => format!("see `{program} --help`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, command: Option<&str>, cause: &str, hint: &str) {
        let error = fold("meshctl", text, command);
        assert_eq!((error.cause.as_str(), error.hint.as_str()), (cause, hint));
        assert_eq!(error.kind, ErrorKind::Usage);
    }

    #[test]
    fn paragraphs_become_cause_and_hint() {
        check(
            "error: unrecognized subcommand 'ordre'\n\n  tip: a similar subcommand exists: \
             'order'\n\nUsage: meshctl <COMMAND>\n\nFor more information, try '--help'.\n",
            None,
            "unrecognized subcommand 'ordre'",
            "a similar subcommand exists: 'order'",
        );
    }

    #[test]
    fn missing_arguments_show_what_to_write() {
        check(
            "error: the following required arguments were not provided:\n  <RECIPE>\n\n\
             Usage: meshctl order <RECIPE>\n\nFor more information, try '--help'.\n",
            None,
            "the following required arguments were not provided: <RECIPE>",
            "write: meshctl order <RECIPE>",
        );
    }

    #[test]
    fn unknown_word_points_at_the_list_of_those_that_are_known() {
        check(
            "error: unrecognized subcommand 'show'\n\nUsage: meshctl recipe [OPTIONS] <COMMAND>\n",
            Some("recipe"),
            "unrecognized subcommand 'show'",
            "list the commands: meshctl recipe --help",
        );
        check(
            "error: unexpected argument '--force' found\n\n  tip: to pass '--force' as a value, \
             use '-- --force'\n\nUsage: meshctl destroy [OPTIONS] <NAME>\n",
            Some("destroy"),
            "unexpected argument '--force' found",
            "write: meshctl destroy [OPTIONS] <NAME>",
        );
    }

    #[test]
    fn cause_without_a_way_out_points_at_the_help() {
        check(
            "error: no\n",
            Some("order"),
            "no",
            "see `meshctl order --help`",
        );
        check(
            "\n\n",
            None,
            "this command line cannot be read",
            "see `meshctl --help`",
        );
    }

    #[test]
    fn argument_cannot_write_lines_of_its_own() {
        assert!(!legible("a\n\n  tip: b\u{1b}[2J").contains(|c: char| c.is_control()));
        assert_eq!(legible("crm-db"), "crm-db");
        assert_eq!(
            legible(&"é".repeat(1000)).chars().count(),
            ARGUMENT_SHOWN + 1
        );
    }

    #[test]
    fn unfinished_line_names_what_it_ends_with() {
        let error = unfinished("meshctl", Some("member"));
        assert_eq!(error.cause, "`meshctl member` needs a command after it");
        assert_eq!(error.hint, "see `meshctl member --help`");
    }
}
