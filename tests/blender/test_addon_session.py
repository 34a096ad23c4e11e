"""The job session against real backend processes: killed, stopped, cancelled, or no backends at all."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def session(diorama: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A session of its own, with its records and log in the test's folder."""
    session = diorama.client.session.Session(
        diorama.client.jobs.Store(tmp_path / "jobs"),
        lambda: launch(diorama, tmp_path, diorama.host.get()._launch().python),
    )
    yield session
    session.close()


def launch(diorama: ModuleType, tmp_path: Path, python: Path) -> Any:
    return diorama.backend.shared.client.Launch(python, diorama.host.ROOT, tmp_path / "backend.log")


def a_request(diorama: ModuleType, **more: Any) -> Any:
    return diorama.host.GenerationRequest("a red mushroom", **{"steps": 2, "views": 2, **more})


def stage(session: Any) -> str:
    """What the running job does now."""
    return session.active.progress.stage if session.active else ""


def pump_until(session: Any, condition: Callable[[], bool], seconds: float = 90.0) -> None:
    """Drives the session as Blender's timer would."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline and session.busy, [job.error for job in session.jobs]
        session.pump()
        time.sleep(0.01)


def test_pump_drives_a_job_to_its_end_in_a_prepared_backend_and_a_cancelled_one_never_begins(
    diorama: ModuleType, session: Any, tmp_path: Path
) -> None:
    session.prepare()
    prepared = session.client._process
    assert session.client.running and not session.busy
    session.client.heard -= 45  # it was idle for long
    job = session.submit(a_request(diorama), tmp_path / "asset")
    session.pump(0)
    assert session.active and not session.unresponsive
    waiting = session.submit(a_request(diorama), tmp_path / "second")
    session.cancel(waiting.id)
    assert session.job(waiting.id).state == "cancelled"
    seen = set()
    while not session.job(job.id).finished:
        session.pump()
        if session.active:
            seen.add(session.active.progress.stage)
        time.sleep(0.01)
    done = session.job(job.id)
    assert done.state == "done", done.error
    assert session.client._process is prepared
    assert len(seen) > 2
    assert not (tmp_path / "second").exists()
    kept = diorama.client.jobs.Store(tmp_path / "jobs").load()
    assert {record.id: record.state for record in kept} == {job.id: "done", waiting.id: "cancelled"}
    assert done in kept


def test_sigkill_fails_the_job_and_the_next_one_runs(
    diorama: ModuleType, session: Any, tmp_path: Path
) -> None:
    first = session.submit(a_request(diorama, steps=50), tmp_path / "first")
    second = session.submit(a_request(diorama), tmp_path / "second")
    pump_until(session, lambda: session.active is not None and session.active.progress.step > 0)
    os.kill(session.client._process.pid, signal.SIGKILL)
    pump_until(session, lambda: session.job(first.id).finished, seconds=10)
    error = session.job(first.id).error
    assert error["code"] == "E_WORKER_DIED"
    assert "SIGKILL" in error["message"]
    assert "memory" in error["hint"]
    assert not (tmp_path / "first" / "asset.json").exists()
    pump_until(session, lambda: stage(session) == "Loading libraries")
    assert session.active.job.id == second.id


def test_backend_that_died_while_idle_is_started_again(
    diorama: ModuleType, session: Any, tmp_path: Path
) -> None:
    program = script(
        tmp_path,
        'echo \'{"jsonrpc":"2.0","method":"hello","params":{"protocol":[1,0]}}\'\n'
        "read -r line; id=${line#*'\"id\":'}; id=${id%%,*}\n"
        'echo "{\\"jsonrpc\\":\\"2.0\\",\\"id\\":$id,\\"error\\":{\\"data\\":{\\"code\\":\\"E_MESH\\"}}}"',
    )
    session._launch = lambda: launch(diorama, tmp_path, program)
    for name in ("first", "second"):
        job = session.run_to_end(session.submit(a_request(diorama), tmp_path / name).id)
        assert job.error["code"] == "E_MESH"  # it was asked, and answered
        session.client._process.wait(5)


def test_cancel_in_last_step_leaves_next_job_clean(diorama: ModuleType, session: Any, tmp_path: Path) -> None:
    job = session.submit(a_request(diorama), tmp_path / "asset")
    last_steps = []

    def cancel_at_the_last_step(event: str, fields: dict[str, Any]) -> None:
        if event == "progress" and fields["step"] == fields["total"] - 1:
            last_steps.append(fields)
            session.cancel(job.id)

    ended = session.run_to_end(job.id, cancel_at_the_last_step)
    assert last_steps
    assert ended.state == "cancelled"
    process = session.client._process.pid
    following = session.submit(a_request(diorama), tmp_path / "next")
    session.client.notify("job.cancel", {"job": job.id})  # late, for a job that has ended
    assert session.run_to_end(following.id).state == "done"
    assert session.client._process.pid == process


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")
def test_jobs_of_the_same_settings_share_no_folder_and_leave_none(
    diorama: ModuleType, session: Any, tmp_path: Path
) -> None:
    folders = [diorama.client.jobs.new_directory(tmp_path / "assets", a_request(diorama)) for _ in range(3)]
    queued = [session.submit(a_request(diorama), folder) for folder in folders]
    assert len({job.directory for job in queued}) == 3
    assert all(folder.is_dir() for folder in folders)  # for another Blender they are taken
    session.cancel(queued[1].id)
    assert not folders[1].exists()
    session.close()
    assert not list((tmp_path / "assets").iterdir())
    assert [job.state for job in session.jobs] == ["interrupted", "cancelled", "interrupted"]


def test_backend_that_does_not_stop_is_ended(diorama: ModuleType, session: Any, tmp_path: Path) -> None:
    job = session.submit(a_request(diorama), tmp_path / "asset")
    pump_until(session, lambda: stage(session) == "Loading libraries")
    frozen = session.client._process
    os.kill(frozen.pid, signal.SIGSTOP)
    session.cancel(job.id)
    pump_until(session, lambda: session.job(job.id).finished, seconds=30)
    assert session.job(job.id).state == "cancelled"
    assert frozen.poll() == -signal.SIGKILL


def test_backend_that_keeps_dying_is_not_started_for_ever(
    diorama: ModuleType, session: Any, tmp_path: Path
) -> None:
    for _ in range(3):
        job = session.submit(a_request(diorama), tmp_path / "asset")
        pump_until(session, lambda: stage(session) == "Loading libraries")
        os.kill(session.client._process.pid, signal.SIGKILL)
        assert session.run_to_end(job.id).error["code"] == "E_WORKER_DIED"
    refused = session.run_to_end(session.submit(a_request(diorama), tmp_path / "asset").id)
    assert "3 times within a minute" in refused.error["message"]
    assert not session.client.running


def test_garbage_before_the_hello_is_survived(diorama: ModuleType, session: Any, tmp_path: Path) -> None:
    real = session._launch().python
    noisy = script(tmp_path, f"echo 'Activating environment'; printf '\\377\\376\\n'; exec {real} \"$@\"")
    session._launch = lambda: launch(diorama, tmp_path, noisy)
    session.submit(a_request(diorama), tmp_path / "asset")
    pump_until(session, lambda: stage(session) == "Loading libraries")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("yes", "no messages"),
        ("echo 'wrong program'; exit 3", "exit code 3"),
        ("exit 0", "without a word"),
        ('echo \'{"jsonrpc":"2.0","method":"hello","params":{"protocol":[99,0]}}\'; sleep 60', "protocol"),
    ],
)
def test_program_that_is_no_backend(
    diorama: ModuleType, session: Any, tmp_path: Path, program: str, words: str
) -> None:
    session._launch = lambda: launch(diorama, tmp_path, script(tmp_path, program))
    job = session.run_to_end(session.submit(a_request(diorama), tmp_path / "asset").id)
    assert job.error["code"] in {"E_ENVIRONMENT", "E_PROTOCOL"}
    assert words in job.error["message"]
    assert not session.client.running


def test_environment_without_packages(diorama: ModuleType, session: Any, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = diorama.client.environment.python_in(tmp_path / "venv")
    session._launch = lambda: launch(diorama, tmp_path, python)
    job = session.run_to_end(session.submit(a_request(diorama), tmp_path / "asset").id)
    assert job.error["code"] == "E_ENVIRONMENT"
    assert job.error["message"] == "the backend's Python cannot load numpy"
    assert "Install Backend" in job.error["hint"]


def test_backend_goes_when_blender_dies(diorama: ModuleType, session: Any, tmp_path: Path) -> None:
    """A Python that started a backend and is killed takes it along."""
    code = (
        "import subprocess, sys\n"
        f"p = subprocess.Popen([{str(session._launch().python)!r}, '-m', 'backend', 'serve'],\n"
        f"    cwd={str(diorama.host.ROOT)!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "p.stdout.readline(); print(p.pid, flush=True); sys.stdin.read()"
    )
    host = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(host.stdout.readline())
    host.kill()
    host.wait()
    deadline = time.monotonic() + 10
    while _alive(pid):
        assert time.monotonic() < deadline, "the backend outlived its Blender"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet collected by its new parent does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_crash_of_blender_leaves_a_failed_job_at_once(diorama: ModuleType, tmp_path: Path) -> None:
    killed, next_one = diorama.client.jobs.Store(tmp_path), diorama.client.jobs.Store(tmp_path)
    folder = tmp_path / "asset"
    (folder / ".partial-ab12cd34").mkdir(parents=True)
    running = dataclasses.replace(
        diorama.client.jobs.new_job(a_request(diorama), folder),
        state="running",
        owner=killed.owner,
        made_folder=True,
    )
    killed.save(running)
    assert next_one.load() == []  # its Blender lives
    killed._held.close()  # as the system does when a process is killed
    (job,) = next_one.load()
    assert (job.state, job.error["code"]) == ("interrupted", "E_WORKER_DIED")
    assert not folder.exists()
    assert not list(tmp_path.glob("*.lock"))


def test_jobs_of_another_blender_come_into_the_history_when_it_has_ended(
    diorama: ModuleType, tmp_path: Path
) -> None:
    jobs = diorama.client.jobs
    other = jobs.Store(tmp_path / "jobs")
    both = [
        dataclasses.replace(jobs.new_job(a_request(diorama), tmp_path / name), owner=other.owner)
        for name in ("first", "second")
    ]
    for job in both:
        other.save(job)
    mine = diorama.client.session.Session(jobs.Store(tmp_path / "jobs"), lambda: None)
    assert mine.jobs == [] and mine.waits_for_others
    assert mine.take_ended() == []
    other.save(dataclasses.replace(both[0], state="done"))
    assert [job.id for job in mine.take_ended()] == [both[0].id]
    other._held.close()  # as the system does, some time after the other was killed
    assert [job.id for job in mine.take_ended()] == [both[1].id]
    assert [job.state for job in mine.jobs] == ["done", "interrupted"]
    assert mine.interrupted == [mine.jobs[1]] and not mine.waits_for_others


def test_damaged_record_is_skipped(diorama: ModuleType, tmp_path: Path) -> None:
    store = diorama.client.jobs.Store(tmp_path)
    done = dataclasses.replace(
        diorama.client.jobs.new_job(a_request(diorama), tmp_path / "asset"), state="done"
    )
    store.save(done)
    for name, text in (("0", ""), ("1", "{}"), ("2", '{"id": 1}'), ("3", "[]"), ("4", '{"request": "x"}')):
        (tmp_path / f"{name}.json").write_text(text)
    assert store.load() == [done]


def script(folder: Path, text: str) -> Path:
    """A program that the preferences could name by mistake."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path
