// The dashboard as a person uses it, in headless Chromium: every figure is compared with the admin API's, every page is
// held to axe-core's rules and must leave the console silent. Screenshots go to target/screenshots.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { after, before, test } = require("node:test");
const { chromium } = require("playwright-core");

const { TOKEN, start } = require("./gateway.cjs");

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const SHOTS = path.resolve(__dirname, "../../target/screenshots");
const AXE = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PHONE = { width: 390, height: 844 };
const DESK = { width: 1280, height: 900 };

let gateway;
let browser;

before(async () => {
  gateway = await start();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  fs.mkdirSync(SHOTS, { recursive: true });
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** A page whose complaints are kept. */
async function open({ viewport = DESK, colorScheme = "light" } = {}) {
  const context = await browser.newContext({ viewport, colorScheme });
  const page = await context.newPage();
  // Before the page's own scripts: these hear of a new address right after this one, in the same turn.
  await page.addInitScript(() => {
    const hear = () => (window.heard = location.hash);
    hear();
    addEventListener("hashchange", hear);
  });
  page.setDefaultTimeout(60_000);
  page.complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.complaints.push(message.text());
  });
  page.on("pageerror", (error) => page.complaints.push(error.message));
  return page;
}

async function logIn(page, token = TOKEN) {
  await page.goto(`${gateway.base}/`);
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.getByLabel("Admin token").fill(token);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${gateway.base}/`);
}

/** Goes to a page and waits until it has all its figures. */
async function go(page, name, heading) {
  await page.goto(`${gateway.base}/#/${name}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
  await settled(page);
}

/** Every place of the page has what it waited for. An address changes before its page hears of it. */
async function settled(page) {
  await page.waitForFunction(() => window.heard === location.hash && !document.querySelector("[aria-busy]"));
}

/** The exact amounts of a table's rows by their first cell. */
async function amounts(table) {
  const rows = await table.locator("tbody tr").all();
  const found = {};
  for (const row of rows) {
    const name = (await row.locator("th").innerText()).trim();
    found[name] = await row.locator("data").evaluateAll((data) => data.map((one) => one.value));
  }
  return found;
}

/** What axe-core finds wrong with a page. */
async function violations(page) {
  // Through the debugger: the page's own policy lets in no script but its own.
  await page.evaluate(AXE);
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return found.violations.map((one) => `${one.id}: ${one.help} (${one.nodes.map((node) => node.target).join("; ")})`);
}

test("a wrong token stays outside and is told so", async () => {
  const page = await open();
  await page.goto(`${gateway.base}/`);
  await page.getByLabel("Admin token").fill("not-the-token");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").filter({ hasText: "none of [admin]" }).waitFor();
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.context().close();
});

test("the session's cookie is out of reach for scripts, and a change needs more than the cookie", async () => {
  const page = await open();
  await logIn(page);
  const [cookie] = await page.context().cookies();
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ["weir_session", true, "Strict"]);
  const forged = await page.evaluate(async () => {
    const answer = await fetch("/api/v1/keys", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ account: "acme" }),
    });
    return answer.status;
  });
  assert.equal(forged, 403);
  await page.context().close();
});

test("the page's policy runs no inline script and no page of ours is framed", async () => {
  const answer = await fetch(`${gateway.base}/login`);
  const policy = answer.headers.get("content-security-policy");
  assert.match(policy, /script-src 'self';/);
  assert.doesNotMatch(policy, /unsafe/);
  assert.match(policy, /frame-ancestors 'none'/);
  assert.equal(answer.headers.get("x-frame-options"), "DENY");
  assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
  assert.equal(answer.headers.get("cache-control"), "no-store");
});

