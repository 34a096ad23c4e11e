"""The engine of one machine: backend processes beside each other, one for each GPU or a stated number."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..shared.client import Client, Launch, over_ssh
from ..shared.progress import Emit
from ..shared.protocol import DioramaError, Message
from ..shared.request import GenerationRequest

ROOT = Path(__file__).parents[2]  # of the folder `backend`
GRACE_S = 10.0  # for a cancelled job to stop; then its process is ended


class LocalWorker:
    """A backend process that is started when it is needed, and again if it died."""

    def __init__(
        self,
        name: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = ("serve",),
    ) -> None:
        self.name = name
        self._launch = Launch(
            Path(sys.executable),
            ROOT,
            log,
            online=not os.environ.get("HF_HUB_OFFLINE"),
            environment=tuple((environment or {}).items()),
            arguments=arguments,
        )
        self._client = Client()

    def call(
        self,
        method: str,
        params: Mapping[str, Any],
        emit: Emit | None = None,
        cancelled: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Calls a method of the backend and waits for its answer.

        Raises:
            DioramaError: what the backend answered, or E_WORKER_DIED.
        """
        if not self._client.running:
            self._client.start(self._launch)
        number = self._client.call(method, dict(params))
        left_s = None
        while True:
            message = self._client.receive(0.1)
            if message is not None and message.get("id") == number:
                return _result(message)
            if message is not None and emit and message.get("params", {}).get("job") == params.get("job"):
                emit(message["method"].removeprefix("job."), message["params"])
            if cancelled and cancelled.is_set():
                if left_s is None:
                    left_s = GRACE_S
                    self._client.notify("job.cancel", {"job": params["job"]})
                elif message is None:
                    left_s -= 0.1
                if left_s <= 0:
                    self._client.kill()
                    raise DioramaError("E_CANCELLED", "the job was cancelled")

    def ready(self) -> bool:
        """Always: the process is started by the first call."""
        return True

    def run(
        self, request: GenerationRequest, directory: Path, emit: Emit, cancelled: threading.Event
    ) -> dict[str, Any]:
        params = {"job": directory.parent.name, "request": request.to_dict(), "directory": str(directory)}
        return self.call("job.submit", params, emit, cancelled)

    def close(self) -> None:
        self._client.close()


def local_workers(processes: int | None, logs: Path) -> list[LocalWorker]:
    """A worker for each GPU, or as many as are asked for; on a CPU they share its cores.

    Raises:
        DioramaError: E_ENVIRONMENT if the backend cannot be started.
    """
    first = LocalWorker("worker 1", logs / "worker-1.log")
    devices = [device["name"] for device in first.call("probe", {})["devices"]]
    gpus = [name.partition(":")[2] for name in devices if name.startswith("cuda:")]
    count = processes or max(len(gpus), 1)
    if count == 1:
        return [first]
    first.close()
    cores = max((os.cpu_count() or 1) // count, 1)
    workers = []
    for i in range(count):
        here = (
            {"CUDA_VISIBLE_DEVICES": _visible(gpus[i % len(gpus)])}
            if gpus
            else {"OMP_NUM_THREADS": f"{cores}"}
        )
        workers.append(LocalWorker(f"worker {i + 1}", logs / f"worker-{i + 1}.log", here))
    return workers


def ssh_workers(hosts: str, python: str, logs: Path) -> list[LocalWorker]:
    """A worker on each of the computers, whose names stand between commas.

    Raises:
        DioramaError: E_ENVIRONMENT if one of them cannot be reached, or has no such Python.
    """
    workers = [
        LocalWorker(host, logs / f"worker-{i + 1}.log", arguments=over_ssh(host, python))
        for i, host in enumerate(hosts.split(","))
    ]
    for worker in workers:
        worker.call("models.list", {})
    return workers


def _visible(gpu: str) -> str:
    """The number by which the system knows what torch calls the GPU of that number."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",")[int(gpu)] if visible else gpu


def _result(message: Message) -> dict[str, Any]:
    if "error" in message:
        raise DioramaError.from_dict(message["error"].get("data", {}))
    result: dict[str, Any] = message["result"]
    return result
