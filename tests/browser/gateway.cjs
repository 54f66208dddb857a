// A gateway with a seeded ledger, and the admin API beside the page: what the browser shows is compared with it.
"use strict";

const { execFileSync, spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");

const root = path.resolve(__dirname, "../..");
const built = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, "target"), "debug");
const TOKEN = "the-admins-token";

/** Seeds a store and serves from it; answers when the dashboard can be opened. */
async function start() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "weir-browser-"));
  const config = path.join(folder, "weir.toml");
  fs.copyFileSync(path.join(__dirname, "weir.toml"), config);
  execFileSync(path.join(built, "examples/seed"), [config], { cwd: folder, stdio: "inherit", timeout: 60_000 });
  const child = spawn(path.join(built, "weir"), ["serve", "-c", config], { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  const base = await address(child);
  return {
    base,
    api: (route, options = {}) => api(base, route, options),
    stop: () => new Promise((resolve) => {
      child.on("exit", () => {
        fs.rmSync(folder, { recursive: true, force: true });
        resolve();
      });
      child.kill("SIGTERM");
    }),
  };
}

/** The dashboard's address, as the gateway says it on stderr. */
function address(child) {
  return new Promise((resolve, reject) => {
    const said = [];
    const timer = setTimeout(() => reject(new Error(`the gateway did not start:\n${said.join("\n")}`)), 30_000);
    readline.createInterface({ input: child.stderr }).on("line", (line) => {
      said.push(line);
      const found = /dashboard.* (http:\/\/127\.0\.0\.1:\d+)\//.exec(line);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[1]);
    });
    child.on("exit", () => reject(new Error(`the gateway ended:\n${said.join("\n")}`)));
  });
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
