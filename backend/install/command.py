"""`python -m backend models …`: lists, downloads, converts, checks and removes models."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import Any

from ..shared import model_store
from ..shared.progress import Progress, TerminalBar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions and their arguments; without one, the models are listed."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--folder",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"the folder of all models; default: ${model_store.ROOT_VARIABLE}, or your data folder",
    )
    actions = parser.add_subparsers(dest="action", metavar="list|download|convert|verify|remove")
    actions.add_parser("list", parents=[common], help="what there is, and what is installed")
    for action, words in (
        ("download", "download what is missing, and install"),
        ("convert", "install from published files that you have"),
        ("verify", "read every file and compare its checksum"),
        ("remove", "delete an installed model, and what was downloaded for one"),
    ):
        sub = actions.add_parser(action, parents=[common], help=words)
        sub.add_argument("name", help="one of: " + ", ".join(model_store.INSTALLABLE))
        if action == "convert":
            sub.add_argument("--from", dest="source", type=Path, required=True, metavar="FOLDER")


def run(args: argparse.Namespace) -> int:
    """Does what `add_arguments` understood, and prints what was done."""
    root = model_store.models_root(getattr(args, "folder", None))
    if args.action in (None, "list"):
        _list(root)
        return 0
    bar = TerminalBar()
    progress = Progress(bar)
    if args.action == "verify":
        report = model_store.verify(args.name, root, progress)
        words = f"{report['model']} is whole: {report['files']} files, {_gb(report['bytes'])}"
    elif args.action == "remove":
        report = model_store.remove(args.name, root)
        words = f"removed {report['files']} files of {report['model']}, {_gb(report['bytes'])}"
    else:
        from . import install

        if args.action == "download":
            _say_what_comes(args.name)
            report = install.download(args.name, root, progress)
        else:
            report = install.convert(args.name, root, args.source, progress)
        words = "\n".join(_what_was_converted(report))
    bar.finish()
    print(words)
    return 0


def _say_what_comes(name: str) -> None:
    """How much will be downloaded, and under which licences, before the first byte."""
    model = model_store.known(name)
    commercial = "allowed" if model.commercial else "not allowed"
    print(f"{name}: {model.download}. Licence: {model.licence}. Commercial use: {commercial}.", flush=True)


def _list(root: Path) -> None:
    for model in model_store.INSTALLABLE.values():
        found = model_store.state(model, root)
        print(f"{model.name:12} {model.description}")
        if found.installed:
            _line(f"installed in {found.folder}, {_gb(found.bytes)}")
        elif found.problems:
            _line(f"DAMAGED in {found.folder}: {'; '.join(found.problems)}")
        else:
            _line("not installed" if model.components else "not in this copy of the program")
        _line(f"licence: {model.licence}. Commercial use: {'yes' if model.commercial else 'no'}")
        if model.components:
            _line(f"files: {model.download}; GPU memory: {model.memory}")
        for wanted in found.to_download:
            _line(f"will be downloaded: {wanted}")
        for wanted in found.to_fetch:
            _line(f"fetch by hand: {wanted}")
        if model.warning:
            _line(model.warning)


def _line(text: str) -> None:
    print(
        textwrap.fill(text, 110, initial_indent=" " * 13, subsequent_indent=" " * 15, break_on_hyphens=False)
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"


def _what_was_converted(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{part['folder']:14} {part['tensors'] or 'no'} tensors from {', '.join(part['from'])}"
        for part in report["components"]
    ]
    return [*lines, f"{report['model']} is installed in {report['folder']}, {_gb(report['bytes'])}"]
