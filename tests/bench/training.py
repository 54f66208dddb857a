#!/usr/bin/env python3
"""The load under which deploy/profile records what a busy gateway runs: plain requests, streams and a large body.

    python3 tests/bench/training.py WEIR LOAD
"""

import contextlib
import pathlib
import sys
import tempfile

from gateway import Load, Weir


def main() -> None:
    weir, load = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-training-")))
        generator = stack.enter_context(Load(load))
        gateway = stack.enter_context(Weir(weir, folder, generator.port))
        for connections, seconds in [(64, 5), (1, 2)]:
            generator.run(gateway.plain, connections=connections, closed_seconds=seconds)
        for chunks_and_pause, each in [("64-0", 20), ("16-100", 1)]:
            generator.run(gateway.streamed, model=f"bench-stream-{chunks_and_pause}", connections=32, each=each)
        generator.run(gateway.plain, connections=1, each=5, body_bytes=10_000_000)


if __name__ == "__main__":
    main()
