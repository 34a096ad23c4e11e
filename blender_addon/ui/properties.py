"""The settings of one generation, as they stand in the panel and are kept in the .blend file."""

from __future__ import annotations

import math
import re
from typing import Any

import bpy

from .. import host
from ..backend.shared.catalogue import MODELS
from ..backend.shared.reconstruction import DEFAULT_SPLATS
from ..backend.shared.request import MAX_RADIUS, MAX_SEED, SIDES
from ..client import model_facts
from ..scene import placement

SOURCES = [
    ("PROMPT", "Prompt", "Words say what to make"),
    ("IMAGE", "Image", "An image file shows what to make"),
    ("CAMERA", "Camera", "What the active camera sees is made; it is rendered with the scene's engine"),
    (
        "OBJECTS",
        "Objects",
        "The selected objects are rendered from all around, and splats fitted to that; no model is needed",
    ),
]
STANDS = [
    ("BESIDE", "Beside", "Beside the objects, as large as they are"),
    ("OVER", "In Place", "Where the objects are, which stay"),
]
# The names are the request's presets; what Blender calls so are settings that a user keeps.
QUALITIES = [
    ("draft", "Draft", "The fewest steps, to look for a prompt and a seed; small parts may differ"),
    ("standard", "Standard", "Nearly what the model makes as it was published, in fewer steps"),
    ("full", "Full", "As the model was published, in two to three times the time"),
]
# The names are the request's own.
METHODS = [
    ("reconstruct", "From Views", "Views are generated, and splats reconstructed from them"),
    (
        "distill",
        "Distilled",
        "Splats are changed step by step until the model finds nothing to correct in them: minutes where "
        "the usual way takes seconds, and rougher; they stand still",
    ),
]
# Paths that begin with // are understood; Blender before 4.5 never asks.
BLEND_RELATIVE = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (4, 5, 0) else set()
COUNTS = sorted({count for model in MODELS.values() for count in model.gaussians})
GAUSSIANS = [(str(count), f"{count:,}", f"{count:,} splats") for count in COUNTS]


def titled(model: str) -> str:
    """A model's name as a person reads it: the catalogue's is for folders and scripts."""
    return _TITLES.get(model, model)


_TITLES = {
    "starter": "Starter",
    "capture": "from renders",
    "videomv-t2v": "VideoMV, from text",
    "videomv-i2v": "VideoMV, from an image",
    "mvdream-lgm": "MVDream + LGM",
    "vivid-zoo": "Vivid-ZOO",
    "animate3d": "Animate3D",
    "triposplat": "TripoSplat",
    "background-removal": "Background Removal",
    "text-to-image": "Text to Image",
}
# The number is what a .blend file keeps: a model's place in the catalogue, whichever are installed.
_CHOICES = {
    name: (name, titled(name), model.description, i) for i, (name, model) in enumerate(MODELS.items())
}


def _completed_prompts(
    settings: bpy.types.PropertyGroup, _context: bpy.types.Context, typed: str
) -> list[str]:
    """The prompt with its last word completed, for models that know few words."""
    words = settings.own("words") or []
    before, space, last = typed.rpartition(" ")
    return [f"{before}{space}{word}" for word in words if word.startswith(last.lower())]


def _prepare(_settings: bpy.types.PropertyGroup, _context: bpy.types.Context) -> None:
    host.get().prepare()


def _usable_models(
    _settings: bpy.types.PropertyGroup, _context: bpy.types.Context | None
) -> list[tuple[str, str, str, int]]:
    return [_CHOICES[name] for name in host.get().usable_models]


