//! A journal's times in the form that machines exchange.

use super::Micros;

/// RFC 3339 in UTC with six decimals, such as `2026-11-26T00:33:54.123456Z`. A time
/// beyond the year 9999, which only a damaged journal has, stays a plain number.
pub fn rfc3339(micros: Micros) -> String {
    let signed = i64::try_from(micros).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_microsecond(signed) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => micros.to_string(),
    }
}
