"""What the backend tells of a running job, as the panel shows it: stage, steps, time left, images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

STARTING = "Starting the backend"


@dataclasses.dataclass
class JobProgress:
    """The last that was heard of a job, whether it generates or changes a model. Times are monotonic."""

    began: float = dataclasses.field(default_factory=time.monotonic)
    stage: str = STARTING
    stage_began: float = dataclasses.field(default_factory=time.monotonic)
    step: int = 0
    total: int = 0
    eta_s: float | None = None  # of the stage, as it was at `stepped_at`
    step_s: float = 0.0  # how long the last step took
    stepped_at: float = dataclasses.field(default_factory=time.monotonic)
    preview: str = ""
    preview_views: int = 0  # that are on it
    previews: int = 0  # how many there were: the same file may be written again
    warnings: list[str] = dataclasses.field(default_factory=list)

    def take(self, event: str, fields: Mapping[str, Any]) -> None:
        """Takes a notification, its name without `job.`; unknown ones change nothing."""
        now = time.monotonic()
        match event:
            case "stage":
                self.stage, self.step, self.total, self.eta_s = fields["stage"], 0, 0, None
                self.stage_began = now
            case "progress":
                self.step_s, self.stepped_at = now - self.stepped_at, now
                self.step, self.total, self.eta_s = fields["step"], fields["total"], fields["eta_s"]
            case "preview":
                self.preview, self.preview_views = fields["path"], fields["views"]
                self.previews += 1
            case "log" if fields["level"] == "warning":
                self.warnings.append(fields["message"])

    def number(self, expected: Sequence[Mapping[str, Any]]) -> int:
        """Which of the expected stages this is, counted from 1; 0 if it is none of them."""
        names = [stage["stage"] for stage in expected]
        return names.index(self.stage) + 1 if self.stage in names else 0

    def stage_left_s(self) -> float | None:
        """Seconds that this stage will still take; None before its first step is done.

        A step that takes longer than those before it does not use up the time of those to come.
        """
        if self.eta_s is None:
            return None
        steps_left = max(self.total - self.step, 1)
        after_this_step = self.eta_s * (steps_left - 1) / steps_left
        return max(self.eta_s - (time.monotonic() - self.stepped_at), after_this_step)

    def left_s(self, expected: Sequence[Mapping[str, Any]]) -> float | None:
        """How long the whole job will still take, going by the stages of an earlier one like it.

        Args:
            expected: that one's stages with their seconds, as they come with a finished job; it may be empty.

        Returns:
            Seconds; None where there is nothing to go by.
        """
        now = time.monotonic()
        number = self.number(expected)
        if not number:
            if self.stage != STARTING or not expected:
                return None
            return float(sum(stage["seconds"] for stage in expected))
        here = max(expected[number - 1]["seconds"] - (now - self.stage_began), 0.0)
        if self.eta_s is not None and self.step > 1:  # what this very run says is better, once it has a rate
            here = self.stage_left_s() or 0.0
        return here + float(sum(stage["seconds"] for stage in expected[number:]))
