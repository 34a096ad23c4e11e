"""What can be done with an earlier job: import its result, make it again, show its files, delete it."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import dataclasses
from pathlib import Path

import bpy

from .. import host, scene
from ..asked import asked_in
from ..backend.shared.protocol import DioramaError
from ..backend.shared.reconstruction import read_request
from ..backend.shared.request import MAX_SEED
from ..client import results
from ..client.jobs import Job
from ..reporting import report
from ..scene.result_operators import active_splats


class _OfJob:
    bl_options = {"INTERNAL"}

    job: bpy.props.StringProperty(description="The job's id")

    @property
    def chosen(self) -> Job:
        """The job that the button is drawn for."""
        return host.get().session.job(self.job)


class _ImportsJob(_OfJob):
    def execute(self, context: bpy.types.Context) -> set[str]:
        place = asked_in(context).place(self.chosen.request)
        try:
            # True: it is one undo step
            return bpy.ops.diorama.import_asset(
                "EXEC_DEFAULT", True, directory=self.chosen.directory, **place
            )
        except RuntimeError as error:  # the other operator's report
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
            return {"CANCELLED"}


class DIORAMA_OT_job_import(_ImportsJob, bpy.types.Operator):
    """Bring this result into the scene: splats, views and cameras"""

    bl_idname = "diorama.job_import"
    bl_label = "Import"


class DIORAMA_OT_job_choose(_ImportsJob, bpy.types.Operator):
    """Import this variation and close the sheet; the others stay in the History"""

    bl_idname = "diorama.job_choose"
    bl_label = "Choose"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Imports it and closes the sheet."""
        done = super().execute(context)
        if done == {"FINISHED"}:
            host.get().variations = []
        return done


class _GeneratesAgain(_OfJob):
    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        """Only with a backend."""
        if host.get().environment in host.USABLE:
            return True
        cls.poll_message_set("The backend is not installed: press Install Backend")
        return False


class DIORAMA_OT_job_again(_GeneratesAgain, bpy.types.Operator):
    """Generate this once more, with the same settings and seed"""

    bl_idname = "diorama.job_again"
    bl_label = "Run Again"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            host.get().run_again(self.job, asked_in(context))
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


class DIORAMA_OT_job_vary(_GeneratesAgain, bpy.types.Operator):
    """Make this with four other seeds, and choose the best"""

    bl_idname = "diorama.job_vary"
    bl_label = "Vary"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            request = read_request(self.chosen.request)
            following = dataclasses.replace(request, seed=(request.seed + 1) % (MAX_SEED + 1))
            host.get().submit_variations(following, 4)
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


