"""The samplers: DDIM as every model was published with it, and two that come as near in fewer steps."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

Sampler = Literal["ddim", "unipc", "dpm++"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Scheduler: TypeAlias = DDIMScheduler | UniPCMultistepScheduler | DPMSolverMultistepScheduler

_MULTISTEP: dict[str, Any] = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}


def scheduler_of(sampler: Sampler, schedule: dict[str, Any], steps: int) -> Scheduler:
    """A scheduler of so many steps, for the noise of a model's own schedule.

    The multistep solvers always begin at the noisiest timestep ("trailing"): with few steps, the published
    "leading" one would leave much of the noise out that the network was trained to begin with.

    Args:
        schedule: keyword arguments of `DDIMScheduler`, as the model's settings have them.

    Source: UniPC (arXiv 2302.04867), DPM-Solver++ 2M (2211.01095); where to begin, 2305.08891, section 3.3.
    """
    scheduler: Scheduler = DDIMScheduler(**schedule)
    if sampler != "ddim":
        scheduler = _MULTISTEP[sampler].from_config(scheduler.config, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)  # on the CPU, where they are read
    return scheduler


def begin_anew(scheduler: Scheduler) -> None:
    """Lets the next step know nothing of those before it: what it is given is of another object.

    A multistep solver takes the change from step to step for the direction to go on in. From the network's
    estimate to the views of one object it is a jump, which must not be continued.
    """
    if isinstance(scheduler, UniPCMultistepScheduler | DPMSolverMultistepScheduler):
        scheduler.lower_order_nums = 0
    if isinstance(scheduler, UniPCMultistepScheduler):
        scheduler.last_sample = None  # which the corrector would change, too
