"""The official `openai` package for Python, unmodified, through the gateway."""

import asyncio
import json

import books
import openai
import pydantic
import pytest
from conftest import KEYS
from upstream import CHAT_USAGE, CROWD, EMBEDDING, OPENAI_ERRORS, RESPONSES_USAGE, SERVED, STRUCTURED, TEXT, TOOL

MESSAGES = [{"role": "user", "content": "Describe Weir, 漢字 and all."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Person(pydantic.BaseModel):
    name: str
    age: int


def connect(gateway, account="app", **options) -> openai.OpenAI:
    options = {"api_key": KEYS.get(account, account), "max_retries": 0, "timeout": 30} | options
    return openai.OpenAI(base_url=gateway.openai_url, **options)


@pytest.fixture(scope="module")
def client(gateway):
    with connect(gateway) as client:
        yield client


def test_plain_chat(gateway, client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, user="plain")
    assert answer.choices[0].message.content == "".join(TEXT)
    assert answer.usage.to_dict() == CHAT_USAGE
    gateway.books.expect("plain", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=False)


def test_the_request_id_header_is_the_ledgers(gateway, client):
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=MESSAGES, user="header")
    entry = gateway.books.expect("header", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=False)
    assert raw.headers["x-weir-request-id"] == entry["id"]
    assert raw.headers["x-request-id"] == "req_upstream"


def test_a_streamed_chat_without_usage_shows_no_trace_of_it(gateway, client):
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, user="stream"))
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert all("usage" not in chunk.model_fields_set for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "".join(TEXT)
    assert chunks[-1].choices[0].finish_reason == "stop"
    gateway.books.expect("stream", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=True)


def test_a_streamed_chat_that_asks_for_usage_gets_one_chunk_of_it(gateway, client):
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o",
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            user="stream-usage",
        )
    )
    assert [chunk.usage.to_dict() for chunk in chunks if chunk.usage] == [CHAT_USAGE]
    assert chunks[-1].choices == []
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])
    gateway.books.expect("stream-usage", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=True)


def test_a_tool_call(gateway, client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, tools=[WEATHER], user="tool")
    [call] = answer.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == (TOOL["name"], TOOL["arguments"])
    gateway.books.expect("tool", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=False)


def test_a_streamed_tool_call_is_put_together_by_the_sdk(gateway, client):
    with client.chat.completions.stream(model="gpt-4o", messages=MESSAGES, tools=[WEATHER], user="tool-stream") as stream:
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls
    assert call.function.parsed_arguments == TOOL["arguments"]
    assert final.usage is None
    gateway.books.expect("tool-stream", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=True)


def test_structured_output(gateway, client):
    answer = client.chat.completions.parse(model="gpt-4o", messages=MESSAGES, response_format=Person, user="parse")
    assert answer.choices[0].message.parsed == Person(**STRUCTURED)
    gateway.books.expect("parse", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=False)


def test_streamed_structured_output(gateway, client):
    with client.chat.completions.stream(
        model="gpt-4o", messages=MESSAGES, response_format=Person, user="parse-stream"
    ) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Person(**STRUCTURED)
    gateway.books.expect("parse-stream", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=True)


def test_legacy_completions(gateway, client):
    model = "gpt-3.5-turbo-instruct"
    answer = client.completions.create(model=model, prompt="Describe Weir.", user="legacy")
    assert answer.choices[0].text == "".join(TEXT)
    chunks = list(client.completions.create(model=model, prompt="Describe Weir.", stream=True, user="legacy-stream"))
    assert [chunk.choices[0].text for chunk in chunks] == TEXT
    gateway.books.expect("legacy", "completions", model, model, books.CHAT, streamed=False)
    gateway.books.expect("legacy-stream", "completions", model, model, books.CHAT, streamed=True)


def test_responses(gateway, client):
    answer = client.responses.create(model="o3-mini", input="Describe Weir.", user="responses")
    assert answer.output_text == "".join(TEXT)
    assert answer.usage.to_dict() == RESPONSES_USAGE
    gateway.books.expect("responses", "responses", "o3-mini", "o3-mini", books.RESPONSES, streamed=False)


def test_streamed_responses(gateway, client):
    events = list(client.responses.create(model="o3-mini", input="Describe Weir.", stream=True, user="responses-stream"))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "".join(TEXT)
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.to_dict() == RESPONSES_USAGE
    gateway.books.expect("responses-stream", "responses", "o3-mini", "o3-mini", books.RESPONSES, streamed=True)


def test_responses_with_structured_output_and_with_a_tool(gateway, client):
    answer = client.responses.parse(model="o3-mini", input="Who?", text_format=Person, user="responses-parse")
    assert answer.output_parsed == Person(**STRUCTURED)
    tool = {"type": "function"} | WEATHER["function"]
    with client.responses.stream(model="o3-mini", input="Weather?", tools=[tool], user="responses-tool") as stream:
        [call] = stream.get_final_response().output
    assert json.loads(call.arguments) == TOOL["arguments"]
    gateway.books.expect("responses-parse", "responses", "o3-mini", "o3-mini", books.RESPONSES, streamed=False)
    gateway.books.expect("responses-tool", "responses", "o3-mini", "o3-mini", books.RESPONSES, streamed=True)


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_embeddings(gateway, client, encoding_format):
    """Asked for nothing, the SDK asks for base64 and decodes it."""
    model, user = "text-embedding-3-small", f"embeddings-{encoding_format}"
    options = {"encoding_format": encoding_format} if encoding_format else {}
    answer = client.embeddings.create(model=model, input=["one", "two"], user=user, **options)
    if encoding_format == "base64":
        assert all(isinstance(item.embedding, str) for item in answer.data)
    else:
        assert [item.embedding for item in answer.data] == [EMBEDDING, EMBEDDING]
    gateway.books.expect(user, "embeddings", model, model, books.EMBEDDINGS, streamed=False)


