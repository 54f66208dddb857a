"""One gateway and one scripted upstream for all SDK tests."""

import pytest
from books import Books, prices_toml
from processes import Program, free_port, weir
from upstream import ANTHROPIC_KEY, OPENAI_KEY, Upstream

KEYS = {"app": "sk-weir-app", "spent": "sk-weir-spent", "single": "sk-weir-single"}

CONFIG = """
[server]
listen = "127.0.0.1:{port}"
max_request_bytes = "1MiB"

[admin]
listen = "127.0.0.1:{admin_port}"
token = "admin-token"

[store]
url = "sqlite:{folder}/weir.db"

[[upstreams]]
id = "openai"
base_url = "http://127.0.0.1:{upstream_port}/v1"
api_key = "{openai_key}"

[[upstreams]]
id = "anthropic"
base_url = "http://127.0.0.1:{upstream_port}/v1"
dialect = "anthropic"
api_key = "{anthropic_key}"

[[upstreams]]
id = "gone"
base_url = "http://127.0.0.1:{closed_port}/v1"

[[routes]]
models = ["gpt-gone"]
upstreams = ["gone"]

[[routes]]
models = ["gpt-*", "o3-mini", "text-embedding-*", "whisper-1"]
upstreams = ["openai"]

[[routes]]
models = ["claude-*"]
upstreams = ["anthropic"]

[prices]
files = ["prices.toml"]

[[plans]]
id = "pro"
price = "200.00"
period = "month"

[[plans]]
id = "spent"
price = "0.00"
period = "month"
[[plans.limits]]
on = "cost"
max = "0.000001"
per = "month"

[[plans]]
id = "single"
price = "0.00"
period = "month"
[[plans.limits]]
on = "concurrent"
max = 1

[[accounts]]
id = "app"
plan = "pro"
since = 2025-01-01
keys = [{{ id = "app-key", secret = "sk-weir-app" }}]

[[accounts]]
id = "spent"
plan = "spent"
since = 2025-01-01
keys = [{{ id = "spent-key", secret = "sk-weir-spent" }}]

[[accounts]]
id = "single"
plan = "single"
since = 2025-01-01
keys = [{{ id = "single-key", secret = "sk-weir-single" }}]
"""


class Gateway:
    def __init__(self, port: int, books: Books):
        self.anthropic_url = f"http://127.0.0.1:{port}"
        self.openai_url = f"{self.anthropic_url}/v1"
        self.books = books


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    port, admin_port = free_port(), free_port()
    with Upstream() as upstream:
        config = folder / "weir.toml"
        config.write_text(
            CONFIG.format(
                port=port,
                admin_port=admin_port,
                folder=folder,
                upstream_port=upstream.port,
                closed_port=free_port(),
                openai_key=OPENAI_KEY,
                anthropic_key=ANTHROPIC_KEY,
            )
        )
        (folder / "prices.toml").write_text(prices_toml())
        with Program([weir(), "serve", "-c", str(config)], folder, f"http://127.0.0.1:{admin_port}/readyz"):
            yield Gateway(port, Books(str(config)))
