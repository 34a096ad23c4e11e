"""Moving splats: one object that shows, frame by frame, one of many clouds kept in a collection of their own.

A modifier before the splats' own picks the cloud, so everything else works as with still splats. A driver
tells it the time, in clouds: at the motion's own speed, whatever the scene's frame rate. *Speed* and *Loop*
are inputs of the modifier.
"""

from __future__ import annotations

from pathlib import Path

import bpy

from ..backend.shared.ply import GaussianCloud
from ..backend.shared.protocol import DioramaError
from .attribute_nodes import named, shared, store
from .modifier_inputs import get_input, input_path, set_inputs
from .native import native_points
from .node_formulas import Field, Formulas
from .splats import splat_mesh, splat_object

GROUP_NAME = "Diorama Sequence"
_NATIVE_NAME = "Diorama Native Sequence"
SETTINGS = ("Frame", "Speed", "Loop", "Interpolate")  # inputs that artists set
# What moves between frames: attributes, how they are stored, and how two of them are mixed.
_SHAPE = (("rotation", "QUATERNION", "ROTATION"), ("scale", "FLOAT_VECTOR", "VECTOR"))
_COLOUR = (("opacity", "FLOAT", "FLOAT"), ("sh_0", "FLOAT_VECTOR", "VECTOR"))
_NATIVE_COLOUR = (("radiance:base", "FLOAT_COLOR", "RGBA"),)  # with the opacity; nodes know no FLOAT4


def sequence_object(
    name: str,
    clouds: list[GaussianCloud],
    blending: str,
    frame_start: int,
    *,
    tracked: bool = False,
    fps: float | None = None,
    is_native: bool = False,
) -> bpy.types.Object:
    """An object that shows clouds one after another from a frame of the scene on; in no collection yet.

    Args:
        tracked: the clouds have the same splats in the same order, which then move between the frames.
        fps: clouds a second; one for each frame of the scene if None.
        is_native: of Blender's own splats; they have no display blending.
    """
    if is_native:
        body = bpy.data.objects.new(name, native_points(name, clouds[0]))
    else:
        body = splat_object(name, splat_mesh(name, clouds[0]), blending)
    modifier = add_frames(body, clouds, is_native=is_native)
    set_inputs(modifier, Interpolate=tracked)
    if fps is not None:
        body["fps"] = fps
    _begin_at(body, frame_start)
    return body


def add_frames(
    body: bpy.types.Object, clouds: list[GaussianCloud], *, is_native: bool
) -> bpy.types.NodesModifier:
    """Let a splat object show clouds one after another, by a modifier before all others."""
    frames = bpy.data.collections.new(f"{body.name} frames")  # in no scene: used by the modifier only
    make = native_points if is_native else splat_mesh
    for index, cloud in enumerate(clouds):
        # Short names: they give the order, and Blender cuts long ones.
        name = f"frame {index:04d}"
        data = make(name, cloud) if index else body.data  # once, not twice
        frames.objects.link(bpy.data.objects.new(name, data))
    modifier = body.modifiers.new(GROUP_NAME, "NODES")
    name, build = (_NATIVE_NAME, _build_native_group) if is_native else (GROUP_NAME, _build_group)
    modifier.node_group = shared(bpy.data.node_groups, name, build, "GeometryNodeTree")
    set_inputs(modifier, Frames=frames)
    body.modifiers.move(len(body.modifiers) - 1, 0)
    return modifier


def clock(driver: bpy.types.Driver, frame_start: int, fps: float | None, form: str = "{}") -> None:
    """Let a driver say how many frames of a motion have passed, by the active scene's own frame rate.

    Without Python in it: so it is trusted in every file.

    Args:
        fps: frames of the motion a second; as fast as the scene's if None.
        form: an expression in which that number takes the place of {}.
    """
    for variable in list(driver.variables):
        driver.variables.remove(variable)
    driver.type = "SCRIPTED"
    since = f"(frame - {frame_start})"
    if fps is not None:
        for name, path, usual in (("rate", "render.fps", 24), ("base", "render.fps_base", 1)):
            variable = driver.variables.new()
            variable.name, variable.type = name, "CONTEXT_PROP"
            target = variable.targets[0]
            target.context_property, target.data_path = "ACTIVE_SCENE", path
            target.use_fallback_value, target.fallback_value = True, usual
        since = f"{since} * {fps:.6g} * base / rate"
    driver.expression = form.format(since)


