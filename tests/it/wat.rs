//! Tiny guests in the component text format: what no toolchain would make.

use std::sync::Arc;

use reenact::revision::{Manifest, Revision, seal};
use serde_json::json;

/// The pieces of a guest that a test may want otherwise.
pub struct Parts<'a> {
    /// Limits of the memory in pages, as `1` or `1 3`.
    pub memory: &'a str,
    /// Body of `realloc (param $old i32) (param $old_size i32) (param $align i32)
    /// (param $size i32) (result i32)`.
    pub realloc: &'a str,
    /// Fields of the core module beside `run`.
    pub fields: &'a str,
    /// Body of `run (param $input i32) (param $length i32) (result i32)`.
    pub run: &'a str,
}

/// Hands out memory from address 1024 on and takes none back.
const BUMP: &str = "
    global.get $next
    global.get $next
    local.get $size
    i32.const 7
    i32.add
    i32.const -8
    i32.and
    i32.add
    global.set $next";

/// Address of an answer: the document `done`, without sources.
pub const DONE: &str = "(i32.const 16)";

impl Default for Parts<'_> {
    fn default() -> Self {
        Self { memory: "1", realloc: BUMP, fields: "", run: DONE }
    }
}

/// A guest whose `run` does this and then answers `done`.
pub fn does(instructions: &str) -> Arc<Revision> {
    Parts { run: &format!("{instructions} {DONE}"), ..Parts::default() }.seal()
}

/// A guest whose `run` does this, which has to leave the address of an answer.
pub fn answers(run: &str) -> Arc<Revision> {
    Parts { run, ..Parts::default() }.seal()
}

impl Parts<'_> {
    pub fn seal(&self) -> Arc<Revision> {
        let text = self.text();
        let component = ::wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let manifest = json!({
            "format": 1,
            "name": "tiny",
            "input": {},
            "output": { "type": "document" },
            "tools": ["files.*"],
        });
        let manifest = Manifest::from_json(manifest.to_string().as_bytes()).unwrap();
        Arc::new(Revision::open(seal(&component, &manifest).unwrap()).unwrap())
    }

    /// Memory lives in a module of its own, because the host's functions need it
    /// before there is an instance of the module that calls them. Its data are:
    ///
    /// | address | what |
    /// | --- | --- |
    /// | 16 | the answer `done` |
    /// | 48 | `done`, `kind`, `{}`, `files.list` |
    /// | 96 | three tool calls of `files.list` with `{"n":0}`, `{"n":1}`, `{"n":2}` |
    /// | 1024 | free |
    fn text(&self) -> String {
        let Self { memory, realloc, fields, run } = self;
        format!(
            r#"(component
            {IMPORTS}
            (core module $memory
                (memory (export "memory") {memory})
                (global $next (mut i32) (i32.const 1024))
                (func (export "realloc")
                    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32)
                    (result i32)
                    {realloc})
                (data (i32.const 16)
                    "\00\00\00\00" "\00\00\00\00" "\30\00\00\00" "\04\00\00\00"
                    "\00\00\00\00" "\00\00\00\00")
                (data (i32.const 48) "done" "kind" "{{}}" "files.list")
                (data (i32.const 96)
                    "\3a\00\00\00" "\0a\00\00\00" "\a0\00\00\00" "\07\00\00\00"
                    "\3a\00\00\00" "\0a\00\00\00" "\a7\00\00\00" "\07\00\00\00"
                    "\3a\00\00\00" "\0a\00\00\00" "\ae\00\00\00" "\07\00\00\00")
                (data (i32.const 160) "{{\"n\":0}}{{\"n\":1}}{{\"n\":2}}"))
            (core instance $memory (instantiate $memory))
            (alias core export $memory "memory" (core memory $mem))
            (alias core export $memory "realloc" (core func $realloc))
            {LOWERED}
            (core module $guest
                (import "memory" "memory" (memory {memory}))
                (import "host" "current" (func $current (param i32)))
                (import "host" "emit" (func $emit (param i32 i32 i32 i32)))
                (import "host" "close" (func $close (param i64 i32 i32)))
                (import "host" "call-all" (func $call_all (param i32 i32 i32)))
                (import "host" "timer" (func $timer (param i64) (result i32)))
                (import "host" "drop" (func $drop (param i32)))
                (import "host" "block" (func $block (param i32)))
                (import "host" "stdout" (func $stdout (result i32)))
                (import "host" "write" (func $write (param i32 i32 i32 i32)))
                (func $print (param $text i32) (param $length i32)
                    (call $write (call $stdout)
                        (local.get $text) (local.get $length) (i32.const 900)))
                {fields}
                (func (export "run") (param $input i32) (param $length i32) (result i32)
                    {run}))
            (core instance $guest (instantiate $guest
                (with "memory" (instance $memory)) (with "host" (instance $host))))
            {LIFTED})"#
        )
    }
}

