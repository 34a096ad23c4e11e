"""Offloads idle networks, or idle layers, to main memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .plan import Plan


def offload(networks: Mapping[str, Any], plan: Plan) -> None:
    """Moves networks in main memory to the plan's device when they are called.

    With "model", one network is on the device at a time, and stays there until another is called. With
    "sequential", every layer goes back after its call.
    """
    if plan.offload == "sequential":
        from accelerate import cpu_offload

        for network in networks.values():
            cpu_offload(network, plan.device)
    elif plan.offload == "model":
        from diffusers.modular_pipelines.components_manager import custom_offload_with_hook

        hooks = [custom_offload_with_hook(name, network, plan.device) for name, network in networks.items()]
        for hook in hooks:
            for other in hooks:
                if other is not hook:
                    hook.add_other_hook(other)
