"""A scripted upstream: answers as OpenAI and Anthropic do, with usage that the tests know. Standard library only.

The model decides what happens: `gpt-4o` answers, `gpt-fails-429` fails with 429, `claude-fails-529` with 529. A request
with tools is answered by a tool call, one with a JSON schema by JSON. Requests whose user is `crowd-…` wait after their
first chunk until CROWD of them are there: a gateway that holds streams back never gets them to their end. One whose user
is `hold-…` gets its first chunk and no more until it hangs up.
"""

import asyncio
import base64
import contextlib
import email
import json
import struct
import threading

# The dated names that models are served under.
SERVED = {"gpt-4o": "gpt-4o-2024-08-06", "claude-sonnet-4": "claude-sonnet-4-20250514"}
OPENAI_KEY = "upstream-openai-key"
ANTHROPIC_KEY = "upstream-anthropic-key"
CROWD = 50

TEXT = ["Weir", " meters", " every", " token", ", äöü", " 漢字", " and 🦀", "."]
TOOL = {"name": "weather", "arguments": {"city": "Zürich", "days": 3}}
STRUCTURED = {"name": "Ada", "age": 36}
EMBEDDING = [0.25, -0.5, 0.125, 1.0]

# What each model reports for every request, in its own words. Totals contain their parts at OpenAI; at Anthropic the
# caches stand beside `input_tokens`.
CHAT_USAGE = {
    "prompt_tokens": 1500,
    "completion_tokens": 420,
    "total_tokens": 1920,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 128,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
RESPONSES_USAGE = {
    "input_tokens": 900,
    "input_tokens_details": {"cached_tokens": 256},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 64},
    "total_tokens": 1200,
}
EMBEDDING_USAGE = {"prompt_tokens": 37, "total_tokens": 37}
TRANSCRIPT_USAGE = {"type": "duration", "seconds": 90}
IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 1056,
    "total_tokens": 1106,
}
MESSAGES_USAGE = {
    "input_tokens": 100,
    "cache_creation_input_tokens": 700,
    "cache_read_input_tokens": 2048,
    "cache_creation": {"ephemeral_5m_input_tokens": 500, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 250,
    "service_tier": "standard",
}

OPENAI_ERRORS = {
    400: {"message": "max_tokens is too large.", "type": "invalid_request_error", "param": "max_tokens", "code": None},
    401: {"message": "Incorrect API key provided.", "type": "invalid_request_error", "param": None, "code": "invalid_api_key"},
    404: {"message": "The model does not exist.", "type": "invalid_request_error", "param": None, "code": "model_not_found"},
    413: {"message": "Request too large.", "type": "invalid_request_error", "param": None, "code": None},
    429: {"message": "Rate limit reached.", "type": "requests", "param": None, "code": "rate_limit_exceeded"},
    500: {"message": "The server had an error.", "type": "server_error", "param": None, "code": None},
}
ANTHROPIC_ERRORS = {
    400: ("invalid_request_error", "max_tokens: Field required"),
    401: ("authentication_error", "invalid x-api-key"),
    404: ("not_found_error", "model: claude-x"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "Number of requests has exceeded your limit"),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


class Upstream:
    """The upstream on a loopback port, in a thread of its own; `with` ends it."""

    def __init__(self):
        self._crowd: asyncio.Barrier | None = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server = self._run(self._start())
        self.port = self.server.sockets[0].getsockname()[1]

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_) -> None:
        self._run(self._stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _start(self) -> asyncio.Server:
        self._crowd = asyncio.Barrier(CROWD)
        return await asyncio.start_server(self._connection, "127.0.0.1", 0)

    async def _stop(self) -> None:
        self.server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                asked = form(headers, body) or json.loads(body or b"{}")
                await self._answer(Answer(reader, writer), method, path.partition("?")[0], headers, asked)
        writer.close()

    async def _answer(self, answer: "Answer", method: str, path: str, headers: dict, asked: dict) -> None:
        anthropic = path.startswith("/v1/messages")
        sent, wanted = (
            (headers.get("x-api-key"), ANTHROPIC_KEY) if anthropic else (headers.get("authorization"), f"Bearer {OPENAI_KEY}")
        )
        if sent != wanted:
            return await answer.json(401, {"error": {"message": "not the gateway's own key", "type": "wrong_key"}})
        status = failure(asked.get("model", ""))
        if status:
            error = (
                {"type": "error", "error": dict(zip(("type", "message"), ANTHROPIC_ERRORS[status])), "request_id": "req_upstream"}
                if anthropic
                else {"error": OPENAI_ERRORS[status]}
            )
            return await answer.json(status, error)
        handlers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completions,
            "/v1/responses": self._responses,
            "/v1/embeddings": self._embeddings,
            "/v1/audio/transcriptions": self._transcription,
            "/v1/images/generations": self._images,
            "/v1/messages": self._messages,
            "/v1/messages/count_tokens": self._count_tokens,
        }
        if method != "POST" or path not in handlers:
            return await answer.json(404, {"error": {"message": f"no {method} {path}", "type": "invalid_request_error"}})
        return await handlers[path](answer, asked)

    async def _pause(self, answer: "Answer", user: str | None) -> None:
        """After the first chunk of a stream."""
        if user and user.startswith("crowd-"):
            await self._crowd.wait()
        if user and user.startswith("hold-"):
            await answer.reader.readexactly(1)

    async def _chat(self, answer: "Answer", asked: dict) -> None:
        content, calls = chat_content(asked)
        base = {"id": "chatcmpl-scripted", "created": 1750000000, "model": served(asked), "system_fingerprint": "fp_scripted"}
        finish = "tool_calls" if calls else "stop"
        if not asked.get("stream"):
            message = {"role": "assistant", "content": content, "refusal": None}
            if calls:
                message["tool_calls"] = calls
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
            whole = base | {"object": "chat.completion", "choices": [choice], "usage": CHAT_USAGE, "service_tier": "default"}
            return await answer.json(200, whole)

        base["object"] = "chat.completion.chunk"
        base["service_tier"] = "default"
        usage_wanted = (asked.get("stream_options") or {}).get("include_usage", False)
        if usage_wanted:
            base["usage"] = None

        def chunk(delta: dict, finish_reason=None) -> dict:
            return base | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

        await answer.stream_head()
        await answer.event(chunk({"role": "assistant", "content": "" if content else None, "refusal": None}))
        await self._pause(answer, asked.get("user"))
        for call in calls or []:
            opening = call | {"index": 0, "function": {"name": call["function"]["name"], "arguments": ""}}
            await answer.event(chunk({"tool_calls": [opening]}))
            for piece in pieces(call["function"]["arguments"]):
                await answer.event(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}))
        for piece in pieces(content) if content else []:
            await answer.event(chunk({"content": piece}))
        if asked["model"] == "gpt-breaks":
            await answer.event({"error": {"message": "The server had an error.", "type": "server_error", "code": None}})
            return await answer.end()
        await answer.event(chunk({}, finish))
        if usage_wanted:
            await answer.event(base | {"choices": [], "usage": CHAT_USAGE})
        await answer.raw(b"data: [DONE]\n\n")
        await answer.end()

    async def _completions(self, answer: "Answer", asked: dict) -> None:
        base = {"id": "cmpl-scripted", "object": "text_completion", "created": 1750000000, "model": served(asked)}
        if not asked.get("stream"):
            choice = {"text": "".join(TEXT), "index": 0, "logprobs": None, "finish_reason": "stop"}
            return await answer.json(200, base | {"choices": [choice], "usage": CHAT_USAGE})
        await answer.stream_head()
        for piece in TEXT:
            await answer.event(base | {"choices": [{"text": piece, "index": 0, "logprobs": None, "finish_reason": None}]})
        if (asked.get("stream_options") or {}).get("include_usage"):
            await answer.event(base | {"choices": [], "usage": CHAT_USAGE})
        await answer.raw(b"data: [DONE]\n\n")
        await answer.end()

    async def _responses(self, answer: "Answer", asked: dict) -> None:
        text = json.dumps(STRUCTURED) if asked.get("text", {}).get("format", {}).get("type") == "json_schema" else "".join(TEXT)
        content = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        if asked.get("tools"):
            item = {
                "id": "fc_1",
                "type": "function_call",
                "status": "completed",
                "call_id": "call_1",
                "name": TOOL["name"],
                "arguments": json.dumps(TOOL["arguments"]),
            }
        else:
            item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [content]}
        base = {
            "id": "resp_scripted",
            "object": "response",
            "created_at": 1750000000,
            "model": served(asked),
            "service_tier": "default",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": asked.get("tools", []),
            "top_p": 1.0,
        }
        whole = base | {"status": "completed", "output": [item], "usage": RESPONSES_USAGE}
        if not asked.get("stream"):
            return await answer.json(200, whole)

        number = iter(range(1000))

        async def event(kind: str, **members) -> None:
            await answer.event({"type": kind, "sequence_number": next(number)} | members, name=kind)

        begun = base | {"status": "in_progress", "output": [], "usage": None}
        await answer.stream_head()
        await event("response.created", response=begun)
        await event("response.in_progress", response=begun)
        await self._pause(answer, asked.get("user"))
        if item["type"] == "function_call":
            where = {"item_id": item["id"], "output_index": 0}
            await event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "arguments": ""})
            for piece in pieces(item["arguments"]):
                await event("response.function_call_arguments.delta", delta=piece, **where)
            await event("response.function_call_arguments.done", arguments=item["arguments"], name=item["name"], **where)
        else:
            where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
            await event("response.output_item.added", output_index=0, item=item | {"status": "in_progress", "content": []})
            await event("response.content_part.added", part=content | {"text": ""}, **where)
            for piece in pieces(text):
                await event("response.output_text.delta", delta=piece, logprobs=[], **where)
            await event("response.output_text.done", text=text, logprobs=[], **where)
            await event("response.content_part.done", part=content, **where)
        await event("response.output_item.done", output_index=0, item=item)
        await event("response.completed", response=whole)
        await answer.end()

    async def _embeddings(self, answer: "Answer", asked: dict) -> None:
        inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        vector = EMBEDDING
        if asked.get("encoding_format") == "base64":
            vector = base64.b64encode(struct.pack(f"<{len(EMBEDDING)}f", *EMBEDDING)).decode()
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, _ in enumerate(inputs)]
        await answer.json(200, {"object": "list", "data": data, "model": served(asked), "usage": EMBEDDING_USAGE})

    async def _transcription(self, answer: "Answer", asked: dict) -> None:
        await answer.json(200, {"text": "".join(TEXT), "usage": TRANSCRIPT_USAGE})

    async def _images(self, answer: "Answer", asked: dict) -> None:
        data = [{"b64_json": "aGk="}] * asked.get("n", 1)
        await answer.json(200, {"created": 1750000000, "data": data, "usage": IMAGE_USAGE})

    async def _messages(self, answer: "Answer", asked: dict) -> None:
        if asked.get("tools"):
            block = {"type": "tool_use", "id": "toolu_1", "name": TOOL["name"], "input": TOOL["arguments"]}
            opening, stop = block | {"input": {}}, "tool_use"
            deltas = [
                {"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(json.dumps(TOOL["arguments"]))]
            ]
        else:
            text = json.dumps(STRUCTURED) if asked.get("output_config") or asked.get("output_format") else "".join(TEXT)
            block = {"type": "text", "text": text}
            opening, stop = {"type": "text", "text": ""}, "end_turn"
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(text)]
        message = {"id": "msg_scripted", "type": "message", "role": "assistant", "model": served(asked), "stop_sequence": None}
        if not asked.get("stream"):
            return await answer.json(200, message | {"content": [block], "stop_reason": stop, "usage": MESSAGES_USAGE})

        async def event(kind: str, **members) -> None:
            await answer.event({"type": kind} | members, name=kind)

        seed = MESSAGES_USAGE | {"output_tokens": 1}
        await answer.stream_head()
        await event("message_start", message=message | {"content": [], "stop_reason": None, "usage": seed})
        await self._pause(answer, (asked.get("metadata") or {}).get("user_id"))
        await event("content_block_start", index=0, content_block=opening)
        await event("ping")
        for delta in deltas:
            await event("content_block_delta", index=0, delta=delta)
        await event("content_block_stop", index=0)
        final = {"output_tokens": MESSAGES_USAGE["output_tokens"]}
        await event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=final)
        await event("message_stop")
        await answer.end()

    async def _count_tokens(self, answer: "Answer", asked: dict) -> None:
        await answer.json(200, {"input_tokens": 42})


