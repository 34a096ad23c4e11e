"""The one node group that shows splats exactly, in Cycles and EEVEE, without the add-on.

A splat object is a mesh of loose vertices, one per splat, with its size, rotation, opacity and spherical
harmonics as attributes. The node group turns every vertex into one quad that covers the splat's ellipse as
the scene's camera sees it (EWA splatting: Zwicker et al. 2001; Kerbl et al. 2023, section 4), and the
material draws the Gaussian on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import bpy

from .attribute_nodes import DRAWN_BY_ADD_ON, named, sample, shared, store
from .colour_nodes import coloured_quads
from .node_formulas import Field, Formulas, Node
from .splat_material import MIN_ALPHA
from .viewport_nodes import points_to_click

GROUP_NAME = "Diorama Splats"

_FREE_VIEW_K = 1.5  # standard deviations shown in free viewing: little overlap, so Solid view shows shapes
_FREE_VIEW_MIN_OPACITY = 0.05  # Solid view knows no opacity, so what hardly shows must not hide the rest
_FIELD_MARGIN = 1.3  # the projection is linearised at most this far outside the image (Kerbl et al.'s code)
# Driver variables: name -> property of the active scene. Simple expressions need neither Python nor trust.
_CAMERA_VARIABLES = {
    "type": "camera.data.type",  # 0 perspective, 1 orthographic
    "fit": "camera.data.sensor_fit",  # 0 auto, 1 horizontal, 2 vertical
    "lens": "camera.data.lens",
    "sw": "camera.data.sensor_width",
    "sh": "camera.data.sensor_height",
    "ortho": "camera.data.ortho_scale",
    "sx": "camera.data.shift_x",
    "sy": "camera.data.shift_y",
    "near": "camera.data.clip_start",
    "rx": "render.resolution_x",
    "ry": "render.resolution_y",
    "percent": "render.resolution_percentage",
    "ax": "render.pixel_aspect_x",
    "ay": "render.pixel_aspect_y",
}
_FALLBACKS = {
    "lens": 50.0,
    "sw": 36.0,
    "sh": 24.0,
    "ortho": 6.0,
    "near": 0.1,
    "rx": 1920.0,
    "ry": 1080.0,
    "percent": 100.0,
    "ax": 1.0,
    "ay": 1.0,
}
# The side that the lens is measured on, in pixels as wide as they are.
_FIT_PX = "(ry * ay / ax if fit == 2 else (rx if fit == 1 else max(rx, ry * ay / ax)))"
_EXTENT = "(ortho if type == 1 else (sh if fit == 2 else sw) / lens)"  # that side's size at distance 1
_CAMERA_VALUES = {
    "Perspective": "0 if type == 1 else 1",
    "Pixel Size": f"{_EXTENT} / {_FIT_PX} * 100 / percent",
    "Pixel Aspect": "ay / ax",
    "Half Width": f"0.5 * {_EXTENT} * rx / {_FIT_PX}",
    "Half Height": f"0.5 * {_EXTENT} * ry * ay / ax / {_FIT_PX}",
    "Centre X": f"sx * {_EXTENT}",
    "Centre Y": f"sy * {_EXTENT}",
    "Clip Start": "near",
}


def splat_group() -> bpy.types.NodeTree:
    """The node group that shows splats."""
    return shared(bpy.data.node_groups, GROUP_NAME, _build_group, "GeometryNodeTree")


@dataclass(frozen=True)
class _View:
    """The scene's camera as the nodes see it; object space is the splat object's own."""

    perspective: Field  # 1, or 0 for orthographic
    pixel: Field  # width of a pixel at distance 1
    pixel_aspect: Field  # its height by its width
    half_width: Field  # of the image at distance 1
    half_height: Field
    centre_x: Field  # of the image at distance 1, where the lens is shifted
    centre_y: Field
    near: Field  # splats nearer to the camera than this are not drawn
    camera: Node  # its Object Info, in the world
    own: Node  # the splat object's Object Info, in the world
    object_from_camera: Field
    camera_from_object: Field
    is_free: Field  # whether splats are to be seen from anywhere, approximately
    is_drawn: Field  # whether the add-on draws them there


@dataclass(frozen=True)
class _Ellipse:
    """What the camera sees of a splat, up to where alpha falls below 1/255."""

    centre: Field  # object space
    height: Field  # z in the camera, negative in front of it
    edge_x: Field  # from the centre to two conjugate points of the rim, object space
    edge_y: Field
    k: Field  # standard deviations from the centre to the rim; 0 if not shown
    chosen: Field  # by density and crop
    opacity: Field


def _build_group(group: bpy.types.NodeTree) -> None:
    group.is_modifier = True
    group.description = "Shows Gaussian splats exactly from the scene's camera"
    _add_interface(group)
    f = Formulas(group)
    view = _view(f)
    ellipse = _ellipse(f, view)
    with f.frame("One loose quad per splat, corners at ±1"):
        quad = f.node("GeometryNodeMeshGrid", 2.0, 2.0, 2, 2)["Mesh"]
        count = f.node("GeometryNodeAttributeDomainSize", f.input("Geometry"))["Point Count"]
        copies = f.node("GeometryNodeDuplicateElements", quad, None, count, settings={"domain": "FACE"})
        quads = copies["Geometry"]
        # On corners, dividing is faster than handing indices on from faces, and exact in float32 up to here.
        by_four = f.node(
            "FunctionNodeFloatToInt",
            f.node("GeometryNodeInputIndex").first * 0.25,
            settings={"rounding_mode": "FLOOR"},
        )
        splat_of_corner = f.node(
            "GeometryNodeSwitch",
            count > 2**22,
            by_four.first,
            copies["Duplicate Index"],
            settings={"input_type": "INT"},
        ).first
    quads = coloured_quads(
        f,
        quads,
        centre=ellipse.centre,
        opacity=ellipse.opacity,
        camera=view.camera,
        own=view.own,
        is_free=view.is_free,
    )
    quads = _with_normals(f, view, ellipse, quads)
    quads = _place(f, ellipse, quads, splat_of_corner)
    with f.frame("Back to front, for EEVEE; in free viewing there is no back"):
        face = f.node("GeometryNodeInputIndex").first
        height = sample(f, ellipse.height, face, "FLOAT")
        by_height = f.node("GeometryNodeSortElements", quads, Sort_Weight=height, settings={"domain": "FACE"})
        either = {"input_type": "GEOMETRY"}
        quads = f.node("GeometryNodeSwitch", view.is_free, by_height.first, quads, settings=either).first
    with f.frame("In free viewing colours on corners: those are what Solid's Attribute shows"):
        of_face = f.node(
            "GeometryNodeFieldOnDomain",
            named(f, "splat_color", "FLOAT_COLOR"),
            settings={"data_type": "FLOAT_COLOR", "domain": "FACE"},
        ).first
        on_corners = store(f, quads, "splat_color", "FLOAT_COLOR", "CORNER", of_face)
        quads = f.node("GeometryNodeSwitch", view.is_free, quads, on_corners, settings=either).first
    materials = (f.input("Material"), f.input("Preview Material"))
    material = f.node(
        "GeometryNodeSwitch", view.is_free, *materials, settings={"input_type": "MATERIAL"}
    ).first
    quads = f.node("GeometryNodeSetMaterial", quads, Material=material).first
    with f.frame("For the add-on, which draws the splats in the 3D view: points"):
        points = points_to_click(f, f.input("Geometry"), ellipse.chosen, ellipse.opacity)
        shown = f.node("GeometryNodeSwitch", view.is_drawn, quads, points, settings=either).first
    f.node("NodeGroupOutput", shown)


def _view(f: Formulas) -> _View:
    with f.frame("The scene's camera; the values are driven"):
        values = [_driven_value(f, name, expression) for name, expression in _CAMERA_VALUES.items()]
        camera = _object_info(f, f.node("GeometryNodeInputActiveCamera").first)
        own = _object_info(f, f.node("GeometryNodeSelfObject").first)
        world_from_camera = f.node(
            "FunctionNodeCombineTransform", camera["Location"], camera["Rotation"]
        ).first
        object_from_world = f.node("FunctionNodeInvertMatrix", own["Transform"])["Matrix"]
        object_from_camera = f.node("FunctionNodeMatrixMultiply", object_from_world, world_from_camera).first
        camera_from_object = f.node("FunctionNodeInvertMatrix", object_from_camera)["Matrix"]
        is_free = f.node("GeometryNodeIsViewport").first * f.input("Free View")
        is_drawn = is_free * (1 - f.input("Lit")) * _drawn_by_add_on(f)
    return _View(*values, camera, own, object_from_camera, camera_from_object, is_free, is_drawn)  # type: ignore[call-arg, arg-type]


def _ellipse(f: Formulas, view: _View) -> _Ellipse:
    with f.frame("Centre of the splat, seen from the camera, which looks along -Z"):
        centre = f.node("GeometryNodeInputPosition").first
        x, y, z = f.separate(f.node("FunctionNodeTransformPoint", centre, view.camera_from_object).first)
        in_front = -z > view.near
        depth = f.maximum(-z, view.near)
        margin_x, margin_y = view.half_width * _FIELD_MARGIN, view.half_height * _FIELD_MARGIN
        slope_x = view.perspective * _clamp(f, x / depth, view.centre_x, margin_x)
        slope_y = view.perspective * _clamp(f, y / depth, view.centre_y, margin_y)
        pixel = view.pixel * (1 - view.perspective + view.perspective * depth)

    with f.frame("Covariance [a b; b c] of the splat in the plane through its centre, plus dilation"):
        row_x, row_y, row_z = _rows(f, view.camera_from_object)
        rotation = named(f, "rotation", "QUATERNION")
        to_axes = f.node("FunctionNodeInvertRotation", rotation).first
        scale = named(f, "scale", "FLOAT_VECTOR") * f.input("Size")
        extent_x = f.node("FunctionNodeRotateVector", row_x + row_z * slope_x, to_axes).first * scale
        extent_y = f.node("FunctionNodeRotateVector", row_y + row_z * slope_y, to_axes).first * scale
        # Finer pixels than the splats were made with take blur away: it is given back, in metres.
        grown = f.vector_math("LENGTH", view.own["Scale"]) / math.sqrt(3)
        made = f.input("Detail") * grown
        same = view.pixel * (1 - view.perspective + view.perspective * f.input("Distance") * grown)
        lost = f.maximum(made * made - same * same, 0.0)
        height = pixel * view.pixel_aspect
        a = extent_x.dot(extent_x) + f.input("Dilation") * (pixel * pixel + lost)
        b = extent_x.dot(extent_y)
        c = extent_y.dot(extent_y) + f.input("Dilation") * (height * height + lost)

    with f.frame("Ellipse: k standard deviations (Cholesky), up to where alpha falls below 1/255"):
        random = f.node("FunctionNodeRandomValue", 0.0, 1.0).first
        opacity = named(f, "opacity", "FLOAT") * f.input("Opacity")
        chosen = (random < f.input("Density")) * _inside_crop(f, centre, view.own)
        k = f.sqrt(2 * f.math("LOGARITHM", f.maximum(opacity / MIN_ALPHA, 1.0), math.e)) * in_front * chosen
        l11 = f.sqrt(a)
        l21 = b / l11
        l22 = f.sqrt(f.maximum(c - l21 * l21, 0.0))
        right, up = _columns(f, view.object_from_camera)
        exact = (right * (k * l11) + up * (k * l21), up * (k * l22), k)

    with f.frame("Free viewing: without a camera, in the plane of the splat's two largest axes"):
        flat_x, flat_y = _largest_axes(f, scale)
        free_k = _FREE_VIEW_K * chosen * (opacity > _FREE_VIEW_MIN_OPACITY)
        free = [
            f.node("FunctionNodeRotateVector", axis, rotation).first * free_k for axis in (flat_x, flat_y)
        ]
        edge_x, edge_y, k = (
            f.node("GeometryNodeSwitch", view.is_free, *pair, settings={"input_type": kind}).first
            for pair, kind in zip(
                zip(exact, (*free, free_k), strict=True), ("VECTOR", "VECTOR", "FLOAT"), strict=True
            )
        )
    return _Ellipse(centre, z, edge_x, edge_y, k, chosen, opacity)


def _largest_axes(f: Formulas, scale: Field) -> tuple[Field, Field]:
    """The two largest axes of a splat in its own rotated frame."""
    x, y, z = f.separate(scale)
    x_is_least = (x < y) * (x < z)
    z_is_least = (1 - x_is_least) * (z < y)
    first = f.combine(x * (1 - x_is_least), y * x_is_least, 0.0)
    second = f.combine(0.0, y * z_is_least, z * (1 - z_is_least))
    return first, second


def _with_normals(f: Formulas, view: _View, ellipse: _Ellipse, quads: Field) -> Field:
    """Where splats are lit, store the direction of the smallest axis that points to the camera."""
    with f.frame("Normals, for lights"):
        x, y, z = f.separate(named(f, "scale", "FLOAT_VECTOR"))
        z_is_least = (z < x) * (z < y)
        x_is_least = (1 - z_is_least) * (x < y)
        axis = f.combine(x_is_least, 1 - x_is_least - z_is_least, z_is_least)
        axis = f.node("FunctionNodeRotateVector", axis, named(f, "rotation", "QUATERNION")).first
        camera = f.node("FunctionNodeTransformPoint", (0.0, 0.0, 0.0), view.object_from_camera).first
        axis *= f.math("SIGN", axis.dot(camera - ellipse.centre))
        normal = sample(f, axis, f.node("GeometryNodeInputIndex").first, "FLOAT_VECTOR")
        lit = store(f, quads, "splat_normal", "FLOAT_VECTOR", "FACE", normal)
        return f.node(
            "GeometryNodeSwitch", f.input("Lit"), quads, lit, settings={"input_type": "GEOMETRY"}
        ).first


def _place(f: Formulas, ellipse: _Ellipse, quads: Field, splat: Field) -> Field:
    with f.frame("Corners onto the ellipse, by one matrix per splat"):
        columns = (ellipse.edge_x, ellipse.edge_y, f.combine(ellipse.k, 0.0, 0.0), ellipse.centre)
        entries = [entry for column in columns for entry in (*f.separate(column), 0.0)]
        matrix = f.node(
            "FunctionNodeCombineMatrix", *entries[:-1], 1.0
        ).first  # its third column is not geometry
        matrix = sample(f, matrix, splat, "FLOAT4X4")
        parts = f.node("FunctionNodeSeparateMatrix", matrix)
        corner = f.node("GeometryNodeInputPosition").first
        offset = corner * parts["Column 3 Row 1"]
        quads = store(f, quads, "splat_offset", "FLOAT_VECTOR", "POINT", offset)
        return f.node(
            "GeometryNodeSetPosition", quads, None, f.node("FunctionNodeTransformPoint", corner, matrix).first
        ).first


def _add_interface(group: bpy.types.NodeTree) -> None:
    def add(name: str, kind: str, default: object = None, description: str = "", **limits: float) -> None:
        socket = group.interface.new_socket(
            name, description=description, in_out="INPUT", socket_type=f"NodeSocket{kind}"
        )
        for key, value in ({} if default is None else {"default_value": default, **limits}).items():
            setattr(socket, key, value)

    add("Geometry", "Geometry")
    add("Tint", "Color", (1.0, 1.0, 1.0, 1.0))
    add("Brightness", "Float", 1.0, min_value=0.0)
    add("Opacity", "Float", 1.0, "Factor of every splat's opacity", min_value=0.0, max_value=1.0)
    add("Density", "Float", 1.0, "Part of the splats that is shown", min_value=0.0, max_value=1.0)
    add("Size", "Float", 1.0, "Factor of every splat's size", min_value=0.0)
    add("Crop", "Bool", False, "Show only what is inside the crop object's unit cube or sphere")
    add("Crop Object", "Object")
    add("Crop Sphere", "Bool", False, "Crop by the unit sphere of the crop object instead of its cube")
    add("SH Degree", "Int", 0, "0: the same colour from all sides", min_value=0, max_value=3)
    add(
        "Display Blending",
        "Bool",
        False,
        "Keep colours as splat viewers have them; needs a Convert Colorspace node in the compositor",
    )
    add("Lit", "Bool", False, "Let lights and shadows fall on the splats, instead of letting them shine")
    add("Dilation", "Float", 0.3, "Blur of every splat, in square pixels", min_value=0.0)
    add(
        "Detail",
        "Float",
        0.0,
        "Size of the pixels the splats were made from, in metres: finer renders stay as soft; 0: never",
        min_value=0.0,
    )
    add("Distance", "Float", 1.0, "From which the splats were made, in metres", min_value=0.0)
    add(
        "Free View",
        "Bool",
        True,
        "In the viewport: approximate, from any side; off: exact, as the scene's camera sees them",
    )
    add("Material", "Material")
    add("Preview Material", "Material")
    group.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")


def _driven_value(f: Formulas, name: str, expression: str) -> Field:
    """A Value node whose number follows the active scene's camera by a driver."""
    return _follows_scene(f, name, expression, _CAMERA_VARIABLES)


