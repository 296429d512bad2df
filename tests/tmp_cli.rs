#![allow(dead_code)]
#[path = "it/support.rs"] mod support;
#[path = "it/refusals.rs"] mod refusals;
#[path = "it/registry.rs"] mod registry;
#[path = "it/command_line.rs"] mod command_line;
#[path = "it/portable.rs"] mod portable;
#[path = "it/crash.rs"] mod crash;
