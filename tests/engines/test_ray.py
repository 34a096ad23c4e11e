"""A Ray cluster on this machine: one node is killed half-way, another joins, and each job is made once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  its own, 15, waits for all else on a busy machine
os.environ["RAY_AUTH_TOKEN"] = "for-this-test-only-0123456789abcdef"

import ray
from ray.cluster_utils import Cluster

from backend.engines.ray import ray_workers
from backend.shared.asset import read_asset
from backend.shared.protocol import DioramaError
from backend.shared.request import GenerationRequest
from tests.engines.remote_jobs import cancels, four_discs, shows_four_discs

ROOT = Path(__file__).parents[2]
JOBS = 2


@pytest.fixture(scope="module")
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
    while not any(out.glob(".jobs/*.json")) or not any(out.glob(".jobs/*.claim")):  # one done, one begun
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.2)
    cluster.remove_node(doomed, allow_graceful=False)
    cluster.add_node(num_cpus=1)  # now the only one: what is left is made there
    said, _ = run.communicate(timeout=500)
    assert run.returncode == 0, said
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["counts"]["done"] == report["made"] == JOBS
    assert len([read_asset(asset) for asset in out.glob("*/asset")]) == JOBS


def test_images_go_there_and_a_cancelled_job_leaves_nothing(cluster: Cluster, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1)
    (there,) = ray_workers(cluster.address, 1, 1)
    while not there.ready():
        time.sleep(0.1)
    cancelled = threading.Event()
    long = GenerationRequest("a red mushroom", steps=150, views=2)
    with pytest.raises(DioramaError, match="E_CANCELLED"):
        there.run(long, tmp_path / "long/asset", cancels(cancelled), cancelled)
    assert not (tmp_path / "long/asset").exists()
    request = GenerationRequest(**four_discs(tmp_path))
    there.run(request, tmp_path / "discs/asset", lambda *_: None, threading.Event())
    there.close()
    ray.shutdown()
    made = read_asset(tmp_path / "discs/asset")
    assert made.request == request.to_dict() and shows_four_discs(made)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_cannot_be_reached_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(DioramaError, match=address) as error:
        ray_workers(address, None, 1)
    assert error.value.code == "E_ENVIRONMENT" and "token" in error.value.hint


def test_a_wrong_token_is_refused_in_words(cluster: Cluster, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text('{"prompt": "a car"}')
    run = batch(cluster, str(jobs), "--out", str(tmp_path / "out"), RAY_AUTH_TOKEN="another-0123456789abcdef")
    said, _ = run.communicate(timeout=240)
    assert run.returncode == 3, said
    assert "E_ENVIRONMENT" in said and "token" in said