def _drawn_by_add_on(f: Formulas) -> Field:
    """1 where the add-on is there and draws splats; 0, the fallback, in a Blender without it."""
    return _follows_scene(f, "Drawn by Add-on", "drawn", {"drawn": DRAWN_BY_ADD_ON})


def _follows_scene(f: Formulas, name: str, expression: str, paths: dict[str, str]) -> Field:
    node = f.node("ShaderNodeValue", label=name).node
    node.name = name
    driver = node.outputs[0].driver_add("default_value").driver
    driver.type = "SCRIPTED"
    for variable_name, path in paths.items():
        variable = driver.variables.new()
        variable.name = variable_name
        variable.type = "CONTEXT_PROP"
        target = variable.targets[0]
        target.context_property = "ACTIVE_SCENE"
        target.data_path = path
        target.use_fallback_value = True  # what is not there must not make the driver invalid
        target.fallback_value = _FALLBACKS.get(variable_name, 0.0)
    driver.expression = expression
    return Field(f, node.outputs[0])


def _object_info(f: Formulas, of_object: Field, *as_instance: bool) -> Node:
    return f.node("GeometryNodeObjectInfo", of_object, *as_instance, settings={"transform_space": "ORIGINAL"})


def _clamp(f: Formulas, value: Field, centre: Field, half_width: Field) -> Field:
    return f.minimum(f.maximum(value, centre - half_width), centre + half_width)


