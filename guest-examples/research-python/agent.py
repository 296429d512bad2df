"""Finds what a folder of text files says about a topic: searches, reads the files with the most
mentions, and writes a document of their own words.
"""

import document
from document import FileReport, count
from passages import extract
from reenact import Failure, ToolError, agent, call, call_all, config, emit

MAX_RESULTS = 20


@agent
def run(input):
    """Answers a document. The host collects the sources that the tools answered from."""
    # A topic of several lines would match no line of any file.
    topic = " ".join(input["topic"].split())
    settings = {"max_files": 3, "max_passages": 3} | config()
    emit("planning", plan(topic, settings["max_files"]))

    found = call("files.search", {"query": topic, "max_results": MAX_RESULTS})
    ranked = rank(found["matches"])
    chosen, passed_over = ranked[: settings["max_files"]], ranked[settings["max_files"] :]
    emit("reasoning", choice(chosen, len(ranked)))

    files = read_all(chosen, topic)
    passages = [
        {"path": file.path, "passages": len(file.passages)} for file in files if not file.reason
    ]
    if passages:
        total = sum(file["passages"] for file in passages)
        text = f"Found {count(total, 'passage')} about the topic in {count(len(passages), 'file')}."
        emit("reasoning", {"text": text, "files": passages})

    return document.write(
        topic,
        files,
        files_searched=found["files_searched"],
        files_found=len(ranked),
        lines_found=len(found["matches"]),
        search_truncated=found["truncated"],
        passed_over=[path for path, _ in passed_over],
        max_passages=settings["max_passages"],
    )


def plan(topic, max_files):
    if max_files == 1:
        most = "the file with the most mentions"
    else:
        most = f"the {max_files} files with the most mentions"
    return {
        "goal": f"Find what the files say about “{topic}”",
        "steps": [
            f"Search all files for “{topic}”",
            f"Read {most}",
            "Extract the passages that mention the topic",
            "Write them up, with the limits of the research",
        ],
    }


def rank(matches):
    """The files found with their lines, those with the most matches first, equals by name."""
    by_path = {}
    for match in matches:
        by_path.setdefault(match["path"], []).append(match["line"])
    return sorted(by_path.items(), key=lambda file: (-len(file[1]), file[0].encode()))


def choice(chosen, found):
    """Which files will be read, of how many that were found."""
    if found == 0:
        text = "No file mentions the topic: there is nothing to read."
    elif found == 1 and len(chosen) == 1:
        text = "One file mentions the topic: I read it."
    elif found == len(chosen):
        text = f"All {found} files that mention the topic are worth reading."
    else:
        text = (
            f"Of {found} files that mention the topic, "
            f"I read the {len(chosen)} with the most mentions."
        )
    files = [{"path": path, "matches": len(lines)} for path, lines in chosen]
    return {"text": text, "files": files}


def read_all(chosen, topic):
    """Reads the chosen files at once.

    One that cannot be read stays in the report, with the reason; that none can be read is a
    failure.
    """
    if not chosen:
        return []
    answers = call_all(("files.read", {"path": path}) for path, _ in chosen)
    reports = [report(path, lines, answer, topic) for (path, lines), answer in zip(chosen, answers)]
    if all(file.reason for file in reports):
        reasons = [{"path": file.path, "reason": file.reason} for file in reports]
        message = "none of the files that mention the topic could be read"
        raise Failure(message, {"files": reasons})
    return reports


def report(path, lines, answer, topic):
    if not isinstance(answer, ToolError):
        text = answer["text"]
        return FileReport(path, None, extract(text, topic, lines), len(text.encode()), answer["size"])
    if answer.code == "denied":
        raise answer
    text = f"I go on without `{path}`, which could not be read."
    emit("reasoning", {"text": text, "files": [{"path": path, "reason": answer.reason}]})
    return FileReport(path, answer.reason)
