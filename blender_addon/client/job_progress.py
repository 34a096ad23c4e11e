"""What the backend tells of a running job, as the panel shows it: stage, steps, time left, images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass
class JobProgress:
    """The last that was heard of a job, whether it generates or changes a model. Times are monotonic."""

    stage: str = "Starting the backend"
    step: int = 0
    total: int = 0
    eta_s: float | None = None  # of the stage, as it was at `stepped_at`
    step_s: float = 0.0  # how long the last step took
    stepped_at: float = dataclasses.field(default_factory=time.monotonic)
    preview: str = ""
    previews: int = 0  # how many there were: the same file may be written again
    warnings: list[str] = dataclasses.field(default_factory=list)

    def take(self, event: str, fields: Mapping[str, Any]) -> None:
        """Takes a notification, its name without `job.`; unknown ones change nothing."""
        now = time.monotonic()
        match event:
            case "stage":
                self.stage, self.step, self.total, self.eta_s = fields["stage"], 0, 0, None
            case "progress":
                self.step_s, self.stepped_at = now - self.stepped_at, now
                self.step, self.total, self.eta_s = fields["step"], fields["total"], fields["eta_s"]
            case "preview":
                self.preview = fields["path"]
                self.previews += 1
            case "log" if fields["level"] == "warning":
                self.warnings.append(fields["message"])