test("the margin page shows the ledger's figures and leads to the worst account", async () => {
  const page = await open();
  await logIn(page);
  // Last month is over: what the page shows and what is asked afterwards are the same moment's.
  await go(page, "margin?range=last-month", "Margin");
  const now = new Date();
  const month = (back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 10);
  const span = `since=${month(1)}&until=${month(0)}`;
  const { json: plans } = await gateway.api(`margin?${span}`);
  const shown = await amounts(page.getByRole("table", { name: "Margin by plan" }));
  assert.deepEqual(Object.keys(shown).sort(), plans.rows.map((row) => row.id).sort());
  for (const row of plans.rows) {
    assert.deepEqual(shown[row.id], [row.revenue_usd, row.cost_usd, row.margin_usd, row.projected.margin_usd], row.id);
  }
  const { json: worst } = await gateway.api(`margin?${span}&by=account&order=margin&limit=10`);
  const table = page.getByRole("table", { name: "Accounts with the worst margin" });
  const accounts = await amounts(table);
  assert.deepEqual(Object.keys(accounts), worst.rows.map((row) => row.id));
  for (const row of worst.rows) {
    assert.deepEqual(accounts[row.id], [row.revenue_usd, row.cost_usd, row.margin_usd], row.id);
  }
  // By keyboard: the first account of the table.
  await table.getByRole("link").first().focus();
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.hash === `#/account/${worst.rows[0].id}`);
  await page.getByText(worst.rows[0].id).first().waitFor();
  await settled(page);
  await page.getByLabel("Time range").selectOption("last-month");
  await page.waitForURL((url) => url.hash.includes("range=last-month"));
  await settled(page);
  const { json: usage } = await gateway.api(`usage?${span}&by=model&account=${worst.rows[0].id}`);
  const models = await amounts(page.getByRole("table", { name: "Cost by model and class" }));
  for (const model of usage.items) assert.equal(models[model.id].at(-1), model.cost_usd, model.id);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

/** Revenue of one price in a stretch of last month, billing period by billing period: nothing of Weir's is asked. */
function earned(since, dollars, from, to) {
  const [year, month, day] = since.split("-").map(Number);
  const start = (period) => {
    const last = new Date(Date.UTC(year, month + period, 0)).getUTCDate();
    return Date.UTC(year, month - 1 + period, Math.min(day, last));
  };
  let sum = 0;
  for (let period = 0; start(period) < to; period += 1) {
    const covered = Math.min(start(period + 1), to) - Math.max(start(period), from);
    if (covered > 0) sum += (dollars * covered) / (start(period + 1) - start(period));
  }
  return sum;
}

test("the margin page's revenue is an independent sum's: through a change of plan, a refund and a dearer plan", async () => {
  const now = new Date();
  const first = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1);
  const end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1);
  const hours = (count) => first + count * 3_600_000;
  const accounts = [];
  for (let next = ""; next !== null;) {
    const { json } = await gateway.api(`accounts?limit=1000${next && `&cursor=${next}`}`);
    accounts.push(...json.items);
    next = json.next;
  }
  assert.equal(accounts.length, 206);
  const expected = { plus: 0, pro: -50, research: 0 };
  const plus = (since, from, to) =>
    earned(since, 15, from, Math.min(to, hours(246))) + earned(since, 20, Math.max(from, hours(246)), to);
  for (const { id, plan, since } of accounts) {
    const changed = id === "pro-001" ? hours(300) : first;
    if (plan === "plus") expected.plus += plus(since, first, end);
    if (id === "pro-001") expected.plus += plus(since, first, changed);
    if (plan === "pro") expected.pro += earned(since, 200, changed, end);
  }
  const page = await open();
  await logIn(page);
  await go(page, "margin?range=last-month", "Margin");
  const shown = await amounts(page.getByRole("table", { name: "Margin by plan" }));
  for (const [plan, revenue] of Object.entries(expected)) {
    const off = Math.abs(Number(shown[plan][0]) - revenue);
    assert.ok(off < 0.000001, `${plan}: ${shown[plan][0]}, not ${revenue}`);
  }
  await go(page, "account/pro-001?range=last-month", /./);
  const own = await page.locator("dd data").evaluateAll((data) => data.map((one) => Number(one.value)));
  const { since } = accounts.find((one) => one.id === "pro-001");
  const paid = plus(since, first, hours(300)) + earned(since, 200, hours(300), end);
  assert.ok(Math.abs(own[1] - paid) < 0.000001, `${own[1]}, not ${paid}`);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

/** Dollars per million tokens: input, read from the cache, output; from 200,000 tokens of input on, Anthropic's larger ones. */
function vendorPrices({ served_model: model, usage }) {
  const long = usage.input_tokens > 200_000;
  return {
    "gpt-4o": [2.5, 1.25, 10],
    "gpt-4o-mini": [0.15, 0.075, 0.6],
    o3: [2, 0.5, 8],
    "claude-sonnet-4-5": long ? [6, 0.6, 22.5] : [3, 0.3, 15],
  }[model];
}

test("the margin page's cost is an independent sum's: tokens of the exported ledger times the vendors' prices", async () => {
  const now = new Date();
  const month = (back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 10);
  const lines = (await gateway.text(`export?format=jsonl&since=${month(1)}&until=${month(0)}`)).trim().split("\n");
  assert.ok(lines.length > 10_000, `${lines.length} entries`);
  // In millionths of a millionth of a dollar, so that the sum is exact.
  const expected = {};
  const worst = {};
  for (const line of lines) {
    const entry = JSON.parse(line);
    if (entry.usage_source === "none") continue;
    const { input_tokens: input, cache_read_input_tokens: cached, output_tokens: output } = entry.usage;
    const prices = vendorPrices(entry).map((price) => BigInt(Math.round(price * 1e6)));
    const cost = [input - cached, cached, output].reduce((sum, tokens, at) => sum + BigInt(tokens) * prices[at], 0n);
    expected[entry.plan] = (expected[entry.plan] ?? 0n) + cost;
    worst[entry.account] = (worst[entry.account] ?? 0n) + cost;
  }
  const picos = (text) => {
    const [whole, part = ""] = text.split(".");
    return BigInt(whole) * 10n ** 12n + BigInt(part.padEnd(12, "0"));
  };
  const page = await open();
  await logIn(page);
  await go(page, "margin?range=last-month", "Margin");
  const plans = await amounts(page.getByRole("table", { name: "Margin by plan" }));
  for (const [plan, cost] of Object.entries(expected)) assert.equal(picos(plans[plan][1]), cost, plan);
  const accounts = await amounts(page.getByRole("table", { name: "Accounts with the worst margin" }));
  for (const [account, [, cost]] of Object.entries(accounts)) assert.equal(picos(cost), worst[account], account);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a what-if answers with the sliders, and its figures are the API's", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "what-if", "What-if");
  await page.getByLabel("Traffic of").selectOption("last-month");
  await page.getByLabel("Plan", { exact: true }).selectOption("pro");
  const price = page.getByLabel("Price of the plan");
  const answered = page.waitForResponse((one) => decodeURIComponent(one.url()).includes("price=pro=260"));
  await price.fill("260");
  await page.getByText("$260.00 a month").waitFor();
  const whatif = await (await answered).json();
  await settled(page);
  const pro = whatif.whatif.rows.find((row) => row.id === "pro");
  await page.waitForFunction((margin) => document.querySelector("dd data")?.value === margin, pro.margin_usd);
  const shown = await amounts(page.getByRole("table", { name: "What happened and what would have" }));
  for (const row of whatif.whatif.rows) {
    const was = whatif.actual.rows.find((one) => one.id === row.id);
    assert.deepEqual(shown[row.id], [row.revenue_usd, row.cost_usd, row.margin_usd, was.margin_usd], row.id);
  }
  assert.ok(Number(whatif.difference_usd) > 0, "a higher price brings more");
  // The arrow keys move a slider.
  await price.focus();
  await page.keyboard.press("ArrowRight");
  await page.getByText("$261.00 a month").waitFor();
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a key is made, its secret is shown once, and it is revoked", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "plans", "Plans and keys");
  await page.getByRole("button", { name: "New key" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Account").fill("acme");
  await dialog.getByLabel("Id").fill("from-the-browser");
  await dialog.getByRole("button", { name: "Create" }).click();
  const secret = await page.locator("#secret").innerText();
  assert.match(secret, /^wr-[0-9a-f]{64}$/);
  await page.getByRole("button", { name: "I have it" }).click();
  await page.getByRole("row", { name: /from-the-browser/ }).waitFor();
  assert.ok(!(await page.content()).includes(secret), "the secret is gone with its dialog");
  const { json: key } = await gateway.api("keys/from-the-browser");
  assert.deepEqual([key.account, key.state, "secret" in key], ["acme", "active", false]);

  await page.getByRole("button", { name: "Revoke from-the-browser" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("row", { name: /from-the-browser.*revoked/ }).waitFor();
  assert.equal((await gateway.api("keys/from-the-browser")).json.state, "revoked");
  const { json: audit } = await gateway.api("audit?limit=2");
  assert.deepEqual(audit.items.map((line) => line.action), ["key.revoke", "key.create"]);
  assert.match(audit.items[0].actor, /^admin dashboard /);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a plan is made, refused where it is wrong, and changed", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "plans", "Plans and keys");
  await page.getByRole("button", { name: "New plan" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Id").fill("starter");
  await dialog.getByLabel("Price in US dollars").fill("5.00");
  await dialog.getByLabel("Limits").fill('[{ "on": "cost", "max": 4, "per": "period" }]');
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByRole("alert").filter({ hasText: "limits[0].max" }).waitFor();
  await dialog.getByLabel("Limits").fill('[{ "on": "cost", "max": "4.00", "per": "period" }]');
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("row", { name: /starter.*\$4\.00 cost per billing period/ }).waitFor();
  await page.getByRole("button", { name: "Change starter" }).click();
  await page.getByRole("dialog").getByLabel("Price in US dollars").fill("6.00");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByRole("row", { name: /starter \$6\.00 a month/ }).waitFor();
  assert.equal((await gateway.api("plans/starter")).json.price, "6.00");
  // A refusal is an answer of status 400, which browsers note.
  assert.deepEqual(page.complaints.filter((text) => !text.includes("status of 400")), []);
  await page.context().close();
});

test("the ledger is searched, paged and exported", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "ledger?account=pro-001", "Ledger");
  const { json: first } = await gateway.api("ledger?account=pro-001&limit=50");
  const costs = async () => page.getByRole("table", { name: "Entries of the ledger" }).locator("tbody data").evaluateAll((data) => data.map((one) => one.value));
  assert.deepEqual(await costs(), first.items.map((entry) => entry.cost_usd));
  const turned = page.waitForResponse((answer) => answer.url().includes("cursor="));
  await page.getByRole("button", { name: "Older" }).click();
  await turned;
  await settled(page);
  const { json: second } = await gateway.api(`ledger?account=pro-001&limit=50&cursor=${first.next}`);
  assert.deepEqual(await costs(), second.items.map((entry) => entry.cost_usd));
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "JSON lines" }).click();
  const lines = fs.readFileSync(await (await download).path(), "utf8").trim().split("\n");
  assert.ok(lines.length > 50);
  assert.ok(lines.every((line) => JSON.parse(line).account === "pro-001"));
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a viewer sees everything and is offered no change", async () => {
  const page = await open();
  await logIn(page, "the-viewers-token");
  await go(page, "plans", "Plans and keys");
  for (const name of ["New plan", "New key", "Revoke acme-app"]) {
    assert.equal(await page.getByRole("button", { name }).count(), 0, name);
  }
  const refused = await gateway.api("plans", { token: "the-viewers-token", method: "POST", body: { id: "x", price: "1" } });
  assert.equal(refused.status, 403);
  await page.context().close();
});

test("the metrics are the margins' figures", async () => {
  const { json: margin } = await gateway.api("margin");
  const page = await (await fetch(`${gateway.base}/metrics`)).text();
  const gauge = (name, plan) => Number(new RegExp(`^${name}{plan="${plan}"} (\\S+)$`, "m").exec(page)?.[1]);
  for (const row of margin.rows) {
    const cents = (name) => gauge(name, row.id).toFixed(2);
    assert.equal(cents("weir_plan_cost_usd"), Number(row.cost_usd).toFixed(2), row.id);
    assert.equal(gauge("weir_plan_loss_making_accounts", row.id), row.loss_making_accounts, row.id);
    // Revenue is recognised by the millisecond, and the gauges are some seconds older than the answer.
    const grown = Number(row.revenue_usd) - gauge("weir_plan_revenue_usd", row.id);
    assert.ok(grown >= 0 && grown <= Number(row.revenue_usd) * 1e-4, `${row.id}: ${grown}`);
    const margins = gauge("weir_plan_revenue_usd", row.id) - gauge("weir_plan_cost_usd", row.id);
    assert.equal(cents("weir_plan_margin_usd"), margins.toFixed(2), row.id);
  }
  const worst = [...page.matchAll(/^weir_account_margin_usd{account="([^"]+)"/gm)].map(([, account]) => account);
  // Those that pay and are in loss come first, then the lowest margins.
  const lowest = async (order) => (await gateway.api(`margin?by=account&order=${order}&limit=1000`)).json.rows;
  const rows = await lowest("margin");
  const paysTooLittle = (row) => Number(row.revenue_usd) > 0 && Number(row.margin_usd) < 0;
  const expected = [...rows.filter(paysTooLittle), ...rows.filter((row) => !paysTooLittle(row))].slice(0, 20);
  assert.deepEqual(worst.sort(), expected.map((row) => row.id).sort());
});

test("the live page says that nothing passes, and then what does", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "live", "Live");
  const quiet = page.getByText("No request has ended in the last two minutes.");
  await quiet.waitFor();
  const answered = await Promise.all([gateway.ask(), gateway.ask({ stream: true }), gateway.ask({ model: "gpt-4o-broken" })]);
  assert.deepEqual(answered, [200, 200, 502]);
  await quiet.waitFor({ state: "hidden" });
  const figure = (name) => page.locator(".figure", { hasText: name });
  await figure("Requests a second").getByText("33.3\u00a0% failed or refused").waitFor();
  // Two answers of 1,000 tokens in and 500 out, on gpt-4o: $0.0075 each, within the two minutes that are shown.
  const hourly = Number((await figure("Dollars an hour").locator("dd").innerText()).match(/\$([\d.]+)/)[1]);
  assert.ok(hourly > 0.2, `$${hourly} an hour`);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

/** Every ledger's line of an account is in its reports: they are read from the store, which a moment later has them. */
async function booked(account, requests) {
  for (let tries = 0; tries < 100; tries += 1) {
    const { json } = await gateway.api(`margin?by=account&id=${account}`);
    if (json.rows[0]?.requests >= requests) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.fail(`${account} has no ${requests} requests in its reports`);
}

test("a plan priced in another currency is shown in it, and is changed in dollars only where the slider is moved", async () => {
  const page = await open();
  await logIn(page);
  const asked = page.waitForRequest((one) => one.url().includes("/api/v1/whatif"));
  await go(page, "what-if?plan=abroad", "What-if");
  await page.getByText("3,000\u00a0XTS a month, unchanged").waitFor();
  await page.getByText("The plan is priced in XTS; another price is tried in US dollars.").waitFor();
  assert.ok(!(await asked).url().includes("price="), "what is not changed is not asked for");
  const dearer = page.waitForRequest((one) => decodeURIComponent(one.url()).includes("price=abroad=25"));
  await page.getByLabel("Price of the plan").fill("25");
  await page.getByText("$25.00 a month instead of 3,000\u00a0XTS").waitFor();
  await dearer;
  await go(page, "margin", "Margin");
  await page.getByLabel("Plan", { exact: true }).selectOption("abroad");
  await page.getByText("The price is 3,000\u00a0XTS a month").waitFor();
  assert.equal((await gateway.api("plans", { method: "POST", body: { id: "elsewhere", price: "500", currency: "XTS" } })).status, 201);
  await go(page, "plans", "Plans and keys");
  await page.getByRole("row", { name: /^abroad 3,000\sXTS a month/ }).waitFor();
  await page.getByRole("button", { name: "Change elsewhere" }).click();
  assert.equal(await page.getByRole("dialog").getByLabel("Price in XTS").inputValue(), "500.00");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a price that stands on no step of its slider is not changed by it", async () => {
  assert.equal((await gateway.api("plans", { method: "POST", body: { id: "odd", price: "19.99" } })).status, 201);
  const page = await open();
  await logIn(page);
  const asked = page.waitForRequest((one) => one.url().includes("/api/v1/whatif"));
  await go(page, "what-if?plan=odd", "What-if");
  await page.getByText("$19.99 a month").waitFor();
  assert.ok(!(await asked).url().includes("price="));
  await page.context().close();
});

test("requests without a price are told on every page whose figures lack their cost, and are found in the ledger", async () => {
  const key = "wr-traveller";
  const answered = await Promise.all(["gpt-4o", "gpt-4o", "gpt-4o", "gpt-unheard-of", "gpt-unheard-of"].map((model) => gateway.ask({ key, model })));
  assert.deepEqual(answered, [200, 200, 200, 200, 200]);
  await booked("traveller", 5);
  const page = await open();
  await logIn(page);
  const told = page.getByRole("note").filter({ hasText: "2 requests had no price: their cost is not in these figures. gpt-unheard-of (2)." });
  for (const [name, heading] of [["what-if", "What-if"], ["account/traveller", "traveller"], ["margin", "Margin"]]) {
    await go(page, name, heading);
    await told.waitFor();
  }
  // The plan loses, and its advice says what the reader should know of it.
  const advice = page.getByRole("region", { name: "What would mend it" });
  await advice.getByText("Some requests have no price: what they cost is not known here.").waitFor();
  await advice.getByText("The plan is priced in XTS: the advised price is in US dollars.").waitFor();
  await told.getByRole("link", { name: "gpt-unheard-of" }).click();
  await page.getByRole("heading", { level: 1, name: "Ledger" }).waitFor();
  await settled(page);
  const entries = page.getByRole("table", { name: "Entries of the ledger" }).locator("tbody tr");
  assert.deepEqual((await entries.allInnerTexts()).map((text) => /traveller.*unpriced/s.test(text)), [true, true]);
  await go(page, "account/traveller", "traveller");
  const models = page.getByRole("table", { name: "Cost by model and class" });
  assert.match(await models.getByRole("row", { name: /gpt-unheard-of/ }).innerText(), /unpriced$/);
  assert.deepEqual((await amounts(models))["gpt-unheard-of"], []);
  await go(page, "account/acme", "Acme");
  assert.equal(await page.getByRole("note").count(), 0);
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("what advice promises is the first figure of the page on which it is tried", async () => {
  const page = await open();
  await logIn(page);
  await go(page, "margin?range=30", "Margin");
  const option = page.getByRole("region", { name: "What would mend it" }).getByRole("listitem").filter({ hasText: "a price of" }).first();
  const promised = await option.locator("data").last().getAttribute("value");
  await option.getByRole("link", { name: "Try it" }).click();
  await page.getByRole("heading", { level: 1, name: "What-if" }).waitFor();
  await settled(page);
  assert.equal(await page.getByLabel("Traffic of").inputValue(), "30");
  const plan = await page.getByLabel("Plan", { exact: true }).inputValue();
  const first = page.locator(".figure").first();
  assert.equal(await first.locator("dt").innerText(), `Margin of ${plan}`);
  // Revenue is recognised by the millisecond, and the page is some seconds younger than the advice.
  const off = Number(await first.locator("dd data").first().getAttribute("value")) - promised;
  assert.ok(Math.abs(off) < 1, `$${off} off`);
  // This month may be a day old: advice is tried on 30 days, and so is what it leads to.
  await go(page, "margin", "Margin");
  await page.getByRole("link", { name: "Try it" }).first().click();
  await page.getByRole("heading", { level: 1, name: "What-if" }).waitFor();
  await settled(page);
  assert.equal(await page.getByLabel("Traffic of").inputValue(), "30");
  assert.deepEqual(page.complaints, []);
  await page.context().close();
});

test("a chart of a single day says that day once, and shows its point", async () => {
  const page = await open();
  await page.addInitScript(() => {
    globalThis.drawn = new Set();
    const draw = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function fillText(text, ...where) {
      globalThis.drawn.add(`${text} at ${Math.round(where[0])}`);
      return draw.call(this, text, ...where);
    };
  });
  await logIn(page);
  await page.evaluate(() => globalThis.drawn.clear());
  await go(page, "account/traveller", "traveller");
  await page.getByRole("region", { name: "Cost so far" }).locator("canvas").waitFor();
  const { json: usage } = await gateway.api("usage?by=day&account=traveller");
  const days = usage.items.map(({ id }) => new Date(`${id}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }));
  const labels = await page.evaluate(() => [...globalThis.drawn].map((one) => one.split(" at ")[0]).filter((one) => /^\d+ \w{3,4}$/.test(one)));
  assert.deepEqual(labels, days);
  const dots = await page.locator("figure canvas").evaluate((canvas) => {
    const [red, green, blue] = getComputedStyle(document.documentElement).getPropertyValue("--cost").trim().slice(1).match(/../g).map((one) => parseInt(one, 16));
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) found += data[at] === red && data[at + 1] === green && data[at + 2] === blue && data[at + 3] === 255;
    return found;
  });
  assert.ok(dots > 10, `${dots} points of the cost's colour`);
  await page.context().close();
});

test("of the days on which cost and revenue passed each other, the last is told", async () => {
  const page = await open();
  await logIn(page);
  const days = async (...rows) => {
    await page.unrouteAll();
    await page.route((url) => url.pathname.endsWith("/margin") && url.searchParams.get("by") === "day", async (route) => {
      const answer = await route.fetch();
      const json = await answer.json();
      json.rows = rows.map(([revenue, cost], index) => ({ ...json.total, id: `2026-03-0${index + 1}`, revenue_usd: `${revenue}`, cost_usd: `${cost}` }));
      await route.fulfill({ response: answer, json });
    });
    await page.goto(`${gateway.base}/login`);
    await go(page, "margin", "Margin");
    return page.getByRole("region", { name: "Revenue and cost over time" }).locator(".hint").innerText();
  };
  assert.equal(await days([10, 1], [10, 30], [40, 1], [10, 1]), "Revenue is above cost again since 3 Mar 2026.");
  assert.equal(await days([10, 1], [10, 30], [40, 1], [10, 90]), "Cost passed revenue on 4 Mar 2026.");
  assert.equal(await days([10, 1], [10, 1]), "Revenue stayed above cost.");
  assert.equal(await days([1, 10], [1, 10]), "Cost was above revenue from the first day.");
  await page.context().close();
});

test("an account whose payments were paid back is called refunded, not one that pays nothing", async () => {
  const post = async (route, body) => (await gateway.api(route, { method: "POST", body })).json;
  await post("accounts", { id: "paid-back", plan: "plus" });
  const { secret } = await post("keys", { account: "paid-back" });
  await post("accounts/paid-back/refunds", { amount_usd: "30.00" });
  assert.equal(await gateway.ask({ key: secret }), 200);
  await booked("paid-back", 1);
  const page = await open();
  await logIn(page);
  await go(page, "account/paid-back", "paid-back");
  assert.equal(await page.locator(".figure", { hasText: "Used up what it pays" }).locator("dd").innerText(), "refunded");
  await page.context().close();
});

test("an id as long as it may be widens no page, and a phone shows the day on which money is lost", async () => {
  const id = "a".repeat(128);
  assert.equal((await gateway.api("accounts", { method: "POST", body: { id, plan: "plus" } })).status, 201);
  const page = await open({ viewport: PHONE });
  await logIn(page);
  for (const [name, heading] of [[`account/${id}`, id], [`accounts?search=${id}`, "Accounts"], ["margin", "Margin"]]) {
    await go(page, name, heading);
    const beyond = await page.evaluate(() => {
      const places = [document.documentElement, ...document.querySelectorAll("main, main > *, .title > *")];
      return Math.max(...places.map((place) => place.scrollWidth - innerWidth));
    });
    assert.ok(beyond <= 0, `${name} is ${beyond} px wider than the window`);
  }
  for (const name of ["Margin by plan", "Accounts with the worst margin"]) {
    const box = await page.getByRole("table", { name }).getByRole("columnheader", { name: /used up/i }).boundingBox();
    assert.ok(box.x + box.width <= PHONE.width, `${name}: the day ends at ${box.x + box.width} px`);
  }
  const { json: margin } = await gateway.api("margin");
  const { date } = margin.rows.find((row) => row.id === "pro").break_even;
  const shown = date ? new Date(`${date}T00:00:00Z`).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" }) : "–";
  await page.getByRole("table", { name: "Margin by plan" }).getByRole("row", { name: /^pro/ }).getByText(shown).waitFor();
  await page.context().close();
});

const PAGES = [
  ["margin", "Margin"],
  ["accounts", "Accounts"],
  ["account/pro-001", /./],
  ["live", "Live"],
  ["what-if", "What-if"],
  ["ledger", "Ledger"],
  ["plans", "Plans and keys"],
];
/** Some seconds of requests, plain and streamed, one in ten broken off by the upstream: until the page shows a curve. */
async function traffic(page) {
  for (let round = 0; round < 12; round += 1) {
    await Promise.all([0, 1, 2].map((one) => gateway.ask({ stream: one > 0, model: (round * 3 + one) % 10 === 9 ? "gpt-4o-broken" : "gpt-4o" })));
  }
  await page.locator(".figure", { hasText: "First token" }).getByText(" ms").first().waitFor();
}

for (const [look, options] of Object.entries({
  light: {},
  dark: { colorScheme: "dark" },
  phone: { viewport: PHONE },
})) {
  test(`every page passes axe-core's rules and fits its window: ${look}`, async () => {
    const page = await open(options);
    await page.goto(`${gateway.base}/login`);
    await page.screenshot({ path: path.join(SHOTS, `login-${look}.png`) });
    assert.deepEqual(await violations(page), [], "login");
    await logIn(page);
    for (const [name, heading] of PAGES) {
      await go(page, name, heading);
      if (name === "live") await traffic(page);
      await page.screenshot({ path: path.join(SHOTS, `${name.replace("/", "-")}-${look}.png`), fullPage: true });
      assert.deepEqual(await violations(page), [], name);
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(beyond <= 0, `${name} is ${beyond} px wider than the window`);
    }
    assert.deepEqual(page.complaints, []);
    await page.context().close();
  });
}
