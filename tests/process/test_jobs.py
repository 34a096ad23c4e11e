"""Jobs on the real starter: their notifications, their end, and cancels and deaths in the middle."""

from __future__ import annotations

import sys
from pathlib import Path

from backend.shared import asset


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


def test_end_of_stdin_ends_a_job_in_the_middle(backend, tmp_path: Path) -> None:
    backend.submit("ends", tmp_path / "asset", steps=100)
    backend.until(method="job.progress")
    backend.process.stdin.close()
    assert backend.ended() == 0
    assert not (tmp_path / "asset" / "asset.json").exists()
