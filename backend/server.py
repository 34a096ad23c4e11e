"""Serves Blender: reads calls from stdin, runs jobs one after another, and tells how they go on stdout."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import platform
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from . import job
from .shared import model_store, protocol
from .shared.progress import Progress
from .shared.protocol import DioramaError, Message
from .shared.reconstruction import ReconstructionRequest, read_request

log = logging.getLogger(__name__)
CALLS = (
    "probe",
    "prepare",
    "doctor",
    "models.list",
    "job.submit",
    "job.cancel",
    "shutdown",
)  # and MODEL_JOBS
CHUNK_BYTES = 512 << 10  # of a file in one message: two thirds of a line, in base64


def serve(files: Path | None = None) -> int:
    """Runs until the host says `shutdown` or goes away.

    Args:
        files: if the host is on another computer: the folder, gone afterwards, which it reads and writes with
            messages. The paths of a job lie in it then.
    """
    Server(*take_over_pipes(), files).run()
    return 0


def take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Where calls come from and answers go; nothing else in this process can use its stdin and stdout."""
    rpc = os.dup(1)
    os.dup2(2, 1)  # a stray print, from Python or from C, lands in the log instead of between two messages
    calls = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)  # and no library can eat a message by asking for input
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the host's terminal is the host's to handle
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return os.fdopen(calls, "rb"), os.fdopen(rpc, "wb", buffering=0)


def hello() -> dict[str, Any]:
    """What this process is, for the host."""
    return {
        "protocol": protocol.VERSION,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "capabilities": [
            "probe",
            "doctor",
            "models.list",
            *MODEL_JOBS,
            "job.submit",
            "job.cancel",
            "shutdown",
        ],
    }


