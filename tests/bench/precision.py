"""What bfloat16 changes of the starter's views on a CPU: python -m tests.bench.precision.

The same objects in both precisions at *Standard*, from the same noise: PSNR between the views, what the judge
names, and the processor's seconds until the views are there.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from backend import allocator
from backend.evaluation.image_quality import psnr
from backend.pipelines.attention import attention_of
from backend.pipelines.denoise import Sampling
from backend.pipelines.model import load
from backend.pipelines.plan import CPU, Plan
from backend.shared.model_store import STARTER
from backend.shared.request import GenerationRequest
from backend.starter.judges import WorldClassifier, load_judge
from backend.starter.objects.named import prompt_for
from tests.bench.samplers import some_objects, views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=6)
    pairs = some_objects()[: parser.parse_args().objects]
    allocator.keep_memory()
    judge = load_judge(WorldClassifier, STARTER / "judge")
    made: list[list[torch.Tensor]] = []
    for dtype in (torch.float32, torch.bfloat16):
        model = load(STARTER, Plan(CPU, dtype))
        sampling = Sampling.of(GenerationRequest("an object"), model.settings)
        began = time.process_time()
        with attention_of(model.plan):
            made.append([views(model, [prompt_for(*pair)], sampling) for pair in pairs])
        seconds = (time.process_time() - began) / len(pairs)
        right = sum(judge.name(images)[0] == pair for images, pair in zip(made[-1], pairs, strict=True))
        print(f"{dtype}: {seconds:.1f} s of CPU an object; named as asked for: {right} of {len(pairs)}")
    near = [psnr(one[0], other[0]) for one, other in zip(*made, strict=True)]
    print(f"between the two: {statistics.mean(near):.1f} dB, {min(near):.1f} dB at worst")


if __name__ == "__main__":
    main()
