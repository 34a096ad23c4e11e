"""The report of a batch in a real browser, without a window: spoken to through its DevTools pipe."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backend.engines.report import write_report
from backend.engines.scheduler import Outcome
from backend.shared.job_file import BrokenLine
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
# Where the browser expects its pipe.
AS_3_AND_4 = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""
pytestmark = pytest.mark.skipif(not BROWSER, reason="there is no Chromium or Chrome here")


class Page:
    """A page of the browser; what it asks the network for, and what its scripts raise, is kept."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive, self._number = send, os.fdopen(receive, "rb"), 0
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]  # type: ignore[no-any-return]

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def run(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def params(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event["method"] == method]

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._receive.read(1)) != b"\0":
            assert byte, "the browser has ended"
            text += byte
        return json.loads(text)  # type: ignore[no-any-return]


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    ends = [*os.pipe(), *os.pipe()]
    commands, send, receive, answers = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in ends)
    for end in ends:
        os.close(end)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--window-size=1200,800"]
    process = subprocess.Popen(
        [sys.executable, "-c", AS_3_AND_4, f"{commands}", f"{answers}", str(BROWSER), *options],
        pass_fds=(commands, answers),
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    late = threading.Timer(120, process.kill)
    late.start()
    try:
        yield Page(send, receive)
    finally:
        late.cancel()
        process.kill()
        process.wait()


def test_a_browser_shows_thumbnails_and_errors_sorts_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    outcomes = []
    for line, (prompt, seconds) in enumerate([("a tree", 9.5), ("a car", 10.25), ("Ärger <b>", 2.0)], 1):
        (tmp_path / f"job {line}/asset").mkdir(parents=True)
        sheet = np.full((64, 96, 3), line * 50, np.uint8)
        Image.fromarray(sheet).save(tmp_path / f"job {line}/asset/preview.png")
        request = GenerationRequest(prompt, seed=100 - line).to_dict()
        outcomes.append(Outcome(f"job {line}", line, request, "done", seconds))
    error = DioramaError("E_OUT_OF_MEMORY", "too <large>").to_dict()
    outcomes.append(Outcome("job 4", 4, GenerationRequest("a boat").to_dict(), "failed", 1.0, error))
    broken = BrokenLine(5, DioramaError("E_REQUEST", "jobs.jsonl:5: not JSON"))
    write_report(tmp_path, outcomes, [broken], 12.0)
    lines = "[...document.querySelector('tbody').rows].map(row => +row.cells[0].innerText)"
    with browser(tmp_path / "profile") as page:
        page.open(tmp_path / "report.html")
        images = "[...document.images].map(i => [i.complete, i.naturalWidth, i.offsetWidth > 0])"
        assert page.run(images) == [[True, 96, True]] * 3
        assert page.run(lines) == [1, 2, 3, 4, 5]
        sorted_lines = {}
        for column in ("seconds", "prompt", "seed"):
            page.run(f"document.querySelector('#{column} button').click()")
            ascending = page.run(lines)
            page.run(f"document.querySelector('#{column} button').click()")
            sorted_lines[column] = ascending, page.run(lines)
        assert sorted_lines["seconds"] == ([5, 4, 3, 1, 2], [2, 1, 3, 4, 5])
        assert sorted_lines["prompt"] == ([5, 4, 2, 1, 3], [3, 1, 2, 4, 5])
        assert page.run("document.querySelector('#seed').ariaSort") == "descending"
        text = page.run("document.body.innerText")
        assert all(words in text for words in ("too <large>", "E_OUT_OF_MEMORY", "not JSON", "Ärger <b>"))
        assert not page.params("Runtime.exceptionThrown")
        asked = {
            sent["request"]["url"].partition(":")[0] for sent in page.params("Network.requestWillBeSent")
        }
        assert asked <= {"file", "data"}
