//! The only engine configuration, and its fingerprint.

use wasmtime::{Config, Engine, OptLevel, WasmFeatures};

use crate::journal::Fingerprint;

/// Version of wasmtime in this build; a test holds it against `Cargo.lock`.
const WASMTIME: &str = "48.0.8";

/// Stack of a guest. Interpreters compiled to wasm nest deeply: half of this,
/// which is wasmtime's default, is tight for them.
const GUEST_STACK: usize = 1 << 20;

/// Stack of the fiber on which a guest runs; what the guest leaves is for host
/// functions, of which parsing nested JSON needs most.
const FIBER_STACK: usize = GUEST_STACK + (1 << 20);

/// Fuel between two yields, about a millisecond: how long a cancel can take to
/// be noticed, and how long one guest can keep a thread from another.
pub const YIELD_FUEL: u64 = 1_000_000;

/// Bytes that one host call may copy out of the guest. Limits on events and
/// arguments are smaller; this one keeps a guest from making the host allocate
/// before they are checked.
pub const HOSTCALL_BYTES: usize = 80 << 20;

/// Every setting on which the behaviour of guests or the meaning of compiled
/// code depends. A change here is a change of the fingerprint.
pub fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        // Fuel is the only interruption: unlike epochs it is deterministic.
        .consume_fuel(true)
        // NaN bits would otherwise depend on the processor.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // The order in which async tasks run would be one more thing to record.
        .concurrency_support(false)
        .wasm_features(WasmFeatures::THREADS, false)
        .max_wasm_stack(GUEST_STACK)
        .async_stack_size(FIBER_STACK)
        .cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
}

/// Under an equal fingerprint, fuel and stack use are exactly the same.
pub fn fingerprint() -> Fingerprint {
    Fingerprint {
        wasmtime: WASMTIME.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        stack_bytes: GUEST_STACK as u64,
        yield_fuel: YIELD_FUEL,
        hostcall_bytes: HOSTCALL_BYTES as u64,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_fingerprint_names_the_locked_version() {
        let lock: toml::Table = toml::from_str(include_str!("../../Cargo.lock")).unwrap();
        let packages = lock["package"].as_array().unwrap();
        let wasmtime = packages.iter().find(|p| p["name"].as_str() == Some("wasmtime")).unwrap();
        assert_eq!(wasmtime["version"].as_str(), Some(super::WASMTIME));
    }
}
