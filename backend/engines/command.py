"""`python -m backend batch`: runs a job file with an engine, shows its progress, reports."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from ..shared.job_file import RECORDS, read_job_file
from ..shared.progress import LOG_EVERY_S
from ..shared.protocol import DioramaError
from ..shared.request import given_settings
from . import report
from .local import local_workers, ssh_workers
from .scheduler import Event, Worker, run_jobs


def run(args: argparse.Namespace) -> int:
    """Does what the command line says; returns the exit code, that of the first failure if there was one.

    Raises:
        DioramaError: E_REQUEST if the job file holds nothing or a number is wrong; E_OUTPUT_UNWRITABLE;
            E_ENVIRONMENT if the engine cannot be started.
    """
    if args.processes is not None and not 1 <= args.processes <= 64:
        raise DioramaError("E_REQUEST", f"--processes is {args.processes}; expected 1 to 64")
    out = args.out.resolve()
    jobs, broken = read_job_file(args.jobs, given_settings(args), args.first, args.last)
    for line in broken:
        _say(f"{line.error.code}: {line.error.message}\n{line.error.hint}")
    began = time.monotonic()
    cancelled = threading.Event()
    outcomes = []
    if jobs:
        out.mkdir(parents=True, exist_ok=True)
        report.check_ours(out)
        with _ctrl_c_sets(cancelled), _Bar(len(jobs)) as bar:
            outcomes = run_jobs(jobs, out, lambda count: _workers(args, out, count), bar.listen, cancelled)
        written = report.write_report(out, outcomes, broken, time.monotonic() - began)
        counts = ", ".join(f"{number} {state}" for state, number in written["counts"].items())
        print(f"{counts}; {written['made']} made now in {written['seconds']:.0f} s\n{out / 'report.html'}")
    errors = [line.error for line in broken]
    errors += [DioramaError.from_dict(outcome.error) for outcome in outcomes if outcome.error]
    if cancelled.is_set():
        return DioramaError("E_CANCELLED", "cancelled").exit_code
    return errors[0].exit_code if errors else 0


def _workers(args: argparse.Namespace, out: Path, count: int) -> Sequence[Worker]:
    """The engine's workers, no more of them than jobs."""
    most = min(args.processes, count) if args.processes else None
    if args.engine == "ray":
        from .ray import ray_workers

        return ray_workers(args.address, most, count)
    if args.engine == "ssh":
        if not args.address:
            raise DioramaError(
                "E_REQUEST", "--engine ssh needs --address", "Give it as ssh takes it: user@host."
            )
        return ssh_workers(args.address, args.remote_python, out / RECORDS)[:count]
    if args.address:
        raise DioramaError(
            "E_REQUEST",
            "--address is of a Ray cluster or of ssh",
            "Add --engine ray or ssh, or leave it out.",
        )
    return local_workers(most, out / RECORDS)[:count]


class _Bar:
    """One progress bar over all jobs; in a log file, a line for each job and now and then a sign of life."""

    def __init__(self, total: int) -> None:
        self._bar = tqdm(total=total, unit="job", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self._total, self._ended = total, 0
        self._spoke = time.monotonic()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()

    def listen(self, event: Event) -> None:
        """Shows what a worker says."""
        if event.event == "stage":
            self._bar.set_postfix_str(f"{event.worker}: {event.job.name[:30]}: {event.fields['stage']}")
            if time.monotonic() - self._spoke > LOG_EVERY_S:  # a farm takes a silent task for a dead one
                self._line(f"{event.worker}: {event.job.name}: {event.fields['stage']}")
        elif event.event == "log" and event.fields["level"] == "warning":
            self._line(f"warning: {event.job.name}: {event.fields['message']}")
        elif event.outcome:
            self._ended += 1
            self._bar.update()
            outcome = event.outcome
            how = outcome.state if outcome.made else "already complete"
            self._line(f"[{self._ended}/{self._total}] {outcome.name}: {how}, {outcome.seconds:.1f} s")
            if error := outcome.error:
                self._line(f"{error['code']}: {error['message']}\n{error['hint']}")

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        tqdm.write(text, file=sys.stderr)


@contextmanager
def _ctrl_c_sets(cancelled: threading.Event) -> Iterator[None]:
    """Ctrl-C stops running jobs within a step; pressed again, it ends the program."""

    def stop(*_: object) -> None:
        if cancelled.is_set():
            raise KeyboardInterrupt
        cancelled.set()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
