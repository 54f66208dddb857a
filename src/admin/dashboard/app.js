// The frame of all pages: who is logged in, which page is shown.

import { remove, session } from "./api.js";
import { fill } from "./dom.js";
import * as account from "./pages/account.js";
import * as accounts from "./pages/accounts.js";
import * as ledger from "./pages/ledger.js";
import * as live from "./pages/live.js";
import * as margin from "./pages/margin.js";
import * as plans from "./pages/plans.js";
import * as whatif from "./pages/whatif.js";

const PAGES = { margin, accounts, account, live, "what-if": whatif, ledger, plans };
const content = document.getElementById("content");
let leave = null;

/** `#/ledger?account=acme` or `#/account/acme`: a page's name, what it is about, and its query. */
function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...subject] = path.split("/");
  return {
    name: name in PAGES ? name : "margin",
    subject: decodeURIComponent(subject.join("/")),
    query: Object.fromEntries(new URLSearchParams(query)),
  };
}

async function show(who, first = false) {
  leave?.abort();
  leave = new AbortController();
  const { name, subject, query } = place();
  const page = PAGES[name];
  document.title = `${page.title} · Weir`;
  const nav = name === "account" ? "accounts" : name;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${nav}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (!first) {
    content.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  const { signal } = leave;
  await fill(content, () => page.show({ subject, query, who, signal }));
}

const who = await session();
document.getElementById("role").textContent = who.role;
document.getElementById("logout").addEventListener("click", async () => {
  await remove("session");
  location.replace("/login");
});
addEventListener("hashchange", () => show(who));
await show(who, true);
