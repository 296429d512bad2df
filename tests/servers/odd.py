"""An MCP server over stdio that misbehaves on request.

    odd.py LOG [--slow-start SECONDS] [--silent] [--crash] [--tools N] [--pages] [--modern]

Each line that it is sent is added to LOG. Its tools do what their names say.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time

TOOLS = {
    "echo": "Answers its arguments and what came with them",
    "die": "Ends in the middle of the call",
    "malformed": "Answers JSON that is no message",
    "noise": "Prints what is no JSON, then answers",
    "wrong-id": "Answers another call",
    "huge": "Answers 100 MB",
    "crowded": "Answers a million numbers",
    "endless": "Never ends its answer",
    "never": "Never answers",
    "deaf": "Never answers, and reads nothing more",
    "progress": "Tells how far it is, then answers",
    "fail": "Answers an error of the protocol",
    "ask": "Asks the host for all that a host could give",
    "offspring": "Starts a program that ignores whoever asks it to end",
    "bad schema": "Has a name that no manifest can hold",
}

parser = argparse.ArgumentParser()
parser.add_argument("log")
parser.add_argument("--slow-start", type=float, default=0)
parser.add_argument("--silent", action="store_true")
parser.add_argument("--crash", action="store_true")
parser.add_argument("--tools", type=int, default=0)
parser.add_argument("--pages", action="store_true")
parser.add_argument("--modern", action="store_true")
options = parser.parse_args()

writing = threading.Lock()
answers = {}
answered = threading.Condition()


def write(text):
    with writing:
        sys.stdout.write(text)
        sys.stdout.flush()


def send(message):
    write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


def answer(id, result):
    send({"id": id, "result": result})


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def described(name, description):
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}


def listed(cursor):
    tools = [described(*tool) for tool in TOOLS.items()]
    tools += [described(f"tool-{n}", "One of many") for n in range(options.tools)]
    if options.pages:
        page = int(cursor or 0)
        tools = [described(f"page-{page}", "On a page of its own")]
        return {"tools": tools, "nextCursor": str(page + 1)}
    return {"tools": tools}


def ask(method, params):
    id = f"ask-{method}"
    send({"id": id, "method": method, "params": params})
    with answered:
        answered.wait_for(lambda: id in answers, timeout=20)
    return answers.get(id)


def call(id, params):
    name, arguments = params["name"], params.get("arguments", {})
    meta = params.get("_meta", {})
    if name == "echo":
        answer(id, text(json.dumps({"arguments": arguments, "meta": meta})))
    elif name == "die":
        sys.stderr.write("the last straw\n")
        sys.stderr.flush()
        os._exit(7)
    elif name == "malformed":
        write(json.dumps({"id": id, "anything": "but a message"}) + "\n")
    elif name == "noise":
        write("noise {]\n" * 500)
        answer(id, text("after the noise"))
    elif name == "wrong-id":
        answer(id + 1000, text("to somebody else"))
    elif name == "huge":
        piece = "x" * 1_000_000
        write('{"jsonrpc":"2.0","result":{"content":[{"type":"text","text":"')
        for _ in range(100):
            write(piece)
        write('"}]},"id":%d}\n' % id)
    elif name == "crowded":
        numbers = "[0" + ",0" * 1_000_000 + "]"
        write('{"jsonrpc":"2.0","id":%d,"result":{"content":[],"structuredContent":{"n":%s}}}\n' % (id, numbers))
    elif name == "endless":
        write('{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % id)
        while True:
            write("x" * 65536)
            time.sleep(0.01)
    elif name == "never":
        pass
    elif name == "deaf":
        signal.pause()
    elif name == "progress":
        for step in (1, 2):
            progress = {"progressToken": meta["progressToken"], "progress": step, "total": 2}
            send({"method": "notifications/progress", "params": {**progress, "message": f"step {step}"}})
        answer(id, text("done"))
    elif name == "fail":
        send({"id": id, "error": {"code": -32000, "message": "out of luck"}})
    elif name == "ask":
        sampling = {"messages": [], "maxTokens": 1}
        form = {"message": "?", "requestedSchema": {"type": "object", "properties": {}}}
        said = {
            "sampling/createMessage": ask("sampling/createMessage", sampling),
            "roots/list": ask("roots/list", {}),
            "elicitation/create": ask("elicitation/create", form),
        }
        answer(id, text(json.dumps(said)))
    elif name == "offspring":
        # It also inherits the pipes, so that they stay open without its parent.
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", script, options.log])
        answer(id, text(str(child.pid)))
    else:
        answer(id, text(f"there is no {name}"))


def handle(message):
    method, id, params = message.get("method"), message.get("id"), message.get("params", {})
    if method == "initialize" and options.modern:
        send({"id": id, "error": {"code": -32601, "message": "initialize"}})
    elif method == "initialize" and not options.silent:
        version = params["protocolVersion"]
        info = {"name": "odd", "version": "1"}
        answer(id, {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
    elif method == "server/discover" and options.modern:
        info = {"name": "odd", "version": "1"}
        answer(id, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "serverInfo": info,
                    "resultType": "complete", "ttlMs": 0, "cacheScope": "private"})
    elif method == "tools/list":
        answer(id, listed(params.get("cursor")))
    elif method == "tools/call" and params["name"] == "deaf":
        call(id, params)
    elif method == "tools/call":
        threading.Thread(target=call, args=(id, params), daemon=True).start()
    elif method is None:
        with answered:
            answers[id] = {key: message[key] for key in ("result", "error") if key in message}
            answered.notify_all()


print("odd: hello, this line is no message", flush=True)
if options.crash:
    sys.exit("odd: cannot find the configuration")
time.sleep(options.slow_start)
with open(options.log, "a") as log:
    for line in sys.stdin:
        log.write(line)
        log.flush()
        handle(json.loads(line))
