"""A Ray cluster on this machine: one node is killed half-way, another joins, and each job is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_TOKEN"] = "for-this-test-only-0123456789abcdef"

from ray.cluster_utils import Cluster

from backend.shared.asset import read_asset

ROOT = Path(__file__).parents[2]
JOBS = 4


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def batch(cluster: Cluster, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "backend", "batch", *arguments]
    command += ["--engine", "ray", "--address", cluster.address]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_killed_node_loses_nothing_and_one_that_joins_gets_work(cluster: Cluster, tmp_path: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    jobs, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    lines = [{"prompt": "a red mushroom", "seed": seed, "steps": 1, "views": 2} for seed in range(JOBS)]
    jobs.write_text("\n".join(map(json.dumps, lines)))
    run = batch(cluster, str(jobs), "--out", str(out), "--processes", "2")
    while len(list(out.glob(".jobs/*.claim"))) < 1:  # a job has begun
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.1)
    cluster.add_node(num_cpus=1)
    cluster.remove_node(doomed, allow_graceful=False)
    said, _ = run.communicate(timeout=240)
    assert run.returncode == 0, said
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["counts"]["done"] == report["made"] == JOBS
    assert len([read_asset(asset) for asset in out.glob("*/asset")]) == JOBS


def test_a_wrong_token_is_refused_in_words(cluster: Cluster, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"prompt": "a car"}')
    run = batch(cluster, str(jobs), "--out", str(tmp_path / "out"), RAY_AUTH_TOKEN="another-0123456789abcdef")
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 3, said
    assert "E_ENVIRONMENT" in said and "token" in said
