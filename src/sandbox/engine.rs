//! The only engine configuration, and its fingerprint.

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmFeatures,
};

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

/// Elements of a table that a slot of the pool has room for: what a run's limit is
/// by default. Runs with a higher one are not loaded there.
pub const SLOT_TABLE: u64 = 100_000;

/// Tables of a component in the pool. Toolchains make one, and one more for what
/// links it.
const SLOT_TABLES: u32 = 4;

/// Memories of a component in the pool: the guest's own, and one that JavaScript's
/// toolchain adds.
const SLOT_MEMORIES: u32 = 2;

/// Core instances of a component in the pool: interpreters that are linked when
/// they are loaded have about twenty.
const SLOT_PARTS: u32 = 40;

/// Bytes that describe an instance: its functions, globals and imports, of which
/// interpreters have tens of thousands. They are allocated as needed.
const SLOT_DESCRIPTION: usize = 16 << 20;

/// Bytes of a slot's memory, and of its tables, that are wiped in place after use
/// and not given back to the system. Small guests never touch more.
const KEEP_RESIDENT: usize = 1 << 20;

/// An engine that loads each guest into memory of its own.
pub fn on_demand() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// An engine with slots for so many guests, which are made ready once. What it
/// compiles is the same code.
pub fn pooled(guests: u32) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(SLOT_PARTS))
        .total_memories(guests.saturating_mul(SLOT_MEMORIES))
        .total_tables(guests.saturating_mul(SLOT_TABLES))
        .total_stacks(guests)
        .max_core_instances_per_component(SLOT_PARTS)
        .max_memories_per_component(SLOT_MEMORIES)
        .max_tables_per_component(SLOT_TABLES)
        .max_tables_per_module(SLOT_TABLES)
        .max_core_instance_size(SLOT_DESCRIPTION)
        .max_component_instance_size(SLOT_DESCRIPTION)
        .table_elements(SLOT_TABLE as usize)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    let mut config = config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// Every setting on which the behaviour of guests or the meaning of compiled
/// code depends. A change here is a change of the fingerprint.
fn config() -> Config {
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
    config
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
