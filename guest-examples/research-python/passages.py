"""The passages of a file that mention the topic."""

from dataclasses import dataclass

# Lines quoted before and after a mention, within its paragraph.
CONTEXT = 1

# Longer passages are split, so that a document stays a screen or two.
MAX_LINES = 6

# Longer lines are cut to this many characters around the mention.
MAX_CHARS = 240


@dataclass
class Passage:
    """Neighbouring lines of a file, the first of which has this number, from 1."""

    first: int
    lines: list

    @property
    def last(self):
        return self.first + len(self.lines) - 1


def extract(text, topic, found):
    """The passages around the lines that hold the topic in any case, and around the lines that
    the search found, whose numbers are `found`.
    """
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    topic = topic.lower()
    mentions = [
        number
        for number, line in enumerate(lines, 1)
        if number in found or topic in line.lower()
    ]
    return [
        Passage(first, [cut(line, topic) for line in lines[first - 1 : last]])
        for first, last in ranges(lines, mentions)
    ]


def ranges(lines, mentions):
    """First and last line of each passage, in order and without overlap."""
    found = []
    for mention in mentions:
        first, last = around(lines, mention)
        before = found[-1] if found else None
        if before is None:
            found.append((first, last))
        elif first <= before[1] + 1 and last - before[0] < MAX_LINES:
            found[-1] = (before[0], last)
        elif mention > before[1]:
            found.append((max(first, before[1] + 1), last))
    return found


def around(lines, mention):
    """A line with its context, which ends where the paragraph does."""
    first = last = mention
    for _ in range(CONTEXT):
        if first > 1 and lines[first - 2].strip():
            first -= 1
        if last < len(lines) and lines[last].strip():
            last += 1
    return first, last


def cut(line, topic):
    """The line as it is, or the part of a long one around its first mention."""
    line = line.rstrip()
    if len(line) <= MAX_CHARS:
        return line
    mention = max(line.lower().find(topic), 0)
    start = min(max(mention - MAX_CHARS // 3, 0), len(line) - MAX_CHARS)
    before = "…" if start > 0 else ""
    after = "…" if start + MAX_CHARS < len(line) else ""
    return before + line[start : start + MAX_CHARS] + after
