"""What lives while the add-on is enabled: the jobs, Blender's timer for them, and installations."""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

import bpy
import bpy.utils.previews

from . import folders
from .backend.shared import catalogue, model_store
from .backend.shared.client import Launch
from .backend.shared.progress import Emit
from .backend.shared.request import GenerationRequest
from .capture import Rendering
from .client import environment, jobs
from .client.environment import Installation
from .client.jobs import Job
from .client.model_work import ModelWork
from .client.session import Session

ROOT = Path(__file__).parent
BUSY_S, IDLE_S = 0.1, 2.0
USABLE = {"chosen", "ready", "outdated"}  # states of the environment in which a job can be tried


class Host:
    """The one object of the add-on that has a lifetime: made by register, closed by unregister."""

    def __init__(self) -> None:
        user_folder = folders.user_folder()
        self.session = Session(jobs.Store(user_folder / "jobs"), self._launch)
        self.installation: Installation | None = None
        self.environment = "missing"
        self.python = ""  # for this session; the preferences' Python if empty
        self.problem = ""  # with the last capture or import: what is not said by a job
        self.capture: Rendering | None = None  # the camera's picture that is being rendered
        self.preview_icon = 0  # the running job's latest preview, for drawing
        self._previews = bpy.utils.previews.new()
        self._timer = self._tick  # one object for ever: Blender knows a timer by the identity of its function
        self._log = user_folder / "backend.log"
        self._scenes: dict[str, int] = {}  # job → session_uid of the scene that asked for it
        self._to_import: deque[Job] = deque()
        self.models: dict[str, model_store.State] = {}  # of the disk, for drawing
        self.model_work: ModelWork | None = None  # the running or last change of a model
        self.check_environment()
        self.check_models()

    def check_environment(self) -> None:
        """Looks at the disk once, so that drawing need not: `chosen`, or one of `environment.state`."""
        if self.python or folders.backend_python():
            self.environment = "chosen"
        else:
            self.environment = environment.state(ROOT / "backend" / "requirements.txt", self.folder)

    def check_models(self) -> None:
        """Looks at the disk once, so that drawing need not."""
        root = folders.models_folder()
        self.models = {name: model_store.state(model, root) for name, model in catalogue.MODELS.items()}

    @property
    def usable_models(self) -> list[str]:
        """The models that can be chosen: the starter, which is a part of the add-on, and the installed."""
        return [name for name, state in self.models.items() if state.installed or not state.model.components]

    @property
    def changing_model(self) -> bool:
        """Whether a model is being installed, checked or removed."""
        return self.model_work is not None and self.model_work.running

    def change_model(self, method: str, model: str) -> ModelWork:
        """Begins to install (`models.download`), check or remove a model.

        Raises:
            DioramaError: E_ENVIRONMENT if the backend cannot be started.
        """
        self.model_work = ModelWork(method, model, self._launch())
        self.wake()
        return self.model_work

    @property
    def folder(self) -> Path:
        """The folder of our own environment."""
        return environment.default_folder()

    def _launch(self) -> Launch:
        python = environment.backend_python(self.python or folders.backend_python(), self.folder)
        return Launch(python, ROOT, self._log, bool(bpy.app.online_access), folders.models_folder())

    def begin_capture(self, rendering: Rendering) -> None:
        """Sees a camera's picture through to its end."""
        self.capture = rendering
        self.wake()

    def submit(self, request: GenerationRequest, directory: Path, scene: int) -> Job:
        """Puts a job into the queue; what it makes will be imported into the scene with that session_uid."""
        job = self.session.submit(request, directory)
        self._scenes[job.id] = scene
        self.problem = ""
        self.wake()
        return job

    def run(self, request: GenerationRequest, directory: Path, emit: Emit) -> Job:
        """Generates now and returns when it is done, for scripts and background mode; imports nothing.

        Raises:
            DioramaError: the job failed.
        """
        job = self.session.run_to_end(self.session.submit(request, directory).id, emit)
        job.raise_if_failed()
        return job

    def install(self) -> Installation:
        """Begins to install, or repair, the backend's environment.

        Raises:
            DioramaError: E_ENVIRONMENT or E_DISK_FULL, before anything is done.
        """
        self.session.client.close()
        plan = environment.plan(ROOT / "backend" / "requirements.txt", self.folder)
        self.environment = "broken"  # until it has succeeded: it begins by clearing what is there
        self.installation = Installation(plan)
        self.wake()
        return self.installation

    def wake(self) -> None:
        """Lets the timer fire at once. It never does in background mode: there, `run` is used."""
        if bpy.app.background:
            return
        if bpy.app.timers.is_registered(self._timer):  # it may sleep for IDLE_S
            bpy.app.timers.unregister(self._timer)
        # persistent: opening a file keeps the queue
        bpy.app.timers.register(self._timer, persistent=True)

    def close(self) -> None:
        """Ends the timer, the backend, and whatever is going on."""
        if bpy.app.timers.is_registered(self._timer):
            bpy.app.timers.unregister(self._timer)
        if self.capture:
            self.capture.close()
        if self.installation:
            self.installation.cancel()
        if self.model_work:
            self.model_work.close()
        self.session.close()
        with contextlib.suppress(KeyError):  # when bpy ends as a module, it has thrown them away before
            bpy.utils.previews.remove(self._previews)

    def _tick(self) -> float | None:
        if self.capture and self.capture.pump():
            self.capture = None
        ended = self.session.pump()
        self._to_import += [job for job in ended if job.state == jobs.DONE]
        # A render reads the scene from its own thread: nothing may appear in it meanwhile.
        if self._to_import and not self.capture and not bpy.app.is_job_running("RENDER"):
            self._import(self._to_import.popleft())
        self._load_preview()
        installing = self.installation is not None and self.installation.running
        if not installing and self.environment not in USABLE:
            self.check_environment()  # the installation may just have ended
        if self.model_work and self.changing_model:
            self.model_work.pump()
            if not self.model_work.running:
                self.check_models()
        _redraw()
        if self.session.busy or self._to_import or self.capture or installing or self.changing_model:
            return BUSY_S
        return IDLE_S if self.session.client.running else None

    def _load_preview(self) -> None:
        active = self.session.active
        if active is None or not active.progress.preview:
            self.preview_icon = 0
        elif (name := f"{active.job.id} {active.progress.previews}") not in self._previews:
            self._previews.clear()
            self.preview_icon = self._previews.load(name, active.progress.preview, "IMAGE").icon_id

    def _import(self, job: Job) -> None:
        window = bpy.context.window_manager.windows[0]
        asked_by = self._scenes.pop(job.id, None)
        scene = next((each for each in bpy.data.scenes if each.session_uid == asked_by), window.scene)
        view_layer = window.view_layer if scene == window.scene else scene.view_layers[0]
        try:
            # without the window: Blender would take the scene that it shows instead of the one given
            with bpy.context.temp_override(scene=scene, view_layer=view_layer):
                # True: the whole import is one undo step
                bpy.ops.diorama.import_asset("EXEC_DEFAULT", True, directory=job.directory)
        except RuntimeError as error:  # the operator's report
            self.problem = str(error).removeprefix("Error: ").strip()


_host: Host | None = None


def get() -> Host:
    """The add-on's one living object."""
    assert _host is not None, "the add-on is not registered"
    return _host


def register() -> None:
    """Makes it."""
    global _host  # noqa: PLW0603  the one global state of the add-on
    _host = Host()


def unregister() -> None:
    """Closes it."""
    global _host  # noqa: PLW0603
    get().close()
    _host = None


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in {"VIEW_3D", "PREFERENCES"}:
                area.tag_redraw()
