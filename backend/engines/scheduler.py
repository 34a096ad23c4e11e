"""Shares the jobs of a file among workers, whatever these are, and records what became of each.

OUT/NAME/asset/          the finished asset of a job
OUT/.jobs/NAME.json      how the job ended
OUT/.jobs/NAME.claim     while somebody is at it
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from ..shared import output_folder
from ..shared.claims import claimed
from ..shared.job_file import RECORDS, BatchJob, is_complete
from ..shared.progress import Emit
from ..shared.protocol import DioramaError, explained
from ..shared.request import GenerationRequest

MOST_DEATHS = 2  # of workers at one job: then it is the job, not the worker
LOOK_EVERY_S = 0.3  # whether there is something to do
LOOK_AGAIN_S = 2.0  # for jobs that another process holds

State = Literal["done", "failed", "cancelled"]


class Worker(Protocol):
    """One process that generates, with its models loaded."""

    name: str

    def ready(self) -> bool:
        """Whether it could begin a job now; one in a cluster may have to wait for a machine."""

    def run(
        self, request: GenerationRequest, directory: Path, emit: Emit, cancelled: threading.Event
    ) -> dict[str, Any]:
        """Makes the asset folder; returns the job's result.

        Raises:
            DioramaError: E_WORKER_DIED if the process is gone; the next call starts another.
        """

    def close(self) -> None:
        """Ends the process."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        seconds: it took, on the worker.
        made: by this run, not found complete.
    """

    name: str
    line: int
    request: dict[str, Any]
    state: State
    seconds: float = 0.0
    error: dict[str, str] | None = None
    warnings: tuple[str, ...] = ()
    worker: str = ""
    made: bool = True


@dataclasses.dataclass(frozen=True)
class Event:
    """What a worker says of the job that it runs: an event of `Progress`, or how the job ended."""

    worker: str
    job: BatchJob
    event: str
    fields: dict[str, Any]
    outcome: Outcome | None = None


Listener = Callable[[Event], None]


def run_jobs(
    jobs: Sequence[BatchJob],
    out: Path,
    start: Callable[[int], Sequence[Worker]],
    listen: Listener,
    cancelled: threading.Event,
) -> list[Outcome]:
    """Runs every job that is not complete yet; returns all outcomes, in the jobs' order.

    Several runs on one folder share the jobs: each is made by one of them, and found complete by the others.
    Jobs of one model follow each other, so that a worker loads its weights once.

    Args:
        start: starts workers for so many jobs; not called if there are none to make.
        listen: told what happens, from one thread at a time.
        cancelled: set from any thread to stop within a denoising step.

    Raises:
        OSError: the output folder cannot be written.
    """
    (out / RECORDS).mkdir(parents=True, exist_ok=True)
    run = _Run(out, listen, cancelled)
    models = list(dict.fromkeys(job.request.model for job in jobs))
    for job in sorted(jobs, key=lambda job: models.index(job.request.model)):
        if _complete_already(out, job):
            run.end("", job, _recorded(out, job))
        else:
            run.waiting.append(job)
    if run.waiting:
        run.share_among(start(len(run.waiting)))
    stopped = DioramaError("E_CANCELLED", "the batch was cancelled").to_dict()
    return [run.outcomes.get(job.name) or _outcome(job, "cancelled", error=stopped) for job in jobs]


class _Run:
    """The jobs that wait and the outcomes so far, shared by one thread for each worker."""

    def __init__(self, out: Path, listen: Listener, cancelled: threading.Event) -> None:
        self.waiting: deque[BatchJob] = deque()
        self.outcomes: dict[str, Outcome] = {}
        self._out, self._listen, self._cancelled = out, listen, cancelled
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._deaths: Counter[str] = Counter()
        self._open = 0  # jobs that have not ended

    def share_among(self, workers: Sequence[Worker]) -> None:
        """Lets the workers run what waits, until nothing does or the run is cancelled; then ends them."""
        self._open = len(self.waiting)
        threads = [
            threading.Thread(target=self._work, args=(worker,), name=worker.name) for worker in workers
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # a whole join would not let Ctrl-C through everywhere
        except KeyboardInterrupt:
            self._cancelled.set()
            for thread in threads:
                thread.join()
            raise
        finally:
            for worker in workers:
                worker.close()
        if self._failures:
            raise self._failures[0]

    def end(self, worker: str, job: BatchJob, outcome: Outcome) -> None:
        """Keeps how a job ended, and writes it down if this run made it."""
        if outcome.made:
            _record(self._out, outcome)
        with self._lock:
            self.outcomes[job.name] = outcome
            self._open -= 1
        self._tell(Event(worker, job, "end", {}, outcome))

    def _tell(self, event: Event) -> None:
        with self._lock:
            self._listen(event)

    def _work(self, worker: Worker) -> None:
        try:
            while self._open and not self._cancelled.is_set():
                job = self._next() if worker.ready() else None
                if job is None:  # another worker may die and leave its job to this one
                    self._cancelled.wait(LOOK_EVERY_S)
                    continue
                outcome = _attempt(job, self._out, worker, self._tell, self._cancelled)
                if outcome is None:  # another process is at it: see later whether it is done
                    self._cancelled.wait(LOOK_AGAIN_S / (1 + len(self.waiting)))
                    self.waiting.append(job)
                elif self._died(job, outcome) < MOST_DEATHS:
                    self.waiting.append(job)
                else:
                    self.end(worker.name, job, outcome)
        except BaseException as error:  # the thread's border: raised again where somebody waits
            self._failures.append(error)
            self._cancelled.set()

    def _died(self, job: BatchJob, outcome: Outcome) -> int:
        """How many workers have died of a job, if one just did; else it has ended, however it did."""
        if outcome.error is None or outcome.error["code"] != "E_WORKER_DIED" or self._cancelled.is_set():
            return MOST_DEATHS
        self._deaths[job.name] += 1
        return self._deaths[job.name]

    def _next(self) -> BatchJob | None:
        try:
            return self.waiting.popleft()
        except IndexError:
            return None


def _attempt(
    job: BatchJob,
    out: Path,
    worker: Worker,
    tell: Listener,
    cancelled: threading.Event,
) -> Outcome | None:
    """How one job ended; None if another process is at it."""
    began = time.monotonic()
    with claimed(out / RECORDS, job.name) as ours:
        if not ours:
            return None
        directory = out / job.name / "asset"
        is_new = not directory.parent.exists()
        try:
            if is_complete(directory, job.request):
                return _recorded(out, job)
            tell(Event(worker.name, job, "begin", {}))
            result = worker.run(
                job.request,
                directory,
                lambda event, fields: tell(Event(worker.name, job, event, fields)),
                cancelled,
            )
        except Exception as error:  # the border: the next job runs
            if is_new:  # a process that died in the middle has left what was half-written
                output_folder.clear(directory)
                output_folder.clear(directory.parent)
            failure = explained(error)
            state: State = "cancelled" if failure.code == "E_CANCELLED" else "failed"
            return _outcome(job, state, began, error=failure.to_dict(), worker=worker.name)
        return _outcome(job, "done", began, warnings=tuple(result["warnings"]), worker=worker.name)


def _complete_already(out: Path, job: BatchJob) -> bool:
    try:
        return is_complete(out / job.name / "asset", job.request)
    except DioramaError:
        return False  # said when its turn comes


def _outcome(job: BatchJob, state: State, began: float | None = None, **more: Any) -> Outcome:
    seconds = 0.0 if began is None else round(time.monotonic() - began, 2)
    return Outcome(job.name, job.line, job.request.to_dict(), state, seconds, **more)


def _record(out: Path, outcome: Outcome) -> None:
    path = out / RECORDS / f"{outcome.name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(outcome), indent=1) + "\n", "utf-8")
    os.replace(partial, path)


def _recorded(out: Path, job: BatchJob) -> Outcome:
    """The outcome of a job that was found complete, with what the run that made it has written down."""
    known: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        record = json.loads((out / RECORDS / f"{job.name}.json").read_text("utf-8"))
        if record["state"] == "done":
            known = {"warnings": tuple(map(str, record["warnings"])), "worker": str(record["worker"])}
            known["seconds"] = float(record["seconds"])
    return Outcome(job.name, job.line, job.request.to_dict(), "done", **known, made=False)
