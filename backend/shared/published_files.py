"""What the catalogue says of a model: its files, where they are published, what its licence allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """Somewhere that publishes files.

    Attributes:
        folder: what the folder for its files is called, in the folder of files that wait to be converted.
        page: where a person finds it.
        repo: its repository on Hugging Face, from which files can be downloaded; empty if a person must.
        revision: the commit of the repository whose files are meant; its newest if empty.
    """

    folder: str
    page: str
    repo: str = ""
    revision: str = ""


@dataclass(frozen=True)
class SourceFile:
    """A published file.

    Attributes:
        name: its path at the source, and so in the source's folder.
        size_gb: about; None where no source states it.
        also: other files with the same network in them, which are taken instead if they are there.
        optional: the model works without it.
        sha256: of the published file, which a download must have; empty where it is not known.
    """

    source: Source
    name: str
    size_gb: float | None = None
    also: tuple[str, ...] = ()
    optional: bool = False
    sha256: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which it may be there."""
        return (self.name, *self.also)


@dataclass(frozen=True)
class Component:
    """One folder of a model, for example `unet`, and the published files that it is made of.

    Attributes:
        folder: empty for files that stay as they are published, each at its own path.
        network: its name in `install.published.NETWORKS`; empty for these and for the tokenizer.
        pad_token: fills up short prompts; of the tokenizer only.
    """

    folder: str
    network: str
    files: tuple[SourceFile, ...]
    pad_token: str = ""


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue.

    Attributes:
        licence: in words, with what it follows from.
        commercial: whether results may be used commercially, as far as the licences say.
        components: its networks and tokenizer; none for the starter, which is in the extension.
        conditioned_on: the inputs, of which a request gives one.
        moves: whether its objects can move.
        memory_gib: of the GPU: as fast as can be, and with idle networks offloaded to the CPU.
            Estimates of `pipelines.memory`; no GPU has been measured yet.
        warning: what the user should know before using it.
        pipeline: "views", from which splats are reconstructed, "triposplat", without views; or a help.
        gaussians: the numbers of splats that can be asked for; empty if it cannot be chosen.
        four_sides: whether images of an object's four sides can be given, which it reconstructs.
    """

    name: str
    description: str
    licence: str
    commercial: bool
    components: tuple[Component, ...] = ()
    conditioned_on: tuple[Literal["text", "image"], ...] = ("text",)
    moves: bool = False
    memory_gib: tuple[float, float] = (0.0, 0.0)
    warning: str = ""
    pipeline: Literal["views", "triposplat", "background-removal", "text-to-image"] = "views"
    gaussians: tuple[int, ...] = ()
    four_sides: bool = False

    @property
    def takes_image(self) -> bool:
        """Whether it can be given an image."""
        return "image" in self.conditioned_on

    @property
    def needs_image(self) -> bool:
        """Whether it makes nothing of a prompt alone."""
        return "text" not in self.conditioned_on

    @property
    def files(self) -> tuple[SourceFile, ...]:
        """All files that it is made of, each once, though several networks may be in one."""
        files = {(file.source, file.name): file for part in self.components for file in part.files}
        return tuple(files.values())

    @property
    def download_gb(self) -> float:
        """About how much its files are; those of unknown size are not counted."""
        return sum(file.size_gb or 0.0 for file in self.files if not file.optional)

    @property
    def download(self) -> str:
        """In words: how much its files are; "at least" where the size of one is not known."""
        is_known = all(file.size_gb for file in self.files if not file.optional)
        return f"{'' if is_known else 'at least '}{self.download_gb:.1f} GB"

    @property
    def memory(self) -> str:
        """In words: how much memory of a GPU it needs."""
        full, low = self.memory_gib
        slower = f", {low:g} GiB with idle networks in main memory" if low < full else ""
        return f"about {full:g} GiB{slower} (estimated)"
