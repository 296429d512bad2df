//! What models cost: exact integers, never floating point.

use std::fmt;

/// Prices of one model, in millionths of the table's unit for a million tokens.
/// One token therefore costs a millionth of this many micros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Price {
    pub input: u64,
    pub output: u64,
}

const MILLION: u64 = 1_000_000;
/// Digits after the point that a price may have.
const DECIMALS: usize = 6;
/// Digits before the point; more is a slip of the pen.
const INTEGRAL: usize = 9;

/// A price that is not written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotAPrice(pub String);

impl fmt::Display for NotAPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no price: it must be a number from 0, with at most {INTEGRAL} digits before \
             and {DECIMALS} after the point",
            self.0
        )
    }
}

impl Price {
    /// What the tokens cost in micros, rounded up: a budget must not be spent in
    /// amounts that are too small to count.
    pub fn cost(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let input = u128::from(input_tokens) * u128::from(self.input);
        let output = u128::from(output_tokens) * u128::from(self.output);
        u64::try_from((input + output).div_ceil(u128::from(MILLION))).unwrap_or(u64::MAX)
    }

    /// The output tokens that `micros` buys; none if output is free.
    pub fn output_for(&self, micros: u64) -> Option<u64> {
        let tokens = (u128::from(micros) * u128::from(MILLION)).checked_div(self.output.into())?;
        Some(u64::try_from(tokens).unwrap_or(u64::MAX))
    }
}

/// Units for a million tokens, as the operator wrote them, in micros.
///
/// TOML reads `0.1` as the floating-point number next to it. Its shortest decimal
/// form is what was written, so the digits are taken from there.
pub(super) fn micros(written: &toml::Value) -> Result<u64, NotAPrice> {
    let text = match written {
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::String(text) => text.clone(),
        other => return Err(NotAPrice(other.to_string())),
    };
    decimal(&text).ok_or(NotAPrice(text))
}

fn decimal(text: &str) -> Option<u64> {
    let (integral, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str, max: usize| {
        (1..=max).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_number(integral, INTEGRAL) || !is_number(fraction, DECIMALS) {
        return None;
    }
    let micros: u64 = format!("{fraction:0<DECIMALS$}").parse().ok()?;
    Some(integral.parse::<u64>().ok()? * MILLION + micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<u64, NotAPrice> {
        let table: toml::Table = format!("price = {text}").parse().unwrap();
        micros(&table["price"])
    }

    #[test]
    fn prices_are_read_to_the_last_digit() {
        for (text, expected) in [
            ("0.25", 250_000),
            ("2.0", 2_000_000),
            ("2", 2_000_000),
            ("0", 0),
            ("0.1", 100_000),
            ("0.000001", 1),
            ("'0.075'", 75_000),
            ("123456789.123457", 123_456_789_123_457),
        ] {
            assert_eq!(written(text), Ok(expected), "{text}");
        }
        // Every price with up to three decimals, such as lists of prices hold.
        for thousandths in 0..10_000u64 {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            assert_eq!(written(&text), Ok(thousandths * 1000), "{text}");
        }
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in ["-1", "-0.5", "nan", "inf", "1e12", "0.0000001", "'1,5'", "'.5'", "''", "[]"] {
            assert!(written(text).is_err(), "{text}");
        }
    }

    #[test]
    fn costs_are_exact_and_rounded_up() {
        let price = Price { input: 250_000, output: 2_000_000 };
        assert_eq!(price.cost(12, 3), 9);
        assert_eq!(price.cost(1_000_000, 1_000_000), 2_250_000);
        assert_eq!(price.cost(1, 0), 1, "a quarter of a micro");
        assert_eq!(price.cost(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(price.output_for(9), Some(4));
        assert_eq!(Price { input: 1, output: 0 }.output_for(9), None);
    }
}