def match_range(body: bpy.types.Object, scene: bpy.types.Scene) -> None:
    """Let the motion begin with the scene's frame range, and go through it once.

    A motion that loops begins anew in the frame after the range, so that the range loops too.
    """
    modifier = body.modifiers[GROUP_NAME]
    clouds = len(frame_objects(body))
    scene_frames = scene.frame_end - scene.frame_start + 1
    if not get_input(modifier, "Loop"):
        clouds, scene_frames = clouds - 1, max(scene_frames - 1, 1)
    _begin_at(body, scene.frame_start)
    set_inputs(modifier, Speed=clouds / scene_frames / _clouds_per_frame(body, scene))


def scene_frame(body: bpy.types.Object, cloud: float, scene: bpy.types.Scene) -> float:
    """The frame of the scene in which a cloud is shown, if the motion begins with the scene's range."""
    modifier = body.modifiers[GROUP_NAME]
    speed = get_input(modifier, "Speed") or 1.0
    return float(scene.frame_start + cloud / (speed * _clouds_per_frame(body, scene)))


def _clouds_per_frame(body: bpy.types.Object, scene: bpy.types.Scene) -> float:
    """At speed 1."""
    return body["fps"] * scene.render.fps_base / scene.render.fps if "fps" in body else 1.0


def _begin_at(body: bpy.types.Object, frame: int) -> None:
    path = input_path(body.modifiers[GROUP_NAME], "Frame")
    known = body.animation_data and body.animation_data.drivers.find(path)
    clock((known or body.driver_add(path)).driver, frame, body.get("fps"))


def move_alike(body: bpy.types.Object, origin: bpy.types.Object) -> None:
    """Give a copy of moving splats the driver that tells the time, if Blender has left it out."""
    if not frame_objects(body):
        return
    path = input_path(body.modifiers[GROUP_NAME], "Frame")
    known = origin.animation_data and origin.animation_data.drivers.find(path)
    if not known or (body.animation_data and body.animation_data.drivers.find(path)):
        return
    driver = body.driver_add(path).driver  # Blender crashes after drivers.from_existing
    driver.type = known.driver.type
    for variable in known.driver.variables:
        copy = driver.variables.new()
        copy.name, copy.type = variable.name, variable.type
        for target, there in zip(copy.targets, variable.targets, strict=True):
            if variable.type == "CONTEXT_PROP":
                target.context_property = there.context_property
            elif variable.type == "SINGLE_PROP":
                target.id_type = there.id_type
            if there.id:
                target.id = there.id
            target.data_path = there.data_path
            target.use_fallback_value, target.fallback_value = there.use_fallback_value, there.fallback_value
    driver.expression = known.driver.expression


def frame_objects(body: bpy.types.Object) -> list[bpy.types.Object]:
    """The objects that hold the frames of moving splats, in order; none for still splats."""
    modifier = body.modifiers.get(GROUP_NAME)
    if modifier is None or modifier.node_group is None:
        return []
    frames = get_input(modifier, "Frames")
    return _in_order(frames) if frames else []


def meshes(body: bpy.types.Object) -> list[bpy.types.Mesh]:
    """The meshes that hold the splats of an object: one for each frame, or one."""
    return [frame.data for frame in frame_objects(body)] or [body.data]


def keep_frames_beside(body: bpy.types.Object, path: Path) -> None:
    """Move the frames of moving splats into a .blend file of their own, which this one then links.

    Copies of the object that show the same frames show the linked ones too.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE; nothing has changed then.
    """
    in_use = [bpy.data.filepath, *(library.filepath for library in bpy.data.libraries)]
    if path.resolve() in [Path(bpy.path.abspath(used)).resolve() for used in in_use if used]:
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE",
            f"{path} is the open file, or one that it links",
            "Choose another name for the frames.",
        )
    frames = get_input(body.modifiers[GROUP_NAME], "Frames")
    name = frames.name
    try:
        bpy.data.libraries.write(
            str(path), {frames}, path_remap="RELATIVE_ALL", fake_user=True, compress=True
        )
    except RuntimeError as error:
        raise DioramaError("E_OUTPUT_UNWRITABLE", f"{path} cannot be written: {error}") from error
    with bpy.data.libraries.load(str(path), link=True, relative=bpy.data.is_saved) as (_, linked):
        linked.collections = [name]
    (beside,) = linked.collections
    own = list(frames.objects)
    for here, there in zip(_in_order(frames), _in_order(beside), strict=True):
        own.append(here.data)
        here.data.user_remap(there.data)
    frames.user_remap(beside)
    bpy.data.batch_remove([frames, *own])
    for item in bpy.data.objects:
        if item.library is None and GROUP_NAME in item.modifiers:
            item.update_tag()


