"""The box that stands where there is no backend: what it is, how large, how long, and the way to it."""

from __future__ import annotations

import bpy

from .. import folders, host
from ..client import torch_builds
from ..client.installation import Installation
from . import install_operators
from .drawing import draw_error, draw_text, duration

_WORDS = {
    "missing": (
        "Diorama computes in a Python environment of its own, the backend: nothing leaves this machine, and "
        "Blender's Python stays as it is. It is installed once"
    ),
    "broken": "The backend's installation was not finished. Install it again",
    "outdated": "The backend's packages are older than this add-on. Update them",
}
_BUTTONS = {"missing": "Install Backend", "broken": "Install Backend Again", "outdated": "Update Backend"}


def draw_environment(layout: bpy.types.UILayout) -> None:
    """The state of the backend's environment, with a button where something is to be done."""
    current = host.get()
    if current.installation and current.installation.running:
        _draw_running(layout, current.installation)
        return
    if current.install_problem:
        draw_error(layout, current.install_problem.to_dict())
        _draw_pythons(layout)
    elif current.installation and current.installation.error:
        draw_error(layout, current.installation.error.to_dict())
    if current.environment not in _WORDS:
        return
    build, why = install_operators.chosen_build()
    draw_text(layout, f"{_WORDS[current.environment]}: {build.size.words}.", "INFO")
    preferences = folders.get_preferences()
    if preferences and len(torch_builds.offered()) > 1:
        split = layout.split(factor=0.4)
        split.label(text="Compute On")
        split.prop(preferences, "torch_build", text="")
        if preferences.torch_build == "AUTO":
            draw_text(layout, f"{build.title}: {why}.")
    if not bpy.app.online_access:
        layout.prop(bpy.context.preferences.system, "use_online_access", text="Allow Online Access")
    row = layout.row()
    row.scale_y = 1.4
    row.operator("diorama.install_backend", text=_BUTTONS[current.environment], icon="IMPORT")


def _draw_running(layout: bpy.types.UILayout, installation: Installation) -> None:
    expected_mb = installation.plan.size.download_mb
    done = f"{installation.done_mb} of about {expected_mb:.0f} MB" if installation.done_mb else "…"
    left = f", {duration(installation.left_s)} left" if installation.left_s is not None else ""
    row = layout.row(align=True)
    row.progress(factor=installation.fraction, text=f"{done}{left}")
    row.operator("diorama.install_cancel", text="", icon="X")
    steps = len(installation.plan.steps)
    draw_text(layout, f"{installation.title} ({installation.step + 1} of {steps})")


def _draw_pythons(layout: bpy.types.UILayout) -> None:
    """The Pythons that will do, to choose from; the error names the others."""
    for python in install_operators.found_pythons():
        if not python.obstacle:
            layout.operator("diorama.choose_python", text=f"Use {python}").path = python.path
    layout.operator("diorama.choose_python", text="Choose a Python …", icon="FILE_FOLDER").path = ""
    layout.operator("wm.url_open", text="Get Python", icon="URL").url = "https://www.python.org/downloads/"