def test_a_transcription_is_billed_by_the_second(gateway, client):
    answer = client.audio.transcriptions.create(model="whisper-1", file=("weir.mp3", b"sound" * 1000))
    assert answer.text == "".join(TEXT)
    entry = gateway.books.only("audio.transcriptions")
    assert (entry["model"], entry["usage"]["audio_seconds"], entry["usage_source"]) == ("whisper-1", 90, "reported")
    assert entry["cost_usd"] == "0.009"


def test_an_image_is_billed_by_its_tokens(gateway, client):
    raw = client.images.with_raw_response.generate(model="gpt-image-1", prompt="A weir.", n=2)
    assert len(raw.parse().data) == 2
    entry = gateway.books.only("images.generations")
    assert (entry["usage"]["image_input_tokens"], entry["usage"]["output_tokens"], entry["usage"]["images"]) == (40, 1056, 2)
    # 10 x $5, 40 x $10 and 1,056 x $40 a million.
    assert entry["cost_usd"] == raw.headers["x-weir-cost-usd"] == "0.04269"


def test_fifty_streams_at_once(gateway):
    """The upstream sends the rest of each stream only when all fifty are there: none may be held back."""

    async def one(client: openai.AsyncOpenAI, user: str) -> str:
        stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, user=user)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=gateway.openai_url, api_key=KEYS["app"], max_retries=0, timeout=60
        ) as client:
            return await asyncio.gather(*[one(client, f"crowd-chat-{number}") for number in range(CROWD)])

    assert asyncio.run(all_of_them()) == ["".join(TEXT)] * CROWD
    gateway.books.expect("crowd-chat-0", "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed=True)
    entries = [entry for entry in gateway.books.export() if (entry["end_user"] or "").startswith("crowd-chat-")]
    assert len(entries) == len({entry["id"] for entry in entries}) == CROWD
    assert {entry["cost_usd"] for entry in entries} == {entries[0]["cost_usd"]}


def test_models_lists_what_the_caller_may_use(client):
    listed = {model.id for model in client.models.list()}
    assert "gpt-4o-2024-08-06" in listed


@pytest.mark.parametrize(
    "status, exception",
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (413, openai.APIStatusError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_upstreams_error_raises_what_it_raises_without_a_gateway(gateway, client, status, exception, stream):
    model, user = f"gpt-fails-{status}", f"fails-{status}-{stream}"
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model=model, messages=MESSAGES, stream=stream, user=user)
    assert type(raised.value) is exception
    assert raised.value.status_code == status
    assert raised.value.body == OPENAI_ERRORS[status]
    [entry] = gateway.books.of(user)
    assert (entry["outcome"], entry["status"], entry["cost_usd"]) == ("upstream_failed", status, "0.00")


def test_an_error_within_a_stream(gateway, client):
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(client.chat.completions.create(model="gpt-breaks", messages=MESSAGES, stream=True, user="breaks"))
    [entry] = gateway.books.of("breaks")
    assert entry["outcome"] == "upstream_failed"
    assert entry["usage_source"] in ("counted", "estimated")


def test_a_wrong_key(gateway):
    with connect(gateway, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert raised.value.code == "invalid_api_key"


def test_a_model_that_no_route_knows(gateway, client):
    with pytest.raises(openai.NotFoundError) as raised:
        client.chat.completions.create(model="nobody-knows", messages=MESSAGES, user="unknown-model")
    assert raised.value.code == "model_not_found"
    [entry] = gateway.books.of("unknown-model")
    assert (entry["outcome"], entry["status"]) == ("rejected", 404)


def test_an_upstream_that_is_not_there(gateway, client):
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="gpt-gone", messages=MESSAGES, user="gone")
    assert (raised.value.status_code, raised.value.code) == (502, "upstream_unreachable")
    assert [entry["outcome"] for entry in gateway.books.of("gone")] == ["upstream_failed"]


def test_a_request_that_is_too_large(gateway, client):
    with pytest.raises(openai.APIStatusError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "x" * 1_100_000}])
    assert (raised.value.status_code, raised.value.code) == (413, "request_too_large")


def test_a_spent_budget_is_insufficient_quota_and_is_not_tried_again(gateway):
    with connect(gateway, "spent", max_retries=2) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES, user="spent")
    assert raised.value.code == "insufficient_quota"
    assert raised.value.response.headers["x-should-retry"] == "false"
    [entry] = gateway.books.of("spent")
    assert (entry["outcome"], entry["status"], entry["cost_usd"]) == ("rejected", 429, "0.00")


def test_one_request_too_many_at_once_is_rate_limit_exceeded(gateway):
    with connect(gateway, "single") as client:
        stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True, user="hold-single")
        next(stream)
        with pytest.raises(openai.RateLimitError) as raised:
            client.chat.completions.create(model="gpt-4o", messages=MESSAGES, user="single")
        stream.close()
    assert raised.value.code == "rate_limit_exceeded"
    assert float(raised.value.response.headers["retry-after"]) >= 0
    [entry] = gateway.books.of("hold-single")
    assert entry["outcome"] == "client_closed"
    assert entry["usage_source"] in ("counted", "reported")