def _rows(f: Formulas, matrix: Field) -> tuple[Field, Field, Field]:
    """Rows of the 3×3 part of a matrix."""
    parts = f.node("FunctionNodeSeparateMatrix", matrix)
    row = [f.combine(*(parts[f"Column {column} Row {row}"] for column in (1, 2, 3))) for row in (1, 2, 3)]
    return row[0], row[1], row[2]


def _columns(f: Formulas, matrix: Field) -> tuple[Field, Field]:
    """The first two columns of the 3×3 part of a matrix: the camera's right and up."""
    parts = f.node("FunctionNodeSeparateMatrix", matrix)
    column = [f.combine(*(parts[f"Column {column} Row {row}"] for row in (1, 2, 3))) for column in (1, 2)]
    return column[0], column[1]


def _inside_crop(f: Formulas, centre: Field, own: Node) -> Field:
    crop = _object_info(f, f.input("Crop Object"), True)
    # One instance, even of an empty; none where there is no object any more.
    domain = {"component": "INSTANCES"}
    is_there = f.node("GeometryNodeAttributeDomainSize", crop["Geometry"], settings=domain)["Instance Count"]
    world_centre = f.node("FunctionNodeTransformPoint", centre, own["Transform"]).first
    crop_from_world = f.node("FunctionNodeInvertMatrix", crop["Transform"])["Matrix"]
    place = f.node("FunctionNodeTransformPoint", world_centre, crop_from_world).first
    x, y, z = f.separate(f.vector_math("ABSOLUTE", place))
    is_sphere = f.input("Crop Sphere")
    reach = f.maximum(f.maximum(x, y), z) * (1 - is_sphere) + f.vector_math("LENGTH", place) * is_sphere
    return 1 - f.input("Crop") * is_there * (reach > 1)
