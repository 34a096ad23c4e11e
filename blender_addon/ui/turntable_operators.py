"""Save Turntable: a video of the active result, rendered beside the artist's work."""

from __future__ import annotations

from pathlib import Path

import bpy
from bpy_extras.io_utils import ExportHelper

from .. import host
from ..backend.shared.protocol import DioramaError
from ..reporting import in_words, report
from ..scene import hierarchy
from ..scene.result_operators import active_splats
from ..turntable import Shot, Turntable


class DIORAMA_OT_save_turntable(bpy.types.Operator, ExportHelper):
    """Save a video of the active result, seen from all around, with the scene's engine, world and lights.
    Another Blender renders a copy of the file; Esc stops it"""

    bl_idname = "diorama.save_turntable"
    bl_label = "Save Turntable"

    filename_ext = ".mp4"
    filter_glob: bpy.props.StringProperty(default="*.mp4", options={"HIDDEN"})
    size: bpy.props.IntProperty(
        name="Size", default=512, min=16, max=4096, subtype="PIXEL", description="Of the square video"
    )
    seconds: bpy.props.FloatProperty(
        name="Seconds", default=4.0, min=0.1, max=60.0, description="For one turn, at the scene's frame rate"
    )
    samples: bpy.props.IntProperty(
        name="Samples", default=16, min=0, description="Rays a pixel, denoised; 0: as the scene has them"
    )
    overwrite: bpy.props.BoolProperty(
        name="Overwrite", description="Replace the file, if there is one", options={"SKIP_SAVE"}
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with splats, while nothing else is rendered."""
        if not active_splats(context):
            cls.poll_message_set("Select a splat object, or something of its result")
        elif host.get().capture:
            cls.poll_message_set("Wait until the renders that are going on are done")
        elif context.scene.render.engine == "BLENDER_WORKBENCH":
            cls.poll_message_set("Workbench shows no splats: choose Cycles or EEVEE as the render engine")
        else:
            return True
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks for the file, which is called as the result is."""
        name = bpy.path.clean_name(_subject(context).name) + self.filename_ext
        self.filepath = str(Path(bpy.data.filepath).with_name(name)) if bpy.data.filepath else name
        return super().invoke(context, event)

    def draw(self, _context: bpy.types.Context) -> None:
        """The settings beside the dialog."""
        self.layout.use_property_split = True
        for name in ("size", "seconds", "samples", "overwrite"):
            self.layout.prop(self, name)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begins the renders; in background mode, waits for them."""
        target = Path(bpy.path.abspath(self.filepath))
        if target.exists() and not self.overwrite:
            self.report({"ERROR"}, f"{target.name} is there already: choose another name, or tick Overwrite")
            return {"CANCELLED"}
        if not target.parent.is_dir():
            self.report({"ERROR"}, f"There is no folder {target.parent}")
            return {"CANCELLED"}
        current, shot = host.get(), Shot(self.size, self.seconds, self.samples)

        def then(error: DioramaError | None) -> None:
            if error:
                current.problem = in_words(error)

        try:
            self._turntable = Turntable(context, _subject(context), shot, target, then)
            if bpy.app.background:
                self._turntable.wait()
                return {"FINISHED"}
        except DioramaError as error:
            return report(self, error)
        current.begin_capture(self._turntable)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, _context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Waits for the end, or for Esc."""
        if host.get().capture is not self._turntable:
            if self._turntable.saved:
                self.report({"INFO"}, f"Saved {self.filepath}")
            return {"FINISHED"}
        if event.type == "ESC" and event.value == "PRESS":
            self._turntable.cancel()
            return {"CANCELLED"}
        return {"PASS_THROUGH"}


def _subject(context: bpy.types.Context) -> bpy.types.Object:
    """What is rendered with all that is parented to it: the result's root, or splats that have none."""
    body = active_splats(context)
    assert body is not None
    return hierarchy.root_of(body) or body


register, unregister = bpy.utils.register_classes_factory((DIORAMA_OT_save_turntable,))