const IMPORTS: &str = r#"
    (import "reenact:agent/context@0.1.0" (instance $context
        (type $r (record (field "run-id" string) (field "agent" string)
            (field "revision" string)))
        (export "run-info" (type $info (eq $r)))
        (export "current" (func (result $info)))))
    (import "reenact:agent/events@0.1.0" (instance $events
        (export "emit" (func (param "kind" string) (param "data" string)))
        (export "close" (func (param "span" u64) (param "data" string)))))
    (import "reenact:agent/tools@0.1.0" (instance $tools
        (type $c (record (field "name" string) (field "arguments" string)))
        (export "tool-call" (type $call (eq $c)))
        (type $k (enum "denied" "unknown-tool" "invalid-arguments" "failed" "timeout"
            "too-large" "interrupted"))
        (export "tool-error-code" (type $code (eq $k)))
        (type $e (record (field "code" $code) (field "message" string)))
        (export "tool-error" (type $error (eq $e)))
        (export "call-all" (func (param "calls" (list $call))
            (result (list (result string (error $error))))))))
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $p))
        (export "pollable" (type $pollable (eq $p)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (import "wasi:io/error@0.2.0" (instance $io (export "error" (type (sub resource)))))
    (alias export $io "error" (type $io_error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $io_error (type $e))
        (export "error" (type $error (eq $e)))
        (export "output-stream" (type $stream (sub resource)))
        (type $s (variant (case "last-operation-failed" (own $error)) (case "closed")))
        (export "stream-error" (type $stream_error (eq $s)))
        (export "[method]output-stream.blocking-write-and-flush"
            (func (param "self" (borrow $stream)) (param "contents" (list u8))
                (result (result (error $stream_error)))))))
    (alias export $streams "output-stream" (type $stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $stream (type $s))
        (export "output-stream" (type $stream (eq $s)))
        (export "get-stdout" (func (result (own $stream))))))"#;

const LOWERED: &str = r#"
    (core func $current
        (canon lower (func $context "current") (memory $mem) (realloc $realloc)))
    (core func $emit (canon lower (func $events "emit") (memory $mem)))
    (core func $close (canon lower (func $events "close") (memory $mem)))
    (core func $call_all
        (canon lower (func $tools "call-all") (memory $mem) (realloc $realloc)))
    (core func $timer (canon lower (func $clock "subscribe-duration")))
    (core func $drop (canon resource.drop $pollable))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core func $stdout (canon lower (func $stdout "get-stdout")))
    (core func $write (canon lower
        (func $streams "[method]output-stream.blocking-write-and-flush") (memory $mem)))
    (core instance $host
        (export "current" (func $current))
        (export "stdout" (func $stdout))
        (export "write" (func $write))
        (export "emit" (func $emit))
        (export "close" (func $close))
        (export "call-all" (func $call_all))
        (export "timer" (func $timer))
        (export "drop" (func $drop))
        (export "block" (func $block)))"#;

/// Exported functions must name exported types, which takes a component around them.
const LIFTED: &str = r#"
    (type $source (record (field "url" string) (field "title" string)))
    (type $content (variant (case "document" string) (case "json" string)))
    (type $output (record (field "content" $content) (field "sources" (list $source))))
    (type $failure (record (field "message" string) (field "details" (option string))))
    (func $run (param "input" string) (result (result $output (error $failure)))
        (canon lift (core func $guest "run") (memory $mem) (realloc $realloc)))
    (component $named
        (type $s (record (field "url" string) (field "title" string)))
        (import "source" (type $source (eq $s)))
        (type $c (variant (case "document" string) (case "json" string)))
        (import "content" (type $content (eq $c)))
        (type $o (record (field "content" $content) (field "sources" (list $source))))
        (import "output" (type $output (eq $o)))
        (type $f (record (field "message" string) (field "details" (option string))))
        (import "failure" (type $failure (eq $f)))
        (import "run" (func $run (param "input" string)
            (result (result $output (error $failure)))))
        (export $source_ "source" (type $s))
        (type $c_ (variant (case "document" string) (case "json" string)))
        (export $content_ "content" (type $c_))
        (type $o_ (record (field "content" $content_) (field "sources" (list $source_))))
        (export $output_ "output" (type $o_))
        (export $failure_ "failure" (type $f))
        (export "run" (func $run) (func (param "input" string)
            (result (result $output_ (error $failure_))))))
    (instance $named (instantiate $named
        (with "source" (type $source)) (with "content" (type $content))
        (with "output" (type $output)) (with "failure" (type $failure))
        (with "run" (func $run))))
    (export "reenact:agent/guest@0.1.0" (instance $named))"#;