class DIORAMA_OT_job_reuse(_OfJob, bpy.types.Operator):
    """Put this job's prompt, seed and settings back into the panel"""

    bl_idname = "diorama.job_reuse"
    bl_label = "Use These Settings"
    bl_options = {"INTERNAL", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        context.scene.diorama.put_back(self.chosen.request)
        return {"FINISHED"}


class DIORAMA_OT_job_reveal(_OfJob, bpy.types.Operator):
    """Show the folder of this result in the file manager"""

    bl_idname = "diorama.job_reveal"
    bl_label = "Open Folder"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        directory = self.chosen.directory
        if not Path(directory).is_dir():
            self.report({"ERROR"}, f"The folder is gone: {directory}")
            return {"CANCELLED"}
        return bpy.ops.wm.path_open(filepath=directory)


class DIORAMA_OT_job_delete(_OfJob, bpy.types.Operator):
    """Delete this result with its files, after asking; what is imported stays, but moving views"""

    bl_idname = "diorama.job_delete"
    bl_label = "Delete"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Asks, if there are files."""
        job = self.chosen
        files = _files_of(job)
        if not files:
            return self.execute(context)
        return context.window_manager.invoke_confirm(
            self,
            event,
            title=f"Delete “{job.title}”",
            message=f"Deletes {len(files)} files, {results.size(files) / 1e6:.1f} MB, in {job.directory}",
            confirm_text="Delete",
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        job = self.chosen
        try:
            results.remove(Path(job.directory), _files_of(job))
        except DioramaError as error:
            return report(self, error)
        current = host.get()
        current.session.remove(job.id)
        if current.outcome and current.outcome.id == job.id:
            current.outcome = None
        return {"FINISHED"}


def _files_of(job: Job) -> list[Path]:
    others = [each for each in host.get().session.jobs if each.id != job.id]
    return results.files_of(job, others)


class DIORAMA_OT_dismiss(_OfJob, bpy.types.Operator):
    """Close this message"""

    bl_idname = "diorama.dismiss"
    bl_label = "Dismiss"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Closes it: that of one interrupted job, or of all (`*`), or what is said of the last."""
        current = host.get()
        if self.job == "*":
            for job in current.session.interrupted:
                current.session.dismiss(job.id)
        elif self.job:
            current.session.dismiss(self.job)
        else:
            current.outcome, current.problem, current.variations = None, "", []
        return {"FINISHED"}


class DIORAMA_OT_history_page(bpy.types.Operator):
    """Show other results"""

    bl_idname = "diorama.history_page"
    bl_label = "Turn the Page"
    bl_options = {"INTERNAL"}

    step: bpy.props.IntProperty(description="How many pages towards the older")

    def execute(self, context: bpy.types.Context) -> set[str]:
        manager = context.window_manager
        manager.diorama_history_page = max(0, manager.diorama_history_page + self.step)
        return {"FINISHED"}


class DIORAMA_OT_mark_asset(bpy.types.Operator):
    """Keep the active result in the Asset Browser, with its view as the preview"""

    bl_idname = "diorama.mark_asset"
    bl_label = "Mark as Asset"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Only with a result of Diorama's active, of this file."""
        collection = _result_of(active_splats(context))
        if collection is None:
            cls.poll_message_set("Select a result of Diorama's")
        elif collection.library or collection.override_library:
            cls.poll_message_set("This result is linked from another file: mark it there")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        collection = _result_of(active_splats(context))
        assert collection is not None
        collection.asset_mark()
        collection.asset_data.description = f"{collection['prompt']} · seed {collection['seed']}"
        collection.asset_data.tags.new("Diorama", skip_if_exists=True)
        front = next(iter(scene.view_cameras(collection)), None)
        if front and front.data.background_images and front.data.background_images[0].image:
            _copy_preview(front.data.background_images[0].image, collection)
        self.report({"INFO"}, "In the Asset Browser. Where it is dragged to, the Diorama tab makes it real")
        return {"FINISHED"}


def _result_of(item: bpy.types.Object | None) -> bpy.types.Collection | None:
    """The collection that an import has made and that holds this object."""
    if item is None or "prompt" not in item:
        return None
    holders = [each for each in bpy.data.collections if "prompt" in each and item.name in each.all_objects]
    return min(holders, key=lambda each: -len(each.all_objects), default=None)


def _copy_preview(image: bpy.types.Image, target: bpy.types.ID) -> None:
    """The image, as the icon of a data-block."""
    copy = image.copy()
    try:
        side = 256
        copy.scale(side, side)
        preview = target.preview_ensure()
        preview.image_size = (side, side)
        preview.image_pixels_float[:] = copy.pixels[:]
    finally:
        bpy.data.images.remove(copy)


CLASSES = (
    DIORAMA_OT_job_import,
    DIORAMA_OT_job_choose,
    DIORAMA_OT_job_again,
    DIORAMA_OT_job_vary,
    DIORAMA_OT_job_reuse,
    DIORAMA_OT_job_reveal,
    DIORAMA_OT_job_delete,
    DIORAMA_OT_dismiss,
    DIORAMA_OT_history_page,
    DIORAMA_OT_mark_asset,
)


def register() -> None:
    """Adds them, and the number of the history's page."""
    for each in CLASSES:
        bpy.utils.register_class(each)
    bpy.types.WindowManager.diorama_history_page = bpy.props.IntProperty(min=0, options={"SKIP_SAVE"})


def unregister() -> None:
    del bpy.types.WindowManager.diorama_history_page
    for each in reversed(CLASSES):
        bpy.utils.unregister_class(each)
