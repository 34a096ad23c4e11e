"""Importing and exporting files of splats: dialogs, menu entries, files dropped, commands for scripts."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import re
from pathlib import Path

import bpy
import numpy as np
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..backend.shared import splat_formats
from ..backend.shared.ply import GaussianCloud, only_usable
from ..backend.shared.protocol import DioramaError
from ..backend.shared.sequence_file import SUFFIX, SplatSequence, read_sequence, sequence_size
from ..backend.shared.splat_transform import UPS, transformed, turned
from ..reporting import report
from . import axes, carry, display, native, placement, render, reveal, sequences, splats, usd, webp
from .crop import inside_crop
from .modifier_inputs import get_input
from .result_operators import active_splats
from .transaction import all_or_nothing

_LARGE = 5_000_000  # splats; more are imported only on request
_BYTES_PER_SPLAT = 750  # measured at the peak of an import with harmonics of degree 3
_READ_SUFFIXES = (".ply", ".spz", ".sog", ".splat", ".ksplat", ".glb", SUFFIX)
_WRITTEN = {kind: splat_formats.FORMATS[kind].suffix for kind in splat_formats.WRITTEN} | {"usd": usd.SUFFIX}
_LABELS = {kind: splat_formats.FORMATS[kind].label for kind in splat_formats.WRITTEN} | {"usd": usd.LABEL}
# Annotations are evaluated where a comprehension in them would not find the names of this module.
_READ_GLOB = ";".join(f"*{suffix}" for suffix in _READ_SUFFIXES) + ";meta.json"
_WRITTEN_GLOB = ";".join(f"*{suffix}" for suffix in _WRITTEN.values())
_KINDS = [
    ("AUTO", "By Name", "As the file's name ends"),
    *((kind, f"{_LABELS[kind]} ({suffix})", "") for kind, suffix in _WRITTEN.items()),
]


class DIORAMA_OT_import_splats(bpy.types.Operator, ImportHelper):
    """Import Gaussian splats from a file of any known format, or moving ones from several, or from an .npz.
    Lets Cycles see through as many layers as splats need (Transparent Max Bounces of the scene)"""

    bl_idname = "diorama.import_splats"
    bl_label = "Import Gaussian Splats"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".ply"
    filter_glob: bpy.props.StringProperty(default=_READ_GLOB, options={"HIDDEN"})
    blending: bpy.props.EnumProperty(
        name="Blending",
        items=[
            (
                "AUTO",
                "By File",
                "Linear for files of Diorama unless they say otherwise, else Display",
            ),
            (
                "DISPLAY",
                "Display",
                "As splat viewers show them; adds a view layer and compositor nodes for them to the scene",
            ),
            ("LINEAR", "Linear", "As light, like everything else in Blender; for splats made by Diorama"),
        ],
        description="How splats are mixed; an .npz file says it itself",
    )
    files: bpy.props.CollectionProperty(
        type=bpy.types.OperatorFileListElement, options={"HIDDEN", "SKIP_SAVE"}
    )
    directory: bpy.props.StringProperty(subtype="DIR_PATH", options={"HIDDEN", "SKIP_SAVE"})
    up_axis: axes.up_axis("What points up in the file")
    forward_axis: axes.forward_axis("What points away from the viewer in the file")
    representation: bpy.props.EnumProperty(name="As", items=native.REPRESENTATIONS)
    very_large: bpy.props.BoolProperty(
        name="Very Large", description=f"Import even more than {_LARGE:,} splats"
    )

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the file, or for the settings alone where files were dropped."""
        return self.invoke_popup(context)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        if native.is_available():
            self.layout.prop(self, "representation")
        self.layout.prop(self, "blending")
        axes.draw(self)
        self.layout.prop(self, "very_large")

    def execute(self, context: bpy.types.Context) -> set[str]:
        paths = [Path(bpy.path.abspath(self.filepath))]
        if len(self.files) > 1:
            paths = [Path(bpy.path.abspath(self.directory), file.name) for file in self.files]
        is_native = self.representation == "NATIVE"
        try:
            if is_native:
                native.ensure_available()
            _check(paths, very_large=self.very_large)
            with all_or_nothing():
                body, blending = self._object(paths, context.scene, is_native=is_native)
        except DioramaError as error:
            return report(self, error)
        changes = render.raise_bounces(context.scene)
        if is_native:
            native.note_blending(body, blending)
            if blending == "display":
                changes.append("Blender mixes its own splats as light, not as splat viewers do")
        if blending == "display" and not is_native:
            changes += display.show_in_display_layer(context.scene, body, context.scene.collection)
        else:
            _active_collection(context).objects.link(body)
        context.view_layer.update()
        reveal.select(context.view_layer, [body], body)
        box = placement.world_box(body)
        if box and not bpy.app.background:
            reveal.frame(context.scene, box)
        for change in changes:
            self.report({"INFO"}, change)
        return {"FINISHED"}

    def _object(
        self, paths: list[Path], scene: bpy.types.Scene, *, is_native: bool
    ) -> tuple[bpy.types.Object, str]:
        """The splats of the files, in no collection yet, and how they are blended."""
        chosen = axes.chosen(self)
        if _is_sequence(paths[0]):
            moving = read_sequence(paths[0])
            return _sequence(paths[0].stem, moving, chosen, scene, is_native=is_native), moving.blending
        blending = self.blending.lower()
        if blending == "auto":
            blending = splat_formats.blending_of(paths[0])
        name, clouds = paths[0].stem, [self._read(path, chosen) for path in sorted(paths, key=_by_numbers)]
        if len(clouds) > 1:
            start = scene.frame_start
            return sequences.sequence_object(name, clouds, blending, start, is_native=is_native), blending
        if is_native:
            return bpy.data.objects.new(name, native.native_points(name, clouds[0])), blending
        return splats.splat_object(name, splats.splat_mesh(name, clouds[0]), blending), blending

    def _read(self, path: Path, chosen: np.ndarray | None) -> GaussianCloud:
        """A file's splats in Blender's axes."""
        cloud = splat_formats.read_splats(path, webp.decode, lambda text: self.report({"WARNING"}, text))
        return turned(cloud, UPS[splat_formats.up_of(path)] if chosen is None else chosen)


