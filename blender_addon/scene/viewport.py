"""Shows splats in every 3D view as they are: coloured, soft and sorted, from any side, in every shading mode.

The nodes hand over points, cropped, thinned and moved; what they look like is painted over the view, hidden
where the view's depth is nearer. Without the add-on the nodes draw everything, since the driver that asks
them for points finds no `Scene.diorama_draw_splats` then.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator
from typing import Any

import bpy
import gpu
import numpy as np
from bpy.app.handlers import persistent
from mathutils import Matrix

from .attribute_nodes import DRAWN_BY_ADD_ON
from .modifier_inputs import get_input
from .splats import cloud_in, has_splats, splat_modifier, values
from .viewport_nodes import CENTRE
from .viewport_painter import Look, Painter, Splats, Thing, splats_from

_SURFACES = {"MESH", "CURVE", "SURFACE", "META", "FONT", "CURVES", "POINTCLOUD", "VOLUME", "GREASEPENCIL"}
_POLL_S = 0.01  # how soon a view is drawn again when its order has come


@dataclasses.dataclass(frozen=True)
class Listing:
    """What there is to draw in a view layer."""

    splats: tuple[bpy.types.Object, ...]
    instancers: tuple[bpy.types.Object, ...]  # of collections with splats
    surfaces: tuple[bpy.types.Object, ...]  # what may hide splats


class _Viewport:
    """What is known between two draws. Lives while the add-on is enabled in a Blender with a window."""

    def __init__(self) -> None:
        self.painter: Painter | None = None  # made in the first draw: before it there is no GPU
        self.splats: dict[int, Splats] = {}  # object's session_uid → as last read
        self.changed: set[int] | None = None  # session_uids to be read again; None: all
        self.listings: dict[int, Listing] = {}  # view layer's pointer → what is in it
        self.handle = bpy.types.SpaceView3D.draw_handler_add(self.draw, (), "WINDOW", "POST_VIEW")

    def close(self) -> None:
        bpy.types.SpaceView3D.draw_handler_remove(self.handle, "WINDOW")
        if self.painter:
            self.painter.close()

    def forget(self) -> None:
        """Reads everything again: another file, or another state of it."""
        self.splats.clear()
        self.listings.clear()
        self.changed = None

    def draw(self) -> None:
        """Paints over the view that Blender draws at this moment; where that fails, the nodes draw again."""
        try:
            self._draw()
        except Exception:  # of a graphics driver, say: splats must not stay invisible
            traceback.print_exc()
            print("Diorama cannot draw splats in the 3D view here; their nodes draw them instead")
            bpy.app.timers.register(unregister, first_interval=0)  # not while Blender draws

    def _draw(self) -> None:
        context = bpy.context
        space, region, scene = context.space_data, context.region, context.scene
        if space.shading.type == "WIREFRAME" or not getattr(scene, DRAWN_BY_ADD_ON, False):
            return
        listing = self._listing(context.view_layer)
        if not listing.splats and not listing.instancers:
            return
        things = list(self._things(context, listing, region.as_pointer()))
        if not things:
            return
        self.painter = self.painter or Painter()
        size = (region.width, region.height)
        depths = None
        if any(each.visible_in_viewport_get(space) for each in listing.surfaces):
            values = gpu.state.active_framebuffer_get().read_depth(0, 0, *size)
            depths = gpu.types.GPUTexture(size, format="R32F", data=values)
        outlines = _outlines(context)
        matrices = (context.region_data.view_matrix, context.region_data.window_matrix)
        theme, pixel = context.preferences.themes[0].view_3d, context.preferences.system.pixel_size
        dot_px = 2.0 * theme.vertex_size * pixel
        before = gpu.state.depth_test_get(), gpu.state.blend_get()
        for linear in (True, False):
            if any(thing.splats.look.linear == linear for thing in things):
                self.painter.paint(
                    things,
                    *matrices,
                    size,
                    linear=linear,
                    depths=depths,
                    dot_px=dot_px,
                    view_distance=context.region_data.view_distance,
                )
                self.painter.finish(size, linear=linear, outlines=outlines)
        gpu.state.depth_test_set(before[0])
        gpu.state.blend_set(before[1])
        if self.painter.sorting and not bpy.app.timers.is_registered(_draw_again):
            bpy.app.timers.register(_draw_again, first_interval=_POLL_S)

    def _listing(self, layer: bpy.types.ViewLayer) -> Listing:
        key = layer.as_pointer()
        if key not in self.listings:
            self.listings[key] = _list(layer)
        return self.listings[key]

    def _things(self, context: bpy.types.Context, listing: Listing, region: int) -> Iterator[Thing]:
        depsgraph = context.view_layer.depsgraph or context.evaluated_depsgraph_get()
        space, active = context.space_data, context.view_layer.objects.active
        for body in listing.splats:
            if body.mode == "EDIT" or not body.visible_in_viewport_get(space):
                continue
            if splats := self._splats(body, depsgraph):
                world = body.evaluated_get(depsgraph).matrix_world
                selected = body.select_get()
                yield Thing(splats, world, (region, body.session_uid), selected, body == active)
        for instancer in listing.instancers:
            if not instancer.visible_in_viewport_get(space):
                continue
            collection = instancer.instance_collection
            place = instancer.matrix_world @ Matrix.Translation(-collection.instance_offset)
            for body in collection.all_objects:
                if splats := self._splats(body, depsgraph):
                    key = (region, body.session_uid, instancer.session_uid)
                    world = place @ body.matrix_world
                    yield Thing(splats, world, key, instancer.select_get(), instancer == active)

    def _splats(self, body: bpy.types.Object, depsgraph: bpy.types.Depsgraph) -> Splats | None:
        """The splats that an object's nodes hand over, read again only if they have changed."""
        uid = body.session_uid
        if self.changed is None:
            self.changed = set()
            self.splats.clear()
        if uid in self.splats and uid not in self.changed:
            return self.splats[uid]
        self.changed.discard(uid)
        evaluated = body.evaluated_get(depsgraph)
        mesh = evaluated.data
        modifier = splat_modifier(evaluated)
        if modifier is None or len(mesh.polygons) or not has_splats(mesh):  # the nodes draw them
            self.splats.pop(uid, None)
            return None
        cloud, look = cloud_in(mesh), _look(modifier)
        points = cloud.means
        if CENTRE in mesh.attributes:
            cloud = dataclasses.replace(cloud, means=values(mesh, CENTRE, 3))
        known = self.splats.get(uid)
        if known is None or known.look != look or not _same(known, cloud):
            self.splats[uid] = splats_from(cloud, look, points)
        return self.splats[uid]


