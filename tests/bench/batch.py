"""Measures batches: jobs a minute against one at a time, what the engine adds to a job, memory over time.

    python -m tests.bench.batch --jobs 200 --processes 2 --engine local ray

The jobs are the starter's with few steps, the smallest there are, so that what an engine adds shows. Of a
job, `engine` is the time beside the stages of the backend, `CPU` that of all processes, which other programs
on the machine change less than the rest, and `scheduler` that of the process that hands jobs out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from backend.engines.scheduler import run_jobs
from backend.shared.job_file import BatchJob
from backend.shared.request import GenerationRequest
from tests.engines.test_scheduler import Maker

ROOT = Path(__file__).parents[2]
ONE_AT_A_TIME = 3  # jobs of which each gets a process of its own
LOOK_EVERY_S = 1.0


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--engine", nargs="+", default=["local", "ray"], choices=("local", "ray"))
    args = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {args.jobs} jobs of 2 steps, 4 views"
    )
    columns = ("jobs/min", "s/job", "engine s/job", "CPU s/job", "scheduler s", "MiB at 1/4", "MiB at end")
    print(f"{'':<28}" + "".join(f"{column:>14}" for column in columns))
    with tempfile.TemporaryDirectory() as folder:
        _scheduler_alone(Path(folder) / "alone", args.jobs)
        _one_at_a_time(Path(folder))
        for engine in args.engine:
            for processes in args.processes:
                _batch(Path(folder) / f"{engine}-{processes}", args.jobs, engine, processes)


def _settings(seed: int) -> dict[str, Any]:
    return {"prompt": "a red mushroom", "seed": seed, "steps": 2, "views": 4}


def _scheduler_alone(out: Path, count: int) -> None:
    """Claims, checks, records: CPU time to hand a job out, to a worker that writes three splats at once."""
    jobs = [BatchJob(f"{i}", GenerationRequest("a car", seed=i), i) for i in range(count)]
    times = [time.process_time()]
    for job in jobs:
        Maker().run(job.request, out / "alone" / job.name, lambda *_: None, None)
    times.append(time.process_time())
    run_jobs(jobs, out / "batch", lambda _: [Maker()], lambda _: None, threading.Event())
    times.append(time.process_time())
    run_jobs(jobs, out / "batch", lambda _: [], lambda _: None, threading.Event())
    times.append(time.process_time())
    making, handing_out, finding = (1e3 * (after - before) / count for before, after in pairwise(times))
    print(
        f"CPU time to hand a job out: {handing_out - making:.1f} ms, beside {making:.1f} ms to write it; "
        f"finding it complete, {finding:.1f} ms",
        flush=True,
    )


def _one_at_a_time(folder: Path) -> None:
    """`generate` for each job: every one starts Python, loads torch and the model."""
    began, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for seed in range(ONE_AT_A_TIME):
        options = [f"--{name}={value}" for name, value in _settings(seed).items() if name != "prompt"]
        command = ["generate", "a red mushroom", "--out", str(folder / f"one-{seed}"), *options]
        subprocess.run([sys.executable, "-m", "backend", *command], cwd=ROOT, check=True, capture_output=True)
    seconds = (time.monotonic() - began) / ONE_AT_A_TIME
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = (after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime) / ONE_AT_A_TIME
    name = f"one at a time, {ONE_AT_A_TIME} jobs"
    print(f"{name:<28}{60 / seconds:>14.2f}{seconds:>14.2f}{'':>14}{cpu_s:>14.2f}", flush=True)


def _batch(folder: Path, jobs: int, engine: str, processes: int) -> None:
    folder.mkdir()
    lines = [json.dumps({**_settings(seed), "name": f"{seed}"}) for seed in range(jobs)]
    (folder / "jobs.jsonl").write_text("\n".join(lines))
    out = folder / "out"
    command = ["batch", str(folder / "jobs.jsonl"), "--out", str(out), "--engine", engine]
    began = time.monotonic()
    process = psutil.Popen(
        [sys.executable, "-m", "backend", *command, "--processes", str(processes)],
        cwd=ROOT,
        env={**os.environ, "RAY_worker_niceness": "0"},  # as other programs have
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    memory: list[tuple[int, float]] = []  # jobs done, MiB of all processes
    cpu: dict[int, float] = {}
    while process.poll() is None:
        mib = 0.0
        for each in _family(process):
            try:
                mib += each.memory_info().rss / 2**20
                times = each.cpu_times()
                cpu[each.pid] = times.user + times.system
            except psutil.Error:
                continue
        memory.append((len(list(out.glob(".jobs/*.json"))), mib))
        time.sleep(LOOK_EVERY_S)
    wall_s = time.monotonic() - began
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["counts"]["done"] == jobs, report["counts"]
    added = []
    for job in report["jobs"]:
        manifest = json.loads((out / job["asset"] / "asset.json").read_text("utf-8"))
        added.append(job["seconds"] - sum(manifest["timings"].values()))
    quarter = statistics.median(mib for done, mib in memory if done >= jobs // 4 and done < jobs // 2)
    end = statistics.median(mib for done, mib in memory if done >= jobs * 3 // 4)
    name = f"{engine}, {processes} processes"
    figures = (
        60 * jobs / wall_s,
        wall_s / jobs,
        statistics.median(added),
        sum(cpu.values()) / jobs,
        cpu[process.pid] / jobs,
    )
    print(f"{name:<28}" + "".join(f"{figure:>14.2f}" for figure in figures) + f"{quarter:>14.0f}{end:>14.0f}")
    sys.stdout.flush()


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """The process and its children; a Ray that it starts is among them."""
    try:
        found = {process.pid: process, **{each.pid: each for each in process.children(recursive=True)}}
    except psutil.Error:
        return []
    return list(found.values())


if __name__ == "__main__":
    main()
