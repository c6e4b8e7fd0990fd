//! Spans, sizes and shares as people type them.

use std::time::Duration;

/// Why a text is not an amount; says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a span of time.
    #[error("write a number and s, m, h or d, for example 90s or 24h")]
    Span,
    /// Not a size.
    #[error("write a number and M or G, for example 512M or 6G")]
    Size,
    /// Not a share of processors.
    #[error("write processor cores, for example 0.5, 2 or 500m")]
    Cores,
    /// Not two texts around an equals sign.
    #[error("write NAME=VALUE")]
    Pair,
}

/// Reads `90`, `90s`, `5m`, `24h` or `7d`.
pub fn span(text: &str) -> Result<Duration, AmountError> {
    let (number, unit) = split(text);
    let scale = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(AmountError::Span),
    };
    let number: u64 = number.parse().map_err(|_| AmountError::Span)?;
    let seconds = number
        .checked_mul(scale)
        .filter(|seconds| *seconds <= 10 * 365 * 86_400);
    seconds
        .filter(|seconds| *seconds != 0)
        .map(Duration::from_secs)
        .ok_or(AmountError::Span)
}

/// Reads `512M`, `512MiB`, `6G` or `512` into mebibytes.
pub fn mebibytes(text: &str) -> Result<u32, AmountError> {
    let (number, unit) = split(text);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mi" | "mib" => 1,
        "g" | "gi" | "gib" => 1024,
        "t" | "ti" | "tib" => 1024 * 1024,
        _ => return Err(AmountError::Size),
    };
    let number: u32 = number.parse().map_err(|_| AmountError::Size)?;
    number
        .checked_mul(scale)
        .filter(|size| *size != 0)
        .ok_or(AmountError::Size)
}

/// Reads `0.5`, `2` or `500m` into thousandths of a core.
pub fn cpu_millis(text: &str) -> Result<u32, AmountError> {
    if let Some(millis) = text.strip_suffix('m') {
        return positive(millis.parse().ok());
    }
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let lawful = decimals.bytes().all(|digit| digit.is_ascii_digit());
    if !lawful || decimals.is_empty() || 3 < decimals.len() {
        return Err(AmountError::Cores);
    }
    let decimals: Option<u32> = format!("{decimals:0<3}").parse().ok();
    let whole = whole
        .parse::<u32>()
        .ok()
        .and_then(|whole| whole.checked_mul(1000));
    positive(
        whole
            .zip(decimals)
            .and_then(|(whole, decimals)| whole.checked_add(decimals)),
    )
}

/// Reads `NAME=VALUE`; the value may be empty and may hold more equals signs.
pub fn pair(text: &str) -> Result<(String, String), AmountError> {
    let (name, value) = text.split_once('=').ok_or(AmountError::Pair)?;
    if name.is_empty() {
        return Err(AmountError::Pair);
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn positive(millis: Option<u32>) -> Result<u32, AmountError> {
    millis
        .filter(|millis| *millis != 0)
        .ok_or(AmountError::Cores)
}

fn split(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_every_unit() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(span(text).ok().map(|span| span.as_secs()), expect, "{text}");
        };
        check("90", Some(90));
        check("90s", Some(90));
        check("5m", Some(300));
        check("24h", Some(86_400));
        check("7d", Some(604_800));
        for text in ["", "0", "h", "-1s", "1.5h", "1w", "99999999999d"] {
            check(text, None);
        }
    }

    #[test]
    fn sizes_are_read_into_mebibytes() {
        let check = |text: &str, expect: Option<u32>| assert_eq!(mebibytes(text).ok(), expect);
        check("512M", Some(512));
        check("512MiB", Some(512));
        check("6g", Some(6144));
        check("0G", None);
        check("5K", None);
        check("4294967295G", None);
    }

    #[test]
    fn cores_are_read_into_thousandths() {
        let check = |text: &str, expect: Option<u32>| assert_eq!(cpu_millis(text).ok(), expect);
        check("0.5", Some(500));
        check("2", Some(2000));
        check("1.25", Some(1250));
        check("500m", Some(500));
        check("0", None);
        check("0.0001", None);
        check(".5", None);
        check("1.", None);
        check("1.é", None);
    }
}
