"""Many jobs at once: the queue is filled from a job file, emptied, and resumed when Blender has ended."""

# ruff: noqa: RUF012 (bl_options is Blender's to read)

from __future__ import annotations

import os
from pathlib import Path

import bpy

from .. import folders, host
from ..backend.shared.job_file import is_complete, read_job_file
from ..backend.shared.protocol import DioramaError
from ..backend.shared.request import GenerationRequest
from ..client import jobs
from ..reporting import report, sentence
from .generate_operators import DIORAMA_OT_generate

MOST_NAMED = 5  # of the lines that are broken


class DIORAMA_OT_queue_file(bpy.types.Operator):
    """Queue every line of a job file, one JSON object of settings a line; the results wait in the History"""

    bl_idname = "diorama.queue_file"
    bl_label = "Queue from File …"
    bl_options = {"REGISTER"}

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", description="The job file")
    filter_glob: bpy.props.StringProperty(default="*.jsonl;*.json;*.txt", options={"HIDDEN", "SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As Generate 3D."""
        return DIORAMA_OT_generate.poll(context)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Asks for the file."""
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Queues what is not made yet; a broken line is named and stops no other.

        Each job has the folder, in that of the results, which it has on the command line with `--out`.
        """
        try:
            found, broken = read_job_file(Path(bpy.path.abspath(self.filepath)))
            complete = 0
            for job in found:
                directory = folders.output_folder() / job.name / "asset"
                if _is_complete(directory, job.request):
                    complete += 1
                    continue
                if os.path.lexists(directory):  # of another request, or damaged: it stays
                    directory = jobs.new_directory(folders.output_folder(), job.request)
                host.get().submit(job.request, directory, None)
        except DioramaError as error:
            return report(self, error)
        for line in broken[:MOST_NAMED]:
            self.report({"WARNING"}, sentence(line.error.message))
        if len(broken) > MOST_NAMED:
            self.report({"WARNING"}, f"and {len(broken) - MOST_NAMED} more lines are no requests")
        self.report({"INFO"}, f"{len(found) - complete} jobs queued, {complete} are made already")
        return {"FINISHED"}


class DIORAMA_OT_cancel_all(bpy.types.Operator):
    """Stop the running job and all that wait"""

    bl_idname = "diorama.cancel_all"
    bl_label = "Cancel All"
    bl_options = {"INTERNAL"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Cancels them."""
        session = host.get().session
        for job in session.waiting:
            session.cancel(job.id)
        if session.active:
            session.cancel(session.active.job.id)
        return {"FINISHED"}


class DIORAMA_OT_resume_all(bpy.types.Operator):
    """Queue all jobs again that an end of Blender has interrupted; the results wait in the History"""

    bl_idname = "diorama.resume_all"
    bl_label = "Go On with All"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """As Generate 3D."""
        return DIORAMA_OT_generate.poll(context)

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """Queues them."""
        try:
            for job in host.get().session.interrupted:
                host.get().run_again(job.id, None)
        except DioramaError as error:
            return report(self, error)
        return {"FINISHED"}


def _is_complete(directory: Path, request: GenerationRequest) -> bool:
    try:
        return is_complete(directory, request)
    except DioramaError:
        return False  # it holds the result of another request


CLASSES = (DIORAMA_OT_queue_file, DIORAMA_OT_cancel_all, DIORAMA_OT_resume_all)

register, unregister = bpy.utils.register_classes_factory(CLASSES)
