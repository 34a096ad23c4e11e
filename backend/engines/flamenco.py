"""The adapter for Flamenco, Blender Studio's render farm: writes the job type that its manager loads."""

from __future__ import annotations

import os
from pathlib import Path

from ..shared.protocol import DioramaError

FILE_NAME = "diorama_batch.js"

JOB_TYPE = r"""// Diorama: a job file on shared storage becomes splats, views and .blend files.
// Written by `python -m backend engines flamenco DIR`; put it into the manager's `scripts` folder.

const JOB_TYPE = {
    label: "Diorama Batch",
    description: "Generate every line of a job file; lines that are done already are skipped",
    settings: [
        { key: "jobs_file", type: "string", subtype: "file_path", required: true, visible: "submission",
          description: "The job file (jobs.jsonl), as the workers see it" },
        { key: "num_lines", type: "int32", required: true, visible: "submission",
          description: "How many lines it has" },
        { key: "output", type: "string", subtype: "dir_path", required: true, visible: "submission",
          description: "Folder of the results, as the workers see it" },
        { key: "chunk_size", type: "int32", default: 10, visible: "submission",
          description: "Lines in one task. A task loads its model once" },
        { key: "batch_script", type: "string", subtype: "file_path", required: true, visible: "submission",
          description: "batch.py of the unpacked extension, as the workers see it" },
        { key: "backend_python", type: "string", subtype: "file_path", default: "", visible: "submission",
          description: "Python of the backend on the workers; empty for that of the preferences" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    if (settings.num_lines < 1 || settings.chunk_size < 1) {
        throw "Number of lines and chunk size must be at least 1";
    }
    for (let first = 1; first <= settings.num_lines; first += settings.chunk_size) {
        const last = Math.min(first + settings.chunk_size - 1, settings.num_lines);
        const task = author.Task("lines " + first + "-" + last, "blender");
        const after = ["--", "--jobs", settings.jobs_file, "--out", settings.output,
                       "--first", String(first), "--last", String(last)];
        if (settings.backend_python) {
            after.push("--backend-python", settings.backend_python);
        }
        task.addCommand(author.Command("blender-render", {
            exe: "{blender}",
            exeArgs: "{blenderArgs}",
            argsBefore: [],
            blendfile: "",
            // Without --python-exit-code, Flamenco would take a Python error for success.
            args: ["--python-exit-code", "1", "--python", settings.batch_script].concat(after),
        }));
        job.addTask(task);
    }
}
"""


def write_job_type(folder: Path) -> Path:
    """Writes the job type into a folder, the `scripts` of a Flamenco manager; returns the file.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE.
    """
    path = folder / FILE_NAME
    partial = path.with_suffix(".partial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(JOB_TYPE, "utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise DioramaError(
            "E_OUTPUT_UNWRITABLE", f"cannot write {path}: {error.strerror or error}"
        ) from error
    return path
