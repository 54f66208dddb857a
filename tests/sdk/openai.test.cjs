// The official `openai` package for Node, unmodified, through the gateway. test_node.py starts it, and checks the ledger.
"use strict";

const assert = require("node:assert/strict");
const { test } = require("node:test");
const OpenAI = require("openai");

const text = "Weir meters every token, äöü 漢字 and 🦀.";
const messages = [{ role: "user", content: "Describe Weir, 漢字 and all." }];
const schema = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" } },
  required: ["name", "age"],
  additionalProperties: false,
};
const tool = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

const connect = (key, options = {}) =>
  new OpenAI({ baseURL: process.env.WEIR_BASE_URL, apiKey: key, maxRetries: 0, timeout: 30_000, ...options });
const client = connect("sk-weir-app");
const create = (asked) => client.chat.completions.create({ model: "gpt-4o", messages, ...asked });

const collect = async (stream) => {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
};
const joined = (chunks) => chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

test("a plain chat", async () => {
  const answer = await create({ user: "node-plain" });
  assert.equal(answer.choices[0].message.content, text);
  assert.equal(answer.usage.total_tokens, 1920);
});

test("a streamed chat without usage shows no trace of it", async () => {
  const chunks = await collect(await create({ stream: true, user: "node-stream" }));
  assert.equal(joined(chunks), text);
  assert.ok(chunks.every((chunk) => chunk.choices.length === 1 && !("usage" in chunk)));
});

test("a streamed chat that asks for usage gets one chunk of it", async () => {
  const chunks = await collect(
    await create({ stream: true, stream_options: { include_usage: true }, user: "node-usage" }),
  );
  assert.deepEqual(
    chunks.filter((chunk) => chunk.usage).map((chunk) => chunk.usage.total_tokens),
    [1920],
  );
  assert.deepEqual(chunks.at(-1).choices, []);
});

test("tools, plain and put together from a stream", async () => {
  const answer = await create({ tools: [tool], user: "node-tool" });
  assert.deepEqual(JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), { city: "Zürich", days: 3 });
  const stream = client.chat.completions.stream({ model: "gpt-4o", messages, tools: [tool], user: "node-tool-stream" });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.tool_calls[0].function.name, "weather");
});

test("structured output", async () => {
  const response_format = { type: "json_schema", json_schema: { name: "person", strict: true, schema } };
  const answer = await client.chat.completions.parse({ model: "gpt-4o", messages, response_format, user: "node-parse" });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { name: "Ada", age: 36 });
});

test("responses, plain and streamed", async () => {
  const asked = { model: "o3-mini", input: "Describe Weir." };
  assert.equal((await client.responses.create({ ...asked, user: "node-responses" })).output_text, text);
  const events = await collect(await client.responses.create({ ...asked, stream: true, user: "node-responses-stream" }));
  assert.equal(events.at(-1).type, "response.completed");
  assert.equal(events.at(-1).response.usage.output_tokens, 300);
});

test("embeddings as numbers and as base64", async () => {
  const asked = { model: "text-embedding-3-small", input: ["one", "two"] };
  for (const encoding_format of ["float", undefined]) {
    const answer = await client.embeddings.create({ ...asked, encoding_format, user: `node-embeddings-${encoding_format}` });
    assert.deepEqual(Array.from(answer.data[1].embedding), [0.25, -0.5, 0.125, 1]);
  }
});

test("fifty streams at once", async () => {
  const one = async (number) => joined(await collect(await create({ stream: true, user: `crowd-node-${number}` })));
  const texts = await Promise.all(Array.from({ length: 50 }, (_, number) => one(number)));
  assert.deepEqual(new Set(texts), new Set([text]));
});

test("each error raises its own class", async () => {
  const classes = {
    400: OpenAI.BadRequestError,
    401: OpenAI.AuthenticationError,
    404: OpenAI.NotFoundError,
    413: OpenAI.APIError,
    429: OpenAI.RateLimitError,
    500: OpenAI.InternalServerError,
  };
  for (const [status, expected] of Object.entries(classes)) {
    await assert.rejects(create({ model: `gpt-fails-${status}` }), (error) => {
      assert.ok(error instanceof expected, `${status} raised ${error.constructor.name}`);
      assert.equal(error.status, Number(status));
      return true;
    });
  }
});

test("the gateway's own refusals have their class and code", async () => {
  const refusals = [
    [connect("sk-wrong"), {}, OpenAI.AuthenticationError, "invalid_api_key"],
    [client, { model: "nobody-knows" }, OpenAI.NotFoundError, "model_not_found"],
    [connect("sk-weir-spent", { maxRetries: 2 }), { user: "node-spent" }, OpenAI.RateLimitError, "insufficient_quota"],
  ];
  for (const [client, asked, expected, code] of refusals) {
    await assert.rejects(client.chat.completions.create({ model: "gpt-4o", messages, ...asked }), (error) => {
      assert.ok(error instanceof expected, `${code} raised ${error.constructor.name}`);
      assert.equal(error.code, code);
      return true;
    });
  }
});
