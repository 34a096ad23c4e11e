"""A job file in the panel's queue: what is queued, skipped and said, and what outlives Blender."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import pytest

LINES = ({"prompt": "a red mushroom", "name": "hat", "steps": 1, "views": 2}, {"prompt": "a blue car"})


def queue(diorama: ModuleType, tmp_path: Path, *lines: object) -> Any:
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    preferences = diorama.folders.get_preferences()
    preferences.output_folder = str(tmp_path / "out")
    try:
        bpy.ops.diorama.queue_file(filepath=str(path))
    finally:
        preferences.output_folder = ""
    return diorama.host.get().session


@pytest.fixture(autouse=True)
def no_jobs_left(diorama: ModuleType) -> Any:
    yield
    bpy.ops.diorama.cancel_all()


def test_every_line_is_queued_and_what_is_made_is_not_made_again(diorama: ModuleType, tmp_path: Path) -> None:
    session = queue(diorama, tmp_path, LINES[0], "no json", LINES[1])
    waiting = session.waiting
    assert [job.request["prompt"] for job in waiting] == ["a red mushroom", "a blue car"]
    assert Path(waiting[0].directory) == tmp_path / "out/hat/asset"
    assert session.run_to_end(waiting[0].id).state == "done"
    bpy.ops.diorama.cancel_all()
    assert [job.request["prompt"] for job in queue(diorama, tmp_path, *LINES).waiting] == ["a blue car"]


def test_a_name_that_is_taken_by_another_request_spoils_nothing(diorama: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "out/hat/asset").mkdir(parents=True)
    (tmp_path / "out/hat/asset/mine.txt").write_text("the user's")
    (job,) = queue(diorama, tmp_path, LINES[0]).waiting
    assert not Path(job.directory).is_relative_to(tmp_path / "out/hat")


def test_a_file_without_jobs_is_an_error_in_words(diorama: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="holds no job"):
        queue(diorama, tmp_path, "")


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_long_queue_outlives_blender(diorama: ModuleType, tmp_path: Path, how: str) -> None:
    jobs = diorama.client.jobs
    store = jobs.Store(tmp_path / "records")
    request = diorama.backend.shared.request.GenerationRequest("a car")
    session = diorama.client.session.Session(store, lambda: None)
    queued = [session.submit(request, tmp_path / f"{i}") for i in range(jobs.MOST_RECORDS + 20)]
    if how == "closed":
        session.close()
    else:
        store._held.close()  # as the system does
    again = diorama.client.session.Session(jobs.Store(tmp_path / "records"), lambda: None)
    assert [job.id for job in again.interrupted] == [job.id for job in queued]
    once_more = diorama.client.session.Session(jobs.Store(tmp_path / "records"), lambda: None)
    assert once_more.interrupted == again.interrupted
