"""Keeps networks in main memory until they are needed on the GPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import cpu_offload
from diffusers.modular_pipelines.components_manager import custom_offload_with_hook

from .plan import Plan


def offload(networks: Mapping[str, Any], plan: Plan) -> None:
    """Makes networks that are in main memory come to the plan's device when they are called.

    Of whole networks, one is on the device at any time: it stays there, through any number of calls, until
    another is called. Of layers, each goes back at once.
    """
    if plan.offload == "layers":
        for network in networks.values():
            cpu_offload(network, plan.device)
    elif plan.offload == "networks":
        hooks = [custom_offload_with_hook(name, network, plan.device) for name, network in networks.items()]
        for hook in hooks:
            for other in hooks:
                if other is not hook:
                    hook.add_other_hook(other)
