#!/usr/bin/env python3
"""Weir beside nginx `proxy_pass` on the same cores, in one run: prints a table of ratios with pass or fail.

    python3 tests/bench/gateway.py           the whole of it, medians of 5
    python3 tests/bench/gateway.py --quick   one short round, to see that it works

Builds the release binary and the load generator, installs nginx where it is missing (through tests/setup), keeps to
loopback and ends everything that it started. The proxies run on core 0, load and upstream on core 1. What each figure
means stands in README.md beside this file. Standard library only.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
KEY = "sk-weir-bench"
MEGABYTE = 1_000_000


@dataclasses.dataclass
class Scale:
    """How much is measured: the full run and the quick one differ in nothing else."""

    rounds: int
    seconds: float
    spaced_chunks: int
    burst_streams: int
    slow_streams: int
    large_requests: int


FULL = Scale(rounds=5, seconds=4, spaced_chunks=64, burst_streams=40, slow_streams=10_000, large_requests=20)
QUICK = Scale(rounds=1, seconds=2, spaced_chunks=16, burst_streams=10, slow_streams=1_000, large_requests=5)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true", help="one short round")
    arguments.add_argument("--weir", type=pathlib.Path, help="measure this binary instead of building one")
    arguments.add_argument("--load", type=pathlib.Path, help="use this load generator instead of building one")
    arguments.add_argument("--json", type=pathlib.Path, help="write every figure of every round to this file")
    asked = arguments.parse_args()

    weir, load = (path and path.resolve() for path in (asked.weir, asked.load))
    if weir is None or load is None:
        build = ["cargo", "build", "--release", "--locked", "--bin", "weir", "--example", "load"]
        subprocess.run(build, cwd=REPOSITORY, check=True, timeout=3600)
        weir = weir or REPOSITORY / "target/release/weir"
        load = load or REPOSITORY / "target/release/examples/load"
    if shutil.which("nginx") is None:
        subprocess.run([REPOSITORY / "tests/setup"], check=True, timeout=900)

    scale = QUICK if asked.quick else FULL
    # A slow stream holds two descriptors of the proxy's and two of the load generator's.
    scale = dataclasses.replace(scale, slow_streams=min(scale.slow_streams, (raise_file_limit() - 400) // 2))
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-")))
        generator = stack.enter_context(Load(load))
        nginx = stack.enter_context(Nginx(folder, generator.port))
        gateway = stack.enter_context(Weir(weir, folder, generator.port))
        bench = Bench(scale, generator, nginx, gateway)
        bench.run()
        crowded = folder / "crowded"
        crowded.mkdir()
        # The first start writes down who is there; what is measured is one like any other.
        with Weir(weir, crowded, generator.port, accounts=100_000):
            pass
        bench.crowd(stack.enter_context(Weir(weir, crowded, generator.port, accounts=100_000)))
        if asked.json:
            asked.json.write_text(json.dumps(bench.figures, indent=2))
        return report(bench.figures, scale)


class Bench:
    """The matrix. Figures are kept by name and target, one a round."""

    def __init__(self, scale: Scale, load: "Load", nginx: "Nginx", weir: "Weir"):
        self.scale, self.load = scale, load
        self.targets = {"nginx": nginx, "weir": weir}
        self.figures: dict[str, dict[str, list[float]]] = {}

    def run(self) -> None:
        for target in self.targets.values():
            self.load.run(target.plain, connections=64, closed_seconds=1.0)
            self.load.run(target.plain, connections=1, closed_seconds=0.5)
        # Before anything large: memory that an allocator keeps would hide what a stream takes.
        print(f"{self.scale.slow_streams} slow streams", file=sys.stderr)
        self.slow_streams()
        for number in range(self.scale.rounds):
            print(f"round {number + 1} of {self.scale.rounds}", file=sys.stderr)
            self.plain()
            self.one_connection()
            self.streams("spaced", f"bench-stream-{self.scale.spaced_chunks}-100", each=1)
            self.streams("burst", "bench-stream-64-0", each=self.scale.burst_streams)
            self.large_requests()

    def note(self, name: str, target: str, value: float) -> None:
        self.figures.setdefault(name, {}).setdefault(target, []).append(value)

    def measured(self, target: "Proxy", port: int, **load) -> tuple[dict, float]:
        """The outcome and the CPU seconds that the proxy took for one request."""
        before = target.cpu_seconds()
        outcome = self.load.run(port, **load)
        used = target.cpu_seconds() - before
        return outcome, used / max(outcome["answered"], 1)

    def plain(self) -> None:
        for name, target in self.targets.items():
            outcome, cpu = self.measured(target, target.plain, connections=64, closed_seconds=self.scale.seconds)
            self.note("plain: CPU a request, us", name, cpu * 1e6)
            self.note("plain: requests a second", name, outcome["answered"] / outcome["seconds"])
            self.note("failed", name, outcome["failed"])
        # The gateway's store still writes what the load before has left it: that would be in both proxies' latencies.
        self.rest()
        # Half of what the slower of the two can do: both have room, and the queue is theirs.
        rate = min(figures[-1] for figures in self.figures["plain: requests a second"].values()) / 2
        for name, target in self.targets.items():
            open_load = {"per_second": rate, "seconds": self.scale.seconds}
            outcome, _ = self.measured(target, target.plain, connections=64, open=open_load)
            self.note("plain: p99 at the same rate, us", name, outcome["latency"]["p99"])
            self.note("failed", name, outcome["failed"])
            self.rest()

    def rest(self) -> None:
        """Waits until neither proxy does anything any more, half a per cent of a core aside."""

        def at_rest() -> bool:
            before = [target.cpu_seconds() for target in self.targets.values()]
            time.sleep(0.5)
            after = [target.cpu_seconds() for target in self.targets.values()]
            return sum(after) - sum(before) < 0.005 * 0.5

        wait_for(at_rest, "both proxies are at rest")

    def one_connection(self) -> None:
        direct = self.load.run(self.load.port, connections=1, closed_seconds=self.scale.seconds / 2)
        for name, target in self.targets.items():
            outcome = self.load.run(target.plain, connections=1, closed_seconds=self.scale.seconds / 2)
            self.note("one connection: added p50, us", name, outcome["latency"]["p50"] - direct["latency"]["p50"])
            self.note("failed", name, outcome["failed"])

    def streams(self, kind: str, model: str, each: int) -> None:
        for name, target in self.targets.items():
            # What was measured before ended at different times for the two, and who rests for longer finds colder caches:
            # each has the same load and the same rest.
            self.load.run(target.streamed, model="bench-stream-2-10", connections=32, each=2)
            time.sleep(1)
            outcome, cpu = self.measured(target, target.streamed, model=model, connections=32, each=each)
            self.note(f"{kind} streams: CPU a stream, us", name, cpu * 1e6)
            self.note(f"{kind} streams: first event p50, us", name, outcome["first_event"]["p50"])
            self.note(f"{kind} streams: chunk delay p99, us", name, outcome["chunk_delay"]["p99"])
            self.note("failed", name, outcome["failed"])

    def large_requests(self) -> None:
        body = 10 * MEGABYTE
        for name, target in self.targets.items():
            before = target.memory()
            target.forget_peak_memory()
            outcome, cpu = self.measured(
                target, target.plain, connections=1, body_bytes=body, each=self.scale.large_requests
            )
            self.note("10 MB request: CPU, us", name, cpu * 1e6)
            self.note("10 MB request: peak memory over the body", name, (target.peak_memory() - before) / body)
            self.note("failed", name, outcome["failed"])

    def slow_streams(self) -> None:
        """Twenty chunks a second apart on each of so many streams; then as many chunks on a tenth of the streams."""
        streams = self.scale.slow_streams
        for name, target in self.targets.items():
            before = target.memory()
            target.forget_peak_memory()
            outcome, cpu = self.measured(
                target, target.streamed, model="bench-stream-20-1000", connections=streams, each=1
            )
            self.note("slow streams: memory a stream, KB", name, (target.peak_memory() - before) / streams / 1000)
            self.note("slow streams: failed", name, outcome["failed"])
            self.note("slow streams: CPU a stream, us", name, cpu * 1e6)
            _, few = self.measured(
                target, target.streamed, model="bench-stream-200-100", connections=streams // 10, each=1
            )
            self.note("slow streams: CPU a chunk against a tenth of the connections", name, cpu / (few / 10))


    def crowd(self, crowded: "Weir") -> None:
        """A gateway with many accounts beside the one with two."""
        for _ in range(self.scale.rounds):
            for name, target in {"few": self.targets["weir"], "many": crowded}.items():
                _, cpu = self.measured(target, target.plain, connections=64, closed_seconds=self.scale.seconds)
                self.note("accounts: CPU a request, us", name, cpu * 1e6)
        cpu = {name: statistics.median(values) for name, values in self.figures["accounts: CPU a request, us"].items()}
        self.note("100,000 accounts: CPU a request against two accounts", "weir", cpu["many"] / cpu["few"])
        self.note("100,000 accounts: seconds to start", "weir", crowded.seconds_to_start)


@dataclasses.dataclass
class Bar:
    """What a figure is held to: its ratio to nginx's, or itself."""

    figure: str
    limit: float
    against_nginx: bool = True
    at_least: bool = False

    def row(self, figures: dict) -> tuple[list[str], bool]:
        weir = statistics.median(figures[self.figure]["weir"])
        nginx = statistics.median(figures[self.figure].get("nginx", [math.nan]))
        value = weir / nginx if self.against_nginx else weir
        passed = value >= self.limit if self.at_least else value <= self.limit
        sign = ">=" if self.at_least else "<="
        unit = "x" if self.against_nginx else ""
        shown = ["" if math.isnan(nginx) else f"{nginx:,.1f}", f"{weir:,.1f}", f"{value:,.2f}{unit}", f"{sign} {self.limit:g}{unit}"]
        return [self.figure, *shown, "pass" if passed else "FAIL"], passed