class DIORAMA_PG_settings(bpy.types.PropertyGroup):
    """What the next Generate 3D will make."""

    # No maximal length: Blender would cut a longer prompt silently, where a request says that it is too long.
    source: bpy.props.EnumProperty(
        name="Source", description="What tells the model what to make", items=SOURCES
    )
    prompt: bpy.props.StringProperty(
        name="Prompt",
        description="What should be made, for example: a red mushroom",
        search=_completed_prompts,
        update=_prepare,
        search_options={"SUGGESTION"},
    )
    shows: bpy.props.StringProperty(
        name="Shows",
        description="What the image shows, for example: a red mushroom. The other sides are drawn by that",
        search=_completed_prompts,
        search_options={"SUGGESTION"},
    )
    image: bpy.props.StringProperty(
        name="Image",
        description="An image of one object, cut out (with transparency) or before a plain background",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
        update=_prepare,
    )
    image_left: bpy.props.StringProperty(
        name="Left",
        description="The object's left side, which is at the right of its front",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    image_back: bpy.props.StringProperty(
        name="Back", description="The object's back", subtype="FILE_PATH", options=BLEND_RELATIVE
    )
    image_right: bpy.props.StringProperty(
        name="Right",
        description="The object's right side, which is at the left of its front",
        subtype="FILE_PATH",
        options=BLEND_RELATIVE,
    )
    only_selected: bpy.props.BoolProperty(
        name="Only Selected",
        description="Of all objects, show the camera only the selected ones and the lamps",
    )
    model: bpy.props.EnumProperty(name="Model", description="What makes it", items=_usable_models)
    seed: bpy.props.IntProperty(
        name="Seed",
        description="The same prompt and seed give the same result; another seed gives another one",
        min=0,
        max=MAX_SEED,
    )
    frames: bpy.props.IntProperty(
        name="Frames",
        description="How many frames of a loop it moves through; 1: it stands still. "
        "The starter knows swimming, hopping, swaying, nodding, turning, shaking, growing and stretching, "
        "in 8 frames",
        default=1,
        min=1,
        max=64,
    )
    method: bpy.props.EnumProperty(name="Method", description="How splats are made", items=METHODS)
    mesh: bpy.props.BoolProperty(
        name="Mesh", description="Make a textured mesh besides the splats; it is imported hidden"
    )
    gaussians: bpy.props.EnumProperty(
        name="Gaussians",
        description="How many splats are made: more show more detail, and are slower to draw",
        items=GAUSSIANS,
        default="131072",
    )
    size: bpy.props.FloatProperty(
        name="Size",
        description="Of its longest side. The result will stand at the 3D cursor, on the ground; made "
        "from a camera's image, where the camera saw the object, and as large as that",
        default=placement.SIZE_M,
        min=0.001,
        soft_max=100.0,
        subtype="DISTANCE",
    )
    quality: bpy.props.EnumProperty(
        name="Quality", description="How much time it may take", items=QUALITIES, default="standard"
    )
    views: bpy.props.IntProperty(
        name="Views", description="How many views are generated; 0 for the model's own number", min=0, max=64
    )
    splats: bpy.props.IntProperty(
        name="Splats",
        description="How many splats the objects become, at most",
        default=DEFAULT_SPLATS,
        min=1000,
        soft_max=500_000,
        max=10_000_000,
    )
    stand: bpy.props.EnumProperty(name="Stand", description="Where the splats are put", items=STANDS)
    animated: bpy.props.BoolProperty(
        name="Animation", description="Moving splats of the scene's frame range; each frame is rendered"
    )
    object_step: bpy.props.IntProperty(
        name="Frame Step", description="Every how many frames are rendered", default=1, min=1
    )
    object_views: bpy.props.IntProperty(
        name="Views", description="From how many sides, all around", default=64, min=4, soft_max=200, max=1000
    )
    object_size: bpy.props.IntProperty(
        name="Resolution",
        description="Of the renders, which are square",
        default=512,
        min=32,
        soft_max=1024,
        max=4096,
        subtype="PIXEL",
    )
    object_samples: bpy.props.IntProperty(
        name="Samples",
        description="Of each pixel, denoised; 0: as many as the scene's own renders have",
        default=8,
        min=0,
    )
    radius: bpy.props.FloatProperty(
        name="Radius",
        description="How far from the object's middle the cameras stand; 0 for the model's own distance",
        min=0.0,
        max=MAX_RADIUS,
        subtype="DISTANCE",
    )
    use_elevation: bpy.props.BoolProperty(
        name="Elevation", description="Let the cameras stand at another height than the model's own"
    )
    elevation: bpy.props.FloatProperty(
        name="Elevation",
        description="How far above the object's equator the cameras stand",
        default=math.radians(15),
        min=math.radians(-89),
        max=math.radians(89),
        subtype="ANGLE",
    )

    @property
    def model_name(self) -> str:
        """The chosen model; one that a file has chosen and that is not installed reads as empty."""
        return self.model or "starter"

    @property
    def takes_sides(self) -> bool:
        """Whether images of an object's four sides are reconstructed, and nothing is generated.

        A model that makes nothing of one image asks for them all; another makes the other sides itself.
        """
        one_is_enough = MODELS[self.model_name].takes_image and not any(self.sides.values())
        return self.offers_sides and not one_is_enough

    @property
    def takes_words_beside(self) -> bool:
        """Whether the model is told what an image shows, too."""
        return (
            self.source in ("IMAGE", "CAMERA")
            and not self.takes_sides
            and bool(self.own("prompt_beside_image"))
        )

    @property
    def offers_sides(self) -> bool:
        """Whether images of an object's four sides can be given."""
        return self.source == "IMAGE" and MODELS[self.model_name].four_sides

    @property
    def sides(self) -> dict[str, str]:
        """The chosen images of the sides but the front, by the request's names; empty texts for none."""
        return {name: getattr(self, name) for name in SIDES if name != "image"}

    def chosen_gaussians(self, model: str) -> int | None:
        """How many splats are asked for of a model; None if it does not let you choose."""
        known = MODELS.get(model)
        return int(self.gaussians) if known and known.gaussians else None

    def own(self, setting: str) -> Any:
        """The chosen model's own value of a setting; None if it says none."""
        return host.get().known.facts.get(self._maker, {}).get(setting)

    @property
    def _maker(self) -> str:
        """The chosen model, or the one within it that makes its objects move."""
        moving = model_facts.moving(self.model_name)
        return moving if self.frames > 1 and host.get().known.facts.get(moving) else self.model_name

    @property
    def unknown_words(self) -> list[str]:
        """What is typed that the model has never met; nothing for a model that knows a language."""
        vocabulary = host.get().known.words.get(self._maker)
        if not vocabulary:
            return []
        words = self.prompt if self.source == "PROMPT" else self.shows
        found = (match[0] for match in re.finditer(r"\w+|[^\w\s]+", words))
        return [word for word in found if word.lower() not in vocabulary]

    @property
    def contradiction(self) -> str:  # noqa: PLR0911  one line for each reason
        """Why source and model do not go together and what to do, or an empty text."""
        if self.source == "OBJECTS":
            return ""  # no model has a part in it
        name = titled(self.model_name)
        if self.frames > 1 and not MODELS[self.model_name].moves:
            return f"{name} makes objects that stand still: set Frames to 1"
        if self.frames > 1 and self.method == "distill":
            return "Distilled objects stand still: set Frames to 1, or Method to From Views"
        model = MODELS[self.model_name]
        if model.needs_image and self.source == "PROMPT" and not host.get().known.makes_images:
            return f"{name} needs an image: set Source to Image or Camera, or install Text to Image"
        if self.takes_sides:
            return self._contradiction_of_sides()
        if self.source != "PROMPT" and not model.takes_image:
            return f"{name} works from a prompt. For an image, choose {_models_for_images()}"
        if self.source != "PROMPT" and self.frames > 1:
            return f"{name} makes what moves of a prompt: set Frames to 1, or Source to Prompt"
        if self.source == "PROMPT" and not self.prompt.strip():
            return "Type what should be made, for example: a red mushroom"
        if self.source == "IMAGE" and not self.image:
            return "Choose an image of one object"
        return ""

    def _contradiction_of_sides(self) -> str:
        if self.frames > 1:
            return "Images are reconstructed as they are: set Frames to 1"
        if self.method == "distill":
            return "Images are reconstructed as they are: set Method to From Views"
        if self.views:
            return "Images are reconstructed as they are: set Views to 0"
        missing = [
            side.capitalize()
            for name, side in SIDES.items()
            if not (self.image if name == "image" else self.sides[name])
        ]
        if not missing:
            return ""
        if MODELS[self.model_name].takes_image:
            return f"Choose {', '.join(missing)} too, or the front alone"
        return (
            f"{titled(self.model_name)} works from a prompt, or from images of all four sides: choose "
            f"{', '.join(missing)}. For one image, choose {_models_for_images()}"
        )

    def put_back(self, request: dict[str, Any]) -> None:
        """The settings of an earlier request; a model that is not installed any more stays unchosen."""
        if "capture" in request:
            self.source, self.seed, self.splats = "OBJECTS", request["seed"], request["splats"]
            self.object_size = request["resolution"]
            return
        image = request.get("image")
        self.source = "IMAGE" if image else "PROMPT"
        self.prompt, self.shows = ("", request["prompt"]) if image else (request["prompt"], "")
        for name in SIDES:
            setattr(self, name, request.get(name) or "")
        if request.get("gaussians"):
            self.gaussians = str(request["gaussians"])
        self.seed = request["seed"]
        self.frames, self.mesh = request.get("frames") or 1, request.get("mesh", False)
        self.method = request.get("method", "reconstruct")
        if request["model"] in host.get().usable_models:
            self.model = request["model"]
        self.quality = request.get("preset", "full")  # before there were presets, all was as published
        self.views, self.radius = request.get("views") or 0, request.get("radius") or 0.0
        elevation_deg = request.get("elevation_deg")
        self.use_elevation = elevation_deg is not None
        if elevation_deg is not None:
            self.elevation = math.radians(elevation_deg)


def _models_for_images() -> str:
    """The models that can be given an image, of which there is always one."""
    usable = [name for name in host.get().usable_models if MODELS[name].takes_image]
    return " or ".join(map(titled, usable))


def register() -> None:
    bpy.utils.register_class(DIORAMA_PG_settings)
    bpy.types.Scene.diorama = bpy.props.PointerProperty(type=DIORAMA_PG_settings)


def unregister() -> None:
    del bpy.types.Scene.diorama
    bpy.utils.unregister_class(DIORAMA_PG_settings)
