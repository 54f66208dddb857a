"""The official `openai` package for Node: openai.test.cjs drives it, the ledger is checked here."""

import os
import pathlib
import subprocess

import books
import pytest
from processes import REPOSITORY
from upstream import SERVED


@pytest.fixture(scope="module")
def driven(gateway):
    environment = {
        "WEIR_BASE_URL": gateway.openai_url,
        "NODE_PATH": str(REPOSITORY / "target/tests/node/node_modules"),
    }
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", str(pathlib.Path(__file__).with_name("openai.test.cjs"))],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return gateway.books


@pytest.mark.parametrize(
    "user, streamed",
    [
        ("node-plain", False),
        ("node-stream", True),
        ("node-usage", True),
        ("node-tool", False),
        ("node-tool-stream", True),
        ("node-parse", False),
        ("crowd-node-0", True),
        ("crowd-node-49", True),
    ],
)
def test_chat(driven, user, streamed):
    driven.expect(user, "chat.completions", "gpt-4o", SERVED["gpt-4o"], books.CHAT, streamed)


@pytest.mark.parametrize("user, streamed", [("node-responses", False), ("node-responses-stream", True)])
def test_responses(driven, user, streamed):
    driven.expect(user, "responses", "o3-mini", "o3-mini", books.RESPONSES, streamed)


@pytest.mark.parametrize("user", ["node-embeddings-float", "node-embeddings-undefined"])
def test_embeddings(driven, user):
    driven.expect(user, "embeddings", "text-embedding-3-small", "text-embedding-3-small", books.EMBEDDINGS, False)


def test_a_spent_budget_is_not_tried_again(driven):
    [entry] = driven.of("node-spent")
    assert (entry["outcome"], entry["status"]) == ("rejected", 429)
