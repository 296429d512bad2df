"""The document: figures, quotations and limits, in Markdown. Every statement in it comes from the
tools' answers.
"""

import re
from dataclasses import dataclass, field

from passages import MAX_CHARS

# Passages beyond those quoted that are named by their line numbers.
MAX_PLACES = 10


@dataclass
class FileReport:
    """What was read of a file, or the reason why it could not be."""

    path: str
    reason: str | None
    passages: list = field(default_factory=list)
    bytes_read: int = 0
    bytes: int = 0


def write(topic, files, *, max_passages, **figures):
    read = [file for file in files if not file.reason]
    sections = [f"# Research: {escape(topic)}\n", summary(topic, read, max_passages, **figures)]
    sections += [section(file, max_passages) for file in read]
    sections.append(limits(files, **figures))
    return "\n".join(sections)


def summary(
    topic, read, max_passages, *, files_searched, files_found, lines_found, search_truncated, **_
):
    if files_found == 0:
        return f"Searched {count(files_searched, 'file')}: no line mentions “{escape(topic)}”.\n"
    at_least = "at least " if search_truncated else ""
    passages = sum(len(file.passages) for file in read)
    quoted = sum(min(len(file.passages), max_passages) for file in read)
    return (
        "| Files searched | Files found | Lines found | Files read | Passages quoted |\n"
        "| ---: | ---: | ---: | ---: | ---: |\n"
        f"| {files_searched} | {at_least}{files_found} | {at_least}{lines_found} "
        f"| {len(read)} | {quoted} of {passages} |\n"
    )


def section(file, max_passages):
    text = f"## `{file.path}`\n"
    for passage in file.passages[:max_passages]:
        text += "\n" + quote(passage)
    rest = file.passages[max_passages:]
    if rest:
        places = ", ".join(place(passage) for passage in rest[:MAX_PLACES])
        left = len(rest) - MAX_PLACES
        more = f" and {count(left, 'place')} more" if left > 0 else ""
        text += f"\nAlso mentioned at {places}{more}.\n"
    return text


def quote(passage):
    """A fenced block, so that the file's own markup is shown and not obeyed."""
    longest = max((len(run) for line in passage.lines for run in re.findall("`+", line)), default=0)
    fence = "`" * (max(longest, 2) + 1)
    width = len(str(passage.last))
    lines = [
        f"{number:{width}}  {line}\n" for number, line in enumerate(passage.lines, passage.first)
    ]
    return f"{fence}text\n{''.join(lines)}{fence}\n"


def limits(files, *, search_truncated, passed_over, **_):
    limits = [
        "The search is for these very words on one line: other words for the same thing, "
        "and mentions that run over a line's end, are not found."
    ]
    if search_truncated:
        limits.append("The search was cut short: there are more matches, or may be.")
    if passed_over:
        paths = ", ".join(f"`{path}`" for path in passed_over)
        limits.append(f"Found and not read, for having fewer mentions: {paths}.")
    for file in files:
        if file.reason:
            limits.append(f"`{file.path}` could not be read ({file.reason}).")
        elif file.bytes_read < file.bytes:
            limits.append(
                f"Of `{file.path}`, the first {file.bytes_read} of {file.bytes} bytes were read."
            )
    lines = (line for file in files for passage in file.passages for line in passage.lines)
    if any(len(line) > MAX_CHARS for line in lines):
        limits.append(
            f"Lines of more than {MAX_CHARS} characters are cut around the mention, at each “…”."
        )
    return "## Limits of this research\n\n" + "".join(f"- {limit}\n" for limit in limits)


def place(passage):
    """`12–14`, or `12`."""
    if passage.first == passage.last:
        return str(passage.first)
    return f"{passage.first}–{passage.last}"


def count(n, noun):
    """`1 file`, `2 files`."""
    return f"1 {noun}" if n == 1 else f"{n} {noun}s"


def escape(text):
    """Text as Markdown that shows it as it is."""
    return re.sub(r"[\\`*_\[\]<>&#|~]", r"\\\g<0>", text)
