"""The engine of a cluster: one Ray actor for each GPU or CPU share, with its model loaded.

Nothing is shared but the code, which Ray carries to its machines, and the assets, which come back through
Ray's object store. Each machine needs the backend's packages, and its own copy of a model's weights.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Before Ray is loaded: a cluster that nobody without the token can use, and no telemetry.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from ..shared.asset import receive_asset
from ..shared.progress import Emit
from ..shared.protocol import DioramaError, explained
from ..shared.request import GenerationRequest
from .local import LocalWorker

try:
    import ray
    from ray.exceptions import RayActorError, RayError
except ImportError as error:
    raise DioramaError(
        "E_ENVIRONMENT", f"Ray cannot be loaded: {error}", "Install it with: pip install .[cluster]"
    ) from error

ROOT = Path(__file__).parents[2]
REACHABLE_WITHIN_S = 10.0
CLOSED_WITHIN_S = 5.0
LOOK_EVERY_S = 0.5  # for what an actor says


class Generator:
    """The actor: has a backend process of its machine generate, tells how it goes, and gives the files away.

    The process is the one that runs jobs everywhere else: if it dies, the actor and Ray's part of it live on.
    """

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._cancelled = threading.Event()
        self._folder = tempfile.TemporaryDirectory(prefix="diorama-")
        self._asset = Path(self._folder.name) / "asset"
        places = [spec.origin for name in ("backend", "kernels") if (spec := find_spec(name)) and spec.origin]
        path = os.pathsep.join(str(Path(place).parents[1]) for place in places)
        self._backend = LocalWorker("backend", Path(self._folder.name) / "backend.log", {"PYTHONPATH": path})

    def ready(self) -> bool:
        """Answers once a machine has been found for it."""
        return True

    def run(self, settings: dict[str, Any], images: dict[str, bytes]) -> dict[str, Any]:
        """Runs one request; returns the job's result, or `{"error": …}`."""
        self._cancelled.clear()
        try:
            request = GenerationRequest.from_dict(settings)
            for name, image in images.items():
                (Path(self._folder.name) / name).write_bytes(image)
            paths = {name: str(Path(self._folder.name) / name) for name in images}
            request = request.with_images(paths)
            return self._backend.run(request, self._asset, self._tell, self._cancelled)
        except Exception as failure:  # the border: everything leaves as a DioramaError
            return {"error": explained(failure).to_dict()}

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        if event != "preview":  # previews stay where they are
            self._events.put((event, fields))

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """What has happened since the last call."""
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found

    def cancel(self) -> None:
        """Stops the running job within a denoising step."""
        self._cancelled.set()

    def close(self) -> None:
        """Ends the backend process; nothing of it stays on the disk."""
        self._backend.close()
        self._folder.cleanup()

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
            images = {name: Path(path).read_bytes() for name, path in request.images.items()}
            answer = self._actor.run.remote(request.to_dict(), images)
            while not ray.wait([answer], timeout=LOOK_EVERY_S)[0]:
                for event, fields in ray.get(self._actor.events.remote()):
                    emit(event, fields)
                if cancelled.is_set():  # said again and again: it may not have begun yet
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
        if self.ready():
            ray.wait([self._actor.close.remote()], timeout=CLOSED_WITHIN_S)
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
        if address:
            _check_reachable(address)
        if not ray.is_initialized():
            ray.init(
                address,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"py_modules": [str(ROOT / "backend"), str(ROOT / "kernels")]},
            )
    except (RayError, OSError, ValueError, RuntimeError) as error:
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


def _check_reachable(address: str) -> None:
    """Asks for the port first: Ray would wait for a minute, and then end this process without a word.

    Raises:
        OSError: nobody listens there.
        ValueError: that is no address.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("expected HOST:PORT, as `ray start --head` prints it")
    socket.create_connection((host, int(port)), REACHABLE_WITHIN_S).close()
