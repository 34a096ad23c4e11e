"""Paints splats into an image with the GPU, in the blending space of each, sorted beside the main thread.

Until a new order is there, the last one is shown. An image holds float values, so that many faint splats add
up right, and is laid over a view when it is done.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import gpu
import numpy as np
from mathutils import Matrix, Vector

from ..backend.shared.ply import GaussianCloud
from . import splat_shapes, viewport_shaders

_SAME_DIRECTION = 1 - 1e-7  # cosine; turning less needs no new order
_KEPT_ORDERS, _KEPT_IMAGES = 64, 4  # for the views that are open


@dataclass(frozen=True)
class Look:
    """How an object's nodes want its splats."""

    linear: bool = True  # composited as light, else as display values
    sh_degree: int = 0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    opacity: float = 1.0
    size: float = 1.0
    dilation: float = 0.3  # square pixels
    detail: float = 0.0  # metres, of the pixels the splats were made from
    distance: float = 1.0  # metres, from which they were made


@dataclass
class Splats:
    """The splats of one object, as textures that last until the object changes."""

    cloud: GaussianCloud
    look: Look
    shapes: gpu.types.GPUTexture  # three texels each: centre, covariance, whether Blender draws a dot there
    centre: Vector  # of them all


@dataclass
class _Order:
    """The splats of an object sorted for one view; a better order may be on its way."""

    of: Splats
    towards: np.ndarray  # [3] to the viewer, in the splats' own space
    indices: gpu.types.GPUTexture
    colours: gpu.types.GPUTexture
    coming: Future[tuple[np.ndarray, np.ndarray]] | None = None
    coming_towards: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Thing:
    """Splats at a place in the scene."""

    splats: Splats
    world: Matrix
    key: tuple[int, ...]  # the same for the same object in the same view
    is_selected: bool = False
    is_active: bool = False


