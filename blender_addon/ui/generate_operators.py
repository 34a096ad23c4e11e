"""The buttons that generate, which are also the commands for scripts: one result, variations, cancel."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import dataclasses
import math
import random
from pathlib import Path

import bpy

from .. import capture, folders, host, scene
from ..asked import Asked, asked_in
from ..backend.shared import asset, output_folder
from ..backend.shared.catalogue import MODELS
from ..backend.shared.progress import TerminalBar
from ..backend.shared.protocol import DioramaError
from ..backend.shared.request import MAX_SEED, SIDES, GenerationRequest
from ..client import jobs
from ..reporting import in_words, report
from . import properties


class DIORAMA_OT_generate(bpy.types.Operator):
    """Make the prompt or the image into splats, views and cameras; all is computed on this machine"""

    bl_idname = "diorama.generate"
    bl_label = "Generate 3D"
    bl_options = {"REGISTER"}  # the import is the undo step

    source: bpy.props.EnumProperty(
        items=[source for source in properties.SOURCES if source[0] != "OBJECTS"],
        description="If not given: what of prompt and image is given, else the scene's source",
    )
    prompt: bpy.props.StringProperty(description="What to make; the scene's prompt if not given")
    image: bpy.props.StringProperty(
        subtype="FILE_PATH",
        options=properties.BLEND_RELATIVE,
        description="An image of what to make; the scene's image if not given",
    )
    image_left: bpy.props.StringProperty(
        subtype="FILE_PATH",
        options=properties.BLEND_RELATIVE,
        description="Of images of four sides, the left; with it, image is the front",
    )
    image_back: bpy.props.StringProperty(
        subtype="FILE_PATH",
        options=properties.BLEND_RELATIVE,
        description="Of images of four sides, the back",
    )
    image_right: bpy.props.StringProperty(
        subtype="FILE_PATH",
        options=properties.BLEND_RELATIVE,
        description="Of images of four sides, the right",
    )
    seed: bpy.props.IntProperty(min=0, max=MAX_SEED, description="The scene's seed if not given")
    model: bpy.props.StringProperty(description="Its name; the scene's model if not given")
    steps: bpy.props.IntProperty(
        min=0,
        description="Of denoising or distillation; 0 for the number of the preset",
    )
    guidance: bpy.props.FloatProperty(
        min=0, max=100, description="Classifier-free guidance scale; the model's own if not given"
    )
    shift: bpy.props.FloatProperty(
        min=0.1, max=20, description="Of TripoSplat's steps towards the noise; the model's own if not given"
    )
    gaussians: bpy.props.IntProperty(
        min=0, description="Number of splats, where the model lets you choose it; the scene's if not given"
    )
    views: bpy.props.IntProperty(min=0, description="Number of views; 0 for the model's own number")
    frames: bpy.props.IntProperty(min=1, description="Frames of a loop; the scene's if not given; 1: none")
    elevation: bpy.props.FloatProperty(
        subtype="ANGLE", description="Of the cameras; the scene's or the model's own if not given"
    )
    radius: bpy.props.FloatProperty(
        min=0, subtype="DISTANCE", description="Of their orbit; 0 for the model's own"
    )
    method: bpy.props.EnumProperty(
        items=properties.METHODS, description="How splats are made; the scene's choice if not given"
    )
    mesh: bpy.props.BoolProperty(
        description="Make a mesh besides the splats; the scene's choice if not given"
    )
    preset: bpy.props.EnumProperty(
        items=properties.QUALITIES, description="How the model is sampled; the scene's quality if not given"
    )
    fast: bpy.props.BoolProperty(description="With DeepCache: nearly the same, in less time")
    directory: bpy.props.StringProperty(
        subtype="DIR_PATH", description="The asset folder to make; a new one if empty"
    )

    variations: bpy.props.IntProperty(
        default=1,
        min=1,
        max=16,
        options={"SKIP_SAVE"},
        description="With more than one, as many seeds: their results wait in the panel to be chosen from",
    )

    @classmethod
    def description(cls, _context: bpy.types.Context, properties: bpy.types.OperatorProperties) -> str:
        """The tooltip of either button."""
        if properties.variations > 1:
            return (
                f"Make the same with {properties.variations} seeds, from this one on, and choose the best: "
                "what is not chosen stays in the History"
            )
        return cls.__doc__ or ""

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a backend, and not while a camera's image is rendered."""
        if host.get().environment not in host.USABLE:
            cls.poll_message_set("The backend is not installed: press Install Backend")
        elif host.get().capture:
            cls.poll_message_set("Wait until the camera's image is rendered")
        else:
            return True
        return False

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """The button: if the camera's image must be rendered first, Blender's window lives on meanwhile."""
        if bpy.app.background or self._source(context) != "CAMERA":
            return self.execute(context)
        current, is_new = host.get(), not self.directory

        def then(error: DioramaError | None) -> None:
            try:
                if error:
                    raise error
                current.submit(request, directory, asked)
            except DioramaError as failure:
                if is_new:
                    output_folder.clear(directory)
                if failure.code != "E_CANCELLED":
                    current.problem = in_words(failure)

        try:
            request, directory = self._wanted(context)
            asked = self._asked(context)
        except DioramaError as error:
            return report(self, error)
        try:
            current.begin_capture(capture.Rendering(context, *_shot(context, request), then))
        except DioramaError as error:
            self._give_back(directory)
            return report(self, error)
        return {"FINISHED"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Queues the job; in background mode, where no timer runs, works until the result is imported."""
        if self._source(context) == "OBJECTS":
            return bpy.ops.diorama.objects_to_splats("EXEC_DEFAULT", directory=self.directory)
        try:
            request, directory = self._wanted(context)
            asked = self._asked(context)
        except DioramaError as error:
            return report(self, error)
        try:
            if self._source(context) == "CAMERA":
                capture.picture(context, *_shot(context, request))
            if self.variations > 1 and not bpy.app.background:
                self._give_back(directory)  # each gets one of its own
                host.get().submit_variations(request, self.variations)
                return {"FINISHED"}
            if not bpy.app.background:
                host.get().submit(request, directory, asked)
                return {"FINISHED"}
            bar = TerminalBar()
            job = host.get().run(request, directory, bar)
            bar.finish()
            scene.import_asset(context, job.directory, **asked.place(job.request))
        except DioramaError as error:
            self._give_back(directory)
            return report(self, error)
        for warning in job.warnings:
            self.report({"WARNING"}, warning)
        return {"FINISHED"}

    def _source(self, context: bpy.types.Context) -> str:
        given = self.properties.is_property_set
        if not given("source") and (given("prompt") or given("image")):
            return "IMAGE" if given("image") else "PROMPT"
        return str(self.source if given("source") else context.scene.diorama.source)

    def _asked(self, context: bpy.types.Context) -> Asked:
        """Where the result goes."""
        seen = None
        if self._source(context) == "CAMERA":
            seen = capture.seen(context, context.scene.camera, context.scene.diorama.only_selected)
        return asked_in(context, seen)

    def _wanted(self, context: bpy.types.Context) -> tuple[GenerationRequest, Path]:
        """What was asked for, and where to make it; an image that the camera must make will be there too.

        Raises:
            DioramaError: as `_request`, or E_REQUEST if the camera's image cannot be made now.
        """
        request = self._request(context)
        if self._source(context) == "CAMERA" and (
            obstacle := capture.obstacle(context, context.scene.diorama.only_selected)
        ):
            raise DioramaError("E_REQUEST", obstacle)
        if self.directory:  # the backend works in another folder than Blender
            directory = Path(bpy.path.abspath(self.directory)).absolute()
        else:
            directory = jobs.new_directory(folders.output_folder(), request)
        if self._source(context) == "CAMERA":
            asset.claim(directory, {})
            picture = directory / asset.SOURCE / str(request.image)
            request = dataclasses.replace(request, image=str(picture))
            for warning in capture.differences(context.scene):
                self.report({"WARNING"}, warning)
        return request, directory

    def _give_back(self, directory: Path) -> None:
        """Takes away the folder that was made for a job, if nothing came into it."""
        if not self.directory:
            output_folder.clear(directory)

    def _request(self, context: bpy.types.Context) -> GenerationRequest:
        """What was asked for; from the camera, `image` is only the name that its image will have.

        Raises:
            DioramaError: as `GenerationRequest`, or E_REQUEST if there is no camera or no image is chosen.
        """
        settings = context.scene.diorama
        given = self.properties.is_property_set
        source = self._source(context)
        model = self.model if given("model") else settings.model_name
        image, sides = None, {}
        if source == "CAMERA":
            image = capture.picture_name(capture.active_camera(context.scene))
        elif source == "IMAGE":
            chosen = self.image if given("image") else settings.image
            if not chosen:
                raise DioramaError("E_REQUEST", "no image is chosen", hint="Choose an image of the object.")
            image = _absolute(chosen)
            chosen_sides = settings.sides if model in MODELS and MODELS[model].four_sides else {}
            sides = {name: getattr(self, name) for name in SIDES if given(name)}
            sides = chosen_sides | sides | {"image": ""}
        elevation = settings.elevation if settings.use_elevation else None
        elevation = self.elevation if given("elevation") else elevation
        radius = self.radius if given("radius") else settings.radius
        frames = self.frames if given("frames") else settings.frames
        # To most models an image says everything; words would only be a name.
        told = host.get().known.facts.get(model, {}).get("prompt_beside_image") and not any(sides.values())
        words = settings.prompt if source == "PROMPT" else settings.shows if told else ""
        return GenerationRequest(
            prompt=self.prompt if given("prompt") else words,
            image=image,
            seed=self.seed if given("seed") else settings.seed,
            **{name: _absolute(path) for name, path in sides.items() if path},
            model=model,
            preset=self.preset if given("preset") else settings.quality,
            steps=self.steps or None,
            guidance=round(self.guidance, 4) if given("guidance") else None,
            shift=round(self.shift, 4) if given("shift") else None,
            gaussians=self.gaussians if given("gaussians") else settings.chosen_gaussians(model),
            frames=frames if frames > 1 else None,
            views=(self.views if given("views") else settings.views) or None,
            # Blender keeps 32 bits: 25° comes back as 25.0000004°
            elevation_deg=None if elevation is None else round(math.degrees(elevation), 4),
            radius=round(radius, 4) or None,
            mesh=self.mesh if given("mesh") else settings.mesh,
            method=self.method if given("method") else settings.method,
            fast=self.fast,
        )


def _absolute(path: str) -> str:
    """A path that may begin with // as the backend, which works in another folder, can read it."""
    return str(Path(bpy.path.abspath(path)).resolve())


def _shot(context: bpy.types.Context, request: GenerationRequest) -> tuple[bpy.types.Object, Path, bool]:
    """Which camera, to which file, and whether of the selected objects only."""
    return context.scene.camera, Path(str(request.image)), context.scene.diorama.only_selected


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
        session = host.get().session
        session.cancel(self.job or (session.active.job.id if session.active else session.waiting[0].id))
        return {"FINISHED"}


class DIORAMA_OT_random_seed(bpy.types.Operator):
    """Take another seed: the same prompt gives another result"""

    bl_idname = "diorama.random_seed"
    bl_label = "Another Seed"
    bl_options = {"REGISTER", "UNDO", "INTERNAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.seed = random.randint(0, 9999)  # short: people write seeds down
        return {"FINISHED"}


class DIORAMA_OT_add(bpy.types.Operator):
    """Type a prompt and generate splats of it"""

    bl_idname = "diorama.add"
    bl_label = "Gaussian Splats from a Prompt …"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return DIORAMA_OT_generate.poll(context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the prompt."""
        context.scene.diorama.source = "PROMPT"
        return context.window_manager.invoke_props_dialog(self, width=360, confirm_text="Generate 3D")

    def draw(self, context: bpy.types.Context) -> None:
        """The settings that matter most."""
        settings = context.scene.diorama
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(settings, "prompt", placeholder="a red mushroom")
        layout.prop(settings, "model")
        layout.prop(settings, "seed")
        layout.row().prop(settings, "quality", expand=True)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        return bpy.ops.diorama.generate("INVOKE_DEFAULT")


def draw_add_menu(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    """In the menu of Shift+A."""
    self.layout.operator_context = "INVOKE_DEFAULT"
    self.layout.operator("diorama.add", icon="OUTLINER_OB_POINTCLOUD")


CLASSES = (
    DIORAMA_OT_generate,
    DIORAMA_OT_add,
    DIORAMA_OT_cancel,
    DIORAMA_OT_random_seed,
)


def register() -> None:
    """Adds them, and an entry to the Add menu."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    bpy.types.VIEW3D_MT_add.append(draw_add_menu)


def unregister() -> None:
    bpy.types.VIEW3D_MT_add.remove(draw_add_menu)
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)
