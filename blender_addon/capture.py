"""The active camera as image source: renders what it sees into an image with a transparent background.

A temporary copy of the scene is rendered, so that no setting of the artist's scene is ever changed. Nothing
uses the copy: so Blender writes it to no file, not even where it is closed or saves by itself meanwhile.
"""

from __future__ import annotations

import itertools
import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector

from .backend.shared import output_folder
from .backend.shared.protocol import DioramaError
from .dataset.render_files import check_png, render_to
from .scene.placement import around, world_box

LONGEST_PX = 1024  # models see 256, of which the object may fill a small part
_MOST_PX = 32768  # of the frame that an image is cropped from
_TEMPORARY = "Diorama only selected"  # collections of an image's scene
_RAYS = 32  # in each direction, to find what a camera sees
MOST_SAMPLES = 128  # of Cycles: finer noise is not seen at that size


def active_camera(scene: bpy.types.Scene, name: str = "") -> bpy.types.Object:
    """The scene's active camera, or the one of that name.

    Raises:
        DioramaError: E_REQUEST if there is none, or if its image is no plain view.
    """
    cameras = [item.name for item in scene.objects if item.type == "CAMERA"]
    if not name and scene.camera is None:
        raise DioramaError(
            "E_REQUEST",
            f"the scene {scene.name} has no active camera",
            hint="Add a camera that looks at the object, and make it the active one (Ctrl+Numpad 0).",
        )
    if name and name not in cameras:
        raise DioramaError(
            "E_REQUEST",
            f"the scene {scene.name} has no camera {name!r}",
            hint=f"Its cameras are: {', '.join(cameras) or 'none'}.",
        )
    camera = scene.objects[name] if name else scene.camera
    if unfit := _unfit(camera):
        raise DioramaError("E_REQUEST", unfit, "Set its lens to Perspective or Orthographic.")
    return camera


def _unfit(camera: bpy.types.Object) -> str:
    """Why models cannot tell the object from a camera's image, in words; empty if they can."""
    if camera.type != "CAMERA":
        return f"{camera.name} is no camera"
    if camera.data.type not in {"PERSP", "ORTHO"}:
        kind = {"PANO": "panoramic"}.get(camera.data.type, "custom")
        return f"{camera.name} has a {kind} lens, whose image bends what it sees"
    return ""


def obstacle(context: bpy.types.Context, only_selected: bool) -> str:
    """Why the active camera's image cannot be made now, in words; empty if it can."""
    if context.scene.camera is None:
        return "The scene has no active camera: add one that looks at the object"
    if unfit := _unfit(context.scene.camera):
        return unfit
    if only_selected and not context.view_layer.objects.selected:
        return "Nothing is selected: select the object, or switch Only Selected off"
    if bpy.app.is_job_running("RENDER"):
        return "Wait until the render is done, or cancel it with Esc"
    return ""


@dataclass(frozen=True)
class Seen:
    """Where a camera sees an object: for the result that is made from its image."""

    location: tuple[float, float, float]  # of its foot, metres
    rotation: float  # about Z, radians: its front faces the camera
    size: float  # of its longest side, metres


def seen(context: bpy.types.Context, camera: bpy.types.Object, only_selected: bool) -> Seen | None:
    """Where the object stands that is in a camera's image; None if no ray from the camera hits one.

    What is seen at the image's border counts as surroundings, as floors and walls are, unless it is
    selected.
    """
    depsgraph = context.evaluated_depsgraph_get()
    matrix = camera.evaluated_get(depsgraph).matrix_world.normalized()
    frame = camera.data.view_frame(scene=context.scene)
    corner, along_x, along_y = frame[2], frame[1] - frame[2], frame[3] - frame[2]
    found, at_border = set(), set()
    left, right, bottom, top = _region(context.scene.render)
    for row, column in itertools.product(range(_RAYS), repeat=2):
        across = left + (right - left) * (column + 0.5) / _RAYS
        upwards = bottom + (top - bottom) * (row + 0.5) / _RAYS
        point = corner + along_x * across + along_y * upwards
        if camera.data.type == "ORTHO":
            origin, direction = Vector((point.x, point.y, 0)), Vector((0, 0, -1))
        else:
            origin, direction = Vector(), point.normalized()
        hit, _, _, _, item, _ = context.scene.ray_cast(
            depsgraph, matrix @ origin, (matrix.to_3x3() @ direction).normalized()
        )
        if hit:
            found.add(item.original)
            if not 0 < row < _RAYS - 1 or not 0 < column < _RAYS - 1:
                at_border.add(item.original)
    wanted = found & set(context.view_layer.objects.selected) if only_selected else found - at_border or found
    boxes = [box for box in map(world_box, wanted) if box]
    if not boxes:
        return None
    box = around(np.concatenate([[each.low, each.high] for each in boxes]))
    x, y, z = (float(value) for value in box.foot)
    towards = matrix.translation - Vector((x, y, z))
    return Seen((x, y, z), math.atan2(towards.x, -towards.y), box.longest)


