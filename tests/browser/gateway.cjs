// A gateway with a seeded ledger, and the admin API beside the page: what the browser shows is compared with it.
"use strict";

const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");

const root = path.resolve(__dirname, "../..");
const built = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"), "debug");
const TOKEN = "the-admins-token";

/** What every answer of the upstream says that it took. */
const USAGE = { prompt_tokens: 1000, completion_tokens: 500, total_tokens: 1500 };

/** An upstream on loopback: plain answers after a tenth of a second, streams in pieces; "gpt-4o-broken" breaks off. */
async function upstream() {
  const server = http.createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const { model, stream } = JSON.parse(Buffer.concat(parts).toString());
    if (model === "gpt-4o-broken") return request.socket.destroy();
    const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
    await pause(60 + 120 * Math.random());
    if (!stream) {
      response.setHeader("content-type", "application/json");
      const message = { role: "assistant", content: "As you say." };
      return response.end(JSON.stringify({ model, choices: [{ index: 0, message, finish_reason: "stop" }], usage: USAGE }));
    }
    response.setHeader("content-type", "text/event-stream");
    for (const content of ["As ", "you ", "say."]) {
      response.write(`data: ${JSON.stringify({ model, choices: [{ index: 0, delta: { content } }] })}\n\n`);
      await pause(60);
    }
    return response.end(`data: ${JSON.stringify({ model, choices: [], usage: USAGE })}\n\ndata: [DONE]\n\n`);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** Seeds a store and serves from it; answers when the dashboard can be opened. */
async function start() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "weir-browser-"));
  const config = path.join(folder, "weir.toml");
  const provider = await upstream();
  const template = fs.readFileSync(path.join(__dirname, "weir.toml"), "utf8");
  fs.writeFileSync(config, template.replace("UPSTREAM", `127.0.0.1:${provider.address().port}`));
  execFileSync(path.join(built, "examples/seed"), [config], { cwd: folder, stdio: "inherit", timeout: 60_000 });
  const child = spawn(path.join(built, "weir"), ["serve", "-c", config], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  const { base, proxy } = await addresses(child);
  return {
    base,
    ask: (what) => ask(proxy, what),
    text: async (route) => (await fetch(`${base}/api/v1/${route}`, { headers: { authorization: `Bearer ${TOKEN}` } })).text(),
    api: (route, options = {}) => api(base, route, options),
    stop: () => new Promise((resolve) => {
      child.on("exit", () => {
        provider.close();
        provider.closeAllConnections();
        fs.rmSync(folder, { recursive: true, force: true });
        resolve();
      });
      child.kill("SIGTERM");
    }),
  };
}

/** Where requests go and where the dashboard is, as the gateway says it on stderr. */
function addresses(child) {
  return new Promise((resolve, reject) => {
    const said = [];
    const timer = setTimeout(() => reject(new Error(`the gateway did not start:\n${said.join("\n")}`)), 30_000);
    readline.createInterface({ input: child.stderr }).on("line", (line) => {
      said.push(line);
      const [proxy, base] = [/point base URLs at (\S+)\/v1/, /dashboard.* (http:\/\/127\.0\.0\.1:\d+)\//].map((words) =>
        said.map((one) => words.exec(one)?.[1]).find(Boolean));
      if (!proxy || !base) return;
      clearTimeout(timer);
      resolve({ base, proxy });
    });
    child.on("exit", () => reject(new Error(`the gateway ended:\n${said.join("\n")}`)));
  });
}

/** One request through the gateway, read to its end: its status. */
async function ask(proxy, { stream = false, model = "gpt-4o", key = "wr-acme" } = {}) {
  const answer = await fetch(`${proxy}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model, stream, max_tokens: 500, messages: [{ role: "user", content: "Who pays for this?" }] }),
  });
  await answer.text();
  return answer.status;
}

async function api(base, route, { token = TOKEN, method = "GET", body } = {}) {
  const answer = await fetch(`${base}/api/v1/${route}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
  });
  return { status: answer.status, json: await answer.json() };
}

module.exports = { TOKEN, start };