_viewport: _Viewport | None = None


def register() -> None:
    """Begins to draw, where there is a window."""
    global _viewport  # noqa: PLW0603  draw handlers and application handlers share it
    setattr(
        bpy.types.Scene,
        DRAWN_BY_ADD_ON,
        bpy.props.BoolProperty(
            name="Splats in the 3D View",
            description="Show splats soft and sorted in every 3D view; off: as the nodes alone show them",
            default=not bpy.app.background,
            update=lambda _scene, _context: _evaluate_nodes(),
        ),
    )
    if bpy.app.background:
        return
    _viewport = _Viewport()
    for handlers, handler in _handlers():
        handlers.append(handler)
    bpy.app.timers.register(_evaluate_nodes, first_interval=0)


def unregister() -> None:
    """Leaves drawing to the nodes."""
    global _viewport  # noqa: PLW0603
    if hasattr(bpy.types.Scene, DRAWN_BY_ADD_ON):
        delattr(bpy.types.Scene, DRAWN_BY_ADD_ON)
    if _viewport is not None:
        for handlers, handler in _handlers():
            handlers.remove(handler)
        _viewport.close()
        _viewport = None
    _evaluate_nodes()


def _handlers() -> list[tuple[Any, Any]]:
    at = bpy.app.handlers
    return [
        (at.depsgraph_update_post, _on_change),
        (at.frame_change_post, _on_change),
        *((handlers, _on_other_state) for handlers in (at.load_post, at.undo_post, at.redo_post)),
    ]


@persistent
def _on_change(_scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    if _viewport is None:
        return
    _viewport.listings.clear()
    if _viewport.changed is not None:
        for update in depsgraph.updates:
            if update.is_updated_geometry and isinstance(update.id, bpy.types.Object):
                _viewport.changed.add(update.id.original.session_uid)


@persistent
def _on_other_state(*_: Any) -> None:
    if _viewport is not None:
        _viewport.forget()


def _draw_again() -> float | None:
    """Draws the views again when an order has come."""
    painter = _viewport.painter if _viewport else None
    if painter is None or not painter.sorting:
        return None
    if painter.sorted:
        for window in bpy.context.window_manager.windows:
            for area in window.screen.areas:
                if area.type == "VIEW_3D":
                    area.tag_redraw()
    return _POLL_S


def _evaluate_nodes() -> None:
    """Lets the nodes ask again who draws: an open file was evaluated before the add-on came or went."""
    for body in bpy.data.objects:
        if body.type == "MESH" and (modifier := splat_modifier(body)):
            modifier.node_group.update_tag()
            body.update_tag()


def _list(layer: bpy.types.ViewLayer) -> Listing:
    visible = [each for each in layer.objects if each.visible_get(view_layer=layer)]
    splats = {each for each in visible if each.type == "MESH" and splat_modifier(each)}
    instancers = [
        each
        for each in visible
        if each.instance_type == "COLLECTION"
        and each.instance_collection
        and any(
            inner.type == "MESH" and splat_modifier(inner) for inner in each.instance_collection.all_objects
        )
    ]
    surfaces = [
        each for each in layer.objects if each.type in _SURFACES and each not in splats and each in visible
    ]
    return Listing(tuple(splats), tuple(instancers), tuple(surfaces))


def _look(modifier: bpy.types.NodesModifier) -> Look:
    """What the inputs of an object's nodes ask for."""

    def value(name: str, default: Any) -> Any:
        given = get_input(modifier, name)
        return default if given is None else given

    brightness = value("Brightness", 1.0)
    tint = tuple(float(channel) * brightness for channel in list(value("Tint", (1, 1, 1)))[:3])
    return Look(
        linear=not value("Display Blending", False),
        sh_degree=int(value("SH Degree", 0)),
        tint=tint,
        opacity=float(value("Opacity", 1.0)),
        size=float(value("Size", 1.0)),
        dilation=float(value("Dilation", 0.3)),
        detail=float(value("Detail", 0.0)),
        distance=float(value("Distance", 1.0)),
    )


def _same(known: Splats, cloud: Any) -> bool:
    return all(
        one.shape == other.shape and np.array_equal(one, other)
        for one, other in zip(vars(known.cloud).values(), vars(cloud).values(), strict=True)
    )


def _outlines(context: bpy.types.Context) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Colours of the outlines of selected and of the active object, transparent where views show none."""
    overlay, theme = context.space_data.overlay, context.preferences.themes[0].view_3d
    shown = float(overlay.show_overlays and overlay.show_outline_selected)
    selected, active = ((*colour[:3], shown) for colour in (theme.object_selected, theme.object_active))
    return tuple(selected), tuple(active)