BARS = [
    Bar("plain: CPU a request, us", 1.5),
    Bar("plain: requests a second", 0.8, at_least=True),
    Bar("plain: p99 at the same rate, us", 1.5),
    Bar("one connection: added p50, us", 1.5),
    Bar("spaced streams: CPU a stream, us", 1.4),
    Bar("spaced streams: first event p50, us", 1.3),
    Bar("spaced streams: chunk delay p99, us", 1000, against_nginx=False),
    Bar("burst streams: CPU a stream, us", 3.0),
    Bar("burst streams: first event p50, us", 1.3),
    Bar("10 MB request: CPU, us", 1.5),
    Bar("10 MB request: peak memory over the body", 1.2, against_nginx=False),
    Bar("slow streams: failed", 0, against_nginx=False),
    Bar("slow streams: memory a stream, KB", 40, against_nginx=False),
    Bar("slow streams: CPU a chunk against a tenth of the connections", 1.5, against_nginx=False),
    Bar("100,000 accounts: CPU a request against two accounts", 1.1, against_nginx=False),
    Bar("100,000 accounts: seconds to start", 2, against_nginx=False),
    Bar("failed", 0, against_nginx=False),
]


def report(figures: dict, scale: Scale) -> int:
    rows = [bar.row(figures) for bar in BARS]
    lines = [["", "nginx", "weir", "ratio or figure", "bar", ""]] + [cells for cells, _ in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    print(f"medians of {scale.rounds}; proxies on core 0, load and upstream on core 1; {scale.slow_streams:,} slow streams")
    for line in lines:
        print("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths))))
    failed = sum(not passed for _, passed in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


class Program:
    """A child on a core of its own; `with` ends it."""

    def __init__(self, argv: list, core: int, folder: pathlib.Path | None = None, **options):
        self.process = subprocess.Popen(
            [str(argument) for argument in argv],
            cwd=folder,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            **options,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Load(Program):
    """The load generator, with the upstream inside: see load/main.rs."""

    def __init__(self, binary: pathlib.Path):
        super().__init__([binary], core=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def run(self, port: int, model: str = "bench-plain", body_bytes: int = 1000, connections: int = 1, **load) -> dict:
        command = {
            "target": f"127.0.0.1:{port}",
            "key": KEY,
            "model": model,
            "body_bytes": body_bytes,
            "connections": connections,
        }
        self.process.stdin.write(json.dumps(command | load) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("the load generator has ended")
        return json.loads(answer)


class Proxy(Program):
    """A proxy whose processor time and memory are read from /proc, over all its processes."""

    plain: int
    streamed: int

    def processes(self) -> list[int]:
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, children.split())]

    def cpu_seconds(self) -> float:
        """The scheduler's own sum in nanoseconds: `utime` and `stime` are rounded to ticks of 10 ms."""
        threads = [path for pid in self.processes() for path in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((path / "schedstat").read_text().split()[0]) for path in threads) / 1e9

    def memory(self) -> int:
        return self._status("VmRSS")

    def peak_memory(self) -> int:
        return self._status("VmHWM")

    def forget_peak_memory(self) -> None:
        for pid in self.processes():
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        texts = [pathlib.Path(f"/proc/{pid}/status").read_text() for pid in self.processes()]
        lines = [line for text in texts for line in text.splitlines() if line.startswith(f"{name}:")]
        return sum(int(line.split()[1]) for line in lines) * 1024


class Nginx(Proxy):
    """One worker, keep-alive to the upstream, no access log: the least work that nginx can do. Streams have a port of
    their own, where nothing is buffered."""

    CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 30000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_max_body_size 64m;
    client_body_buffer_size 16m;
    keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream api {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 300s;
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        location / {{ proxy_pass http://api; }}
    }}
    server {{
        listen 127.0.0.1:{streamed} backlog=4096;
        location / {{ proxy_pass http://api; proxy_buffering off; }}
    }}
}}
"""

    def __init__(self, folder: pathlib.Path, upstream: int):
        self.plain, self.streamed = free_port(), free_port()
        config = folder / "nginx.conf"
        config.write_text(
            self.CONFIG.format(folder=folder, upstream=upstream, plain=self.plain, streamed=self.streamed)
        )
        if os.getuid() == 0:
            # The worker runs as another user; its temporary folders are made by the master.
            folder.chmod(0o755)
        super().__init__(["nginx", "-e", folder / "nginx-error.log", "-c", config], core=0)
        wait_for_port(self.plain)


class Weir(Proxy):
    """Everything on: key check, limits on an account and its parent, metering, pricing, ledger, metrics."""

    CONFIG = """
[server]
listen = "127.0.0.1:{plain}"
max_connections = 30000
max_requests = 30000

[admin]
listen = "127.0.0.1:{admin}"
token = "bench"

[store]
url = "sqlite:{folder}/bench.db"

[[upstreams]]
id = "bench"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "upstream-key"
timeouts = {{ idle = "300s" }}

[[routes]]
models = ["bench*"]
upstreams = ["bench"]

[prices]
files = ["bench-prices.toml"]

[[plans]]
id = "team"
price = "0.00"
period = "month"
[[plans.limits]]
on = "cost"
max = "1000000.00"
per = "month"
[[plans.limits]]
on = "tokens"
max = 1000000000000
per = "hour"

[[accounts]]
id = "company"
plan = "team"
since = 2025-01-01

[[accounts]]
id = "bench"
plan = "team"
parent = "company"
since = 2025-01-01
keys = [{{ id = "bench", secret = "{key}" }}]
"""
    ACCOUNT = """
[[accounts]]
id = "account-{number}"
plan = "team"
parent = "company"
since = 2025-01-01
keys = [{{ id = "key-{number}", secret = "sk-weir-bench-{number}" }}]
"""
    PRICES = """
[[models]]
model = "bench*"
[[models.prices]]
from = 2025-01-01
input = "2.50"
cache_read_input = "1.25"
output = "10.00"
source = "the bench"
"""

    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, upstream: int, under: tuple = (), accounts: int = 0):
        self.plain = self.streamed = free_port()
        self.admin = free_port()
        config = folder / "bench.toml"
        config.write_text(
            self.CONFIG.format(folder=folder, upstream=upstream, plain=self.plain, admin=self.admin, key=KEY)
            + "".join(self.ACCOUNT.format(number=number) for number in range(accounts))
        )
        (folder / "bench-prices.toml").write_text(self.PRICES)
        began = time.monotonic()
        with (folder / "weir.log").open("wb") as log:
            super().__init__([*under, binary, "serve", "-c", config], core=0, folder=folder, stdout=log, stderr=log)
        try:
            wait_for(self._is_ready, "weir is ready", seconds=120)
        except BaseException:
            print((folder / "weir.log").read_text(errors="replace")[-4000:], file=sys.stderr)
            self.__exit__()
            raise
        self.seconds_to_start = time.monotonic() - began

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"weir ended with {self.process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def wait_for_port(port: int) -> None:
    def accepts() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(accepts, f"port {port} accepts")


def raise_file_limit() -> int:
    """As many file descriptors as this machine lets us have, at most 65,536."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


if __name__ == "__main__":
    sys.exit(main())
