//! Deeds that need nothing but instructions and memory.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::times;

pub fn endless() -> ! {
    let mut n: u64 = 0;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

/// The memory is kept, so that without `n` the end is an allocation that
/// fails, and with it the end of the process.
pub fn memory(n: Option<u64>) -> Value {
    let mut kept = Vec::new();
    for _ in times(n) {
        kept.push(black_box(vec![1u8; 1 << 20]));
    }
    json!({ "mib": kept.len() })
}

pub fn recursion(n: Option<u64>) -> Value {
    let depth = n.unwrap_or(u64::MAX);
    json!({ "value": format!("{:016x}", descend(black_box(depth))) })
}

/// What is done after the inner call returns keeps the optimiser from making
/// a loop of it.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == 0 {
        return 1;
    }
    let below = descend(depth - 1);
    below.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ depth
}

pub fn mix(n: u64) -> Value {
    json!({ "n": n, "value": format!("{:016x}", mixed(n)) })
}

/// `n` rounds of xorshift64* have no closed form to be replaced with.
pub fn mixed(n: u64) -> u64 {
    let mut x: u64 = black_box(0x2545_f491_4f6c_dd1d);
    for _ in 0..n {
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        x = x.wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    x
}

/// Under a virtual clock, which stands still while the agent computes, this
/// has no end.
pub fn spin_clock() -> Value {
    let start = Instant::now();
    let mut reads: u64 = 0;
    while start.elapsed() < Duration::from_millis(1) {
        reads += 1;
    }
    json!({ "reads": reads })
}

/// Which NaN comes of these depends on the processor, unless the engine makes
/// all of them the same. Those that WebAssembly defines to the bit are left
/// out: negation, absolute value and sign copies.
pub fn nan() -> Value {
    let f64s: BTreeMap<&str, String> = nans_f64()
        .into_iter()
        .map(|(name, nan)| (name, format!("{:016x}", black_box(nan).to_bits())))
        .collect();
    let f32s: BTreeMap<&str, String> = nans_f32()
        .into_iter()
        .map(|(name, nan)| (name, format!("{:08x}", black_box(nan).to_bits())))
        .collect();
    json!({ "f64": f64s, "f32": f32s })
}

#[expect(clippy::eq_op, reason = "a value with itself makes a NaN")]
fn nans_f64() -> [(&'static str, f64); 10] {
    let zero = black_box(0.0_f64);
    let infinity = black_box(f64::INFINITY);
    let quiet = black_box(f64::from_bits(0x7ff8_0000_dead_beef));
    let signalling = black_box(f64::from_bits(0x7ff0_0000_0000_0001));
    let negative = black_box(f64::from_bits(0xfff8_0000_0000_1234));
    [
        ("0/0", zero / zero),
        ("inf-inf", infinity - infinity),
        ("0*inf", zero * infinity),
        ("sqrt(-1)", black_box(-1.0_f64).sqrt()),
        ("quiet+1", quiet + 1.0),
        ("signalling+1", signalling + 1.0),
        ("negative+1", negative + 1.0),
        ("quiet*negative", quiet * negative),
        ("negative*quiet", negative * quiet),
        ("promoted", f64::from(black_box(f32::from_bits(0x7fc0_dead)))),
    ]
}

#[expect(clippy::eq_op, reason = "a value with itself makes a NaN")]
fn nans_f32() -> [(&'static str, f32); 10] {
    let zero = black_box(0.0_f32);
    let infinity = black_box(f32::INFINITY);
    let quiet = black_box(f32::from_bits(0x7fc0_dead));
    let signalling = black_box(f32::from_bits(0x7f80_0001));
    let negative = black_box(f32::from_bits(0xffc0_1234));
    [
        ("0/0", zero / zero),
        ("inf-inf", infinity - infinity),
        ("0*inf", zero * infinity),
        ("sqrt(-1)", black_box(-1.0_f32).sqrt()),
        ("quiet+1", quiet + 1.0),
        ("signalling+1", signalling + 1.0),
        ("negative+1", negative + 1.0),
        ("quiet*negative", quiet * negative),
        ("negative*quiet", negative * quiet),
        ("demoted", black_box(f64::from_bits(0x7ff8_dead_beef_0000)) as f32),
    ]
}
