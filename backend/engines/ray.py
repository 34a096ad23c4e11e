"""The engine of a cluster: one Ray actor for each GPU or CPU share, with its model loaded.

Nothing is shared but the code, which Ray carries to its machines, and the assets, which come back through
Ray's object store. Each machine needs the backend's packages, and its own copy of a model's weights.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import queue
import tempfile
import threading
from pathlib import Path
from typing import Any

# Before Ray is loaded: a cluster that nobody without the token can use, and no telemetry.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from ..shared.asset import receive_asset
from ..shared.progress import Emit, Progress
from ..shared.protocol import DioramaError, explained
from ..shared.request import GenerationRequest

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as error:
    raise DioramaError(
        "E_ENVIRONMENT", f"Ray cannot be loaded: {error}", "Install it with: pip install .[cluster]"
    ) from error

ROOT = Path(__file__).parents[2]
LOOK_EVERY_S = 0.3  # for what an actor says


class Generator:
    """The actor: generates into a folder of its machine, tells how it goes, and gives the files away."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._progress: Progress | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="diorama-")
        self._asset = Path(self._folder.name) / "asset"

    def ready(self) -> bool:
        """Answers once a machine has been found for it."""
        return True

    def run(self, settings: dict[str, Any], image: bytes | None) -> dict[str, Any]:
        """Runs one request; returns the job's result, or `{"error": …}`."""
        from backend import job

        self._progress = Progress(lambda event, fields: self._events.put((event, fields)))
        try:
            request = GenerationRequest.from_dict(settings)
            if image is not None:
                path = Path(self._folder.name) / "image"
                path.write_bytes(image)
                request = dataclasses.replace(request, image=str(path))
            return job.run(request, self._asset, self._progress)
        except Exception as failure:  # the border: everything leaves as a DioramaError
            return {"error": explained(failure).to_dict()}

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What has happened since the last call; previews stay where they are."""
        found = []
        while not self._events.empty():
            event = self._events.get()
            if event[0] != "preview":
                found.append(event)
        return found

    def cancel(self) -> None:
        """Stops the running job within a denoising step."""
        if self._progress:
            self._progress.cancel()

    def read(self, name: str) -> bytes:
        """A file of the asset."""
        return (self._asset / name).read_bytes()


class RayWorker:
    """One actor, as the scheduler sees it. Ray starts it again, on whichever machine has room, if it dies."""

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self._actor = actor
        self._ready = actor.ready.remote()

    def ready(self) -> bool:
        """Whether Ray has found a machine for it; it may wait for one that joins."""
        if not ray.wait([self._ready], timeout=0)[0]:
            return False
        try:
            return bool(ray.get(self._ready))
        except RayActorError:  # it is being started again
            self._ready = self._actor.ready.remote()
            return False

    def run(
        self, request: GenerationRequest, directory: Path, emit: Emit, cancelled: threading.Event
    ) -> dict[str, Any]:
        """See `Worker`."""
        try:
            image = Path(request.image).read_bytes() if request.image else None
            answer = self._actor.run.remote(request.to_dict(), image)
            asked = False
            while not ray.wait([answer], timeout=LOOK_EVERY_S)[0]:
                for event, fields in ray.get(self._actor.events.remote()):
                    emit(event, fields)
                if cancelled.is_set() and not asked:
                    asked = True
                    self._actor.cancel.remote()
            result: dict[str, Any] = ray.get(answer)
            if "error" in result:
                raise DioramaError.from_dict(result["error"])
            receive_asset(directory, request.to_dict(), lambda name: ray.get(self._actor.read.remote(name)))
        except RayActorError as error:
            self._ready = self._actor.ready.remote()  # of the one that Ray starts in its place
            raise DioramaError(
                "E_WORKER_DIED",
                "the machine of this job left the cluster, or its process ended",
                detail=str(error),
            ) from error
        return {**result, "asset": str(directory)}

    def close(self) -> None:
        """Ends the actor."""
        ray.kill(self._actor)


def ray_workers(address: str | None, processes: int | None, count: int) -> list[RayWorker]:
    """Actors for so many jobs: as many as the cluster has GPUs, or CPUs where it has none, if not said.

    If more are asked for than the cluster has room for, the others wait for machines that join.

    Args:
        address: of a running cluster; without one, Ray is started on this machine.

    Raises:
        DioramaError: E_ENVIRONMENT if there is no such cluster or its token is another.
    """
    try:
        if not ray.is_initialized():
            ray.init(
                address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"py_modules": [str(ROOT / "backend"), str(ROOT / "kernels")]},
            )
    except (RayError, ConnectionError, ValueError, RuntimeError) as error:
        raise DioramaError(
            "E_ENVIRONMENT",
            f"cannot join the Ray cluster at {address or 'this machine'}: {error}",
            "Check the address, and that RAY_AUTH_TOKEN holds the cluster's token.",
        ) from error
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    share = {"num_gpus": 1} if gpus else {"num_cpus": 1}
    most = processes or gpus or int(resources.get("CPU", 1))
    actor = ray.remote(Generator).options(max_restarts=-1, max_concurrency=4, **share)
    return [RayWorker(f"worker {i + 1}", actor.remote()) for i in range(min(most, count))]
