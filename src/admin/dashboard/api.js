// Calls of the admin API, in the session's name.

let csrf = null;

/** What the API answered when it did not do what was asked. */
export class Refused extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.where = error.where;
  }
}

/** Who is logged in; nobody is sent to the login page. */
export async function session() {
  const who = await get("session");
  csrf = who.csrf;
  return who;
}

export async function get(path, query = {}) {
  return call("GET", path + search(query));
}

export async function post(path, body) {
  return call("POST", path, body);
}

export async function put(path, body) {
  return call("PUT", path, body);
}

export async function patch(path, body) {
  return call("PATCH", path, body);
}

export async function remove(path) {
  return call("DELETE", path);
}

/** Every item of a list of at most so many pages. */
export async function all(path, query = {}, pages = 20) {
  const items = [];
  let cursor;
  for (let page = 0; page < pages; page += 1) {
    const list = await get(path, { ...query, limit: 1000, cursor });
    items.push(...list.items);
    cursor = list.next;
    if (!cursor) break;
  }
  return items;
}

/** A query string of what is given; lists give their name several times. */
export function search(query) {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") params.append(name, one);
    }
  }
  const text = params.toString();
  return text ? `?${text}` : "";
}

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (csrf && method !== "GET") headers["x-weir-csrf"] = csrf;
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, { message: "the gateway does not answer" });
  }
  if (answer.status === 401) {
    location.replace("/login" + location.hash);
    return new Promise(() => {});
  }
  if (answer.status === 204) return null;
  const json = await answer.json();
  if (!answer.ok) throw new Refused(answer.status, json.error);
  return json;
}
