"""Runs the jobs one after another: the one state machine behind the panel's button and the headless batch."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..backend.shared.client import Client, Launch
from ..backend.shared.progress import Emit
from ..backend.shared.protocol import DioramaError, Message
from ..backend.shared.reconstruction import Request
from . import jobs
from .job_progress import JobProgress
from .jobs import Job, Store

GRACE_S = 5.0  # how long a cancelled job may take to stop, or three of its steps if these are longer
IDLE_S = 300.0  # how long the backend keeps its models in memory with nothing to do
SILENT_S = 30.0  # it says `alive` every two seconds; after this much silence it does not respond


@dataclasses.dataclass
class Active:
    """The running job, as the panel shows it."""

    job: Job
    call: int
    progress: JobProgress = dataclasses.field(default_factory=JobProgress)
    cancelled_at: float | None = None


class Session:
    """The queue, its backend process and the history; `pump` and `run_to_end` are its two drivers."""

    def __init__(self, store: Store, launch: Callable[[], Launch]) -> None:
        """`launch` is asked each time the backend must start, so that changed preferences take effect."""
        self.client = Client()
        self.jobs = store.load()  # oldest first
        self.active: Active | None = None
        self._store = store
        self._launch = launch
        self._waiting: deque[str] = deque()
        self._idle_since = time.monotonic()

    @property
    def waiting(self) -> list[Job]:
        """The jobs that have not begun, in the order in which they will."""
        known = {job.id: job for job in self.jobs}
        return [known[identity] for identity in self._waiting]

    @property
    def busy(self) -> bool:
        """Whether a job is running or waiting."""
        return self.active is not None or bool(self._waiting)

    @property
    def unresponsive(self) -> bool:
        """Whether the backend has been silent for so long that the user should think of cancelling."""
        if self.active is None:
            return False
        # While nothing runs, nobody listens: what it said before the job began counts for nothing.
        silent_since = max(self.client.heard, self.active.progress.stage_began)
        return time.monotonic() - silent_since > SILENT_S

    def job(self, identity: str) -> Job:
        """The job of that id as it stands now."""
        return next(job for job in reversed(self.jobs) if job.id == identity)

    @property
    def interrupted(self) -> list[Job]:
        """The jobs that an end of Blender has cut off, and that were not run again or dismissed since."""
        return [job for job in self.jobs if job.state == jobs.INTERRUPTED]

    @property
    def expected(self) -> tuple[dict[str, Any], ...]:
        """The stages of the last finished job that is like the running one; empty if there is none."""
        if self.active is None:
            return ()
        alike = (
            job for job in reversed(self.jobs) if job.state == jobs.DONE and job.is_like(self.active.job)
        )
        return next((job.stages for job in alike), ())

    def submit(self, request: Request, directory: Path) -> Job:
        """Puts a job at the end of the queue.

        Raises:
            DioramaError: E_OUTPUT_UNWRITABLE if it cannot be recorded.
        """
        job = dataclasses.replace(
            jobs.new_job(request, directory),
            owner=self._store.owner,
            made_folder=not (directory.exists() and any(directory.iterdir())),
        )
        self._store.save(job)
        self.jobs.append(job)
        self._waiting.append(job.id)
        return job

    def prepare(self) -> None:
        """Starts the backend, which loads its libraries: the first job has then less to wait for.

        It ends by itself if no job comes. Why it cannot be started is for that job to say.
        """
        if self.busy or self.client.running:
            return
        with contextlib.suppress(DioramaError):
            self.client.start(self._launch())
            self.client.notify("prepare", {})
            self._idle_since = time.monotonic()

    def cancel(self, identity: str) -> None:
        """Stops a job, waiting or running; one that has ended stays as it is."""
        if identity in self._waiting:
            self._waiting.remove(identity)
            self._end(self.job(identity), DioramaError("E_CANCELLED", "the job was cancelled"))
        elif self.active and self.active.job.id == identity and self.active.cancelled_at is None:
            self.active.cancelled_at = time.monotonic()
            self.client.notify("job.cancel", {"job": identity})

    def remove(self, identity: str) -> None:
        """Forgets a job that has ended; its asset stays on disk."""
        job = self.job(identity)
        if job.finished:
            self._store.remove(job)
            self.jobs.remove(job)

    def dismiss(self, identity: str) -> None:
        """Does not offer an interrupted job to be run again any more."""
        job = self.job(identity)
        if job.state == jobs.INTERRUPTED:
            self._put(dataclasses.replace(job, state=jobs.CANCELLED))

    def pump(self, budget_s: float = 0.005) -> list[Job]:
        """Does what can be done now without waiting; returns the jobs that ended by it."""
        until = time.monotonic() + budget_s
        ended = []
        while self.busy:
            job, idle = self._advance(0.0)
            ended += [job] if job else []
            if idle or time.monotonic() > until:
                break
        if not self.busy and self.client.running and time.monotonic() - self._idle_since > IDLE_S:
            self.client.close()
        return ended

    @property
    def waits_for_others(self) -> bool:
        """Whether another Blender has jobs of which `take_ended` may hear."""
        return bool(self._store.elsewhere)

    def take_ended(self) -> list[Job]:
        """Takes jobs of other Blenders that have ended meanwhile into the history; returns them."""
        ended = self._store.load_ended()
        self.jobs = sorted(self.jobs + ended, key=lambda job: job.id)
        return ended

    def run_to_end(self, identity: str, emit: Emit | None = None) -> Job:
        """Works through the queue until that job has ended, telling `emit` what happens; Ctrl-C cancels."""
        while not self.job(identity).finished:
            try:
                self._advance(0.1, emit)
            except KeyboardInterrupt:
                self.cancel(identity)
        return self.job(identity)

    def close(self) -> None:
        """Ends the backend; unfinished jobs are interrupted, and can be run again the next time."""
        closed = DioramaError(
            "E_CANCELLED", "Blender was closed before the job was done", hint="Run it again."
        )
        if self.active and self.active.cancelled_at is not None:
            self._end(self.active.job, closed)
        for job in ([self.active.job] if self.active else []) + self.waiting:
            self._put(dataclasses.replace(job, state=jobs.INTERRUPTED, error=closed.to_dict()))
        self.active = None
        self._waiting.clear()
        self.client.close()
        for job in self.jobs:  # now that nothing writes there any more
            if job.state in (jobs.CANCELLED, jobs.INTERRUPTED) and job.owner == self._store.owner:
                jobs.clean_up(job)
        self._store.close()

    def _advance(self, timeout_s: float, emit: Emit | None = None) -> tuple[Job | None, bool]:
        """Begins the next job or takes one message; returns the job that ended, and whether nothing came."""
        if self.active is None:
            return (self._begin(), False) if self._waiting else (None, True)
        active = self.active
        try:
            message = self.client.receive(timeout_s)
        except DioramaError as error:
            return self._end(active.job, error), False
        if message is not None:
            return self._handle(active, message, emit), False
        if active.cancelled_at is not None:
            waited_s = time.monotonic() - active.cancelled_at
            if waited_s > max(GRACE_S, 3 * active.progress.step_s):
                self.client.kill()
                return self._end(active.job, DioramaError("E_CANCELLED", "the job was cancelled")), False
        return None, True

    def _begin(self) -> Job | None:
        job = dataclasses.replace(self.job(self._waiting.popleft()), state=jobs.RUNNING)
        self._put(job)
        try:
            launch = self._launch()
            if self.client.running and self.client.launch != launch:
                self.client.close()
            if not self.client.running:
                self.client.start(launch)
        except DioramaError as error:
            return self._end(job, error)
        params = {"job": job.id, "request": job.request, "directory": job.directory}
        self.active = Active(job, self.client.call("job.submit", params))
        return None

    def _handle(self, active: Active, message: Message, emit: Emit | None) -> Job | None:
        if message.get("id") == active.call:
            if "error" in message:
                return self._end(active.job, DioramaError.from_dict(message["error"].get("data", {})))
            return self._end(active.job, None, message["result"])
        params = message.get("params", {})
        if params.get("job") != active.job.id:
            return None  # hello, alive, or a late word about another job
        event = message["method"].removeprefix("job.")
        active.progress.take(event, params)
        if emit:
            emit(event, params)
        return None

    def _end(self, job: Job, error: DioramaError | None, result: dict[str, Any] | None = None) -> Job:
        if self.active and self.active.job.id == job.id:
            if self.active.cancelled_at is not None:  # the user said so, even if the last step came first
                error = DioramaError("E_CANCELLED", "the job was cancelled")
            self.active = None
        if error is None and result is not None:
            job = dataclasses.replace(
                job,
                state=jobs.DONE,
                directory=result["asset"],
                warnings=tuple(result["warnings"]),
                stages=tuple(result["stages"]),
                peak_mib=result["peak_mib"],
            )
        elif error is not None:
            state = jobs.CANCELLED if error.code == "E_CANCELLED" else jobs.FAILED
            job = dataclasses.replace(job, state=state, error=error.to_dict())
        self._idle_since = time.monotonic()
        self._put(job)
        if job.state != jobs.DONE:
            jobs.clean_up(job)
        return job

    def _put(self, job: Job) -> None:
        """Replaces a job by its newer self, here and on disk."""
        self.jobs = [job if other.id == job.id else other for other in self.jobs]
        with contextlib.suppress(
            DioramaError
        ):  # it was writable at submit; a job is worth more than its record
            self._store.save(job)
