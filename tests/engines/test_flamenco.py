"""The job type compiles in a JavaScript engine, against the interface that Flamenco's manager gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import quickjs

from backend.engines.flamenco import JOB_TYPE, write_job_type

# As Flamenco's manager defines them: internal/manager/job_compilers/author.go.
MANAGER = """
const tasks = [];
const author = {
    Task: (name, type) => ({ name, type, commands: [], addCommand(command) { this.commands.push(command) } }),
    Command: (name, parameters) => ({ name, parameters }),
};
"""
SETTINGS = {
    "jobs_file": "/shared/jobs.jsonl",
    "num_lines": 5,
    "output": "/shared/out",
    "chunk_size": 2,
    "batch_script": "/shared/diorama/batch.py",
    "backend_python": "",
}


def compiled(**settings: Any) -> list[dict[str, Any]]:
    context = quickjs.Context()
    context.eval(MANAGER + JOB_TYPE)
    context.eval(
        f"const job = {{ settings: {json.dumps({**SETTINGS, **settings})}, addTask: t => tasks.push(t) }}"
    )
    context.eval("compileJob(job)")
    tasks: list[dict[str, Any]] = json.loads(context.eval("JSON.stringify(tasks)"))
    return tasks


def lines_of(task: dict[str, Any]) -> tuple[int, int]:
    arguments = task["commands"][0]["parameters"]["args"]
    return tuple(int(arguments[arguments.index(flag) + 1]) for flag in ("--first", "--last"))


def test_every_line_is_in_exactly_one_task() -> None:
    tasks = compiled()
    assert [lines_of(task) for task in tasks] == [(1, 2), (3, 4), (5, 5)]
    assert {task["type"] for task in tasks} == {"blender"}
    assert [lines_of(task) for task in compiled(chunk_size=100)] == [(1, 5)]


def test_a_failure_in_python_fails_the_task_and_the_backend_can_be_named() -> None:
    (command,) = compiled(chunk_size=5, backend_python="/opt/python")[0]["commands"]
    arguments = command["parameters"]["args"]
    assert arguments[:2] == ["--python-exit-code", "1"]
    assert arguments[arguments.index("--backend-python") + 1] == "/opt/python"
    assert arguments.index("--python") < arguments.index("--") < arguments.index("--jobs")


def test_settings_are_checked_and_described() -> None:
    with pytest.raises(quickjs.JSException):
        compiled(chunk_size=0)
    context = quickjs.Context()
    context.eval(JOB_TYPE)
    settings = json.loads(context.eval("JSON.stringify(JOB_TYPE.settings)"))
    assert {setting["key"] for setting in settings} == set(SETTINGS)
    assert all(setting["description"] for setting in settings)


def test_it_is_written_whole(tmp_path: Path) -> None:
    assert write_job_type(tmp_path / "scripts").read_text("utf-8") == JOB_TYPE
    assert [path.name for path in (tmp_path / "scripts").iterdir()] == ["diorama_batch.js"]
