//! The servers that the protocol's own people publish.

use serde_json::json;

use super::*;
use crate::servers::{node_server, time_server};

fn everything() -> Value {
    json!({ "command": "node", "args": [node_server("everything"), "stdio"] })
}

#[tokio::test]
async fn everything_answers_texts_structures_images_and_links() {
    let servers = Servers::new(json!({ "everything": everything() }));
    let tools = tools(&servers.open().await);
    let echo = answer(&tools, "everything.echo", json!({ "message": "hello" })).await;
    assert_eq!(echo, "Echo: hello");
    let sum = answer(&tools, "everything.get-sum", json!({ "a": 2, "b": 40 })).await;
    assert!(sum.as_str().unwrap().contains("42"), "{sum}");
    let place = json!({ "location": "New York" });
    let structured = answer(&tools, "everything.get-structured-content", place).await;
    assert!(structured["temperature"].is_number(), "{structured}");
    let image = answer(&tools, "everything.get-tiny-image", json!({})).await;
    assert_eq!(image[1]["mimeType"], "image/png");

    let links = call(&tools, "everything.get-resource-links", json!({ "count": 2 })).await;
    let (content, sources) = links.unwrap();
    assert_eq!(content[1]["type"], "resource_link");
    assert_eq!(sources.len(), 2);
    assert_eq!(sources[1].url, "demo://resource/dynamic/text/2");
    assert_eq!(sources[1].title, "Text Resource 2");
    let kind = json!({ "resourceType": "Text", "resourceId": 7 });
    let embedded = call(&tools, "everything.get-resource-reference", kind).await.unwrap();
    assert_eq!(embedded.1[0].url, "demo://resource/dynamic/text/7");
    assert!(embedded.0[1]["resource"]["text"].is_string());
}

#[tokio::test]
async fn arguments_that_do_not_fit_never_reach_the_server() {
    let servers = Servers::new(json!({ "everything": everything() }));
    let tools = tools(&servers.open().await);
    let (code, message) =
        call(&tools, "everything.get-sum", json!({ "a": "2" })).await.unwrap_err();
    assert_eq!(code, ToolErrorCode::InvalidArguments);
    assert!(message.contains("do not fit its schema"), "{message}");
}

#[tokio::test]
async fn a_server_gets_its_own_environment_and_nothing_of_the_hosts() {
    let mut server = everything();
    server["env"] = json!({ "GIVEN": "${NO_SUCH_VARIABLE:-given}", "API_TOKEN": "canary-0815" });
    let servers = Servers::new(json!({ "everything": server }));
    let tools = tools(&servers.open().await);
    let text = answer(&tools, "everything.get-env", json!({})).await;
    let env: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(env["GIVEN"], "given");
    assert_eq!(env["API_TOKEN"], "[secret]", "it is kept out of answers");
    assert_eq!(env["PATH"], std::env::var("PATH").unwrap());
    let may_be = "GIVEN API_TOKEN PATH HOME USER LOGNAME SHELL LANG LC_ALL LC_CTYPE TZ TMPDIR";
    let strays: Vec<&String> = env.as_object().unwrap().keys().collect();
    let strays = strays.into_iter().filter(|name| may_be.split(' ').all(|it| it != *name));
    assert_eq!(strays.collect::<Vec<_>>(), [""; 0]);
    // There is something to keep from it: what runs a test has variables of its own.
    assert!(std::env::vars_os().any(|(name, _)| may_be.split(' ').all(|it| name != it)));
}

#[tokio::test]
async fn hints_count_if_the_operator_trusts_the_server() {
    let servers = Servers::new(json!({ "everything": everything() }));
    let flags = |catalogue: &Catalogue| {
        let specs = catalogue.specs();
        let echo = specs.iter().find(|spec| spec.name == "everything.echo").unwrap();
        (echo.read_only, echo.idempotent)
    };
    assert_eq!(flags(&servers.open().await), (false, false));
    let trusting = "[grants.mcp]\nfile = '.mcp.json'\ntrusted = ['everything']";
    assert_eq!(flags(&servers.try_open(trusting).await.unwrap()), (true, true));
}

