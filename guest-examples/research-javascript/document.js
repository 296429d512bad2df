// The document: figures, quotations and limits, in Markdown. Every statement in it comes from the
// tools' answers.

import { MAX_CHARS } from "./passages.js";

// Passages beyond those quoted that are named by their line numbers.
const MAX_PLACES = 10;

// A file of the report has `passages`, `bytesRead` and `bytes`, or the `reason` why it could not
// be read.
export function write(report) {
    const read = report.files.filter((file) => file.reason === undefined);
    return [
        `# Research: ${escape(report.topic)}\n`,
        summary(report, read),
        ...read.map((file) => section(file, report.maxPassages)),
        limits(report),
    ].join("\n");
}

function summary(report, read) {
    const { topic, filesSearched, filesFound, linesFound, searchTruncated, maxPassages } = report;
    if (filesFound === 0) {
        return `Searched ${count(filesSearched, "file")}: no line mentions “${escape(topic)}”.\n`;
    }
    const atLeast = searchTruncated ? "at least " : "";
    const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
    const passages = sum(read.map((file) => file.passages.length));
    const quoted = sum(read.map((file) => Math.min(file.passages.length, maxPassages)));
    const figures = [
        filesSearched,
        atLeast + filesFound,
        atLeast + linesFound,
        read.length,
        `${quoted} of ${passages}`,
    ];
    return `\
| Files searched | Files found | Lines found | Files read | Passages quoted |
| ---: | ---: | ---: | ---: | ---: |
| ${figures.join(" | ")} |
`;
}

function section({ path, passages }, maxPassages) {
    let text = `## \`${path}\`\n`;
    for (const passage of passages.slice(0, maxPassages)) text += "\n" + quote(passage);
    const rest = passages.slice(maxPassages);
    if (rest.length > 0) {
        const places = rest.slice(0, MAX_PLACES).map(place).join(", ");
        const left = rest.length - MAX_PLACES;
        const more = left > 0 ? ` and ${count(left, "place")} more` : "";
        text += `\nAlso mentioned at ${places}${more}.\n`;
    }
    return text;
}

// A fenced block, so that the file's own markup is shown and not obeyed.
function quote({ first, last, lines }) {
    const runs = lines.flatMap((line) => line.match(/`+/g) ?? []);
    const fence = "`".repeat(Math.max(2, ...runs.map((run) => run.length)) + 1);
    const width = String(last).length;
    const numbered = lines.map((line, i) => `${String(first + i).padStart(width)}  ${line}\n`);
    return `${fence}text\n${numbered.join("")}${fence}\n`;
}

function limits({ files, searchTruncated, passedOver }) {
    const limits = [
        "The search is for these very words on one line: other words for the same thing, " +
            "and mentions that run over a line's end, are not found.",
    ];
    if (searchTruncated) {
        limits.push("The search was cut short: there are more matches, or may be.");
    }
    if (passedOver.length > 0) {
        const paths = passedOver.map((path) => `\`${path}\``).join(", ");
        limits.push(`Found and not read, for having fewer mentions: ${paths}.`);
    }
    for (const { path, reason, bytesRead, bytes } of files) {
        if (reason !== undefined) limits.push(`\`${path}\` could not be read (${reason}).`);
        else if (bytesRead < bytes) {
            limits.push(`Of \`${path}\`, the first ${bytesRead} of ${bytes} bytes were read.`);
        }
    }
    const lines = files.flatMap((file) => file.passages.flatMap((passage) => passage.lines));
    if (lines.some((line) => [...line].length > MAX_CHARS)) {
        limits.push(
            `Lines of more than ${MAX_CHARS} characters are cut around the mention, at each “…”.`,
        );
    }
    return `## Limits of this research\n\n${limits.map((limit) => `- ${limit}\n`).join("")}`;
}

// `12–14`, or `12`.
const place = ({ first, last }) => (first === last ? `${first}` : `${first}–${last}`);

// `1 file`, `2 files`.
export const count = (n, noun) => (n === 1 ? `1 ${noun}` : `${n} ${noun}s`);

// Text as Markdown that shows it as it is.
const escape = (text) => text.replace(/[\\`*_[\]<>&#|~]/g, "\\$&");
