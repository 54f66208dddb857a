"""What the ledger must say of a request: the usage that the upstream reported, and its cost computed by another method."""

import json
import subprocess
from decimal import Decimal

from processes import wait_until, weir
from upstream import SERVED

# US dollars for 1,000,000 tokens, as the tests' price table has them.
PRICES = {
    "gpt-4o-2024-08-06": {"input": "2.50", "cache_read_input": "1.25", "output": "10.00"},
    "gpt-3.5-turbo-instruct": {"input": "1.50", "output": "2.00"},
    "o3-mini": {"input": "1.10", "cache_read_input": "0.55", "output": "4.40"},
    "text-embedding-3-small": {"input": "0.02"},
    "whisper-1": {"second": "0.0001"},
    "gpt-image-1": {"input": "5.00", "image_input": "10.00", "output": "40.00"},
    "claude-sonnet-4-20250514": {
        "input": "3.00",
        "cache_read_input": "0.30",
        "cache_write_input": "3.75",
        "cache_write_1h_input": "6.00",
        "output": "15.00",
    },
}

# The upstream's usage in Weir's words: totals contain their parts.
CHAT = {"input_tokens": 1500, "cache_read_input_tokens": 1024, "output_tokens": 420, "reasoning_output_tokens": 128}
RESPONSES = {"input_tokens": 900, "cache_read_input_tokens": 256, "output_tokens": 300, "reasoning_output_tokens": 64}
EMBEDDINGS = {"input_tokens": 37, "output_tokens": 0}
MESSAGES = {
    "input_tokens": 100 + 700 + 2048,
    "cache_read_input_tokens": 2048,
    "cache_write_input_tokens": 700,
    "cache_write_1h_input_tokens": 200,
    "output_tokens": 250,
}


def prices_toml() -> str:
    """The price table, in which a model has the price of the one that serves it."""
    table = PRICES | {model: PRICES[served] for model, served in SERVED.items()}
    return "".join(
        f'[[models]]\nmodel = "{model}"\n[[models.prices]]\nfrom = 2024-01-01\nsource = "test"\n'
        + "".join(f'{name} = "{price}"\n' for name, price in rates.items())
        for model, rates in table.items()
    )


def cost(model: str, usage: dict) -> Decimal:
    """Dollars, exactly, in decimal arithmetic."""
    rates = {name: Decimal(price) for name, price in PRICES[model].items()}
    read, written = usage.get("cache_read_input_tokens", 0), usage.get("cache_write_input_tokens", 0)
    written_1h = usage.get("cache_write_1h_input_tokens", 0)
    input_rate = rates["input"]
    return (
        (usage["input_tokens"] - read - written) * input_rate
        + read * rates.get("cache_read_input", input_rate)
        + (written - written_1h) * rates.get("cache_write_input", input_rate)
        + written_1h * rates.get("cache_write_1h_input", input_rate)
        + usage["output_tokens"] * rates.get("output", Decimal(0))
    ) / 1_000_000


class Books:
    """The ledger of a running gateway, read as a user would: with `weir ledger export`."""

    def __init__(self, config: str):
        self.config = config

    def export(self) -> list[dict]:
        done = subprocess.run(
            [weir(), "ledger", "export", "-c", self.config, "--format", "jsonl"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def of(self, user: str, count: int = 1) -> list[dict]:
        """The entries of one end user, once there are that many."""

        def entries():
            found = [entry for entry in self.export() if entry["end_user"] == user]
            return found if len(found) >= count else None

        found = wait_until(entries, 10, f"{count} ledger entries of {user}")
        assert len(found) == count
        return found

    def only(self, endpoint: str) -> dict:
        """The one entry of an endpoint."""

        def entries():
            return [entry for entry in self.export() if entry["endpoint"] == endpoint]

        [entry] = wait_until(entries, 10, f"a ledger entry of {endpoint}")
        return entry

    def expect(self, user: str, endpoint: str, model: str, served_model: str, usage: dict, streamed: bool) -> dict:
        """The one entry of this user is a completed request with exactly this usage and its exact cost."""
        [entry] = self.of(user)
        facts = {
            "endpoint": endpoint,
            "model": model,
            "served_model": served_model,
            "status": 200,
            "outcome": "completed",
            "usage_source": "reported",
            "streamed": streamed,
        }
        assert {name: entry[name] for name in facts} == facts
        assert {name: count for name, count in entry["usage"].items() if count} == {
            name: count for name, count in usage.items() if count
        }
        assert isinstance(entry["cost_usd"], str)
        assert Decimal(entry["cost_usd"]) == cost(served_model, usage)
        assert entry["priced_by"]
        return entry
