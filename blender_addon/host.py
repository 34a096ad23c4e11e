"""What lives while the add-on is enabled: the jobs, Blender's timer for them, and installations."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

import bpy

from . import folders, redraw
from .asked import Asked
from .backend.shared import catalogue, model_store
from .backend.shared.client import Launch
from .backend.shared.progress import Emit
from .backend.shared.protocol import DioramaError
from .backend.shared.reconstruction import Request, read_request
from .backend.shared.request import MAX_SEED, GenerationRequest
from .capture import Rendering
from .client import environment, jobs, machine, model_facts
from .client.installation import Installation, Removal
from .client.job_progress import JobProgress
from .client.jobs import Job
from .client.machine import Machine
from .client.model_work import ModelWork
from .client.session import Session
from .other_blender import OtherBlender
from .thumbnails import Film, Thumbnails

ROOT = Path(__file__).parent
BUSY_S, IDLE_S = 0.1, 2.0
USABLE = {"chosen", "ready", "outdated"}  # states of the environment in which a job can be tried
REQUIREMENTS = ROOT / "backend" / "requirements.txt"
CLOCK_S = 1.0  # how often a running job's panel is drawn again, to count down, though nothing else changed


class Host:
    """The one object of the add-on that has a lifetime: made by register, closed by unregister."""

    def __init__(self) -> None:
        self.problem = folders.rescue_old_results()  # or with the last capture or import: said by no job
        self.session = Session(jobs.Store(folders.history_folder()), self._launch)
        self.installation: Installation | None = None
        self.install_problem: DioramaError | None = None  # why the last could not even begin
        self.environment: environment.State | Literal["chosen"] = "missing"
        self.python = ""  # for this session; the preferences' Python if empty
        self.capture: Rendering | OtherBlender | None = None  # what is being rendered
        self.outcome: Job | None = None  # of the last job of this session, until it is dismissed
        self.note = ""  # what became of its result
        self.variations: list[str] = []  # jobs of which one is to be chosen
        self.thumbnails = Thumbnails()
        self.film = Film()
        self._timer = self._tick  # one object for ever: Blender knows a timer by the identity of its function
        self._log = folders.data_folder() / "backend.log"
        self._asked: dict[str, Asked] = {}  # of a job
        self._to_import: deque[Job] = deque()
        self._drawn: tuple[Any, ...] = ()  # what the panel showed when it was last drawn
        self._drawn_at = 0.0
        self.known = model_facts.look(*folders.model_folders())
        self.model_work: ModelWork | None = None  # the running or last change of a model
        self.listing: ModelWork | None = None  # of the models of the other computer, which is asked
        self.check: ModelWork | None = None  # of this machine, by the backend
        self.machine = Machine()
        threading.Thread(target=self._look_at_machine, name="diorama-machine", daemon=True).start()
        self.check_environment()
        self.thumbnails.load(self.session.jobs)
        if self.session.waits_for_others:
            self.wake()

    def _look_at_machine(self) -> None:
        self.machine = machine.look()  # asking a GPU's driver may take a second

    def check_environment(self) -> None:
        """Looks at the disk once, so that drawing need not: `chosen`, or one of `environment.state`."""
        if self.python or folders.backend_python() or folders.other_computer():
            self.environment = "chosen"
        else:
            self.environment = environment.state(REQUIREMENTS, self.folder)

    def check_models(self) -> None:
        """Looks at the disk once, so that drawing need not; asks the other computer if the backend is there.

        Raises:
            DioramaError: in background mode, where it waits, if that computer cannot be asked.
        """
        self.known = model_facts.look(*folders.model_folders())
        if self.listing:
            self.listing.close()
            self.listing = None
        if self.is_elsewhere:
            self.listing = ModelWork("models.list", "", self._launch())
            if bpy.app.background:
                self.listing.wait()
                self._take_list()
            self.wake()

    def _take_list(self) -> None:
        if self.listing and self.listing.result and self.is_elsewhere:
            self.known = model_facts.of_other_computer(self.listing.result, self.known)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the backend is on another computer."""
        return bool(folders.other_computer()) and not self.python

    @property
    def models(self) -> dict[str, model_store.State]:
        """The files of each model, when somebody last looked."""
        return self.known.states

    @property
    def usable_models(self) -> list[str]:
        """The models that can be chosen: the starter and what is installed; all of one that was not asked."""
        every = self.is_elsewhere and not self.known.there
        states = [self.models[name] for name in catalogue.MODELS]
        return [each.model.name for each in states if every or each.installed or not each.model.components]

    @property
    def changing_model(self) -> bool:
        """Whether a model is being installed, checked or removed."""
        return self.model_work is not None and self.model_work.running

    @property
    def checking(self) -> bool:
        """Whether this machine is being looked at."""
        return self.check is not None and self.check.running

    def change_model(self, method: str, model: str) -> ModelWork:
        """Begins to install (`models.download`), check or remove a model.

        Raises:
            DioramaError: E_ENVIRONMENT if the backend cannot be started.
        """
        self.model_work = ModelWork(method, model, self._launch())
        self.wake()
        return self.model_work

    def check_machine(self) -> ModelWork:
        """Begins to look at what the backend finds here.

        Raises:
            DioramaError: E_ENVIRONMENT if the backend cannot be started.
        """
        self.check = ModelWork("doctor", "", self._launch())
        self.wake()
        return self.check

    @property
    def folder(self) -> Path:
        """The folder of our own environment."""
        return environment.default_folder()

    def _launch(self) -> Launch:
        return folders.launch(self.python, ROOT, self._log)

    def prepare(self) -> None:
        """Somebody is about to generate: the backend may load its libraries meanwhile."""
        if self.environment in USABLE and not bpy.app.background:
            self.session.prepare()
            self.wake()

    def begin_capture(self, rendering: Rendering | OtherBlender) -> None:
        """Sees renders through to their end."""
        self.capture = rendering
        self.wake()

    def submit(self, request: Request, directory: Path, asked: Asked | None) -> Job:
        """Queues a job; what it makes is imported where it was `asked` for, or stays in the history alone."""
        job = self.session.submit(request, directory)
        if asked:
            self._asked[job.id] = asked
        self.problem, self.outcome = "", None
        self.wake()
        return job

    def submit_variations(self, request: GenerationRequest, count: int) -> None:
        """The same request with as many seeds: their results wait in the panel to be chosen from.

        Raises:
            DioramaError: E_OUTPUT_UNWRITABLE.
        """
        seeds = [(request.seed + i) % (MAX_SEED + 1) for i in range(count)]
        self.variations = []
        for seed in seeds:
            wanted = dataclasses.replace(request, seed=seed)
            directory = jobs.new_directory(folders.output_folder(), wanted)
            self.variations.append(self.submit(wanted, directory, None).id)

    def run_again(self, identity: str, asked: Asked | None) -> Job:
        """Queues an earlier job once more; one that was interrupted leaves the list.

        Raises:
            DioramaError: as `read_request`, or E_OUTPUT_UNWRITABLE.
        """
        job = self.session.job(identity)
        directory = jobs.directory_again(job, folders.output_folder())
        again = self.submit(read_request(job.request), directory, asked)
        if job.state == jobs.INTERRUPTED:
            self.session.remove(identity)
        return again

    def run(self, request: Request, directory: Path, emit: Emit) -> Job:
        """Generates now and returns when it is done, for scripts and background mode; imports nothing.

        Raises:
            DioramaError: the job failed.
        """
        job = self.session.run_to_end(self.session.submit(request, directory).id, emit)
        job.raise_if_failed()
        return job

    def plan_installation(self) -> environment.Plan:
        """What an installation, or a repair, of the backend would do, as the preferences say.

        Raises:
            DioramaError: E_ENVIRONMENT or E_DISK_FULL; the panel goes on saying so.
        """
        self.install_problem = None
        chosen, build = folders.installation_choices()
        try:
            return environment.plan(REQUIREMENTS, self.folder, chosen, build)
        except DioramaError as error:
            self.install_problem = error
            raise

    def install(self) -> Installation:
        """Begins to install, or repair, the backend's environment.

        Raises:
            DioramaError: as `plan_installation`, before anything is done.
        """
        plan = self.plan_installation()
        self.session.client.close()
        self.environment = "broken"  # until it has succeeded: it begins by clearing what is there
        self.installation = Installation(plan)
        self.outcome = None
        self.wake()
        return self.installation

    def remove_environment(self) -> Removal:
        """Deletes the backend's environment; results and models stay.

        Raises:
            DioramaError: E_ENVIRONMENT or E_OUTPUT_UNWRITABLE.
        """
        self.session.client.close()
        removal = Removal(self.folder)
        self.installation = None
        self.check_environment()
        return removal

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
        for work in filter(None, (self.model_work, self.check, self.listing)):
            work.close()
        self.session.close()
        self.thumbnails.close()
        self.film.close()

    def forget_file(self) -> None:
        """Another file was opened: what the panel says of the one before is of no use there."""
        self.outcome, self.problem = None, ""

    def _tick(self) -> float | None:
        if self.capture and self.capture.pump():
            self.capture = None
        for job in self.session.pump():
            self._ended(job)
        if self.session.waits_for_others and not self.session.busy:
            self.thumbnails.load(self.session.take_ended())
        # A render reads the scene from its own thread: nothing may appear in it meanwhile.
        if self._to_import and not (isinstance(self.capture, Rendering) or bpy.app.is_job_running("RENDER")):
            self._import(self._to_import.popleft())
        self._load_film()
        installing = self.installation is not None and self.installation.running
        if not installing and self.environment not in USABLE:
            self.check_environment()  # the installation may just have ended
        if self.model_work and self.changing_model:
            self.model_work.pump()
            if not self.model_work.running:
                self.check_models()
        if self.checking and self.check:
            self.check.pump()
        if self.listing and self.listing.running:
            self.listing.pump()
            self._take_list()
        asking = self.listing is not None and self.listing.running
        working = installing or self.changing_model or self.checking or asking
        self._redraw(working)
        if self.session.busy or self._to_import or self.capture or working:
            return BUSY_S
        return IDLE_S if self.session.client.running or self.session.waits_for_others else None

    def _ended(self, job: Job) -> None:
        self.outcome, self.note = job, ""
        if job.state == jobs.DONE:
            self.thumbnails.load([job])
            if job.id in self._asked:
                self._to_import.append(job)

    def _redraw(self, preferences: bool) -> None:
        """Draws again what has changed: the panel ten times a second would take the viewport's time."""
        active, work, installation = self.session.active, self.model_work, self.installation
        shown = (
            len(self.session.jobs),
            self.session.waiting,
            self.outcome,
            self.note,
            self.problem,
            self.environment,
            (self.film.icon, isinstance(self.capture, OtherBlender) and self.capture.done),
            active and (active.job.id, active.cancelled_at, *_state(active.progress)),
            (self.known, work and (work.running, work.stopping, *_state(work.progress))),
            (self.checking, installation and (installation.running, installation.step, installation.done_mb)),
        )
        now = time.monotonic()
        counting = now - self._drawn_at > CLOCK_S and bool(active or preferences)
        if (shown == self._drawn and not counting) or (active and redraw.is_too_soon()):
            return  # what is too soon now is drawn at a later tick
        redraw.panels(preferences or shown[-2:] != self._drawn[-2:])
        if counting or shown[:-2] != self._drawn[:-2]:
            redraw.status_bar()
        self._drawn, self._drawn_at = shown, now

    def _load_film(self) -> None:
        active = self.session.active
        if active is None or not active.progress.preview:
            self.film.clear()
            return
        request, progress = active.job.request, active.progress
        name = f"{active.job.id} {progress.previews}"
        self.film.load(name, progress.preview, progress.preview_views, request.get("frames") or 1)

    def _import(self, job: Job) -> None:
        asked = self._asked.pop(job.id)
        window = bpy.context.window_manager.windows[0]
        scene = next((each for each in bpy.data.scenes if each.session_uid == asked.scene), None)
        if scene is None and asked.file and asked.file == bpy.data.filepath:  # it was opened anew
            scene = bpy.data.scenes.get(asked.scene_name, window.scene)
        if scene is None:
            self.note = "It was made for another file: import it from the History."
            return
        view_layer = window.view_layer if scene == window.scene else scene.view_layers[0]
        try:
            # without the window: Blender would take the scene that it shows instead of the one given
            with bpy.context.temp_override(scene=scene, view_layer=view_layer):
                # True: the whole import is one undo step
                place = asked.place(job.request)
                bpy.ops.diorama.import_asset("EXEC_DEFAULT", True, directory=job.directory, **place)
        except RuntimeError as error:  # the operator's report
            self.problem = str(error).removeprefix("Error: ").strip()


def _state(progress: JobProgress) -> tuple[Any, ...]:
    return progress.stage, progress.step, progress.previews, len(progress.warnings)


_host: Host | None = None


def get() -> Host:
    """The add-on's one living object."""
    assert _host is not None, "the add-on is not registered"
    return _host


@bpy.app.handlers.persistent
def _on_load(*_: object) -> None:
    get().forget_file()


def register() -> None:
    global _host  # noqa: PLW0603  the one global state of the add-on
    _host = Host()
    bpy.app.handlers.load_post.append(_on_load)


def unregister() -> None:
    global _host  # noqa: PLW0603
    bpy.app.handlers.load_post.remove(_on_load)
    get().close()
    _host = None
