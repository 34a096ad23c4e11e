"""The buttons, which are also the commands for scripts: generate, cancel, install, and the history's."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import random
from pathlib import Path

import bpy

from . import environment, host, jobs, scene
from .backend.progress import TerminalBar
from .backend.protocol import DioramaError
from .backend.request import MAX_SEED, GenerationRequest


class DIORAMA_OT_generate(bpy.types.Operator):
    """Make the prompt into splats, views and cameras; everything is computed on this machine"""

    bl_idname = "diorama.generate"
    bl_label = "Generate 3D"
    bl_options = {"REGISTER"}  # the import is the undo step

    prompt: bpy.props.StringProperty(description="What to make; the scene's prompt if not given")
    seed: bpy.props.IntProperty(min=0, max=MAX_SEED, description="The scene's seed if not given")
    model: bpy.props.StringProperty(description="Its name; the scene's model if not given")
    steps: bpy.props.IntProperty(min=0, description="Denoising steps; 0 for the model's own number")
    views: bpy.props.IntProperty(min=0, description="Number of views; 0 for the model's own number")
    frames: bpy.props.IntProperty(min=1, description="Frames of a loop; the scene's if not given; 1: none")
    mesh: bpy.props.BoolProperty(
        description="Make a mesh besides the splats; the scene's choice if not given"
    )
    directory: bpy.props.StringProperty(
        subtype="DIR_PATH", description="The asset folder to make; a new one if empty"
    )

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a backend."""
        if host.get().environment in host.USABLE:
            return True
        cls.poll_message_set("The backend is not installed: press Install Backend")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job; in background mode, where no timer runs, works until the result is imported."""
        settings = context.scene.diorama
        given = self.properties.is_property_set
        frames = self.frames if given("frames") else settings.frames
        directory = Path(bpy.path.abspath(self.directory)) if self.directory else None
        try:
            request = GenerationRequest(
                prompt=self.prompt if given("prompt") else settings.prompt,
                seed=self.seed if given("seed") else settings.seed,
                # a model that was chosen in a file and is not installed here reads as an empty text
                model=self.model if given("model") else settings.model or "starter",
                steps=self.steps or None,
                views=self.views or None,
                frames=frames if frames > 1 else None,
                mesh=self.mesh if given("mesh") else settings.mesh,
            )
            if not bpy.app.background:
                host.get().submit(request, directory, context.scene)
                return {"FINISHED"}
            bar = TerminalBar()
            job = host.get().run(request, directory, bar)
            bar.finish()
            scene.import_asset(context, job.directory)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for warning in job.warnings:
            self.report({"WARNING"}, warning)
        return {"FINISHED"}


class DIORAMA_OT_cancel(bpy.types.Operator):
    """Stop a job; what it has done so far is thrown away"""

    bl_idname = "diorama.cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    job: bpy.props.StringProperty(description="The job's id; the running job if empty")

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a job."""
        if host.get().session.busy:
            return True
        cls.poll_message_set("Nothing is being generated")
        return False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Cancels it."""
        session = host.get().session
        session.cancel(self.job or (session.active.job.id if session.active else session.waiting[0].id))
        return {"FINISHED"}


class DIORAMA_OT_random_seed(bpy.types.Operator):
    """Take another seed: the same prompt gives another result"""

    bl_idname = "diorama.random_seed"
    bl_label = "Another Seed"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Rolls the die."""
        context.scene.diorama.seed = random.randint(0, 9999)  # short: people write seeds down
        return {"FINISHED"}


class DIORAMA_OT_install_backend(bpy.types.Operator):
    """Make the Python environment in which Diorama computes, and download its packages"""

    bl_idname = "diorama.install_backend"
    bl_label = "Install Backend"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only when Blender may go online, and nothing else is going on."""
        installation = host.get().installation
        if not bpy.app.online_access:
            cls.poll_message_set("Allow Online Access in Preferences → System: packages must be downloaded")
        elif host.get().session.busy:
            cls.poll_message_set("Wait until the running jobs are done")
        elif installation and installation.running:
            cls.poll_message_set("The installation is running")
        else:
            return True
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Says what will be done, and asks."""
        try:
            plan = environment.plan(host.ROOT / "backend" / "requirements.txt", host.get().folder)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return context.window_manager.invoke_confirm(
            self,
            event,
            title="Install Backend",
            message=f"Downloads up to {plan.needed_gb:.0f} GB into {plan.folder}, using {plan.python}",
            confirm_text="Install",
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Begins it; in background mode, waits for its end."""
        try:
            installation = host.get().install()
            if bpy.app.background:
                installation.wait()
                host.get().check_environment()
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_install_cancel(bpy.types.Operator):
    """Stop the installation; it can be begun again at any time"""

    bl_idname = "diorama.install_cancel"
    bl_label = "Cancel Installation"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Cancels it."""
        installation = host.get().installation
        if installation:
            installation.cancel()
        return {"FINISHED"}


class DIORAMA_OT_job(bpy.types.Operator):
    """Do something with an earlier job"""

    bl_idname = "diorama.job"
    bl_label = "Earlier Job"
    bl_options = {"UNDO", "INTERNAL"}

    job: bpy.props.StringProperty()
    action: bpy.props.EnumProperty(
        items=[
            ("REUSE", "Use These Settings", "Put this job's settings back into the panel"),
            ("OPEN", "Open Folder", "Show the asset folder"),
            ("REMOVE", "Forget", "Take the job out of this list; its asset folder stays"),
        ]
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """The tooltip of the action."""
        return cls.bl_rna.properties["action"].enum_items[properties.action].description

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Does it."""
        session = host.get().session
        job = session.job(self.job)
        if self.action == "REUSE":
            context.scene.diorama.prompt = job.request["prompt"]
            context.scene.diorama.seed = job.request["seed"]
            context.scene.diorama.frames = job.request.get("frames") or 1
            context.scene.diorama.mesh = job.request.get("mesh", False)
            if job.request["model"] in host.get().usable_models:
                context.scene.diorama.model = job.request["model"]
        elif self.action == "OPEN":
            if not Path(job.directory).is_dir():
                self.report({"ERROR"}, f"The folder is gone: {job.directory}")
                return {"CANCELLED"}
            bpy.ops.wm.path_open(filepath=job.directory)
        elif job.state not in jobs.UNFINISHED:
            session.remove(job.id)
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_generate,
    DIORAMA_OT_cancel,
    DIORAMA_OT_random_seed,
    DIORAMA_OT_install_backend,
    DIORAMA_OT_install_cancel,
    DIORAMA_OT_job,
)


def register() -> None:
    """Adds the operators."""
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Takes them away."""
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
