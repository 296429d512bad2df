// What an agent in JavaScript needs: its `run`, events, tools and facts.
//
//     import { agent, call, emit } from "./reenact.js";
//
//     export const guest = agent((input) => {
//         emit("reasoning", { text: "I look it up." });
//         const found = call("files.search", { query: input.topic });
//         return `Found ${found.matches.length} lines.`;
//     });
//
// The library is this one file and `javascript.wit`; copy both beside your agent.
// All of it is synchronous, as the host's functions are.

import context from "reenact:agent/context@0.1.0";
import events from "reenact:agent/events@0.1.0";
import tools from "reenact:agent/tools@0.1.0";
import { getStderr } from "wasi:cli/stderr@0.2.0";
import { getStdout } from "wasi:cli/stdout@0.2.0";
import { now, subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.0";
import { getRandomBytes } from "wasi:random/random@0.2.0";

// Why the agent gives up. `details` is any JSON value.
export class Failure extends Error {
    name = "Failure";

    constructor(message, details) {
        super(message);
        this.details = details;
    }
}

// A tool call that was not answered with a value. `code` is `denied`, `unknown-tool`,
// `invalid-arguments`, `failed`, `timeout`, `too-large` or `interrupted`, `reason` the host's
// words. Not caught, it ends the run as the agent's failure.
export class ToolError extends Failure {
    name = "ToolError";

    constructor(tool, { code, message }) {
        const words =
            code === "denied"
                ? `this agent needs the tool \`${tool}\`, and the run was not granted it: ${message}`
                : `\`${tool}\` failed: ${message}`;
        super(words, { tool, code, message });
        this.tool = tool;
        this.code = code;
        this.reason = message;
    }
}

// An output with sources of the agent's own, a list of `{ url, title }`. Sources that come with
// tool answers are collected by the host and need not be repeated.
export class Output {
    constructor(content, sources = []) {
        this.content = content;
        this.sources = sources;
    }
}

// Makes `run(input)` the agent. `input` is what the run was given, as a JavaScript value. A
// returned text is a document, anything else is JSON. An exception ends the run as the agent's
// failure, with its stack.
export function agent(run) {
    return {
        run(input) {
            begin();
            let failure;
            try {
                return toHost(run(JSON.parse(input)));
            } catch (error) {
                failure = error;
            }
            // The host knows how much memory was asked for, and says so. An engine that has not
            // even room for an error throws null.
            if (failure === null || failure?.message === "out of memory") throw failure;
            throw toFailure(failure);
        },
    };
}

// Tells those who watch what the agent is doing. `data` is any JSON value.
export function emit(kind, data = {}) {
    events.emit(kind, toJson(data));
}

// An event that takes as long as `work` does. What `work` puts into the object that it is given
// is told at the end.
export function span(kind, data, work) {
    const number = events.open(kind, toJson(data));
    const closing = {};
    try {
        return work(closing);
    } catch (error) {
        closing.error = describe(error);
        throw error;
    } finally {
        events.close(number, toJson(closing));
    }
}

// The tools that may be called: name, description and the schema of the arguments.
export function available() {
    return tools.available().map((it) => ({ ...it, parameters: JSON.parse(it.parameters) }));
}

// Calls a tool and returns its answer. Throws `ToolError`.
export function call(tool, args = {}) {
    let answer;
    try {
        answer = tools.call(tool, toJson(args));
    } catch (error) {
        if (error.payload === undefined) throw error;
        throw new ToolError(tool, error.payload);
    }
    return JSON.parse(answer);
}

// Calls several tools at the same time: a list of name and arguments. Returns the answers in the
// order of the calls. An error is not thrown but stands in the place of the answer, as a
// `ToolError`.
export function callAll(calls) {
    const requests = calls.map(([name, args]) => ({ name, arguments: toJson(args) }));
    return tools
        .callAll(requests)
        .map(({ tag, val }, i) =>
            tag === "ok" ? JSON.parse(val) : new ToolError(calls[i][0], val),
        );
}

// The manifest's `config`.
export const config = () => JSON.parse(context.config());

// The whole manifest.
export const manifest = () => JSON.parse(context.manifest());

// `runId`, `agent` and `revision`.
export const runInfo = () => context.current();

// Waits.
export function sleep(milliseconds) {
    const timer = subscribeDuration(Math.round(milliseconds * 1e6));
    timer.block();
    timer[Symbol.dispose]();
}

// Text as UTF-8.
export function utf8(text) {
    const bytes = [];
    for (const char of text.isWellFormed() ? text : text.toWellFormed()) {
        const code = char.codePointAt(0);
        if (code < 0x80) bytes.push(code);
        else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
        else if (code < 0x10000) {
            bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
        } else {
            bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63));
            bytes.push(0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
        }
    }
    return Uint8Array.from(bytes);
}

function toHost(answer) {
    if (answer instanceof Promise) {
        throw new TypeError("`run` answered a promise: an agent has no event loop to wait in");
    }
    const { content, sources } = answer instanceof Output ? answer : new Output(answer);
    const isText = typeof content === "string";
    const val = isText ? content : toJson(content);
    return { content: { tag: isText ? "document" : "json", val }, sources };
}

function toFailure(error) {
    if (error instanceof Failure) {
        const details = error.details === undefined ? null : toJson(error.details);
        return { message: error.message, details };
    }
    const calls = String(error?.stack ?? "").split("\n");
    // The outermost call is this library's own.
    const traceback = calls.filter((it) => it !== "" && !/ run \(.*reenact\.js:/.test(it));
    const details = traceback.length === 0 ? null : toJson({ traceback });
    return { message: describe(error), details };
}

const describe = (error) =>
    error instanceof Error ? `${error.name}: ${error.message}` : String(error);

function toJson(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError(`${String(value)} is not JSON`);
    return text;
}

// The run's own randomness and time, in place of those of the build.
function begin() {
    Math.random = randomFrom(getRandomBytes(16));
    const start = now();
    globalThis.performance = { timeOrigin: Date.now(), now: () => (now() - start) / 1e6 };
}

// Numbers from 16 random bytes: the generator sfc32, whose state is four words.
function randomFrom(seed) {
    let [a, b, c, d] = new Uint32Array(Uint8Array.from(seed).buffer);
    const next = () => {
        const t = (((a + b) | 0) + d) | 0;
        d = (d + 1) | 0;
        a = b ^ (b >>> 9);
        b = (c + (c << 3)) | 0;
        c = (c << 21) | (c >>> 11);
        c = (c + t) | 0;
        return t >>> 0;
    };
    return () => ((next() >>> 5) * 2 ** 26 + (next() >>> 6)) / 2 ** 53;
}

globalThis.crypto ??= {
    getRandomValues(array) {
        const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
        if (bytes.length > 65536) throw new RangeError("more than 65,536 random bytes at once");
        bytes.set(getRandomBytes(bytes.length));
        return array;
    },
    randomUUID() {
        const bytes = Uint8Array.from(getRandomBytes(16));
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
        return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
};

globalThis.console ??= (() => {
    const print = (stream) => (...values) => {
        const shown = values.map((value) => (typeof value === "string" ? value : show(value)));
        write(stream(), utf8(shown.join(" ") + "\n"));
    };
    const show = (value) =>
        value instanceof Error ? describe(value) : (JSON.stringify(value) ?? String(value));
    const [out, err] = [print(getStdout), print(getStderr)];
    return { log: out, info: out, debug: out, warn: err, error: err };
})();

// WASI takes 4 KiB at once.
function write(stream, bytes) {
    for (let at = 0; at < bytes.length; at += 4096) {
        stream.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
    }
    stream[Symbol.dispose]();
}
