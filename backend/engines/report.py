"""What became of a batch: `report.json` for programs, and `report.html`, one file to open in a browser."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..shared.job_file import BrokenLine
from ..shared.protocol import DioramaError
from .scheduler import Outcome

SCHEMA = 1
THUMBNAIL_PX = 128

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Diorama batch: {title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem; color: #222; background: #fafafa }}
table {{ border-collapse: collapse; width: 100%; background: white }}
th, td {{ text-align: left; padding: .5rem .75rem; border-bottom: 1px solid #ddd; vertical-align: top }}
th button {{ all: unset; cursor: pointer; font-weight: 600 }}
th button:focus-visible {{ outline: 2px solid #47a }}
th[aria-sort=ascending] button::after {{ content: " ▲" }}
th[aria-sort=descending] button::after {{ content: " ▼" }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums }}
img {{ max-width: 256px; max-height: {thumbnail}px; display: block }}
.failed {{ color: #a22 }} .cancelled {{ color: #777 }} .done {{ color: #171 }}
.hint {{ color: #555 }} code {{ color: #777 }}
</style>
<h1>{title}</h1>
<table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table>
<script>
const body = document.querySelector("tbody");
function sort(column, descending) {{
  const key = row => row.cells[column].dataset.sort;
  const numeric = [...body.rows].every(row => key(row) === "" || !isNaN(key(row)));
  const order = (a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b));
  body.append(...[...body.rows].sort((a, b) => descending ? order(b, a) : order(a, b)));
  document.querySelectorAll("th").forEach((head, i) =>
    head.setAttribute("aria-sort", i !== column ? "none" : descending ? "descending" : "ascending"));
}}
document.querySelectorAll("th").forEach((head, i) => head.firstChild.addEventListener("click", () =>
  sort(i, head.getAttribute("aria-sort") === "ascending")));
const wanted = [...document.querySelectorAll("th")].findIndex(head => "#" + head.id === location.hash);
if (wanted >= 0) sort(wanted, false);
</script>
</html>
"""

_COLUMNS = ("line", "image", "prompt", "model", "seed", "state", "seconds")


def check_ours(out: Path) -> None:
    """Refuses a folder in which a report would replace a file of the user's.

    Raises:
        DioramaError: E_OUTPUT_UNWRITABLE.
    """
    for name, mark in (("report.json", '"schema"'), ("report.html", "<title>Diorama batch")):
        path = out / name
        if path.exists() and mark not in path.read_text("utf-8", "replace")[:1000]:
            raise DioramaError(
                "E_OUTPUT_UNWRITABLE", f"{path} is not a report of ours", "Choose another output folder."
            )


def write_report(
    out: Path, outcomes: Sequence[Outcome], broken: Sequence[BrokenLine], seconds: float
) -> dict[str, Any]:
    """Writes both files into the output folder, whole; returns the contents of `report.json`.

    Args:
        broken: lines of the job file that are no requests.
        seconds: the whole run took.

    Raises:
        OSError: the folder cannot be written.
    """
    rows = [_row(outcome) for outcome in outcomes]
    rows += [_broken_row(line) for line in broken]
    rows.sort(key=lambda row: row["line"])
    counts = Counter(row["state"] for row in rows)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "counts": {state: counts[state] for state in ("done", "failed", "cancelled")},
        "made": sum(outcome.made and outcome.state == "done" for outcome in outcomes),
        "seconds": round(seconds, 1),
        "jobs": rows,
    }
    title = ", ".join(f"{number} {state}" for state, number in report["counts"].items() if number)
    heads = "".join(
        f'<th id="{name}" aria-sort="none"><button>{name.capitalize()}</button></th>' for name in _COLUMNS
    )
    page = _PAGE.format(
        title=title or "no jobs",
        heads=heads,
        thumbnail=THUMBNAIL_PX,
        rows="\n".join(_html(row, out) for row in rows),
    )
    _write(out / "report.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    _write(out / "report.html", page)
    return report


def _row(outcome: Outcome) -> dict[str, Any]:
    asset = f"{outcome.name}/asset" if outcome.state == "done" else None
    return {
        "line": outcome.line,
        "name": outcome.name,
        "state": outcome.state,
        "made": outcome.made,
        "seconds": outcome.seconds,
        "worker": outcome.worker,
        "request": outcome.request,
        "asset": asset,
        "warnings": list(outcome.warnings),
        "error": outcome.error,
    }


def _broken_row(broken: BrokenLine) -> dict[str, Any]:
    return {
        "line": broken.line,
        "name": None,
        "state": "failed",
        "made": False,
        "seconds": 0.0,
        "worker": "",
        "request": None,
        "asset": None,
        "warnings": [],
        "error": broken.error.to_dict(),
    }


def _html(row: dict[str, Any], out: Path) -> str:
    request = row["request"] or {"prompt": "", "model": "", "seed": ""}
    prompt = request["prompt"] or Path(request.get("image") or "").name
    image = link = ""
    if row["asset"]:
        link = html.escape(row["asset"], quote=True)
        image = f'<img alt="{html.escape(prompt, quote=True)}" src="{_thumbnail(out / row["asset"])}">'
    state = f'<span class="{row["state"]}">{row["state"]}</span>'
    for warning in row["warnings"]:
        state += f'<div class="hint">{html.escape(warning)}</div>'
    if error := row["error"]:
        state += f"<div>{html.escape(error['message'])}</div>"
        state += (
            f'<div class="hint">{html.escape(error["hint"])} <code>{html.escape(error["code"])}</code></div>'
        )
    named = f"{html.escape(prompt)}<div><code>{html.escape(row['name'] or '')}</code></div>"
    cells = {
        "line": (row["line"], row["line"], "number"),
        "image": (row["name"] or "", f'<a href="{link}">{image}</a>' if link else "", ""),
        "prompt": (prompt, named, ""),
        "model": (request["model"], html.escape(request["model"]), ""),
        "seed": (request["seed"], request["seed"], "number"),
        "state": (row["state"], state, ""),
        "seconds": (row["seconds"], f"{row['seconds']:.1f}" if row["seconds"] else "", "number"),
    }
    return (
        "<tr>"
        + "".join(
            f'<td class="{kind}" data-sort="{html.escape(str(key), quote=True)}">{shown}</td>'
            for key, shown, kind in (cells[name] for name in _COLUMNS)
        )
        + "</tr>"
    )


def _thumbnail(asset: Path) -> str:
    """The contact sheet's start as a data URL; an empty one if it cannot be read."""
    try:
        with Image.open(asset / "preview.png") as sheet:
            image = sheet.convert("RGB")
    except OSError:
        return "data:,"
    image.thumbnail((2 * THUMBNAIL_PX, THUMBNAIL_PX))
    data = io.BytesIO()
    image.save(data, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, "utf-8")
    os.replace(partial, path)
