// Finds what a folder of text files says about a topic: searches, reads the files with the most
// mentions, and writes a document of their own words.

import {
    Failure,
    ToolError,
    agent,
    call,
    callAll,
    config,
    emit,
    utf8,
} from "../../guest-libraries/javascript/reenact.js";
import { count, write } from "./document.js";
import { extract } from "./passages.js";

const MAX_RESULTS = 20;

export const guest = agent(run);

// Answers a document. The host collects the sources that the tools answered from.
function run(input) {
    // A topic of several lines would match no line of any file.
    const topic = input.topic.split(/\s+/).filter(Boolean).join(" ");
    const { max_files = 3, max_passages = 3 } = config();
    emit("planning", plan(topic, max_files));

    const found = call("files.search", { query: topic, max_results: MAX_RESULTS });
    const ranked = rank(found.matches);
    const [chosen, passedOver] = [ranked.slice(0, max_files), ranked.slice(max_files)];
    emit("reasoning", choice(chosen, ranked.length));

    const files = readAll(chosen, topic);
    const read = files.filter((file) => file.reason === undefined);
    if (read.length > 0) {
        const passages = read.reduce((sum, file) => sum + file.passages.length, 0);
        emit("reasoning", {
            text: `Found ${count(passages, "passage")} about the topic in ${count(read.length, "file")}.`,
            files: read.map(({ path, passages }) => ({ path, passages: passages.length })),
        });
    }

    return write({
        topic,
        files,
        filesSearched: found.files_searched,
        filesFound: ranked.length,
        linesFound: found.matches.length,
        searchTruncated: found.truncated,
        passedOver: passedOver.map((file) => file.path),
        maxPassages: max_passages,
    });
}

function plan(topic, maxFiles) {
    const most =
        maxFiles === 1
            ? "the file with the most mentions"
            : `the ${maxFiles} files with the most mentions`;
    return {
        goal: `Find what the files say about “${topic}”`,
        steps: [
            `Search all files for “${topic}”`,
            `Read ${most}`,
            "Extract the passages that mention the topic",
            "Write them up, with the limits of the research",
        ],
    };
}

// The files found with their lines, those with the most matches first, equals by name.
function rank(matches) {
    const byPath = new Map();
    for (const { path, line } of matches) {
        if (!byPath.has(path)) byPath.set(path, { path, lines: [] });
        byPath.get(path).lines.push(line);
    }
    const byName = (a, b) => (a.path < b.path ? -1 : 1);
    return [...byPath.values()].sort((a, b) => b.lines.length - a.lines.length || byName(a, b));
}

// Which files will be read, of how many that were found.
function choice(chosen, found) {
    const n = chosen.length;
    let text = `Of ${found} files that mention the topic, I read the ${n} with the most mentions.`;
    if (found === 0) text = "No file mentions the topic: there is nothing to read.";
    else if (found === 1 && n === 1) text = "One file mentions the topic: I read it.";
    else if (found === n) text = `All ${n} files that mention the topic are worth reading.`;
    return { text, files: chosen.map(({ path, lines }) => ({ path, matches: lines.length })) };
}

// Reads the chosen files at once. One that cannot be read stays in the report, with the reason;
// that none can be read is a failure.
function readAll(chosen, topic) {
    if (chosen.length === 0) return [];
    const answers = callAll(chosen.map(({ path }) => ["files.read", { path }]));
    const files = chosen.map((file, i) => report(file, answers[i], topic));
    if (files.every((file) => file.reason !== undefined)) {
        const message = "none of the files that mention the topic could be read";
        throw new Failure(message, { files: files.map(({ path, reason }) => ({ path, reason })) });
    }
    return files;
}

function report({ path, lines }, answer, topic) {
    if (!(answer instanceof ToolError)) {
        const { text, size } = answer;
        const passages = extract(text, topic, lines);
        return { path, passages, bytesRead: utf8(text).length, bytes: size };
    }
    if (answer.code === "denied") throw answer;
    const { reason } = answer;
    const text = `I go on without \`${path}\`, which could not be read.`;
    emit("reasoning", { text, files: [{ path, reason }] });
    return { path, reason, passages: [] };
}