class Painter:
    """Draws splats; owns textures, shaders and the thread that sorts. Lives while the add-on is enabled."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="diorama-sort")
        self._orders: OrderedDict[tuple[int, ...], _Order] = OrderedDict()
        self._targets: OrderedDict[tuple[int, int], tuple[Any, Any, Any, tuple[Any, ...]]] = OrderedDict()
        self._draw_shader = viewport_shaders.splat_shader()
        self._finish_shader = viewport_shaders.finish_shader()
        self._nothing = viewport_shaders.texture(np.zeros(1, np.float32), "R32F")
        self._dot_shader = viewport_shaders.dot_shader()
        self._quad, self._point = viewport_shaders.quad(), viewport_shaders.point()

    @property
    def sorting(self) -> bool:
        """Whether an order is on its way."""
        return any(order.coming for order in self._orders.values())

    @property
    def sorted(self) -> bool:
        """Whether an order has come that no view shows yet."""
        return any(order.coming and order.coming.done() for order in self._orders.values())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def paint(
        self,
        things: list[Thing],
        camera_from_world: Matrix,
        projection: Matrix,
        size: tuple[int, int],
        *,
        linear: bool,
        depths: gpu.types.GPUTexture | None = None,  # of the view; nothing behind it is drawn
        dot_px: float = 6.0,  # size of the dots that Blender draws for the points
        view_distance: float = 1.0,  # of the view, from what it turns about
    ) -> gpu.types.GPUFrameBuffer:
        """Draws the splats of one blending space, of all in the view, into an image of float values.

        Returns:
            The image: premultiplied RGB and alpha; in the second slot, selected, active and alpha.
        """
        target, dots = self._target(size)[2:]
        centres = [thing.world @ thing.splats.centre for thing in things]
        heights = [(camera_from_world @ centre).z for centre in centres]
        far_first = [
            (thing, self._order(thing, camera_from_world @ thing.world, projection[3][3] == 0))
            for _, thing in sorted(zip(heights, things, strict=True), key=lambda pair: pair[0])
            if len(thing.splats.cloud)
        ]
        gpu.state.depth_test_set("NONE")
        if depths:
            dot = dot_px, _nearer(projection, view_distance)
            self._paint_dots(dots[1], far_first, projection @ camera_from_world, dot)
        shader = self._draw_shader
        with target.bind():
            target.clear(color=(0.0, 0.0, 0.0, 0.0))
            gpu.state.blend_set("ALPHA_PREMULT")
            shader.bind()
            shader.uniform_sampler("depths", depths or self._nothing)
            shader.uniform_sampler("dots", dots[0] if depths else self._nothing)
            for thing, order in far_first:
                if thing.splats.look.linear != linear:
                    continue
                self._paint_one(shader, thing, order, camera_from_world, projection, size, depths is not None)
            gpu.state.blend_set("NONE")
        return target

    def _paint_dots(
        self,
        target: Any,
        far_first: list[tuple[Thing, _Order]],
        clip_from_world: Matrix,
        dot: tuple[float, float],
    ) -> None:
        shader = self._dot_shader
        writes_depth = gpu.state.depth_mask_get()
        with target.bind():
            target.clear(color=(2.0, 2.0, 2.0, 2.0), depth=1.0)
            gpu.state.blend_set("NONE")
            gpu.state.depth_test_set("LESS")  # as Blender: of two dots, that of the nearer one is seen
            gpu.state.depth_mask_set(True)
            gpu.state.program_point_size_set(True)
            shader.bind()
            shader.uniform_float("blender_dot", (*dot, 0.0, 0.0))
            for thing, order in far_first:
                shader.uniform_float("clip_from_object", clip_from_world @ thing.world)
                shader.uniform_sampler("order", order.indices)
                shader.uniform_sampler("shapes", thing.splats.shapes)
                self._point.draw_instanced(shader, instance_count=len(thing.splats.cloud))
            gpu.state.program_point_size_set(False)
        gpu.state.depth_mask_set(writes_depth)
        gpu.state.depth_test_set("NONE")

    def finish(
        self,
        size: tuple[int, int],
        *,
        linear: bool,
        outlines: tuple[tuple[float, ...], tuple[float, ...]],
        decode: bool = True,
    ) -> None:
        """Lays the last image over the present framebuffer.

        Args:
            size: as painted.
            linear: the image holds light, else display values.
            outlines: colours of the outlines of selected and of active objects; alpha 0 for none.
            decode: the framebuffer encodes light to sRGB, as that of Blender's overlays does.
        """
        light, marks, *_ = self._target(size)
        shader = self._finish_shader
        shader.bind()
        shader.uniform_sampler("image", light)
        shader.uniform_sampler("marks", marks)
        shader.uniform_float("mode", (float(linear), float(decode), *map(float, size)))
        shader.uniform_float("line_of_selected", outlines[0])
        shader.uniform_float("line_of_active", outlines[1])
        gpu.state.blend_set("ALPHA_PREMULT")
        self._quad.draw(shader)
        gpu.state.blend_set("NONE")

    def _paint_one(
        self,
        shader: gpu.types.GPUShader,
        thing: Thing,
        order: _Order,
        camera_from_world: Matrix,
        projection: Matrix,
        size: tuple[int, int],
        has_depths: bool,
    ) -> None:
        splats, look = thing.splats, thing.splats.look
        camera_from_object = camera_from_world @ thing.world
        perspective = projection[3][3] == 0
        middle = 2 if perspective else 3  # the column with the shift of the image
        grown = thing.world.to_scale().length / 3**0.5
        pixel = 2 / (projection[0][0] * size[0])  # at distance 1
        same = pixel * (look.distance * grown if perspective else 1)
        lost = max((look.detail * grown) ** 2 - same**2, 0.0)
        shader.uniform_float("camera_from_object", camera_from_object)
        shader.uniform_float(
            "lens", (projection[0][0], projection[1][1], projection[0][middle], projection[1][middle])
        )
        shader.uniform_float("lens2", (projection[2][2], projection[2][3], float(perspective), 0.0))
        shader.uniform_float("screen", (*map(float, size), look.dilation, lost))
        shader.uniform_float(
            "mark", (float(thing.is_selected), float(thing.is_active), 0.0, float(has_depths))
        )
        shader.uniform_sampler("order", order.indices)
        shader.uniform_sampler("shapes", splats.shapes)
        shader.uniform_sampler("colours", order.colours)
        self._quad.draw_instanced(shader, instance_count=len(splats.cloud))

    def _order(self, thing: Thing, camera_from_object: Matrix, perspective: bool) -> _Order:
        """The latest order there is for a view; the first one of new splats is waited for."""
        splats = thing.splats
        # the third row of the matrix gives what is sorted by: z in the camera
        towards = np.array(camera_from_object[2][:3])
        towards = towards / max(float(np.linalg.norm(towards)), 1e-30)
        object_from_camera = camera_from_object.inverted_safe()
        camera = np.array(object_from_camera.translation)
        if not perspective:
            camera = camera + towards * 1e6
        order = self._orders.get(thing.key)
        if order is None or order.of is not splats:
            order = self._orders[thing.key] = _received(splats, towards, *_sorted(splats, towards, camera))
        if order.coming and order.coming.done():
            order = self._orders[thing.key] = _received(splats, order.coming_towards, *order.coming.result())
        if order.coming is None and order.towards @ towards < _SAME_DIRECTION:
            order.coming = self._pool.submit(_sorted, splats, towards, camera)
            order.coming_towards = towards
        self._orders.move_to_end(thing.key)
        while len(self._orders) > _KEPT_ORDERS:
            self._orders.popitem(last=False)
        return order

    def _target(self, size: tuple[int, int]) -> tuple[Any, Any, Any, tuple[Any, ...]]:
        """Light, marks, the framebuffer of both; depths of dots, their framebuffer, which keeps no texture
        alive by itself, and its own depth."""
        if size not in self._targets:
            light = gpu.types.GPUTexture(size, format="RGBA16F")
            marks = gpu.types.GPUTexture(size, format="RGBA8")
            target = gpu.types.GPUFrameBuffer(color_slots=(light, marks))
            dots = gpu.types.GPUTexture(size, format="RG32F")
            nearest = gpu.types.GPUTexture(size, format="DEPTH_COMPONENT32F")
            of_dots = gpu.types.GPUFrameBuffer(depth_slot=nearest, color_slots=(dots,))
            self._targets[size] = light, marks, target, (dots, of_dots, nearest)
            while len(self._targets) > _KEPT_IMAGES:
                self._targets.popitem(last=False)
        self._targets.move_to_end(size)
        return self._targets[size]


def splats_from(cloud: GaussianCloud, look: Look, points: np.ndarray | None = None) -> Splats:
    """Brings splats to the GPU.

    Args:
        points: where Blender draws dots for them, [N, 3], if not in the middle of each.
    """
    covariance = splat_shapes.covariances(cloud, look.size)
    texels = np.zeros((len(cloud), 12), np.float32)
    texels[:, :3], texels[:, 3:9] = cloud.means, covariance
    texels[:, 9] = True if points is None else (points == cloud.means).all(axis=1)
    shapes = viewport_shaders.texture(texels.reshape(-1, 4), "RGBA32F")
    return Splats(cloud, look, shapes, Vector(cloud.means.mean(axis=0) if len(cloud) else (0, 0, 0)))


def _nearer(projection: Matrix, view_distance: float) -> float:
    """Depth, at distance 1, that brings Blender's overlays nearer at most (its `GPU_polygon_offset_calc`)."""
    if projection[3][3] == 0:
        return abs(projection[2][3]) * 0.0025 / 8
    seen = 1 / min(abs(projection[0][0]), abs(projection[1][1]))  # what it takes for a camera
    return 1e-5 * max(view_distance, seen) / 8


def _sorted(splats: Splats, towards: np.ndarray, camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order and colours for a view. Touches nothing of Blender's, so it may run in any thread."""
    look = splats.look
    colours = splat_shapes.colours(
        splats.cloud, camera, look.sh_degree, look.tint, look.opacity, linear=look.linear
    )
    return splat_shapes.back_to_front(splats.cloud.means, towards).astype(np.float32), colours


def _received(splats: Splats, towards: np.ndarray, indices: np.ndarray, colours: np.ndarray) -> _Order:
    return _Order(
        splats,
        towards,
        viewport_shaders.texture(indices, "R32F"),
        viewport_shaders.texture(colours, "RGBA32F"),
    )