def _in_order(frames: bpy.types.Collection) -> list[bpy.types.Object]:
    return sorted(frames.objects, key=lambda item: item.name)


def _build_group(group: bpy.types.NodeTree) -> None:
    _build(group, "MESH", (*_SHAPE, *_COLOUR))


def _build_native_group(group: bpy.types.NodeTree) -> None:
    _build(group, "POINTCLOUD", (*_SHAPE, *_NATIVE_COLOUR))


def _build(group: bpy.types.NodeTree, component: str, moving: tuple[tuple[str, str, str], ...]) -> None:
    group.is_modifier = True
    group.description = "Shows one of the clouds in a collection, by name in alphabetical order"
    new = group.interface.new_socket
    new("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    new("Frames", in_out="INPUT", socket_type="NodeSocketCollection")
    new("Frame", in_out="INPUT", socket_type="NodeSocketFloat", description="0 is the first frame")
    speed = new(
        "Speed", in_out="INPUT", socket_type="NodeSocketFloat", description="Of the motion; 1: its own"
    )
    speed.default_value = 1.0
    loop = new("Loop", in_out="INPUT", socket_type="NodeSocketBool", description="Begin anew after the last")
    loop.default_value = True
    new(
        "Interpolate",
        in_out="INPUT",
        socket_type="NodeSocketBool",
        description="Move between frames, where all frames have the same splats in the same order",
    )
    new("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")

    f = Formulas(group)
    with f.frame("Which frames"):
        clouds = f.node("GeometryNodeCollectionInfo", f.input("Frames"), True, True).first
        domain = {"component": "INSTANCES"}
        count = f.node("GeometryNodeAttributeDomainSize", clouds, settings=domain)["Instance Count"]
        passed = f.input("Frame") * f.input("Speed")
        looped = f.math("WRAP", passed, count, 0.0)
        clamped = f.maximum(f.minimum(passed, count - 1), 0.0)
        time = f.node(
            "GeometryNodeSwitch", f.input("Loop"), clamped, looped, settings={"input_type": "FLOAT"}
        ).first
        # A driver may give 2.9999999 for frame 3.
        this = f.math("FLOOR", time + 1e-4)
        rest = f.maximum(time - this, 0.0)
        following = f.math("WRAP", this + 1, count, 0.0)
        last = f.minimum(this + 1, count - 1)
        kind = {"input_type": "FLOAT"}
        following = f.node("GeometryNodeSwitch", f.input("Loop"), last, following, settings=kind).first

    def pick(frame: Field) -> Field:
        others = 1 - f.math("COMPARE", f.node("GeometryNodeInputIndex").first, frame, 0.5)
        one = f.node("GeometryNodeDeleteGeometry", clouds, others, settings={"domain": "INSTANCE"}).first
        return f.node("GeometryNodeRealizeInstances", one).first

    with f.frame("The cloud of this frame, and of the next"):
        here, there = pick(this), pick(following)

    with f.frame("Between the two, splat by splat"):

        def between(value: Field, data_type: str, mix_type: str) -> Field:
            index = f.node("GeometryNodeInputIndex").first
            kind = {"data_type": data_type}
            other = f.node("GeometryNodeSampleIndex", there, value, index, settings=kind).first
            return f.node("ShaderNodeMix", rest, value, other, settings={"data_type": mix_type}).first

        place = f.node("GeometryNodeInputPosition").first
        moved = f.node("GeometryNodeSetPosition", here, None, between(place, "FLOAT_VECTOR", "VECTOR")).first
        for name, data_type, mix_type in moving:
            value = between(named(f, name, data_type), data_type, mix_type)
            moved = store(f, moved, name, data_type, "POINT", value)

    with f.frame("Only where it can be"):
        kind = {"component": component}
        sizes = [
            f.node("GeometryNodeAttributeDomainSize", cloud, settings=kind)["Point Count"]
            for cloud in (here, there)
        ]
        same = f.math("COMPARE", *sizes, 0.5) * f.input("Interpolate") * (rest > 0)
        shown = f.node("GeometryNodeSwitch", same, here, moved, settings={"input_type": "GEOMETRY"}).first
    f.node("NodeGroupOutput", shown)