class Server:
    """One conversation with a host: a thread reads, a thread says `alive`, the main thread works."""

    def __init__(self, calls: BinaryIO, answers: BinaryIO, files: Path | None = None) -> None:
        self._calls = calls
        self._files = files.resolve() if files else None
        self._answers = answers
        self._sending = threading.Lock()
        self._work: queue.Queue[Callable[[], None]] = queue.Queue()
        self._jobs: dict[str, Progress] = {}  # waiting and running; a cancel for any other changes nothing

    def run(self) -> None:
        """Says hello, then does what the reader thread puts into the queue, for ever."""
        self._send(protocol.notification("hello", hello()))
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        threading.Thread(target=self._say_alive, name="alive", daemon=True).start()
        while True:
            self._work.get()()

    def _send(self, message: Message) -> None:
        with self._sending:
            try:
                self._answers.write(protocol.encode(message))
            except OSError:
                self._end()  # the host is gone

    def _end(self) -> None:
        if self._files:
            shutil.rmtree(self._files, ignore_errors=True)
        os._exit(0)

    def _say_alive(self) -> None:
        pause = threading.Event()
        while not pause.wait(protocol.ALIVE_EVERY_S):
            self._send(protocol.notification("alive", {}))

    def _read(self) -> None:
        for message in protocol.messages(self._calls):
            if isinstance(message, DioramaError):
                self._send(protocol.failure(None, message))
                continue
            try:
                self._dispatch(message)
            except Exception as error:  # the border: the reader must outlive any message
                self._send(protocol.failure(message.get("id"), protocol.explained(error)))
        self._end()  # the host is gone, or said shutdown: end even in the middle of a job

    def _dispatch(self, message: Message) -> None:
        number, method, params = message.get("id"), message.get("method"), message.get("params", {})
        if method == "job.submit":
            self._submit(number, params)
        elif method == "job.cancel":
            if running := self._jobs.get(params.get("job", "")):
                running.cancel()
        elif method == "models.list":
            self._send(protocol.answer(number, list_models()))
        elif method in MODEL_JOBS:
            self._change_model(number, MODEL_JOBS[method], params)
        elif method == "probe":
            self._work.put(lambda: self._answer(number, probe))
        elif method == "prepare":
            self._work.put(_load_libraries)
        elif method == "doctor":
            self._work.put(lambda: self._answer(number, _examine))
        elif method == "shutdown":
            self._send(protocol.answer(number, {}))
            self._end()
        elif method in ("file.read", "file.write") and self._files:
            move: Callable[..., dict[str, Any]]
            move = self._read_file if method == "file.read" else self._write_file
            self._send(protocol.answer(number, move(**params)))
        else:
            raise DioramaError("E_PROTOCOL", f"unknown method {method!r}")

    def _submit(self, number: int | None, params: dict[str, Any]) -> None:
        identity, directory = params.get("job"), params.get("directory")
        if not isinstance(identity, str) or not isinstance(directory, str) or identity in self._jobs:
            raise DioramaError("E_PROTOCOL", "job.submit needs a new job name and a directory")
        request = read_request(params.get("request"))
        place = Path(directory)
        if self._files:
            if isinstance(request, ReconstructionRequest):
                raise DioramaError(
                    "E_REQUEST",
                    "the backend on another computer does not fit splats to captures",
                    hint="Choose the backend of this computer: it needs no model for that.",
                )
            place = self._inside(directory)
            images = request.images.items()
            request = request.with_images({name: str(self._inside(path)) for name, path in images})
        self._enqueue(number, identity, lambda progress: job.run(request, place, progress))

    def _inside(self, path: str) -> Path:
        """A path in the folder of files.

        Raises:
            DioramaError: E_PROTOCOL if it leads out of it.
        """
        assert self._files
        place = (self._files / path).resolve()
        if place == self._files or not place.is_relative_to(self._files):
            raise DioramaError("E_PROTOCOL", f"{path} is outside of the folder for files")
        return place

    def _read_file(self, path: str, offset: int) -> dict[str, Any]:
        with open(self._inside(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(offset)
            data = file.read(CHUNK_BYTES)
        return {"size": size, "data": base64.b64encode(data).decode("ascii")}

    def _write_file(self, path: str, offset: int, data: str) -> dict[str, Any]:
        with open(self._inside(path), "ab" if offset else "wb") as file:
            file.write(base64.b64decode(data))
        return {}

    def _change_model(self, number: int | None, change: ModelJob, params: dict[str, Any]) -> None:
        identity = params.get("job")
        if not isinstance(identity, str) or identity in self._jobs:
            raise DioramaError("E_PROTOCOL", "a change of a model needs a new job name")
        name = model_store.known(params.get("model")).name
        self._enqueue(number, identity, lambda progress: change(name, model_store.models_root(), progress))

    def _enqueue(self, number: int | None, identity: str, run: Callable[[Progress], dict[str, Any]]) -> None:
        """Runs something after what waits already, as a job that tells its progress and can be cancelled."""

        def emit(event: str, fields: dict[str, Any]) -> None:
            self._send(protocol.notification(f"job.{event}", {"job": identity, **fields}))

        progress = Progress(emit)
        self._jobs[identity] = progress

        def work() -> dict[str, Any]:
            try:
                return run(progress)
            finally:
                del self._jobs[identity]  # before the answer: whoever has it may use the name again

        self._work.put(lambda: self._answer(number, work))

    def _answer(self, number: int | None, work: Callable[[], dict[str, Any]]) -> None:
        try:
            message = protocol.answer(number, work())
        except Exception as error:  # the border: every call is answered
            failure = protocol.explained(error)
            log.error("%s %s", failure, failure.detail)
            message = protocol.failure(number, failure)
        self._send(message)


def list_models() -> dict[str, Any]:
    """The catalogue, with what is installed and what is missing, as the disk says now."""
    root = model_store.models_root()
    models = [model_store.state(model, root).to_dict() for model in model_store.INSTALLABLE.values()]
    makes_images = model_store.is_pipeline(model_store.text_to_image_folder(root))
    return {"folder": str(root), "models": models, "makes_images": makes_images}


def _load_libraries() -> None:
    """Before the first job asks for them. What is missing, that job will say."""
    with contextlib.suppress(ImportError, OSError):
        from .pipelines import generate, views  # noqa: F401


def _examine() -> dict[str, Any]:
    from . import doctor

    return doctor.examine()


def _download(name: str, root: Path, progress: Progress) -> dict[str, Any]:
    from .install import install
    from .pipelines import model_cache

    model_cache.forget()  # it may be this model, as it was before
    return install.download(name, root, progress)


def _remove(name: str, root: Path, progress: Progress) -> dict[str, Any]:
    progress.stage("Removing")
    return model_store.remove(name, root)


ModelJob = Callable[[str, Path, Progress], dict[str, Any]]
MODEL_JOBS: dict[str, ModelJob] = {
    "models.download": _download,
    "models.verify": model_store.verify,
    "models.remove": _remove,
}


def probe() -> dict[str, Any]:
    """This environment: the versions of its packages and the devices that they can use.

    Raises:
        DioramaError: E_ENVIRONMENT if a package is missing or cannot be loaded.
    """
    import diffusers
    import torch
    import transformers

    from .pipelines import devices

    found = [
        {
            "name": str(each),
            "description": f"{devices.title(each)}, {devices.total_bytes(each) / 2**30:.0f} GiB",
        }
        for each in devices.all_devices()
    ]
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    return {"versions": {**versions, "transformers": transformers.__version__}, "devices": found}