def form(headers: dict, body: bytes) -> dict | None:
    """The fields of a form with parts; files by their length."""
    message = email.message_from_bytes(b"content-type: " + headers.get("content-type", "").encode() + b"\r\n\r\n" + body)
    if not message.is_multipart():
        return None
    fields = {}
    for part in message.get_payload():
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        fields[name] = len(content) if part.get_filename() else content.decode()
    return fields


class Answer:
    """One HTTP/1.1 answer on a connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader = reader
        self.writer = writer

    async def json(self, status: int, value: dict) -> None:
        body = json.dumps(value, ensure_ascii=False).encode()
        await self.raw_head(status, f"content-type: application/json\r\ncontent-length: {len(body)}")
        self.writer.write(body)
        await self.writer.drain()

    async def stream_head(self) -> None:
        await self.raw_head(200, "content-type: text/event-stream\r\ntransfer-encoding: chunked")

    async def raw_head(self, status: int, headers: str) -> None:
        self.writer.write(f"HTTP/1.1 {status} Scripted\r\nx-request-id: req_upstream\r\n{headers}\r\n\r\n".encode())
        await self.writer.drain()

    async def event(self, value: dict, name: str | None = None) -> None:
        prefix = f"event: {name}\n" if name else ""
        await self.raw(f"{prefix}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode())

    async def raw(self, piece: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


def failure(model: str) -> int | None:
    _, fails, status = model.partition("-fails-")
    return int(status) if fails else None


def served(asked: dict) -> str:
    """The dated name that providers answer with."""
    return SERVED.get(asked["model"], asked["model"])


def chat_content(asked: dict) -> tuple[str | None, list | None]:
    if asked.get("tools"):
        function = {"name": TOOL["name"], "arguments": json.dumps(TOOL["arguments"])}
        return None, [{"id": "call_1", "type": "function", "function": function}]
    if (asked.get("response_format") or {}).get("type") == "json_schema":
        return json.dumps(STRUCTURED), None
    return "".join(TEXT), None


def pieces(text: str) -> list[str]:
    """The text in pieces of five characters, as a model would send it."""
    return [text[start : start + 5] for start in range(0, len(text), 5)]
