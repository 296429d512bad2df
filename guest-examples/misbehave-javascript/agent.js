// An agent that misbehaves on request: it is for trying the limits on an interpreter. What
// `hostile` does in Rust as well has the same name here.

import { Failure, ToolError, agent } from "../../guest-libraries/javascript/reenact.js";
import { call, callAll, emit, sleep } from "../../guest-libraries/javascript/reenact.js";
import { subscribeDuration } from "wasi:clocks/monotonic-clock@0.2.0";

const LIST = ["files.list", { path: "" }];

const deeds = {
    loop() {
        for (;;);
    },
    memory(n = Infinity) {
        const kept = [];
        while (kept.length < n) kept.push(new Uint8Array(1 << 20).fill(1));
        return { mib: kept.length };
    },
    recursion: () => ({ depth: descend(0) }),
    compute() {
        let value = 0;
        for (let i = 0; i < 1000; i++) value += i * i;
        return { value };
    },
    events(n = Infinity) {
        for (let i = 0; i < n; i++) emit("many", { n: i });
        return { events: n };
    },
    "tool-calls"(n = Infinity) {
        const results = [];
        while (results.length < n) results.push(attempt(...LIST));
        return tally(results);
    },
    "calls-at-once": (n) => tally(callAll(Array(n).fill(LIST))),
    "big-arguments": (n) => tally([attempt("files.search", { query: "x".repeat(n << 20) })]),
    "wrong-type": () => "The manifest declares JSON.",
    "wrong-schema": () => [1],
    fail() {
        throw new Failure("the agent was told to", { deed: "fail" });
    },
    throw: () => climb(3),
    "tool-error": () => call("files.read", { path: "there is none" }),
    stdout(n) {
        for (let line = 1; line <= n; line++) console.log(`line ${line} of ${n}`);
        console.error("a line for stderr");
        return { lines: n };
    },
    pollables(n = Infinity) {
        const kept = [];
        while (kept.length < n) kept.push(subscribeDuration(1e9));
        return { pollables: kept.length };
    },
    sleep(n) {
        const start = performance.now();
        sleep(n);
        return { elapsed_ms: performance.now() - start };
    },
    "look-around": () => ({
        random: {
            random: Math.random(),
            shuffled: [1, 2, 3, 4, 5].map(() => Math.floor(Math.random() * 100)),
            crypto: [...crypto.getRandomValues(new Uint8Array(8))],
            uuid: crypto.randomUUID(),
        },
        clock: {
            wall_ms: Date.now(),
            date_ms: new Date().getTime(),
            performance_ms: performance.now(),
            monotonic_ms: performance.timeOrigin + performance.now(),
        },
        hash_order: [...new Set(Array.from({ length: 20 }, (_, i) => String(i)))],
    }),
};

function descend(depth) {
    return descend(depth + 1) + 1;
}

function climb(rungs) {
    if (rungs === 0) throw new TypeError("the sky is falling");
    const below = climb(rungs - 1);
    return below;
}

function attempt(tool, args) {
    try {
        return call(tool, args);
    } catch (error) {
        if (error instanceof ToolError) return error;
        throw error;
    }
}

function tally(results) {
    const errors = results.filter((result) => result instanceof ToolError);
    const lastError = errors.at(-1)?.details ?? null;
    return { answers: results.length - errors.length, errors: errors.length, last_error: lastError };
}

const guarded = agent((input) => deeds[input.do](input.n));

export const guest = {
    run(input) {
        // What the library would catch goes past it.
        if (JSON.parse(input).do === "throw-past-the-library") climb(3);
        return guarded.run(input);
    },
};