def picture_name(camera: bpy.types.Object) -> str:
    """The name of the file for what it sees, in the folder `source` of an asset."""
    return bpy.path.clean_name(camera.name) + ".png"


def differences(scene: bpy.types.Scene) -> list[str]:
    """What in the image will not be as in the scene, in words."""
    found = []
    if scene.rigidbody_world and scene.rigidbody_world.enabled:
        found.append(
            "In the camera's image, rigid bodies stand where they begin: the simulation is not in it"
        )
    if scene.render.use_border and not scene.render.use_crop_to_border:
        found.append("Render Region is without Crop: the camera's image is the whole frame")
    if scene.render.use_multiview:
        found.append("The camera's image is seen from its middle, not by two eyes: Stereoscopy is on")
    return found


def _region(render: bpy.types.RenderSettings) -> tuple[float, float, float, float]:
    """Of the frame, what renders are cropped to: left, right, bottom, top, 0..1."""
    if render.use_border and render.use_crop_to_border:
        return render.border_min_x, render.border_max_x, render.border_min_y, render.border_max_y
    return 0.0, 1.0, 0.0, 1.0


def set_output(scene: bpy.types.Scene, path: Path, width_px: int, height_px: int) -> None:
    """Lets a scene render to this file, in square pixels and before nothing, whatever it renders to now."""
    render = scene.render
    render_to(scene, path)
    render.resolution_x, render.resolution_y, render.resolution_percentage = width_px, height_px, 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1
    render.film_transparent = True
    for option in ("use_border", "use_sequencer", "use_multiview", "use_stamp"):
        setattr(render, option, False)
    settings = render.image_settings
    if hasattr(settings, "media_type"):  # since Blender 5.0, a scene that makes videos offers no PNG
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    settings.color_management = "FOLLOW_SCENE"


def picture(
    context: bpy.types.Context, camera: bpy.types.Object, path: Path, only_selected: bool = False
) -> None:
    """Renders what a camera of the scene sees to a PNG: RGBA, straight alpha, nothing where the world is.

    Engine, light and colours are the scene's; compositor, sequencer and motion blur are left out.

    Args:
        path: the file; its folder is made.
        only_selected: of all objects, only the selected ones and the lamps.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE, or E_IMAGE if it cannot be rendered.
    """
    _make_room(path)
    viewers = _viewers()
    with tempfile.TemporaryDirectory(prefix="diorama-") as folder:
        aside = Path(folder, path.name)
        scene = context.scene.copy()
        try:
            _prepare(scene, context, camera, aside, only_selected)
            bpy.ops.render.render(write_still=True, scene=scene.name, layer=context.view_layer.name)
        except RuntimeError as error:  # the operator's report
            raise _error(str(error).removeprefix("Error: ").strip()) from error
        finally:
            _remove(scene, viewers)
        if not aside.is_file():
            raise _error("the render was cancelled")
        _put(aside, path)


class Rendering:
    """The same image, rendered while Blender goes on drawing: its status bar shows how far, Esc cancels.

    Blender's interface is locked meanwhile, so that nothing is changed or undone while there is a copy of the
    scene. `pump` is for a timer; until it says that it is done, nothing may be imported.

    Args:
        then: called when the scene is as it was before, with what went wrong: E_CANCELLED if somebody
            cancelled it.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE, or E_IMAGE if it cannot be begun.
    """

    def __init__(
        self,
        context: bpy.types.Context,
        camera: bpy.types.Object,
        path: Path,
        only_selected: bool,
        then: Callable[[DioramaError | None], None],
    ) -> None:
        _make_room(path)
        self.path, self.then = path, then
        self._folder = tempfile.TemporaryDirectory(prefix="diorama-")
        self._aside = Path(self._folder.name, path.name)
        self.ended = ""  # or "completed" or "cancelled"
        self._viewers = _viewers()
        self._on_end = (
            (bpy.app.handlers.render_complete, lambda *_: setattr(self, "ended", "completed")),
            (bpy.app.handlers.render_cancel, lambda *_: setattr(self, "ended", "cancelled")),
        )
        self._scene = context.scene.copy()
        for told, function in self._on_end:
            told.append(function)
        try:
            _prepare(self._scene, context, camera, self._aside, only_selected)
            self._scene.render.use_lock_interface = True
            _begin_render(context, self._scene.name)
        except RuntimeError as error:  # the operator's report
            self.close()
            raise _error(str(error).removeprefix("Error: ").strip()) from error

    def pump(self) -> bool:
        """Whether it is done, after telling so."""
        if any(function not in told for told, function in self._on_end):
            return True  # a script has opened another file: nothing is left of it
        if not self.ended or bpy.app.is_job_running("RENDER"):  # it may not even have begun
            return False
        failure = None
        try:
            if self.ended == "cancelled":
                raise DioramaError("E_CANCELLED", "the render was cancelled")
            _put(self._aside, self.path)
        except DioramaError as error:
            failure = error
        self.close()
        self.then(failure)
        return True

    def close(self) -> None:
        """Takes away all that there is of it, but the copy of the scene if it is being rendered."""
        for told, function in self._on_end:
            if function in told:
                told.remove(function)
        if not bpy.app.is_job_running("RENDER"):
            _remove(self._scene, self._viewers)
            self._folder.cleanup()


