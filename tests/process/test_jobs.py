"""Jobs on the real starter: their notifications, their end, and cancels and deaths in the middle."""

from __future__ import annotations

from pathlib import Path

from backend.shared import asset


def test_job_tells_its_stages_and_ends_with_an_asset(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.submit(1, "j", tmp_path / "asset", seed=7, steps=3)
    stages, steps = [], {}
    while (message := backend.next(120)).get("id") != 1:
        params = message["params"]
        if message["method"] == "job.stage":
            assert params["job"] == "j"
            stages.append(params["stage"])
        elif message["method"] == "job.progress":
            assert params["stage"] == stages[-1]
            assert params["total"] >= params["step"] >= steps.get(params["stage"], 0)
            steps[params["stage"]] = params["step"]
    assert len(stages) == len(set(stages)) > 2
    assert 3 in steps.values()
    result = message["result"]
    assert [stage["stage"] for stage in result["stages"]] == stages
    assert asset.read_asset(result["asset"]).request["seed"] == 7


def test_job_warns_of_unknown_words(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.submit(1, "j", tmp_path / "asset", prompt="a red qwertz mushroom", steps=1)
    plan, note = (backend.until(method="job.log")["params"] for _ in range(2))
    assert (plan["level"], note["level"]) == ("info", "warning")
    assert "qwertz" in note["message"]
    assert backend.until(id=1)["result"]["warnings"] == [note["message"]]


def test_cancel_in_last_step_leaves_next_job_clean(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.submit(1, "first", tmp_path / "first", steps=3)
    backend.submit(2, "second", tmp_path / "second", steps=1)
    while True:
        params = backend.until(method="job.progress")["params"]
        if params["total"] == 3 and params["step"] == 3:
            break
    backend.notify("job.cancel", job="first")
    ended = backend.until(id=1)
    if "error" in ended:  # it may also have been too late, which is as good
        assert ended["error"]["data"]["code"] == "E_CANCELLED"
        assert ended["error"]["code"] == -32800
        assert not (tmp_path / "first" / "asset.json").exists()
    backend.notify("job.cancel", job="first")
    assert asset.read_asset(backend.until(id=2)["result"]["asset"])


def test_cancel_of_unknown_or_finished_job_changes_nothing(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.notify("job.cancel", job="never was")
    backend.notify("job.cancel")
    backend.submit(1, "j", tmp_path / "asset", steps=1)
    backend.notify("job.cancel", job="another")
    assert "result" in backend.until(id=1)


def test_waiting_job_can_be_cancelled(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.submit(1, "first", tmp_path / "first", steps=2)
    backend.submit(2, "second", tmp_path / "second", steps=2)
    backend.notify("job.cancel", job="second")
    assert "result" in backend.until(id=1)
    assert backend.until(id=2)["error"]["data"]["code"] == "E_CANCELLED"
    assert not (tmp_path / "second" / "asset.json").exists()


def test_end_of_stdin_ends_a_job_in_the_middle(talk, tmp_path: Path) -> None:
    backend = talk()
    backend.submit(1, "j", tmp_path / "asset", steps=100)
    backend.until(method="job.progress")
    backend.process.stdin.close()
    assert backend.ended() == 0
    assert not (tmp_path / "asset" / "asset.json").exists()
