"""The backend's command line: `python -m backend serve | generate | reconstruct | batch | models | …`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before torch is loaded: threads that wait must sleep, or two processes that share cores stop each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KMP_BLOCKTIME", "0")
os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # operators that Apple's GPUs lack, on the CPU

from . import allocator
from .install import command
from .shared import protocol, reconstruction
from .shared.client import REMOTE_PYTHON
from .shared.progress import forgive_encodings
from .shared.request import GenerationRequest, add_arguments, add_line_arguments, given_settings

EPILOG = """exit codes: 0 done · 1 failed · 2 the request is wrong · 3 the installation is incomplete ·
4 the output folder cannot be written · 5 out of memory · 130 cancelled"""


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code; every failure is one sentence and what to do."""
    forgive_encodings()
    allocator.keep_memory()
    try:
        if argv[:1] and argv[0] in WITH_OPTIONS_OF_THEIR_OWN:
            code = WITH_OPTIONS_OF_THEIR_OWN[argv[0]](argv[1:])
        else:
            args = _parser().parse_args(argv)
            code = RUN[args.command](args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # as `| head` does: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return protocol.BROKEN_PIPE
    except KeyboardInterrupt:
        error = protocol.DioramaError("E_CANCELLED", "cancelled")
    except Exception as unexpected:  # the border: a terminal gets words, not a traceback
        error = protocol.explained(unexpected)
    print(f"\n{error.code}: {error.message}\n{error.hint}", file=sys.stderr)
    if error.code == "E_INTERNAL":
        print(error.detail, file=sys.stderr)
    return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m backend", description=__doc__, epilog=EPILOG)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve Blender on stdin and stdout")
    serve.add_argument("--host", help="another computer that does the work, as ssh knows it: user@host")
    serve.add_argument("--python", default=REMOTE_PYTHON, help="the Python there; default: %(default)s")
    serve.add_argument("--files", type=Path, help=argparse.SUPPRESS)  # for a host on another computer
    command.add_arguments(
        commands.add_parser("models", help="list, download, convert, verify or remove models", epilog=EPILOG)
    )
    commands.add_parser("doctor", help="what this machine has, and how each model would run", epilog=EPILOG)
    commands.add_parser("convert", help="a file of splats into another format")
    commands.add_parser("train", help="train a model: starter, starter-motion, videomv or vivid-zoo")
    commands.add_parser("evaluate", help="measure asset folders, or a starter")
    generate = commands.add_parser("generate", help="prompt to asset folder", epilog=EPILOG)
    generate.add_argument("prompt", nargs="?", default="", help="what to make")
    generate.add_argument("--out", type=Path, required=True, help="the asset folder to make")
    add_arguments(generate, without={"prompt"})
    fit = commands.add_parser("reconstruct", help="images with known cameras to asset folder", epilog=EPILOG)
    fit.add_argument("capture", type=Path, metavar="FOLDER", help="of the images and their transforms.json")
    fit.add_argument("--out", type=Path, required=True, help="the asset folder to make")
    for name, words in reconstruction.OPTIONS.items():
        default = getattr(reconstruction.ReconstructionRequest, name)
        fit.add_argument("--" + name.replace("_", "-"), type=type(default), default=default, help=words)
    batch = commands.add_parser("batch", help="a job file to a folder of assets", epilog=EPILOG)
    batch.add_argument("jobs", type=Path, help="a file with one JSON object of settings a line")
    batch.add_argument("--out", type=Path, required=True, help="the folder of the jobs' folders")
    batch.add_argument("--engine", choices=("local", "ray", "ssh"), default="local", help="who runs the jobs")
    batch.add_argument("--processes", type=int, help="how many; default: one for each GPU, or one on a CPU")
    add_line_arguments(batch)
    batch.add_argument(
        "--address",
        help="of the Ray cluster; default: one on this machine. For ssh: user@host, or several, with commas",
    )
    batch.add_argument(
        "--remote-python", default=REMOTE_PYTHON, help="for ssh: the Python there; default: %(default)s"
    )
    add_arguments(batch)
    engines = commands.add_parser("engines", help="files for render farms", epilog=EPILOG)
    engines.add_argument("farm", choices=("flamenco",))
    engines.add_argument("folder", type=Path, help="the scripts folder of Flamenco's manager")
    return parser


def _generate(args: argparse.Namespace) -> int:
    return _make(GenerationRequest(**given_settings(args)), args.out)


def _reconstruct(args: argparse.Namespace) -> int:
    settings = {name: getattr(args, name) for name in reconstruction.OPTIONS}
    return _make(reconstruction.ReconstructionRequest(str(args.capture.resolve()), **settings), args.out)


def _make(request: reconstruction.Request, out: Path) -> int:
    from . import job
    from .shared.progress import Progress, TerminalBar

    bar = TerminalBar()
    result = job.run(request, out.resolve(), Progress(bar))
    bar.finish()
    print(result["asset"])
    return 0


def _serve(args: argparse.Namespace) -> int:
    if args.host is not None:
        from .engines import ssh

        return ssh.serve(args.host, args.python)
    from .server import serve

    return serve(args.files)


def _doctor(_args: argparse.Namespace) -> int:
    from . import doctor

    return doctor.main()


def _batch(args: argparse.Namespace) -> int:
    from .engines import command as batch

    return batch.run(args)


def _engines(args: argparse.Namespace) -> int:
    from .engines.flamenco import write_job_type

    print(write_job_type(args.folder))
    return 0


RUN = {
    "serve": _serve,
    "doctor": _doctor,
    "generate": _generate,
    "reconstruct": _reconstruct,
    "batch": _batch,
    "engines": _engines,
    "models": command.run,
}


def _evaluate(argv: list[str]) -> int:
    if argv[:1] == ["starter"]:
        from .starter import evaluate_views

        return evaluate_views.main(argv[1:])
    if argv[:1] == ["starter-motion"]:
        from .starter import evaluate_motion

        return evaluate_motion.main(argv[1:])
    from .evaluation import assets

    return assets.main(argv)


def _train(argv: list[str]) -> int:
    what, options = argv[:1], argv[1:]
    if what == ["starter-prior"]:
        from .starter import recipe_prior

        recipe_prior.main(options)
    elif what == ["starter"]:
        from .starter import recipe_views

        recipe_views.main(options)
    elif what == ["starter-motion"]:
        from .starter import recipe_motion

        recipe_motion.main(options)
    elif what == ["videomv"]:
        from .training import videomv

        videomv.main(options)
    elif what == ["vivid-zoo"]:
        from .training import vivid_zoo

        vivid_zoo.main(options)
    else:
        trained = "starter-prior, starter, starter-motion, videomv or vivid-zoo"
        raise protocol.DioramaError(
            "E_REQUEST", f"say which model to train: {trained}", hint="python -m backend train videomv --help"
        )
    return 0


def _convert(argv: list[str]) -> int:
    from . import convert

    return convert.main(argv)


# Their modules need packages, and are loaded when they are asked for.
WITH_OPTIONS_OF_THEIR_OWN = {"train": _train, "evaluate": _evaluate, "convert": _convert}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
