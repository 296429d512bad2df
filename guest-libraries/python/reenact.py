"""What an agent in Python needs: its `run`, events, tools and facts.

    from reenact import agent, call, emit

    @agent
    def run(input):
        emit("reasoning", {"text": "I look it up."})
        found = call("files.search", {"query": input["topic"]})
        return f"Found {len(found['matches'])} lines."

The library is this one file; copy it beside your agent.
"""

import dataclasses
import functools
import json
import linecache
import os
import random
import sys
import traceback

import componentize_py_types as wit
from wit_world import exports
from wit_world.exports import guest
from wit_world.imports import context, events, tools
from wit_world.imports.types import Source

__all__ = [
    "Failure", "Output", "Tool", "ToolError", "agent", "available", "call", "call_all", "config",
    "emit", "manifest", "run_info", "span",
]  # fmt: skip

# Calls that a traceback shows, the innermost: an endless recursion has a thousand.
MAX_CALLS = 40


class Failure(Exception):
    """Why the agent gives up. `details` is any JSON value."""

    def __init__(self, message, details=None):
        super().__init__(message)
        self.message = message
        self.details = details


class ToolError(Failure):
    """A tool call that was not answered with a value.

    `code` is `denied`, `unknown-tool`, `invalid-arguments`, `failed`, `timeout`, `too-large` or
    `interrupted`. Not caught, it ends the run as the agent's failure.
    """

    def __init__(self, tool, code, message):
        if code == "denied":
            words = f"this agent needs the tool `{tool}`, and the run was not granted it: {message}"
        else:
            words = f"`{tool}` failed: {message}"
        super().__init__(words, {"tool": tool, "code": code, "message": message})
        self.tool = tool
        self.code = code
        self.reason = message


@dataclasses.dataclass
class Output:
    """An output with sources of the agent's own, as pairs of URL and title.

    Sources that come with tool answers are collected by the host and need not be repeated.
    """

    content: object
    sources: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Tool:
    name: str
    description: str
    parameters: dict


def agent(run):
    """Makes `run(input)` the agent.

    `input` is what the run was given, as Python values. A returned text is a document, anything
    else is JSON. An exception ends the run as the agent's failure, with its traceback.
    """
    keep_sources(run)

    @functools.wraps(run)
    def guarded(_, input):
        # The interpreter was started when the component was built, and its random numbers too.
        random.seed(int.from_bytes(os.urandom(32)))
        try:
            return _output(run(json.loads(input)))
        except Failure as failure:
            raise wit.Err(guest.Failure(failure.message, _details(failure.details))) from None
        except MemoryError:
            # The host knows how much memory was asked for, and says so.
            raise
        except Exception as error:
            raise wit.Err(_failure(error)) from None

    # componentize-py looks for a class of this name in the agent's module.
    run.__globals__["Guest"] = type("Guest", (exports.Guest,), {"run": guarded})
    return run


def emit(kind, data=None):
    """Tells those who watch what the agent is doing. `data` is any JSON value."""
    events.emit(kind, _json({} if data is None else data))


class span:
    """An event that takes time. What is put into `closing` is told at its end.

    with span("counting", {"path": path}) as closing:
        closing["words"] = count(text)
    """

    def __init__(self, kind, data=None):
        self.kind = kind
        self.data = {} if data is None else data
        self.closing = {}

    def __enter__(self):
        self.number = events.open(self.kind, _json(self.data))
        return self.closing

    def __exit__(self, _type, error, _traceback):
        if error is not None:
            self.closing["error"] = _message(error)
        events.close(self.number, _json(self.closing))


def available():
    """The tools that may be called."""
    return [Tool(it.name, it.description, json.loads(it.parameters)) for it in tools.available()]


def call(tool, arguments=None):
    """Calls a tool and returns its answer. Raises `ToolError`."""
    try:
        return json.loads(tools.call(tool, _json({} if arguments is None else arguments)))
    except wit.Err as error:
        raise _tool_error(tool, error.value) from None


def call_all(calls):
    """Calls several tools at the same time: pairs of name and arguments.

    Returns the answers in the order of the calls. An error is not raised but stands in the place
    of the answer, as a `ToolError`.
    """
    calls = list(calls)
    requests = [tools.ToolCall(tool, _json(arguments)) for tool, arguments in calls]
    return [
        json.loads(answer.value)
        if isinstance(answer, wit.Ok)
        else _tool_error(tool, answer.value)
        for (tool, _), answer in zip(calls, tools.call_all(requests))
    ]


def config():
    """The manifest's `config`."""
    return json.loads(context.config())


def manifest():
    """The whole manifest."""
    return json.loads(context.manifest())


def run_info():
    """Run id, agent and revision: `run_id`, `agent`, `revision`."""
    return context.current()


def keep_sources(run):
    """Keeps the lines of the agent's own modules, which are not there any more when it runs.

    Tracebacks show them.
    """
    folder = os.path.dirname(run.__code__.co_filename)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if path.startswith(folder + os.sep) and "site-packages" not in path:
            lines = linecache.getlines(path)
            # Without a time of change the lines are not looked up again.
            linecache.cache[path] = (len(lines), None, lines, path)


def _json(value):
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"a value of type `{type(value).__name__}` is not JSON")


def _output(answer):
    answer = answer if isinstance(answer, Output) else Output(answer)
    sources = [Source(url, title) for url, title in answer.sources]
    content = guest.Content_Document if isinstance(answer.content, str) else guest.Content_Json
    text = answer.content if isinstance(answer.content, str) else _json(answer.content)
    return guest.Output(content(text), sources)


def _failure(error):
    # The outermost call is this library's own.
    trace = error.__traceback__.tb_next or error.__traceback__
    lines = "".join(traceback.format_exception(error.with_traceback(trace), limit=-MAX_CALLS))
    return guest.Failure(_message(error), _json({"traceback": lines.splitlines()}))


def _message(error):
    return f"{type(error).__name__}: {error}"


def _details(details):
    return None if details is None else _json(details)


def _tool_error(tool, error):
    return ToolError(tool, error.code.name.lower().replace("_", "-"), error.message)
