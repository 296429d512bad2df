"""Lists where the files of a granted folder mention a topic."""

from reenact import ToolError, agent, call, config, emit


@agent
def run(input):
    topic = input["topic"]
    emit("planning", {"goal": f"Find out where {topic} is mentioned"})

    try:
        arguments = {"query": topic, "max_results": config()["max_results"]}
        matches = call("files.search", arguments)["matches"]
    except ToolError as error:
        # A denial is an answer: the agent can do without.
        if error.code != "denied":
            raise
        return f"There are no files to search for {topic}: {error.reason}\n"

    emit("reasoning", {"text": f"{len(matches)} lines mention it."})
    lines = [f"- `{it['path']}`, line {it['line']}: {it['text'].strip()}" for it in matches]
    return "\n".join([f"# {topic}", "", *lines, ""])
