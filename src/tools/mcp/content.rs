//! What a server answers, as a guest gets it.
//!
//! `structuredContent` where there is some; else the text, if there is nothing
//! but text; else the list of blocks, as MCP writes them but without what is
//! meant for hosts (`_meta`, `annotations`, `icons`). `outputSchema` is not
//! checked: guests and models have to cope with whatever a tool answers anyway.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::Value;

use super::failed;
use crate::tools::{Source, Success, ToolError};

/// Members of a block that say nothing about the answer.
const FOR_HOSTS: [&str; 3] = ["_meta", "annotations", "icons"];

/// The answer, or the error that the server reports as one.
pub fn outcome(result: CallToolResult) -> Result<Success, ToolError> {
    if result.is_error == Some(true) {
        return Err(failed(reason(&result)));
    }
    let sources = result.content.iter().filter_map(source).collect();
    let content = match result.structured_content {
        Some(structured) if !structured.is_null() => structured,
        _ => plain(&result.content),
    };
    Ok(Success { content, sources })
}

fn plain(blocks: &[ContentBlock]) -> Value {
    let texts: Option<Vec<&str>> = blocks.iter().map(text).collect();
    match texts {
        Some(texts) => Value::String(texts.join("\n")),
        None => blocks.iter().map(block).collect(),
    }
}

fn text(block: &ContentBlock) -> Option<&str> {
    block.as_text().map(|text| text.text.as_str())
}

fn block(block: &ContentBlock) -> Value {
    let mut value = serde_json::to_value(block).unwrap_or_default();
    strip(&mut value);
    if let Some(resource) = value.get_mut("resource") {
        strip(resource);
    }
    value
}

fn strip(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|name, _| !FOR_HOSTS.contains(&name.as_str()));
    }
}

fn source(block: &ContentBlock) -> Option<Source> {
    match block {
        ContentBlock::ResourceLink(link) => {
            let title = link.title.clone().unwrap_or_else(|| link.name.clone());
            Some(Source { url: link.uri.clone(), title })
        }
        ContentBlock::Resource(embedded) => match &embedded.resource {
            ResourceContents::TextResourceContents { uri, .. }
            | ResourceContents::BlobResourceContents { uri, .. } => {
                Some(Source { url: uri.clone(), title: last_part(uri).to_owned() })
            }
            _ => None,
        },
        _ => None,
    }
}

/// An embedded resource has no title; the end of its address serves as one.
fn last_part(uri: &str) -> &str {
    let trimmed = uri.trim_end_matches('/');
    trimmed.rsplit('/').next().filter(|part| !part.is_empty()).unwrap_or(uri)
}

/// What the server says about its failure.
fn reason(result: &CallToolResult) -> String {
    let texts: Vec<&str> = result.content.iter().filter_map(text).collect();
    let texts = texts.join("\n");
    match (&result.structured_content, texts.trim()) {
        (Some(structured), "") if !structured.is_null() => structured.to_string(),
        (_, "") => "the tool failed and does not say why".to_owned(),
        (_, why) => why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tools::ToolErrorCode;

    fn answered(result: Value) -> Result<Success, ToolError> {
        outcome(serde_json::from_value(result).unwrap())
    }

    fn content(result: Value) -> Value {
        answered(result).unwrap().content
    }

    #[test]
    fn text_alone_is_a_text() {
        let text = |text: &str| json!({ "type": "text", "text": text });
        assert_eq!(content(json!({ "content": [text("a")] })), "a");
        assert_eq!(content(json!({ "content": [text("a"), text("b")] })), "a\nb");
        assert_eq!(content(json!({ "content": [] })), "");
        // Text that is JSON stays a text, so that an answer has one shape.
        assert_eq!(content(json!({ "content": [text("[1]")] })), "[1]");
    }

    #[test]
    fn structure_comes_before_text() {
        let result = json!({
            "content": [{ "type": "text", "text": "{\"a\":1}" }],
            "structuredContent": { "a": 1 },
        });
        assert_eq!(content(result), json!({ "a": 1 }));
    }

    #[test]
    fn all_else_is_a_list_of_blocks() {
        let result = json!({ "content": [
            { "type": "text", "text": "look", "annotations": { "priority": 1.0 } },
            { "type": "image", "data": "AAAA", "mimeType": "image/png", "_meta": { "a": 1 } },
        ]});
        let expected = json!([
            { "type": "text", "text": "look" },
            { "type": "image", "data": "AAAA", "mimeType": "image/png" },
        ]);
        assert_eq!(content(result), expected);
    }

    #[test]
    fn resources_become_sources() {
        let result = json!({ "content": [
            { "type": "resource_link", "uri": "https://x.org/a", "name": "a", "title": "The A" },
            { "type": "resource_link", "uri": "https://x.org/b", "name": "b" },
            { "type": "resource", "resource": { "uri": "demo://text/1", "text": "t", "_meta": {} } },
            { "type": "resource", "resource": { "uri": "x", "blob": "AAAA" } },
        ]});
        let success = answered(result).unwrap();
        let sources: Vec<_> =
            success.sources.iter().map(|source| (&*source.url, &*source.title)).collect();
        let expected = [
            ("https://x.org/a", "The A"),
            ("https://x.org/b", "b"),
            ("demo://text/1", "1"),
            ("x", "x"),
        ];
        assert_eq!(sources, expected);
        let third =
            json!({ "type": "resource", "resource": { "uri": "demo://text/1", "text": "t" } });
        assert_eq!(success.content[2], third);
    }

    #[test]
    fn an_error_is_told_in_the_servers_words() {
        let error = |result| answered(result).unwrap_err();
        let told = error(json!({ "content": [{ "type": "text", "text": "no" }], "isError": true }));
        assert_eq!((told.code, &*told.message), (ToolErrorCode::Failed, "no"));
        let structured = json!({ "structuredContent": { "no": 1 }, "isError": true });
        assert_eq!(error(structured).message, "{\"no\":1}");
        let silent = error(json!({ "content": [], "isError": true }));
        assert_eq!(silent.message, "the tool failed and does not say why");
    }
}
