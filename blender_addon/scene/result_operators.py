"""What can be done with the active result: crop, clean up, make a mesh of it, set its motion."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import bpy

from ..backend.shared.floaters import APART
from ..backend.shared.protocol import DioramaError
from ..reporting import report
from . import clean_up, crop, hierarchy, reveal, sequences, to_mesh
from .transaction import all_or_nothing


def active_splats(context: bpy.types.Context) -> bpy.types.Object | None:
    """The splats of the result that the active object belongs to, or that it crops."""
    active = context.view_layer.objects.active
    return hierarchy.splats_of_result(active) or crop.body_of(active)


def poll_splats(operator: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Only with splats; says so."""
    if active_splats(context):
        return True
    operator.poll_message_set("Select a splat object, or something of its result")
    return False


def poll_editable(operator: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    """Only with splats that can be changed now; says why not."""
    body = active_splats(context)
    if body is None:
        return poll_splats(operator, context)
    if any(each.library for each in (body, *sequences.meshes(body))):
        operator.poll_message_set("These splats are linked from another file: change them there")
    elif any(each.override_library for each in (body, *sequences.meshes(body))):
        operator.poll_message_set("These splats override those of another file: change them there")
    elif context.mode != "OBJECT":
        operator.poll_message_set("Go to Object Mode")
    else:
        return True
    return False


class _OnCrop:
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a crop."""
        body = active_splats(context)
        if body is None:
            return poll_splats(cls, context)
        if crop.crop_of(body):
            return True
        cls.poll_message_set("These splats have no crop")  # type: ignore[attr-defined]
        return False


class DIORAMA_OT_crop_splats(bpy.types.Operator):
    """Show only the splats inside a box or a ball, which can be moved, turned and scaled"""

    bl_idname = "diorama.crop_splats"
    bl_label = "Crop Splats"
    bl_options = {"REGISTER", "UNDO"}

    shape: bpy.props.EnumProperty(items=[("CUBE", "Box", "A box"), ("SPHERE", "Ball", "A ball")])

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for splats of this file, or that override those of another."""
        body = active_splats(context)
        if body and body.library:
            cls.poll_message_set("Linked splats keep no crop: use Object > Relations > Make Library Override")
            return False
        return poll_splats(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Adds the box or the ball around all splats, and selects it."""
        body = active_splats(context)
        assert body is not None
        try:
            with all_or_nothing():
                added = crop.add_crop(context.scene, body, self.shape)
        except DioramaError as error:
            return report(self, error)
        reveal.select(context.view_layer, [added], added)
        return {"FINISHED"}


class DIORAMA_OT_select_crop(_OnCrop, bpy.types.Operator):
    """Select the box or ball, to move, turn or scale it"""

    bl_idname = "diorama.select_crop"
    bl_label = "Select Crop"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Selects it."""
        box = crop.crop_of(active_splats(context))
        assert box is not None
        box.hide_viewport = False
        box.hide_set(False)
        reveal.select(context.view_layer, [box], box)
        return {"FINISHED"}


class DIORAMA_OT_apply_crop(_OnCrop, bpy.types.Operator):
    """Delete the splats that are cropped away, and the box"""

    bl_idname = "diorama.apply_crop"
    bl_label = "Apply Crop"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a crop that is on, of splats that can be changed."""
        if not (super().poll(context) and poll_editable(cls, context)):
            return False
        if crop.is_on(active_splats(context)):
            return True
        cls.poll_message_set("The crop is off: tick Crop to see what would be deleted")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Deletes them."""
        body = active_splats(context)
        count = crop.apply_crop(body)
        reveal.select(context.view_layer, [body], body)
        self.report({"INFO"}, f"{count:,} splats deleted")
        return {"FINISHED"}


class DIORAMA_OT_remove_crop(_OnCrop, bpy.types.Operator):
    """Show all splats again, and delete the box"""

    bl_idname = "diorama.remove_crop"
    bl_label = "Remove Crop"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Removes it."""
        body = active_splats(context)
        crop.remove_crop(body)
        reveal.select(context.view_layer, [body], body)
        return {"FINISHED"}


class DIORAMA_OT_clean_up(bpy.types.Operator):
    """Delete floaters: splats that hardly show, and small groups of splats that hang apart from the object"""

    bl_idname = "diorama.clean_up"
    bl_label = "Clean Up"
    bl_options = {"REGISTER", "UNDO"}

    opacity: bpy.props.FloatProperty(
        name="Opacity",
        description="Fainter splats are deleted",
        default=0.05,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    distance: bpy.props.FloatProperty(
        name="Distance",
        description="How far from the object small groups are that go, in parts of its size; 0: none",
        default=APART,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for splats that can be changed."""
        return poll_editable(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Deletes them, and says how many."""
        gone, count = clean_up.clean_up(active_splats(context), self.opacity, self.distance)
        self.report({"INFO"}, f"{gone:,} of {count:,} splats deleted")
        return {"FINISHED"}


class DIORAMA_OT_splats_to_mesh(bpy.types.Operator):
    """Make a mesh of the splats as they are now, coloured by them; the splats stay"""

    bl_idname = "diorama.splats_to_mesh"
    bl_label = "To Mesh"
    bl_options = {"REGISTER", "UNDO"}

    cells: bpy.props.IntProperty(
        name="Detail",
        description="Cells along the longest side: more show finer parts, and more gaps between splats",
        default=to_mesh.CELLS,
        min=8,
        max=1024,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for splats, in Object Mode."""
        if not poll_splats(cls, context):
            return False
        if context.mode == "OBJECT":
            return True
        cls.poll_message_set("Go to Object Mode")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Makes it; of a result, in place of its splats, which are hidden."""
        body = active_splats(context)
        assert body is not None
        try:
            with all_or_nothing():
                made = to_mesh.mesh_of(body, self.cells)
        except DioramaError as error:
            return report(self, error)
        hierarchy.home_of(context.scene, body).objects.link(made)
        root = hierarchy.root_of(body)
        hierarchy.show(hierarchy.parts(root, hierarchy.MESH) if root else [], visible=False)
        hierarchy.show([body], visible=False)
        hierarchy.show([made], visible=True)
        context.view_layer.update()
        reveal.select(context.view_layer, [made, *([root] if root else [])], made)
        return {"FINISHED"}


class DIORAMA_OT_match_range(bpy.types.Operator):
    """Let the motion begin with the scene's frame range and take all of it, by its Speed"""

    bl_idname = "diorama.match_range"
    bl_label = "Match Scene Range"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for what moves."""
        body = active_splats(context)
        if body and sequences.frame_objects(body):
            return True
        cls.poll_message_set("Select splats that move")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Sets speed and beginning."""
        sequences.match_range(active_splats(context), context.scene)
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_crop_splats,
    DIORAMA_OT_select_crop,
    DIORAMA_OT_apply_crop,
    DIORAMA_OT_remove_crop,
    DIORAMA_OT_clean_up,
    DIORAMA_OT_splats_to_mesh,
    DIORAMA_OT_match_range,
)
_SHOWN = [
    ("SPLATS", "Splats", "Show the splats"),
    ("MESH", "Mesh", "Show the mesh"),
    ("BOTH", "Both", "Show splats and mesh"),
]


def _get_shown(root: bpy.types.Object) -> int:
    bodies = hierarchy.is_shown(hierarchy.parts(root, hierarchy.SPLATS))
    mesh = hierarchy.is_shown(hierarchy.parts(root, hierarchy.MESH))
    return 2 if bodies and mesh else int(mesh)


def _set_shown(root: bpy.types.Object, value: int) -> None:
    hierarchy.show(hierarchy.parts(root, hierarchy.SPLATS), visible=value != 1)
    hierarchy.show(hierarchy.parts(root, hierarchy.MESH)[-1:], visible=value != 0)


def _toggle(name: str, description: str, *kinds: str) -> bpy.props.BoolProperty:
    return bpy.props.BoolProperty(
        name=name,
        description=description,
        get=lambda root: hierarchy.is_shown(hierarchy.parts(root, *kinds)),
        set=lambda root, value: hierarchy.show(hierarchy.parts(root, *kinds), visible=value),
        options=set(),
    )


_PROPERTIES = ("diorama_show", "diorama_show_cameras", "diorama_show_images")


def register() -> None:
    """Adds the operators, and what of a result is shown as properties of its root."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    shown = bpy.props.EnumProperty(
        name="Show",
        items=_SHOWN,
        get=_get_shown,
        set=_set_shown,
        options=set(),
        description="In views and renders",
    )
    cameras = _toggle("Cameras", "Show the cameras that saw the views", *hierarchy.CAMERAS)
    images = _toggle("Images", "Show the generated views as images before their cameras", hierarchy.IMAGE)
    for name, value in zip(_PROPERTIES, (shown, cameras, images), strict=True):
        setattr(bpy.types.Object, name, value)


def unregister() -> None:
    """Takes them away."""
    for name in _PROPERTIES:
        delattr(bpy.types.Object, name)
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)
