"""The official `anthropic` package for Python, unmodified, through the gateway."""

import asyncio

import anthropic
import books
import pydantic
import pytest
from conftest import KEYS
from upstream import ANTHROPIC_ERRORS, CROWD, MESSAGES_USAGE, SERVED, STRUCTURED, TEXT, TOOL

MODEL = "claude-sonnet-4"
ASKED = {"model": MODEL, "max_tokens": 1000, "messages": [{"role": "user", "content": "Describe Weir, 漢字 and all."}]}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}


class Person(pydantic.BaseModel):
    name: str
    age: int


def connect(gateway, account="app", **options) -> anthropic.Anthropic:
    options = {"api_key": KEYS.get(account, account), "max_retries": 0, "timeout": 30} | options
    return anthropic.Anthropic(base_url=gateway.anthropic_url, **options)


@pytest.fixture(scope="module")
def client(gateway):
    with connect(gateway) as client:
        yield client


def expect(gateway, user: str, streamed: bool) -> None:
    gateway.books.expect(user, "messages", MODEL, SERVED[MODEL], books.MESSAGES, streamed)


def asked(user: str) -> dict:
    return ASKED | {"metadata": {"user_id": user}}


def test_a_plain_message(gateway, client):
    answer = client.messages.create(**asked("claude-plain"))
    assert answer.content[0].text == "".join(TEXT)
    assert answer.usage.to_dict() == MESSAGES_USAGE
    expect(gateway, "claude-plain", streamed=False)


def test_a_streamed_message(gateway, client):
    with client.messages.stream(**asked("claude-stream")) as stream:
        assert "".join(stream.text_stream) == "".join(TEXT)
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == MESSAGES_USAGE["output_tokens"]
    assert final.usage.cache_read_input_tokens == MESSAGES_USAGE["cache_read_input_tokens"]
    expect(gateway, "claude-stream", streamed=True)


def test_raw_events_come_in_their_order(gateway, client):
    kinds = [event.type for event in client.messages.create(**asked("claude-events"), stream=True)]
    assert (kinds[0], kinds[1], kinds[-2], kinds[-1]) == (
        "message_start",
        "content_block_start",
        "message_delta",
        "message_stop",
    )
    expect(gateway, "claude-events", streamed=True)


def test_tools_plain_and_streamed(gateway, client):
    answer = client.messages.create(**asked("claude-tool"), tools=[WEATHER])
    assert (answer.content[0].name, answer.content[0].input) == (TOOL["name"], TOOL["arguments"])
    with client.messages.stream(**asked("claude-tool-stream"), tools=[WEATHER]) as stream:
        [block] = stream.get_final_message().content
    assert block.input == TOOL["arguments"]
    expect(gateway, "claude-tool", streamed=False)
    expect(gateway, "claude-tool-stream", streamed=True)


def test_structured_output(gateway, client):
    answer = client.messages.parse(**asked("claude-parse"), output_format=Person)
    assert answer.parsed_output == Person(**STRUCTURED)
    expect(gateway, "claude-parse", streamed=False)


def test_counting_tokens_costs_nothing(gateway, client):
    counted = client.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    assert counted.input_tokens == 42
    entries = [entry for entry in gateway.books.export() if entry["endpoint"] == "messages.count_tokens"]
    assert {entry["cost_usd"] for entry in entries} <= {"0.00"}


def test_a_key_as_x_api_key(gateway):
    """As the package sent it until its second version; now it comes as a bearer."""
    headers = {"x-api-key": KEYS["app"], "authorization": anthropic.Omit()}
    with connect(gateway, default_headers=headers) as client:
        client.messages.create(**asked("claude-x-api-key"))
    expect(gateway, "claude-x-api-key", streamed=False)


def test_fifty_streams_at_once(gateway):
    """The upstream sends the rest of each stream only when all fifty are there: none may be held back."""

    async def one(client: anthropic.AsyncAnthropic, user: str) -> str:
        async with client.messages.stream(**asked(user)) as stream:
            return await stream.get_final_text()

    async def all_of_them() -> list[str]:
        async with anthropic.AsyncAnthropic(
            base_url=gateway.anthropic_url, api_key=KEYS["app"], max_retries=0, timeout=60
        ) as client:
            return await asyncio.gather(*[one(client, f"crowd-claude-{number}") for number in range(CROWD)])

    assert asyncio.run(all_of_them()) == ["".join(TEXT)] * CROWD
    for number in (0, CROWD - 1):
        expect(gateway, f"crowd-claude-{number}", streamed=True)


@pytest.mark.parametrize(
    "status, exception",
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (404, anthropic.NotFoundError),
        (413, anthropic.ContentTooLargeError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.OverloadedError),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_an_upstreams_error_raises_what_it_raises_without_a_gateway(gateway, client, status, exception, stream):
    user = f"claude-fails-{status}-{stream}"
    with pytest.raises(exception) as raised:
        client.messages.create(**asked(user) | {"model": f"claude-fails-{status}"}, stream=stream)
    assert raised.value.status_code == status
    assert raised.value.body["error"] == dict(zip(("type", "message"), ANTHROPIC_ERRORS[status]))
    [entry] = gateway.books.of(user)
    assert (entry["outcome"], entry["status"], entry["cost_usd"]) == ("upstream_failed", status, "0.00")


def test_a_wrong_key(gateway):
    with connect(gateway, "sk-wrong") as client, pytest.raises(anthropic.AuthenticationError) as raised:
        client.messages.create(**ASKED)
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] == "authentication_error"
    assert raised.value.body["error"]["code"] == "invalid_api_key"


def test_a_model_that_no_route_knows(gateway, client):
    with pytest.raises(anthropic.NotFoundError) as raised:
        client.messages.create(**ASKED | {"model": "nobody-knows"})
    assert raised.value.body["error"]["type"] == "not_found_error"
    assert raised.value.body["error"]["code"] == "model_not_found"


def test_a_spent_budget_is_a_rate_limit_error_and_is_not_tried_again(gateway):
    with connect(gateway, "spent", max_retries=2) as client, pytest.raises(anthropic.RateLimitError) as raised:
        client.messages.create(**asked("claude-spent"))
    assert raised.value.body["error"]["type"] == "rate_limit_error"
    assert raised.value.body["error"]["code"] == "insufficient_quota"
    [entry] = gateway.books.of("claude-spent")
    assert (entry["outcome"], entry["status"]) == ("rejected", 429)
