"""Importing and exporting, as menu entries and as commands for scripts."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..backend.shared.ply import GaussianCloud, only_usable, read_header, read_ply, write_ply
from ..backend.shared.protocol import DioramaError
from ..backend.shared.sequence_file import SUFFIX, SplatSequence, read_sequence, sequence_size
from . import affine, assets, cameras, carry, display, render, sequences, splats
from .crop import add_crop, inside_crop
from .transaction import all_or_nothing

_LARGE = 5_000_000  # splats; more are imported only on request
_BYTES_PER_SPLAT = 750  # measured at the peak of an import with harmonics of degree 3


class DIORAMA_OT_import_asset(bpy.types.Operator):
    """Bring a generated asset into the scene: splats, views and cameras"""

    bl_idname = "diorama.import_asset"
    bl_label = "Import Diorama Asset"
    bl_options = {"REGISTER", "UNDO"}

    directory: bpy.props.StringProperty(subtype="DIR_PATH", description="The folder with the asset.json")
    markers: bpy.props.BoolProperty(
        name="Camera Markers", description="Bind a timeline marker to the camera of every view"
    )
    frame_range: bpy.props.BoolProperty(
        name="Set Frame Range", description="Let the scene end with the camera that travels through the views"
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the folder."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            assets.import_asset(
                context,
                bpy.path.abspath(self.directory),
                markers=self.markers,
                frame_range=self.frame_range,
                report=lambda change: self.report({"INFO"}, change),
            )
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_import_splats(bpy.types.Operator, ImportHelper):
    """Import Gaussian splats from a 3DGS PLY file, or moving ones from several or from Diorama's .npz.
    Lets Cycles see through as many layers as splats need (Transparent Max Bounces of the scene)"""

    bl_idname = "diorama.import_splats"
    bl_label = "Import Gaussian Splats"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: bpy.props.StringProperty(default="*.ply;*.npz", options={"HIDDEN"})
    blending: bpy.props.EnumProperty(
        name="Blending",
        items=[
            (
                "DISPLAY",
                "Display",
                "As splat viewers show them; adds a view layer and compositor nodes for them to the scene",
            ),
            ("LINEAR", "Linear", "As light, like everything else in Blender; for splats made by Diorama"),
        ],
        default="DISPLAY",
        description="How splats of a PLY file are mixed; an .npz file says it itself",
    )
    files: bpy.props.CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"}
    )
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    y_is_down: bpy.props.BoolProperty(
        name="Y Is Down",
        description="Stand the splats upright if they come from a photogrammetry program",
        default=False,
    )
    very_large: bpy.props.BoolProperty(
        name="Very Large", description=f"Import even more than {_LARGE:,} splats"
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the file, or for the settings alone where files were dropped."""
        return self.invoke_popup(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        paths = [Path(bpy.path.abspath(self.filepath))]
        if len(self.files) > 1:
            paths = [Path(bpy.path.abspath(self.directory), file.name) for file in self.files]
        try:
            if len(paths) > 1 and any(path.suffix.lower() == SUFFIX for path in paths):
                raise DioramaError("E_PLY", "an .npz file is a sequence in itself", "Import one at a time.")
            count = sum(_count(path) for path in paths)
            if count > _LARGE and not self.very_large:
                raise DioramaError(
                    "E_PLY",
                    f"{count:,} splats need about {count * _BYTES_PER_SPLAT / 2**30:.0f} GB of memory",
                    "Tick Very Large to import them all the same.",
                )
            blending = self.blending.lower()
            with all_or_nothing():
                if paths[0].suffix.lower() == SUFFIX:
                    moving = read_sequence(paths[0])
                    blending = moving.blending
                    body = _sequence(paths[0].stem, moving, context.scene)
                else:
                    body = _splats_or_sequence(
                        sorted(paths, key=_by_numbers),
                        blending,
                        context.scene.frame_start,
                        lambda text: self.report({"WARNING"}, text),
                    )
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        if self.y_is_down:
            body.matrix_basis = cameras.upright_from_y_down()
        changes = render.raise_bounces(context.scene)
        if blending == "display":
            changes += display.show_in_display_layer(context.scene, body, context.scene.collection)
        else:
            _active_collection(context).objects.link(body)
        if context.mode == "OBJECT" and body.name in context.view_layer.objects:
            for item in list(context.view_layer.objects.selected):
                item.select_set(False)
            body.select_set(True)
            context.view_layer.objects.active = body
        for change in changes:
            self.report({"INFO"}, change)
        return {"FINISHED"}


class DIORAMA_FH_splats(bpy.types.FileHandler):
    """Lets files of splats be dropped into the viewport"""

    bl_idname = "DIORAMA_FH_splats"
    bl_label = "Gaussian Splats"
    bl_import_operator = DIORAMA_OT_import_splats.bl_idname
    bl_file_extensions = ".ply;.npz"

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Only in the viewport."""
        return context.area is not None and context.area.type == "VIEW_3D"


class DIORAMA_OT_export_splats(bpy.types.Operator, ExportHelper):
    """Export the active splat object, as edited, to a 3DGS PLY file, or to one per frame if it moves"""

    bl_idname = "diorama.export_splats"
    bl_label = "Export Gaussian Splats"

    filename_ext = ".ply"
    filter_glob: bpy.props.StringProperty(default="*.ply", options={"HIDDEN"})

    crop: bpy.props.BoolProperty(
        name="Crop", description="Leave out what is cropped away in the viewport", default=True
    )
    apply_transform: bpy.props.BoolProperty(
        name="Apply Transform",
        description="As the object stands in the scene; off: in its own space, as it was imported",
        default=True,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _poll_splats(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        body = context.view_layer.objects.active
        body.update_from_editmode()
        carry.sync(body)
        path = Path(bpy.path.abspath(self.filepath))
        frames = sequences.frame_objects(body)
        try:
            for index, frame in enumerate(frames):
                self._write(path.with_stem(f"{path.stem}_{index:04d}"), body, splats.splats_of(frame))
            if not frames:
                self._write(path, body, splats.splats_of(body))
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        except OSError as error:
            self.report({"ERROR"}, f"{self.filepath} cannot be written: {error.strerror}")
            return {"CANCELLED"}
        return {"FINISHED"}

    def _write(self, path: Path, body: bpy.types.Object, cloud: GaussianCloud) -> None:
        if self.crop:
            kept = inside_crop(body, cloud.means)
            cloud = GaussianCloud(**{name: values[kept] for name, values in vars(cloud).items()})
        if self.apply_transform:
            cloud = affine.transformed(cloud, np.array(body.matrix_world))
        write_ply(path, only_usable(cloud, lambda text: self.report({"WARNING"}, text)))


class DIORAMA_OT_crop_splats(bpy.types.Operator):
    """Show only the splats inside a box or a ball, which can be moved, turned and scaled"""

    bl_idname = "diorama.crop_splats"
    bl_label = "Crop Splats"
    bl_options = {"REGISTER", "UNDO"}

    shape: bpy.props.EnumProperty(items=[("CUBE", "Box", "A box"), ("SPHERE", "Ball", "A ball")])

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _poll_splats(cls, context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Adds the box or the ball around all splats, and selects it."""
        objects = context.view_layer.objects
        try:
            with all_or_nothing():
                crop = add_crop(context.scene, objects.active, self.shape)
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        objects.active.select_set(False)
        crop.select_set(True)
        objects.active = crop
        return {"FINISHED"}


class DIORAMA_OT_keep_frames_beside(bpy.types.Operator, ExportHelper):
    """Move the frames of moving splats into a .blend file of their own, which this one then links"""

    bl_idname = "diorama.keep_frames_beside"
    bl_label = "Keep Frames in Another File"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".blend"
    filter_glob: bpy.props.StringProperty(default="*.blend", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only for frames that are in this file."""
        active = context.view_layer.objects.active
        frames = sequences.frame_objects(active) if active else []
        if frames and frames[0].library is None:
            return True
        cls.poll_message_set("Select moving splats whose frames are in this file")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks for the file; Blender alone would suggest the one that is open."""
        name = bpy.path.clean_name(f"{context.view_layer.objects.active.name} frames")
        self.filepath = str(Path(bpy.data.filepath).with_name(f"{name}.blend")) if bpy.data.filepath else name
        return super().invoke(context, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            active = context.view_layer.objects.active
            sequences.keep_frames_beside(active, Path(bpy.path.abspath(self.filepath)))
        except DioramaError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


class DIORAMA_OT_prepare_render(bpy.types.Operator):
    """Set transparency and view transform so that splats render with the colours they were made with"""

    bl_idname = "diorama.prepare_render"
    bl_label = "Render Splats as Generated"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Sets them, and says what was changed."""
        for change in render.prepare_render(context.scene) or ["Everything was set already"]:
            self.report({"INFO"}, change)
        return {"FINISHED"}


CLASSES = (
    DIORAMA_OT_import_asset,
    DIORAMA_OT_import_splats,
    DIORAMA_FH_splats,
    DIORAMA_OT_export_splats,
    DIORAMA_OT_crop_splats,
    DIORAMA_OT_keep_frames_beside,
    DIORAMA_OT_prepare_render,
)
_register, _unregister = bpy.utils.register_classes_factory(CLASSES)


def _poll_splats(operator: type[bpy.types.Operator], context: bpy.types.Context) -> bool:
    if splats.is_splats(context.view_layer.objects.active):
        return True
    operator.poll_message_set("Select a splat object")
    return False


def _count(path: Path) -> int:
    """How many splats there are to import, of all frames."""
    if path.suffix.lower() == SUFFIX:
        frames, count = sequence_size(path)
        return frames * count
    return read_header(path).count


def _by_numbers(path: Path) -> list[str]:
    """For sorting: frame_2 comes before frame_10."""
    return [part.zfill(20) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _sequence(name: str, moving: SplatSequence, scene: bpy.types.Scene) -> bpy.types.Object:
    """Tracked splats at the speed they were made for, whatever the scene's frame rate."""
    speed = moving.fps * scene.render.fps_base / scene.render.fps
    body = sequences.sequence_object(
        name, moving.clouds, moving.blending, scene.frame_start, tracked=True, speed=speed
    )
    body["fps"] = moving.fps
    return body


def _active_collection(context: bpy.types.Context) -> bpy.types.Collection:
    """Where new objects go: the active collection, unless it is another file's."""
    active = context.collection
    if active.library or active.override_library:
        return context.scene.collection
    return active


def _splats_or_sequence(
    paths: list[Path], blending: str, frame_start: int, left_out: Callable[[str], None]
) -> bpy.types.Object:
    name = paths[0].stem
    if len(paths) > 1:
        return sequences.sequence_object(
            name, [read_ply(path, left_out) for path in paths], blending, frame_start
        )
    return splats.splat_object(name, splats.splat_mesh(name, read_ply(paths[0], left_out)), blending)


def _import_entries(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.operator(DIORAMA_OT_import_splats.bl_idname, text="Gaussian Splats (.ply, .npz)")
    self.layout.operator(DIORAMA_OT_import_asset.bl_idname, text="Diorama Asset (folder)")


def _export_entries(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    self.layout.operator(DIORAMA_OT_export_splats.bl_idname, text="Gaussian Splats (.ply)")


def register() -> None:
    """Adds the operators and their menu entries."""
    _register()
    bpy.types.TOPBAR_MT_file_import.append(_import_entries)
    bpy.types.TOPBAR_MT_file_export.append(_export_entries)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_export.remove(_export_entries)
    bpy.types.TOPBAR_MT_file_import.remove(_import_entries)
    _unregister()
