"""Jobs on the real starter: their notifications, their end, and cancels and deaths in the middle."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.server import Server
from backend.shared import asset, protocol


def test_job_tells_its_stages_and_ends_with_an_asset(backend, tmp_path: Path) -> None:
    number = backend.submit("told", tmp_path / "asset", seed=7, steps=3)
    stages, steps = [], {}
    while (message := backend.next(120)).get("id") != number:
        params = message["params"]
        if message["method"] == "job.stage":
            assert params["job"] == "told"
            stages.append(params["stage"])
        elif message["method"] == "job.progress":
            assert params["stage"] == stages[-1]
            assert params["total"] >= params["step"] >= steps.get(params["stage"], 0)
            steps[params["stage"]] = params["step"]
    assert len(stages) == len(set(stages)) > 2
    assert 3 in steps.values()
    result = message["result"]
    if sys.platform == "linux":  # what a killed process would leave in /dev/shm
        assert "/dev/shm" not in Path(f"/proc/{backend.process.pid}/maps").read_text()
    assert [stage["stage"] for stage in result["stages"]] == stages
    assert asset.read_asset(result["asset"]).request["seed"] == 7


def test_cancel_in_last_step_leaves_next_job_clean(backend, tmp_path: Path) -> None:
    first = backend.submit("first", tmp_path / "first", steps=3)
    second = backend.submit("second", tmp_path / "second", prompt="a red qwertz mushroom", steps=1)
    while True:
        params = backend.until(method="job.progress")["params"]
        if params["total"] == 3 and params["step"] == 3:
            break
    backend.notify("job.cancel", job="first")
    ended = backend.until(id=first)
    if "error" in ended:  # it may also have been too late, which is as good
        assert ended["error"]["data"]["code"] == "E_CANCELLED"
        assert ended["error"]["code"] == -32800
        assert not (tmp_path / "first" / "asset.json").exists()
    for finished_or_unknown in ({"job": "first"}, {"job": "never was"}, {}):
        backend.notify("job.cancel", **finished_or_unknown)
    plan, note = (backend.until(method="job.log")["params"] for _ in range(2))
    assert (plan["level"], note["level"]) == ("info", "warning")
    assert "qwertz" in note["message"]  # of the second job; the first knew its words
    known = backend.until(method="job.log")["params"]
    assert known["level"] == "info" and "snowman, " in known["message"] and ", ," not in known["message"]
    result = backend.until(id=second)["result"]
    assert result["warnings"] == [note["message"]]
    assert asset.read_asset(result["asset"])


def test_waiting_job_can_be_cancelled(backend, tmp_path: Path) -> None:
    first = backend.submit("runs", tmp_path / "first", steps=100)
    second = backend.submit("waits", tmp_path / "second", steps=2)
    backend.notify("job.cancel", job="waits")
    while not (message := backend.until(method="job.progress")["params"])["step"]:
        pass
    assert message["job"] == "runs"  # it goes on
    backend.notify("job.cancel", job="runs")
    for number in (first, second):
        assert backend.until(id=number)["error"]["data"]["code"] == "E_CANCELLED"
    assert not (tmp_path / "second").exists()


def test_name_of_a_job_is_free_when_its_answer_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host may be quick: its next call is read while the first answer is being written."""
    monkeypatch.setenv("DIORAMA_MODELS", str(tmp_path))
    job = {"job": "same", "model": "videomv-t2v"}

    class QuickHost(io.BytesIO):
        def write(self, line: Any) -> int:
            if json.loads(line).get("id") == 1:
                server._dispatch(protocol.call(2, "models.remove", job))
            return super().write(line)

    host = QuickHost()
    server = Server(io.BytesIO(), host)
    server._dispatch(protocol.call(1, "models.remove", job))
    for _ in range(2):
        server._work.get_nowait()()
    messages = [json.loads(line) for line in host.getvalue().splitlines()]
    answers = [message for message in messages if "id" in message]
    assert sorted(answer["id"] for answer in answers) == [1, 2]
    assert all(answer["error"]["data"]["code"] == "E_WEIGHTS_MISSING" for answer in answers)


def test_end_of_stdin_ends_a_job_in_the_middle(backend, tmp_path: Path) -> None:
    backend.submit("ends", tmp_path / "asset", steps=100)
    backend.until(method="job.progress")
    backend.process.stdin.close()
    assert backend.ended() == 0
    assert not (tmp_path / "asset" / "asset.json").exists()
