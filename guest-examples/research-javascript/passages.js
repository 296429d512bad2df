// The passages of a file that mention the topic: `{ first, last, lines }`, numbered from 1.

// Lines quoted before and after a mention, within its paragraph.
const CONTEXT = 1;

// Longer passages are split, so that a document stays a screen or two.
const MAX_LINES = 6;

// Longer lines are cut to this many characters around the mention.
export const MAX_CHARS = 240;

// The passages around the lines that hold the topic in any case, and around the lines that the
// search found, whose numbers are `found`.
export function extract(text, topic, found) {
    const lines = text.replace(/\n$/, "").split("\n").map((line) => line.replace(/\r$/, ""));
    const lower = topic.toLowerCase();
    const isMention = (n) => found.includes(n) || lines[n - 1].toLowerCase().includes(lower);
    const mentions = lines.map((_, i) => i + 1).filter(isMention);
    return ranges(lines, mentions).map(({ first, last }) => ({
        first,
        last,
        lines: lines.slice(first - 1, last).map((line) => cut(line, lower)),
    }));
}

// First and last line of each passage, in order and without overlap.
function ranges(lines, mentions) {
    const found = [];
    for (const mention of mentions) {
        const { first, last } = around(lines, mention);
        const before = found.at(-1);
        if (before === undefined) {
            found.push({ first, last });
        } else if (first <= before.last + 1 && last - before.first < MAX_LINES) {
            before.last = last;
        } else if (mention > before.last) {
            found.push({ first: Math.max(first, before.last + 1), last });
        }
    }
    return found;
}

// A line with its context, which ends where the paragraph does.
function around(lines, mention) {
    let [first, last] = [mention, mention];
    for (let i = 0; i < CONTEXT; i++) {
        if (first > 1 && lines[first - 2].trim() !== "") first--;
        if (last < lines.length && lines[last].trim() !== "") last++;
    }
    return { first, last };
}

// The line as it is, or the part of a long one around its first mention. Characters are code
// points: a string's own length counts those beyond the first 65,536 twice.
function cut(text, topic) {
    const line = text.trimEnd();
    const chars = [...line];
    if (chars.length <= MAX_CHARS) return line;
    const lower = line.toLowerCase();
    const mention = [...lower.slice(0, Math.max(lower.indexOf(topic), 0))].length;
    const start = Math.min(Math.max(mention - MAX_CHARS / 3, 0), chars.length - MAX_CHARS);
    const before = start > 0 ? "…" : "";
    const after = start + MAX_CHARS < chars.length ? "…" : "";
    return before + chars.slice(start, start + MAX_CHARS).join("") + after;
}