#[tokio::test]
async fn everything_speaks_http_too() {
    let server = super::http::Everything::start().await;
    let url = format!("http://127.0.0.1:{}/mcp", server.port);
    let servers = Servers::new(json!({ "web": { "type": "http", "url": url } }));
    let catalogue = servers.open().await;
    let tools = tools(&catalogue);
    assert_eq!(answer(&tools, "web.echo", json!({ "message": "hello" })).await, "Echo: hello");
    let links = call(&tools, "web.get-resource-links", json!({})).await.unwrap();
    assert_eq!(links.1.len(), 3);

    // It ends a call that nobody waits for, and answers the next one.
    let hasty = hasty(&catalogue, Duration::from_millis(300));
    let long = json!({ "duration": 20, "steps": 2 });
    let (code, _) = call(&hasty, "web.trigger-long-running-operation", long).await.unwrap_err();
    assert_eq!(code, ToolErrorCode::Timeout);
    assert_eq!(answer(&tools, "web.echo", json!({ "message": "again" })).await, "Echo: again");

    // When it comes back after an end, the next calls find it.
    let port = server.port;
    drop(server);
    let (code, message) = call(&tools, "web.echo", json!({ "message": "x" })).await.unwrap_err();
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(message.contains("`web`"), "{message}");
    let _server = super::http::Everything::start_at(port).await;
    assert_eq!(answer(&tools, "web.echo", json!({ "message": "back" })).await, "Echo: back");
}

#[tokio::test]
async fn filesystem_writes_and_reads_where_it_may() {
    let servers = Servers::new(json!({}));
    let room = servers.folder().join("room");
    std::fs::create_dir(&room).unwrap();
    let room = room.canonicalize().unwrap();
    let args = [node_server("filesystem"), "${ROOM:-./room}".to_owned()];
    let file = json!({ "mcpServers": { "fs": { "command": "node", "args": args } } });
    std::fs::write(servers.file(), file.to_string()).unwrap();
    let tools = tools(&servers.open().await);
    let path = room.join("note.txt");
    let write = json!({ "path": path, "content": "kept" });
    answer(&tools, "fs.write_file", write).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    let read = answer(&tools, "fs.read_text_file", json!({ "path": path })).await;
    assert_eq!(read, json!({ "content": "kept" }));
    let outside = json!({ "path": "/etc/hostname" });
    let (code, message) = call(&tools, "fs.read_text_file", outside).await.unwrap_err();
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(message.contains("Access denied"), "{message}");
}

#[tokio::test]
async fn memory_remembers_beyond_its_process() {
    let servers = Servers::new(json!({}));
    let graph = servers.folder().join("graph.jsonl");
    let memory = json!({
        "command": "node",
        "args": [node_server("memory")],
        "env": { "MEMORY_FILE_PATH": graph },
    });
    let file = json!({ "mcpServers": { "memory": memory } });
    std::fs::write(servers.file(), file.to_string()).unwrap();
    let entity = json!({ "name": "Ada", "entityType": "person", "observations": ["likes looms"] });
    let first = tools(&servers.open().await);
    answer(&first, "memory.create_entities", json!({ "entities": [entity] })).await;
    drop(first);
    let second = tools(&servers.open().await);
    let read = answer(&second, "memory.read_graph", json!({})).await;
    assert_eq!(read["entities"][0]["name"], "Ada");
}

#[tokio::test]
async fn time_tells_the_time_and_its_errors() {
    let servers = Servers::new(json!({ "time": { "command": time_server() } }));
    let tools = tools(&servers.open().await);
    let now = answer(&tools, "time.get_current_time", json!({ "timezone": "UTC" })).await;
    assert_eq!(now["timezone"], "UTC");
    let nowhere = json!({ "timezone": "Nowhere/At_All" });
    let (code, message) = call(&tools, "time.get_current_time", nowhere).await.unwrap_err();
    assert_eq!(code, ToolErrorCode::Failed);
    assert!(message.contains("Nowhere"), "{message}");
}

#[tokio::test]
async fn only_servers_that_are_wanted_are_started() {
    let servers = Servers::new(json!({
        "time": { "command": time_server() },
        "broken": { "command": "/no/such/program" },
        "old": { "type": "sse", "url": "https://example.com" },
        "needy": { "command": "x", "args": ["${NO_SUCH_VARIABLE}"] },
    }));
    let config = "[grants.mcp]\nfile = '.mcp.json'";
    let open = |name: &'static str| {
        let servers = &servers;
        async move { servers.open_wanted(config, Vault::default(), &|it| it == name).await }
    };
    let catalogue = open("time").await.unwrap();
    assert!(catalogue.specs().iter().all(|spec| spec.name.starts_with("time.")));
    assert!(open("nobody").await.unwrap().specs().is_empty());
    for (name, why) in [
        ("broken", "the MCP server `broken` (`/no/such/program`) cannot be started: "),
        ("old", "the MCP server `old` has the type `sse`"),
        ("needy", "the MCP server `needy` has `args` that needs the variable `NO_SUCH_VARIABLE`"),
    ] {
        let told = open(name).await.err().unwrap();
        assert!(told.contains(why), "{told}");
    }
}
