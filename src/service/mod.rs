//! What a machine that serves runs does with them, apart from serving HTTP.

pub mod events;
pub mod read;
pub mod view;
pub mod webhooks;
