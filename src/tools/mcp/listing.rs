//! What a server says about its tools, and what is believed of it.

use std::collections::BTreeSet;

use rmcp::model::{PaginatedRequestParams, Tool};
use serde_json::Value;

use super::connection::Connection;
use crate::revision::{Schema, ToolPattern};
use crate::tools::{ToolSpec, clip};

/// Tools of one server; a model cannot choose among so many.
const MAX_TOOLS: usize = 500;

/// Pages of one list. A server decides how large they are, and may send the
/// same one again and again.
const MAX_PAGES: usize = 100;

/// Bytes of one description, and of one schema. Every run's journal holds those
/// of all tools that the run may call.
const MAX_DESCRIPTION: usize = 16 << 10;
const MAX_SCHEMA: usize = 128 << 10;

/// Bytes of all schemas of one server.
const MAX_SCHEMAS: usize = 2 << 20;

/// The tools of a server that can be offered.
pub async fn list(
    connection: &Connection,
    server: &str,
    trusted: bool,
) -> Result<Vec<ToolSpec>, String> {
    let mut offer = Offer::new(server, trusted);
    let mut cursor = None;
    for _ in 0..MAX_PAGES {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let page = match connection.peer().list_tools(Some(page)).await {
            Ok(page) => page,
            Err(cause) => return Err(connection.explain(cause).await.message),
        };
        let is_full = page.tools.into_iter().any(|tool| !offer.add(tool));
        cursor = page.next_cursor;
        if is_full || cursor.is_none() {
            return Ok(offer.specs);
        }
    }
    tracing::warn!(
        "`{server}` lists its tools on more than {MAX_PAGES} pages: the others are left out"
    );
    Ok(offer.specs)
}

/// Tools that can be offered. The others are left out with a warning, so that
/// one odd tool does not take away the rest.
struct Offer<'a> {
    server: &'a str,
    trusted: bool,
    specs: Vec<ToolSpec>,
    names: BTreeSet<String>,
    schema_bytes: usize,
}

impl<'a> Offer<'a> {
    fn new(server: &'a str, trusted: bool) -> Self {
        Self { server, trusted, specs: Vec::new(), names: BTreeSet::new(), schema_bytes: 0 }
    }

    /// Adds a tool if it can be offered; false if there is room for no more.
    fn add(&mut self, tool: Tool) -> bool {
        let (server, shown) = (self.server, clip(&tool.name, 100));
        if self.specs.len() == MAX_TOOLS {
            tracing::warn!("`{server}` has more than {MAX_TOOLS} tools: the others are left out");
            return false;
        }
        match spec(server, tool, self.trusted, MAX_SCHEMAS - self.schema_bytes) {
            Ok((spec, bytes)) if self.names.insert(spec.name.clone()) => {
                self.schema_bytes += bytes;
                self.specs.push(spec);
            }
            Ok(_) => tracing::warn!("`{server}` has the tool `{shown}` twice: one is left out"),
            Err(why) => tracing::warn!("the tool `{shown}` of `{server}` is left out: {why}"),
        }
        true
    }
}

/// A tool, and the bytes of its schema, which are at most `room`.
fn spec(server: &str, tool: Tool, trusted: bool, room: usize) -> Result<(ToolSpec, usize), String> {
    let name = format!("{server}.{}", tool.name);
    if tool.name == "*" || name.parse::<ToolPattern>().is_err() {
        return Err("no manifest could ask for a tool of this name".to_owned());
    }
    let parameters = Value::Object((*tool.input_schema).clone());
    let bytes = parameters.to_string().len();
    if bytes > MAX_SCHEMA {
        return Err(format!("its schema has {bytes} bytes, at most {MAX_SCHEMA} are allowed"));
    }
    if bytes > room {
        return Err(format!("the server's schemas have more than {MAX_SCHEMAS} bytes together"));
    }
    Schema::compile(&parameters).map_err(|cause| format!("its schema is unusable: {cause}"))?;
    let hints = tool.annotations.unwrap_or_default();
    let read_only = trusted && hints.read_only_hint == Some(true);
    let title = tool.title.or(hints.title).unwrap_or_default();
    let description = tool.description.map_or(title, String::from);
    let spec = ToolSpec {
        name,
        description: clip(&description, MAX_DESCRIPTION),
        parameters,
        read_only,
        idempotent: read_only || (trusted && hints.idempotent_hint == Some(true)),
    };
    Ok((spec, bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(json: Value) -> Tool {
        serde_json::from_value(json).unwrap()
    }

    fn named(name: &str) -> Tool {
        tool(json!({ "name": name, "inputSchema": { "type": "object" } }))
    }

    fn specs(tools: Vec<Tool>, trusted: bool) -> Vec<ToolSpec> {
        let mut offer = Offer::new("s", trusted);
        let _ = tools.into_iter().all(|tool| offer.add(tool));
        offer.specs
    }

    fn names(tools: Vec<Tool>) -> Vec<String> {
        specs(tools, false).into_iter().map(|spec| spec.name).collect()
    }

    #[test]
    fn hints_are_believed_only_of_a_trusted_server() {
        let hinting = |hint: &str| {
            tool(json!({ "name": "t", "inputSchema": {}, "annotations": { hint: true } }))
        };
        let flags = |hint, trusted| {
            let specs = specs(vec![hinting(hint)], trusted);
            (specs[0].read_only, specs[0].idempotent)
        };
        assert_eq!(flags("readOnlyHint", true), (true, true));
        assert_eq!(flags("idempotentHint", true), (false, true));
        assert_eq!(flags("readOnlyHint", false), (false, false));
        assert_eq!(flags("idempotentHint", false), (false, false));
    }

    #[test]
    fn what_cannot_be_offered_is_left_out() {
        let odd = ["a b", "*", "", "é", &"x".repeat(200)].map(named);
        assert_eq!(names([odd.to_vec(), vec![named("a/b.c-d_e")]].concat()), ["s.a/b.c-d_e"]);
        let unusable = tool(json!({ "name": "t", "inputSchema": { "type": "strin" } }));
        let outside = tool(json!({ "name": "u", "inputSchema": { "$ref": "http://127.0.0.1/" } }));
        let large =
            tool(json!({ "name": "v", "inputSchema": { "title": "x".repeat(MAX_SCHEMA) } }));
        assert_eq!(names(vec![unusable, outside, large, named("w"), named("w")]), ["s.w"]);
    }

    #[test]
    fn neither_tools_nor_schemas_are_without_number() {
        let many = (0..MAX_TOOLS + 100).map(|n| named(&format!("t{n}"))).collect();
        assert_eq!(names(many).len(), MAX_TOOLS);
        let wide = |n: usize| {
            let title = "x".repeat(MAX_SCHEMA - 100);
            tool(json!({ "name": format!("t{n}"), "inputSchema": { "title": title } }))
        };
        assert_eq!(names((0..40).map(wide).collect()).len(), MAX_SCHEMAS / (MAX_SCHEMA - 100));
    }

    #[test]
    fn a_description_may_be_long_but_not_endless() {
        let long = tool(json!({
            "name": "t", "description": "x".repeat(MAX_DESCRIPTION + 1), "inputSchema": {}
        }));
        let untold = tool(json!({ "name": "u", "title": "A title", "inputSchema": {} }));
        let specs = specs(vec![long, untold], false);
        assert_eq!(specs[0].description.len(), MAX_DESCRIPTION);
        assert_eq!(specs[1].description, "A title");
    }
}
