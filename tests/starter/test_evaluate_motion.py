"""The table of the moving starter: true clips are judged true, and what is wrong with others shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from backend.pipelines.settings import read_settings
from backend.shared.model_store import MOTION, STARTER
from backend.starter import clips, evaluate_motion
from backend.starter.evaluate_motion import Judges, measure
from backend.starter.motion_judge import MotionClassifier
from tests.evaluation.measured import make_clip, make_videomae

ASKED = [("fish", "red", "swimming"), ("cactus", "green", "hopping"), ("lamp", "blue", "swaying")]


@pytest.fixture(scope="module")
def true() -> list[Tensor]:
    """[V, F, 3, H, W] of every prompt."""
    return [evaluate_motion._true_clip(i, *what) for i, what in enumerate(ASKED)]


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Judges:
    folder = tmp_path_factory.mktemp("metrics")
    make_videomae(folder / "videomae")
    make_clip(folder / "clip")
    return evaluate_motion._judges(STARTER / MOTION, folder, ASKED)


def test_clips_that_are_not_true_differ_where_they_are_wrong(
    true: list[Tensor], judges: Judges, tmp_path: Path
) -> None:
    assert read_settings(STARTER / MOTION).num_views == clips.NUM_VIEWS
    cameras = clips.cameras()

    def table(made: list[Tensor]) -> dict[str, float]:
        return measure(made, ASKED, judges, cameras, tmp_path / "sheet.png")

    right = table(true)
    assert (tmp_path / "sheet.png").is_file()
    assert right["outlines of a frame agree"] > 0.95
    assert right["colour"] == 1
    assert set(right) > {"FVD by the motion judge", "FVD by VideoMAE", "CLIP score"}

    still = table([clip[:, :1].expand_as(clip) for clip in true])
    assert still["motion (RMS about the mean frame)"] == 0
    assert still["FVD by the motion judge"] > 2 * right["FVD by the motion judge"]
    assert still["motion"] < right["motion"]

    others = [true[1], true[2], true[0]]
    exchanged = table([torch.cat([a[:2], b[2:]]) for a, b in zip(true, others, strict=True)])
    assert exchanged["outlines of a frame agree"] < right["outlines of a frame agree"] - 0.1


def test_the_judge_names_a_motion_by_what_it_sees(true: list[Tensor], judges: Judges) -> None:
    judge = judges.motions
    assert isinstance(judge, MotionClassifier)
    with torch.no_grad():
        torch.testing.assert_close(judge.motion(judge.seen(true[0])), judge(true[0]))
    assert set(judges.real) == set(judges.videos)
    assert {len(seen) for seen in judges.real.values()} == {len(ASKED) * clips.NUM_VIEWS}


@pytest.mark.parametrize("count", [8, 12, 60, 320])
def test_any_number_of_prompts_asks_for_every_motion(count: int) -> None:
    asked = evaluate_motion._asked(count)
    assert len(set(asked)) == count
    assert len({motion for _, _, motion in asked}) == 8
