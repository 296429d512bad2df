//! Memory and tables of one run: counted together, refused at the limit.
//!
//! A refused `memory.grow` answers -1, as WebAssembly has it, and most guests
//! then abort. The limiter remembers the refusal, so that such a trap is told
//! as what it is. When the machine itself cannot give what the limit allows,
//! the run is abandoned rather than answered differently from a replay.

use wasmtime::{Error, ResourceLimiter, Result, format_err};

/// Core instances, memories and tables that one component may consist of.
/// Components made by today's toolchains have fewer than ten of each.
pub const MAX_PARTS: usize = 100;

#[derive(Debug)]
pub struct Limiter {
    memory: Account,
    table: Account,
    /// The machine failed to give memory that the limit allows.
    host_fault: bool,
}

#[derive(Debug)]
struct Account {
    limit: u64,
    used: u64,
    peak: u64,
    /// Size of the newest growth, while that growth has been refused.
    refused: Option<u64>,
}

impl Account {
    fn new(limit: u64) -> Self {
        Self { limit, used: 0, peak: 0, refused: None }
    }

    fn grow(&mut self, current: usize, desired: usize, declared: Option<usize>) -> bool {
        // A module's own maximum is no refusal of ours.
        if declared.is_some_and(|declared| desired > declared) {
            return false;
        }
        let more = desired.saturating_sub(current) as u64;
        let total = self.used.saturating_add(more);
        if total > self.limit {
            self.refused = Some(total);
            return false;
        }
        self.used = total;
        self.peak = self.peak.max(total);
        self.refused = None;
        true
    }
}

impl Limiter {
    pub fn new(memory_bytes: u64, table_elements: u64) -> Self {
        Self {
            memory: Account::new(memory_bytes),
            table: Account::new(table_elements),
            host_fault: false,
        }
    }

    /// Largest size of all memories together, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory.peak
    }

    /// Largest size of all tables together, in elements.
    pub fn peak_table(&self) -> u64 {
        self.table.peak
    }

    pub fn host_fault(&self) -> bool {
        self.host_fault
    }

    /// What the guest asked for last and did not get, in words.
    pub fn refusal(&self) -> Option<String> {
        let memory = self.memory.refused.map(|n| {
            format!("the guest asked for {n} bytes of memory, the limit is {}", self.memory.limit)
        });
        let table = self.table.refused.map(|n| {
            format!("the guest asked for {n} table elements, the limit is {}", self.table.limit)
        });
        memory.or(table)
    }

    /// A growth failed that the limit allows, or that no memory or table of
    /// its type can ever have: the engine reports both here.
    fn failed(&mut self, error: Error, what: &str) -> Result<()> {
        const NEVER_POSSIBLE: [&str; 2] =
            ["memory growth exceeds memory type's limits", "overflow calculating new table size"];
        if NEVER_POSSIBLE.contains(&error.to_string().as_str()) {
            return Ok(());
        }
        self.host_fault = true;
        Err(format_err!("this machine cannot give the guest more {what}: {error}"))
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(self.memory.grow(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(error, "memory")
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(self.table.grow(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        self.failed(error, "table space")
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}