def _begin_render(context: bpy.types.Context, scene: str) -> None:
    """As F12, but without a window for the result, whatever the preferences say."""
    preferences = context.preferences
    shown, changed = preferences.view.render_display_type, preferences.is_dirty
    preferences.view.render_display_type = "NONE"
    try:
        bpy.ops.render.render("INVOKE_DEFAULT", write_still=True, scene=scene, layer=context.view_layer.name)
    finally:
        preferences.view.render_display_type, preferences.is_dirty = shown, changed


def _make_room(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_folder.unwritable(path, error) from error


def _put(rendered: Path, path: Path) -> None:
    """Brings an image to its place, if it is whole."""
    try:
        check_png(rendered)
        with output_folder.whole_file(path) as partial:
            shutil.copyfile(rendered, partial)
    except OSError as error:
        raise output_folder.unwritable(path, error) from error


def _viewers() -> set[bpy.types.Image]:
    """The images that a render makes: "Render Result" and "Viewer Node"."""
    return {image for image in bpy.data.images if image.source == "VIEWER"}


def _remove(copy: bpy.types.Scene, before: set[bpy.types.Image]) -> None:
    """Takes away the copy, and the viewers that were not there before it."""
    own = [each for each in copy.collection.children if each.name.startswith(_TEMPORARY)]
    bpy.data.scenes.remove(copy)
    bpy.data.batch_remove(own)
    bpy.data.batch_remove(_viewers() - before)


def _prepare(
    scene: bpy.types.Scene,
    context: bpy.types.Context,
    camera: bpy.types.Object,
    path: Path,
    only_selected: bool,
) -> None:
    """Makes the copy of the context's scene render this image and nothing else."""
    if only_selected:
        _show_only(scene, context.view_layer, camera, set(context.view_layer.objects.selected))
    # Keyed settings and cameras bound to markers would come back when it is rendered.
    scene.animation_data_clear()
    scene.timeline_markers.clear()
    scene.camera = camera
    for each in scene.view_layers:
        each.use = each.name == context.view_layer.name
    render = scene.render
    cropped = render.use_border and render.use_crop_to_border
    left, right, bottom, top = _region(render)
    width = render.resolution_x * render.pixel_aspect_x
    height = render.resolution_y * render.pixel_aspect_y
    longest = max(width * (right - left), height * (top - bottom))
    scale = min(LONGEST_PX / longest, _MOST_PX / max(width, height))
    set_output(scene, path, max(round(width * scale), 4), max(round(height * scale), 4))
    render.use_border = cropped
    render.use_compositing = render.use_motion_blur = render.use_freestyle = False
    if hasattr(scene, "cycles"):  # Cycles is an add-on that can be switched off
        scene.cycles.samples = min(scene.cycles.samples, MOST_SAMPLES)


def _show_only(
    scene: bpy.types.Scene,
    of_layer: bpy.types.ViewLayer,
    camera: bpy.types.Object,
    chosen: set[bpy.types.Object],
) -> None:
    """Empties the copy's own collection of all but these objects and the lamps, and only of them what the
    artist's own render has; the collections in it stay as they are.

    What the layer holds out or has only indirectly is so in the copy too, in collections that end with it.
    """
    rendered = _rendered(of_layer.layer_collection)
    lamps = {item for item in rendered if item.type == "LIGHT"}
    shown: dict[tuple[bool, bool], list[bpy.types.Object]] = {}
    for item in {camera} | lamps | (chosen & rendered):
        flags = item.holdout_get(view_layer=of_layer), item.indirect_only_get(view_layer=of_layer)
        shown.setdefault(flags, []).append(item)
    top = scene.collection
    for child in list(top.children):
        top.children.unlink(child)
    for item in list(top.objects):
        top.objects.unlink(item)
    for flags, items in shown.items():
        home = bpy.data.collections.new(_TEMPORARY)
        for item in items:
            home.objects.link(item)
        top.children.link(home)
        layer = scene.view_layers[of_layer.name].layer_collection.children[home.name]
        layer.holdout, layer.indirect_only = flags


def _rendered(parent: bpy.types.LayerCollection) -> set[bpy.types.Object]:
    """The objects in a collection that neither they, nor a collection, nor its layer keeps out of renders."""
    found = {item for item in parent.collection.objects if not item.hide_render}
    for child in parent.children:
        if not child.exclude and not child.collection.hide_render:
            found |= _rendered(child)
    return found


def _error(reason: str) -> DioramaError:
    return DioramaError(
        "E_IMAGE",
        f"the camera's image could not be rendered: {reason}",
        hint="Render the scene with F12 to see what is wrong, or set Source to Image.",
    )
