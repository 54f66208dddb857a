"""Starting programs under test and waiting until they answer."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import httpx

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def weir() -> str:
    """The program under test: WEIR_BIN, else the development build."""
    return os.environ.get("WEIR_BIN", str(REPOSITORY / "target/debug/weir"))


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds: float, what: str):
    """Asks until the condition holds and returns what it returned; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Program:
    """A running program whose output goes to a file; `with` ends it."""

    def __init__(self, argv: list[str], folder: pathlib.Path, ready_url: str, seconds: float = 30, **environment: str):
        self.name = pathlib.Path(argv[0]).name
        self.log = folder / f"{self.name}-{free_port()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(lambda: self._answers(ready_url), seconds, f"{self.name} answers at {ready_url}")
        except BaseException:
            self.stop()
            raise

    def _answers(self, url: str) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.output()}")
        try:
            return httpx.get(url, timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def output(self) -> str:
        """What it has written so far, the last 8,000 characters."""
        return self.log.read_text(errors="replace")[-8000:]

    def stop(self, seconds: float = 20) -> int:
        """Asks it to end, then makes it; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_) -> None:
        self.stop()