class DIORAMA_FH_splats(bpy.types.FileHandler):
    """Lets files of splats be dropped into the viewport"""

    bl_idname = "DIORAMA_FH_splats"
    bl_label = "Gaussian Splats"
    bl_import_operator = DIORAMA_OT_import_splats.bl_idname
    bl_file_extensions = ";".join(_READ_SUFFIXES)

    @classmethod
    def poll_drop(cls, context: bpy.types.Context) -> bool:
        """Only in the viewport."""
        return context.area is not None and context.area.type == "VIEW_3D"


class DIORAMA_OT_export_splats(bpy.types.Operator, ExportHelper):
    """Export the active splat object, as edited, to a file, or to one per frame if it moves"""

    bl_idname = "diorama.export_splats"
    bl_label = "Export Gaussian Splats"

    filename_ext = ".ply"
    filter_glob: bpy.props.StringProperty(default=_WRITTEN_GLOB, options={"HIDDEN"})
    kind: bpy.props.EnumProperty(name="Format", items=_KINDS)
    crop: bpy.props.BoolProperty(
        name="Crop", description="Leave out what is cropped away in the viewport", default=True
    )
    apply_transform: bpy.props.BoolProperty(
        name="Apply Transform",
        description="As the object stands in the scene; off: in its own space, as it was imported",
        default=True,
    )
    overwrite: bpy.props.BoolProperty(
        name="Overwrite Frames",
        description="Replace files of splats that move, name_0000 and on, if there are any",
        options={"SKIP_SAVE"},
    )
    up_axis: axes.up_axis("What is to point up in the file")
    forward_axis: axes.forward_axis("What is to point away from the viewer in the file")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if _chosen(context):
            return True
        cls.poll_message_set("Select a splat object")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks for the file, which is called as the object is."""
        body = _chosen(context)
        assert body is not None
        name = bpy.path.clean_name(body.name)
        self.filepath = str(Path(bpy.data.filepath).with_name(name)) if bpy.data.filepath else name
        return super().invoke(context, event)

    def check(self, _context: bpy.types.Context) -> bool:
        """Lets the file's name end as the chosen format needs it."""
        before = self.filepath
        path = Path(before)
        if not path.name or (self.kind == "AUTO" and _ends_known(path)):
            return False
        self.filepath = str(_named_for("ply" if self.kind == "AUTO" else self.kind, path))
        return bool(self.filepath != before)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.use_property_split = True
        for name in ("kind", "crop", "apply_transform"):
            self.layout.prop(self, name)
        body = _chosen(bpy.context)
        if body and sequences.frame_objects(body):
            self.layout.prop(self, "overwrite")
        axes.draw(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        body = _chosen(context)
        assert body is not None
        path = Path(bpy.path.abspath(self.filepath))
        frames = sequences.frame_objects(body)
        try:
            kind = self.kind if self.kind != "AUTO" else _kind_by_name(path)
            numbered = [_named_for(kind, path, f"_{index:04d}") for index in range(len(frames))]
            # Blender's dialog knows nothing of these names, and asks only about the one that was chosen.
            if not self.overwrite and (there := [each for each in numbered if each.exists()]):
                self.report({"ERROR"}, _are_there(there))
                return {"CANCELLED"}
            for target, frame in zip(numbered, frames, strict=True):
                self._write(target, kind, body, _cloud_of(frame))
            if not frames:
                self._write(path, kind, body, _cloud_of(body))
        except DioramaError as error:
            return report(self, error)
        except OSError as error:
            self.report({"ERROR"}, f"{self.filepath} cannot be written: {error.strerror or error}")
            return {"CANCELLED"}
        return {"FINISHED"}

    def _write(self, path: Path, kind: str, body: bpy.types.Object, cloud: GaussianCloud) -> None:
        if self.crop:
            kept = inside_crop(body, cloud.means)
            cloud = cloud.only(kept)
        if self.apply_transform:
            cloud = transformed(cloud, np.array(body.matrix_world))
        cloud = only_usable(cloud, lambda text: self.report({"WARNING"}, text))
        chosen = axes.chosen(self)
        if kind == "usd":
            usd.write_usd(path, turned(cloud, (UPS["Y"] if chosen is None else chosen).T))
            return
        splat_formats.write_splats(
            path, cloud, webp.encode, axes=chosen, kind=kind, blending=_blending_of(body)
        )


_register, _unregister = bpy.utils.register_classes_factory(
    (DIORAMA_OT_import_splats, DIORAMA_FH_splats, DIORAMA_OT_export_splats)
)


def _chosen(context: bpy.types.Context) -> bpy.types.Object | None:
    """What is exported: the active result's splats, or Blender's own."""
    active = context.view_layer.objects.active
    return active if native.is_native(active) else active_splats(context)


def _cloud_of(body: bpy.types.Object) -> GaussianCloud:
    return native.cloud_in(body.data) if native.is_native(body) else carry.carried(body)


def _blending_of(body: bpy.types.Object) -> str:
    if native.is_native(body):
        return native.noted_blending(body)
    modifier = splats.splat_modifier(body)
    return "display" if modifier and get_input(modifier, "Display Blending") else "linear"


def _are_there(paths: list[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0].name}{more} would be replaced: choose another name, or tick Overwrite Frames"


def _is_sequence(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX


def _check(paths: list[Path], *, very_large: bool) -> None:
    """Refuse what cannot be imported together, or only on request, before anything is read.

    Raises:
        DioramaError: E_PLY
    """
    if len(paths) > 1 and any(_is_sequence(path) for path in paths):
        raise DioramaError("E_PLY", "an .npz file is a sequence in itself", "Import one at a time.")
    count = sum(_count(path) for path in paths)
    if count > _LARGE and not very_large:
        raise DioramaError(
            "E_PLY",
            f"{count:,} splats need about {count * _BYTES_PER_SPLAT / 2**30:.0f} GB of memory",
            "Tick Very Large to import them all the same.",
        )


def _count(path: Path) -> int:
    """How many splats there are to import, of all frames."""
    if _is_sequence(path):
        frames, count = sequence_size(path)
        return frames * count
    return splat_formats.count_of(path)


def _by_numbers(path: Path) -> list[str]:
    """For sorting: frame_2 comes before frame_10."""
    return [part.zfill(20) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _kind_by_name(path: Path) -> str:
    return "usd" if path.suffix.lower() == usd.SUFFIX else splat_formats.kind_by_name(path)


def _ends_known(path: Path) -> bool:
    return path.name.lower().endswith(tuple(_WRITTEN.values()))


def _named_for(kind: str, path: Path, more: str = "") -> Path:
    """The path with the ending of a format instead of that of another, and something before it."""
    stem, lower = path.name, path.name.lower()
    for suffix in sorted(_WRITTEN.values(), key=len, reverse=True):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            stem = stem[: -len(suffix)]
            break
    return path.with_name(f"{stem}{more}{_WRITTEN[kind]}")


def _sequence(
    name: str,
    moving: SplatSequence,
    chosen: np.ndarray | None,
    scene: bpy.types.Scene,
    *,
    is_native: bool,
) -> bpy.types.Object:
    """Tracked splats at the speed they were made for, whatever the scene's frame rate."""
    clouds = moving.clouds if chosen is None else [turned(cloud, chosen) for cloud in moving.clouds]
    return sequences.sequence_object(
        name,
        clouds,
        moving.blending,
        scene.frame_start,
        tracked=True,
        fps=moving.fps,
        is_native=is_native,
    )


def _active_collection(context: bpy.types.Context) -> bpy.types.Collection:
    """Where new objects go: the active collection, unless it is another file's."""
    active = context.collection
    if active.library or active.override_library:
        return context.scene.collection
    return active


def _import_entries(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    text = f"Gaussian Splats ({', '.join(_READ_SUFFIXES)})"
    self.layout.operator(DIORAMA_OT_import_splats.bl_idname, text=text)
    self.layout.operator("diorama.import_asset", text="Diorama Asset (folder)")


def _export_entries(self: bpy.types.Menu, _context: bpy.types.Context) -> None:
    text = f"Gaussian Splats ({', '.join(each for each in _WRITTEN.values() if each.count('.') == 1)})"
    self.layout.operator(DIORAMA_OT_export_splats.bl_idname, text=text)


def register() -> None:
    """Adds the operators and their menu entries."""
    _register()
    bpy.types.TOPBAR_MT_file_import.append(_import_entries)
    bpy.types.TOPBAR_MT_file_export.append(_export_entries)


def unregister() -> None:
    bpy.types.TOPBAR_MT_file_export.remove(_export_entries)
    bpy.types.TOPBAR_MT_file_import.remove(_import_entries)
    _unregister()
