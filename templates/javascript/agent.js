// Lists where the files of a granted folder mention a topic.

import { ToolError, agent, call, config, emit } from "./reenact.js";

export const guest = agent(({ topic }) => {
    emit("planning", { goal: `Find out where ${topic} is mentioned` });

    let matches;
    try {
        const args = { query: topic, max_results: config().max_results };
        matches = call("files.search", args).matches;
    } catch (error) {
        // A denial is an answer: the agent can do without.
        if (!(error instanceof ToolError) || error.code !== "denied") throw error;
        return `There are no files to search for ${topic}: ${error.reason}\n`;
    }

    emit("reasoning", { text: `${matches.length} lines mention it.` });
    const lines = matches.map(({ path, line, text }) => `- \`${path}\`, line ${line}: ${text.trim()}`);
    return [`# ${topic}`, "", ...lines, ""].join("\n");
});
