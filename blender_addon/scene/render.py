"""The scene settings without which splats render wrong: every change is reported, none is silent."""

from __future__ import annotations

from typing import Any

import bpy

from . import display

_PALER = {"AgX": ": paler", "Filmic": ": paler"}  # how it shows
TRANSPARENT_BOUNCES = 256  # layers a ray may pass; Blender's default of 8 shows splats as noise


def raise_bounces(scene: bpy.types.Scene) -> list[str]:
    """Let Cycles see through enough splats; what is higher already stays.

    Returns:
        What was changed, in words.
    """
    return [_change(*setting) for setting in _low_bounces(scene)]


def prepare_render(scene: bpy.types.Scene, camera: bpy.types.Object | None = None) -> list[str]:
    """Make a scene show splats with the colours they were generated with: for batches, or on request.

    Args:
        camera: becomes the scene's camera if given.

    Returns:
        What was changed, in words.
    """
    changes = [_change(*setting) for setting in _low_bounces(scene)]
    while others := _other_colours(scene):  # one at a time: a display that changes takes others along
        changes.append(_change(*others[0]))
    display.hold_out_others(scene)
    if camera is not None and scene.camera != camera:
        before = scene.camera.name if scene.camera else "none"
        changes.append(f"Camera {before} → {camera.name}")
        scene.camera = camera
    return changes


def obstacles(scene: bpy.types.Scene) -> list[str]:
    """What keeps a scene from showing splats as they were generated, in words."""
    return [
        *(
            f"{label} is {_shown(getattr(owner, name))}{_PALER.get(getattr(owner, name), '')}"
            for owner, name, label, _ in (*_low_bounces(scene), *_other_colours(scene))
        ),
        *_unchangeable(scene),
        *display.obstacles(scene),
    ]


_Setting = tuple[Any, str, str, Any]  # owner, property, label, the value that is needed


def _low_bounces(scene: bpy.types.Scene) -> list[_Setting]:
    if not hasattr(scene, "cycles"):  # Cycles is an add-on that can be switched off
        return []
    settings = (
        (scene.cycles, "transparent_max_bounces", "Transparent Max Bounces", TRANSPARENT_BOUNCES),
        (scene.cycles, "min_transparent_bounces", "Transparent Min Bounces", TRANSPARENT_BOUNCES),
    )
    return [setting for setting in settings if getattr(setting[0], setting[1]) < setting[3]]


def _other_colours(scene: bpy.types.Scene) -> list[_Setting]:
    wanted = _colour_settings(scene.display_settings, scene.view_settings, "")
    output = scene.render.image_settings
    if output.color_management == "OVERRIDE":
        wanted += _colour_settings(output.display_settings, output.view_settings, "Output ")
    if hasattr(scene, "cycles"):
        wanted.append((scene.cycles, "film_exposure", "Cycles Film Exposure", 1.0))
    if display.in_use(scene):
        wanted.append((scene.render, "use_compositing", "Post Processing > Compositing", True))
    return [
        setting
        for setting in wanted
        if hasattr(setting[0], setting[1]) and not _equal(getattr(setting[0], setting[1]), setting[3])
    ]


def _colour_settings(shown_on: Any, view: Any, where: str) -> list[_Setting]:
    """Under which a colour comes out as it is; in the order in which they have to be set."""
    return [
        (shown_on, "display_device", f"{where}Display", "sRGB"),  # another one has other view transforms
        (view, "view_transform", f"{where}View Transform", "Standard"),
        (view, "look", f"{where}Look", "None"),
        (view, "exposure", f"{where}Exposure", 0.0),
        (view, "gamma", f"{where}Gamma", 1.0),
        (view, "use_curve_mapping", f"{where}Curves", False),
        (view, "use_white_balance", f"{where}White Balance", False),  # from Blender 4.3
    ]


def _unchangeable(scene: bpy.types.Scene) -> list[str]:
    """What only the artist can change."""
    space = getattr(getattr(bpy.data, "colorspace", None), "working_space", "Linear Rec.709")
    found = [] if space == "Linear Rec.709" else [f"The file's working space is {space}, not Linear Rec.709"]
    editor = scene.sequence_editor
    strips = getattr(editor, "strips_all", None) or getattr(editor, "sequences_all", None) or ()
    if scene.render.use_sequencer and len(strips):
        found.append("The sequencer has strips, which are rendered instead of the scene")
    camera = scene.camera
    if camera and camera.type == "CAMERA" and camera.data.type not in {"PERSP", "ORTHO"}:
        found.append(f"{camera.name} has a lens that bends its image: splats are shown as if it did not")
    if scene.render.use_multiview:
        found.append("Stereoscopy is on: splats face the scene's camera, not each eye")
    return found


def _equal(a: Any, b: Any) -> bool:
    return abs(a - b) < 1e-6 if isinstance(b, float) else bool(a == b)


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _change(owner: Any, name: str, label: str, value: Any) -> str:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return f"{label} {_shown(before)} → {_shown(value)}"
