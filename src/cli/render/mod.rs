//! How things look: words, numbers, colours, tables. No verb's logic.

pub mod diff;
pub mod entry;
pub mod event;
pub mod replay;
pub mod run;
pub mod style;
pub mod table;
pub mod text;
pub mod what_if;
