"""The active camera as image source: renders what it sees into a picture with a transparent background.

A temporary copy of the scene is rendered, so that no setting of the artist's scene is ever changed.
"""

from __future__ import annotations

from pathlib import Path

import bpy

from .backend.protocol import DioramaError

LONGEST_PX = 1024  # models see 256, of which the object may fill a small part
MOST_SAMPLES = 128  # of Cycles: finer noise is not seen at that size


def active_camera(scene: bpy.types.Scene, name: str = "") -> bpy.types.Object:
    """The scene's active camera, or the one of that name.

    Raises:
        DioramaError: E_REQUEST if there is none.
    """
    if not name:
        if scene.camera is None:
            raise DioramaError(
                "E_REQUEST",
                f"the scene {scene.name} has no active camera",
                hint="Add a camera that looks at the object, and make it the active one (Ctrl+Numpad 0).",
            )
        return scene.camera
    cameras = [item.name for item in scene.objects if item.type == "CAMERA"]
    if name not in cameras:
        raise DioramaError(
            "E_REQUEST",
            f"the scene {scene.name} has no camera {name!r}",
            hint=f"Its cameras are: {', '.join(cameras) or 'none'}.",
        )
    return scene.objects[name]


def obstacle(context: bpy.types.Context, only_selected: bool) -> str:
    """Why the active camera's picture cannot be made now, in words; empty if it can."""
    if context.scene.camera is None:
        return "The scene has no active camera: add one that looks at the object"
    if only_selected and not context.selected_objects:
        return "Nothing is selected: select the object, or switch Only Selected off"
    if bpy.app.is_job_running("RENDER"):
        return "Wait until the render is done"
    return ""


def picture_name(camera: bpy.types.Object) -> str:
    """The name of the file for what it sees."""
    return bpy.path.clean_name(camera.name) + ".png"


def picture(
    context: bpy.types.Context, camera: bpy.types.Object, path: Path, only_selected: bool = False
) -> list[str]:
    """Renders what a camera of the scene sees to a PNG: RGBA, straight alpha, nothing where the world is.

    Engine, light and colours are the scene's; compositor, sequencer and motion blur are left out.

    Args:
        path: the file; its folder is made.
        only_selected: of all objects, only the selected ones and the lamps.

    Returns:
        What in the picture is not as in the scene, in words.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE, or E_IMAGE if it cannot be rendered.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DioramaError("E_OUTPUT_UNWRITABLE", f"cannot write {path}: {reason}") from error
    shown = None
    if only_selected:
        lamps = [item for item in context.scene.objects if item.type == "LIGHT"]
        shown = {camera, *context.selected_objects, *lamps}
    images = {image.name for image in bpy.data.images}
    scene = context.scene.copy()
    try:
        _prepare(scene, camera, context.view_layer.name, path)
        if shown is not None:
            _show_only(scene, shown)
        bpy.ops.render.render(write_still=True, scene=scene.name, layer=context.view_layer.name)
    except RuntimeError as error:  # the operator's report
        raise _error(str(error).removeprefix("Error: ").strip()) from error
    finally:
        bpy.data.scenes.remove(scene)
        for image in list(bpy.data.images):
            if image.name not in images:  # "Render Result"
                bpy.data.images.remove(image)
    if not path.is_file():
        raise _error("the render was cancelled")
    if context.scene.rigidbody_world and context.scene.rigidbody_world.enabled:
        return ["In the camera's picture, rigid bodies stand where they begin: the simulation is not in it"]
    return []


def _prepare(scene: bpy.types.Scene, camera: bpy.types.Object, layer: str, path: Path) -> None:
    """Makes the copy of a scene render this picture and nothing else."""
    # Keyed settings and cameras bound to markers would come back when it is rendered.
    scene.animation_data_clear()
    scene.timeline_markers.clear()
    scene.camera = camera
    for each in scene.view_layers:
        each.use = each.name == layer
    render = scene.render
    # the same frame, in square pixels
    width = render.resolution_x * render.pixel_aspect_x
    height = render.resolution_y * render.pixel_aspect_y
    render.pixel_aspect_x = render.pixel_aspect_y = 1
    render.resolution_x = max(round(width * LONGEST_PX / max(width, height)), 4)
    render.resolution_y = max(round(height * LONGEST_PX / max(width, height)), 4)
    render.resolution_percentage = 100
    render.film_transparent = True
    for option in ("use_border", "use_compositing", "use_sequencer", "use_motion_blur", "use_multiview",
                   "use_stamp", "use_freestyle"):  # fmt: skip
        setattr(render, option, False)
    settings = render.image_settings
    if hasattr(settings, "media_type"):  # since Blender 5.0, a scene that makes videos offers no PNG
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    settings.color_management = "FOLLOW_SCENE"
    render.filepath = str(path)
    if hasattr(scene, "cycles"):  # Cycles is an add-on that can be switched off
        scene.cycles.samples = min(scene.cycles.samples, MOST_SAMPLES)


def _show_only(scene: bpy.types.Scene, shown: set[bpy.types.Object]) -> None:
    """Empties the copy's own collection of all but these objects; the collections in it stay as they are."""
    top = scene.collection
    for child in list(top.children):
        top.children.unlink(child)
    for item in list(top.objects):
        top.objects.unlink(item)
    for item in shown:
        top.objects.link(item)


def _error(reason: str) -> DioramaError:
    return DioramaError(
        "E_IMAGE",
        f"the camera's picture could not be rendered: {reason}",
        hint="Render the scene with F12 to see what is wrong, or set Source to Image.",
    )
