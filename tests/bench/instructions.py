#!/usr/bin/env python3
"""Counts the gateway's instructions for each request and for each streamed chunk, and fails when there are more than
5 % more than instructions.json says. Instructions, unlike time, do not depend on what else the machine does.

    python3 tests/bench/instructions.py            compare
    python3 tests/bench/instructions.py --write    take today's figures as the measure, after a change that is worth it

Needs target/release/weir and the load generator (`cargo build --release --bin weir --example load`), and valgrind.
"""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from gateway import REPOSITORY, Load, Weir

MEASURE = pathlib.Path(__file__).with_name("instructions.json")
ALLOWED = 1.05


def main() -> int:
    counted = count()
    if "--write" in sys.argv:
        MEASURE.write_text(json.dumps(counted, indent=2) + "\n")
        print(f"written: {counted}")
        return 0
    failed = 0
    for name, wanted in json.loads(MEASURE.read_text()).items():
        ratio = counted[name] / wanted
        failed += ratio > ALLOWED
        print(f"{name}: {counted[name]:,} instructions, {ratio - 1:+.1%} against {wanted:,}: {'FAIL' if ratio > ALLOWED else 'ok'}")
    print(f"{len(counted) - failed} passed, {failed} failed")
    return 1 if failed else 0


def count() -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-instructions-")))
        load = stack.enter_context(Load(REPOSITORY / "target/release/examples/load"))
        callgrind = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out", "--fair-sched=yes")
        weir = stack.enter_context(Weir(REPOSITORY / "target/release/weir", folder, load.port, under=callgrind))

        def instructions(**work) -> int:
            """Of so much work: the least of three, since every ten seconds the margins for the metrics are in it too."""
            return min(once(**work) for _ in range(3))

        def once(**work) -> int:
            """Counted from zero to the dump."""
            control(weir.process.pid, "--zero")
            outcome = load.run(weir.plain, **work)
            assert outcome["failed"] == 0, outcome
            for dump in folder.glob("callgrind.out*"):
                dump.unlink()
            control(weir.process.pid, "--dump")
            [dump] = folder.glob("callgrind.out*")
            return int(re.search(r"^(?:totals|summary): (\d+)", dump.read_text(errors="replace"), re.MULTILINE)[1])

        wait_until_idle(weir)
        requests, streams = 2000, 10
        load.run(weir.plain, connections=1, each=requests)
        load.run(weir.plain, model="bench-stream-16-5", connections=1, each=streams)
        # As many at once as a batch of the ledger takes in: what a batch costs is then always shared by as many.
        plain = instructions(connections=8, each=requests // 8)
        # The pause keeps chunks apart, as a model's are; the difference of two lengths leaves out what a stream costs.
        short = instructions(model="bench-stream-16-5", connections=1, each=streams)
        long = instructions(model="bench-stream-144-5", connections=1, each=streams)
        return {"request": plain // requests, "chunk": (long - short) // (streams * 128)}


def wait_until_idle(weir: Weir) -> None:
    """After its start the gateway reads its vocabularies, which takes a while under valgrind."""
    for _ in range(120):
        before = weir.cpu_seconds()
        time.sleep(0.5)
        if weir.cpu_seconds() - before < 0.05:
            return
    raise SystemExit("the gateway does not come to rest")


def control(pid: int, command: str) -> None:
    subprocess.run(["callgrind_control", command, str(pid)], check=True, capture_output=True, timeout=120)


if __name__ == "__main__":
    sys.exit(main())
