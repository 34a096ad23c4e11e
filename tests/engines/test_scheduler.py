"""What the scheduler does with jobs, on workers that make small assets at once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.engines import report, scheduler
from backend.engines.scheduler import Event, run_jobs
from backend.shared.asset import write_asset
from backend.shared.job_file import BatchJob, BrokenLine, is_complete
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.shared.test_asset import make_cloud
from tests.small_disk import run_on_small_disk


class Maker:
    """A worker that makes an asset of three splats, or dies, as its prompt says."""

    def __init__(self, name: str = "worker 1") -> None:
        self.name = name
        self.ran: list[str] = []
        self.closed = False

    def ready(self) -> bool:
        return not self.closed

    def run(self, request: GenerationRequest, directory: Path, emit: Any, _cancelled: Any) -> dict[str, Any]:
        self.ran.append(request.prompt)
        emit("stage", {"stage": "Making"})
        if request.prompt == "deadly":
            raise DioramaError("E_WORKER_DIED", "it died")
        if request.prompt == "impossible":
            raise DioramaError("E_OUT_OF_MEMORY", "too large")
        write_asset(
            directory,
            request=request.to_dict(),
            model=request.model,
            clouds=[make_cloud(3)],
            views=np.zeros((1, 1, 4, 4, 4), np.float32),
            cameras=np.eye(4)[None],
            fov_deg=40,
            blending="linear",
            timings={},
        )
        return {"warnings": ["a <word> is unknown"]}

    def close(self) -> None:
        self.closed = True


def jobs_of(*prompts: str) -> list[BatchJob]:
    return [BatchJob(f"job {i}", GenerationRequest(prompt), i) for i, prompt in enumerate(prompts, 1)]


def run(jobs: list[BatchJob], out: Path, *workers: Maker) -> tuple[list[scheduler.Outcome], list[Event]]:
    events: list[Event] = []
    return run_jobs(jobs, out, lambda _: workers, events.append, threading.Event()), events


def test_every_job_is_made_once_and_the_second_run_makes_none(tmp_path: Path) -> None:
    jobs = jobs_of("a car", "a tree", "a fish", "a lamp")
    workers = Maker(), Maker("worker 2")
    outcomes, _ = run(jobs, tmp_path, *workers)
    assert [outcome.state for outcome in outcomes] == ["done"] * 4
    assert sorted(workers[0].ran + workers[1].ran) == sorted(job.prompt for job in jobs)
    assert all(is_complete(tmp_path / job.name / "asset", job.request) for job in jobs)
    again, _ = run(jobs, tmp_path)  # no worker is needed
    assert [outcome.made for outcome in again] == [False] * 4
    assert again[0].warnings == outcomes[0].warnings


def test_an_asset_that_misses_a_file_is_made_again(tmp_path: Path) -> None:
    jobs = jobs_of("a car")
    run(jobs, tmp_path, Maker())
    (tmp_path / "job 1/asset/splats/0000.ply").unlink()
    (outcome,), _ = run(jobs, tmp_path, Maker())
    assert outcome.made and outcome.state == "done"


def test_a_folder_of_another_request_is_never_reused(tmp_path: Path) -> None:
    run(jobs_of("a car"), tmp_path, Maker())
    (outcome,), _ = run(jobs_of("a tree"), tmp_path, Maker())
    assert outcome.error and "another request" in outcome.error["message"]
    assert is_complete(tmp_path / "job 1/asset", GenerationRequest("a car"))


def test_a_deadly_job_is_tried_twice_and_stops_no_other(tmp_path: Path) -> None:
    worker = Maker()
    outcomes, _ = run(jobs_of("deadly", "a car", "impossible"), tmp_path, worker)
    assert [outcome.state for outcome in outcomes] == ["failed", "done", "failed"]
    assert worker.ran == ["deadly", "a car", "impossible", "deadly"] and worker.closed
    assert outcomes[2].error and outcomes[2].error["code"] == "E_OUT_OF_MEMORY"
    assert not (tmp_path / "job 1").exists()  # nothing of what the dead had half-written


def test_jobs_of_one_model_follow_each_other(tmp_path: Path) -> None:
    models = ("starter", "mvdream-lgm", "starter", "mvdream-lgm")
    jobs = [BatchJob(f"{i}", GenerationRequest(f"{model} {i}", model), i) for i, model in enumerate(models)]
    worker = Maker()
    run(jobs, tmp_path, worker)
    assert worker.ran == ["starter 0", "starter 2", "mvdream-lgm 1", "mvdream-lgm 3"]


def test_cancelled_jobs_are_listed(tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    (outcome,) = run_jobs(jobs_of("a car"), tmp_path, lambda _: [Maker()], lambda _: None, cancelled)
    assert outcome.state == "cancelled" and outcome.error


def test_a_full_disk_is_raised_and_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scheduler, "_record", full)
    with pytest.raises(OSError, match="No space"):
        run(jobs_of("a car", "a tree"), tmp_path, Maker())


FILL_UP = """
import sys, threading
from pathlib import Path
from backend.engines.scheduler import run_jobs
from backend.shared.job_file import is_complete
from tests.engines.test_scheduler import Maker, jobs_of

disk = Path(sys.argv[1])
jobs, first, second = jobs_of(*(f"a car {i}" for i in range(12))), Maker(), Maker()

def complete():
    return [job.prompt for job in jobs if is_complete(disk / "out" / job.name / "asset", job.request)]

def run(worker):
    return run_jobs(jobs, disk / "out", lambda _: [worker], lambda _: None, threading.Event())

(disk / "other").write_bytes(bytes(250 << 10))
try:
    codes = {outcome.error["code"] for outcome in run(first) if outcome.error}
except OSError as error:  # not even how a job ended could be written down
    codes = {"E_DISK_FULL"} if error.errno == 28 else {str(error)}
made = complete()
(disk / "other").unlink()
states = {outcome.state for outcome in run(second)}
print(codes, states, 0 < len(made) < 12, sorted([*made, *second.ran]) == sorted(job.prompt for job in jobs))
"""


def test_a_disk_that_is_full_half_way_keeps_what_is_made_and_the_next_run_makes_the_rest(
    tmp_path: Path,
) -> None:
    assert run_on_small_disk(tmp_path, 400, FILL_UP).strip() == "{'E_DISK_FULL'} {'done'} True True"


def test_report_lists_all_and_escapes_what_is_not_ours(tmp_path: Path) -> None:
    outcomes, _ = run(jobs_of("a <b>car</b>", "impossible"), tmp_path, Maker())
    broken = BrokenLine(9, DioramaError("E_REQUEST", "jobs.jsonl:9: not JSON"))
    report.write_report(tmp_path, outcomes, [broken], 1.0)
    written = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert written["counts"] == {"done": 1, "failed": 2, "cancelled": 0} and written["made"] == 1
    assert [job["line"] for job in written["jobs"]] == [1, 2, 9]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<b>" not in page and "a &lt;b&gt;car&lt;/b&gt;" in page and "a &lt;word&gt;" in page
    assert page.count("data:image/webp;base64,") == 1
    report.check_ours(tmp_path)
    (tmp_path / "report.json").write_text("the user's")
    with pytest.raises(DioramaError, match="not a report of ours"):
        report.check_ours(tmp_path)
