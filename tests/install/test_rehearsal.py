"""The files of the rehearsal at full size hold what is converted to the networks of every model."""

from __future__ import annotations

import pytest
import torch

from backend.install.published import NETWORKS
from backend.shared.catalogue import MODELS
from tests.bench.full_size_files import contents


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.components])
def test_files_of_the_rehearsal_are_converted_to_every_network(name: str) -> None:
    files = contents(MODELS[name])
    for component in MODELS[name].components:
        if component.folder == "tokenizer":
            continue
        with torch.device("meta"):
            held = [files[file.name] for file in component.files if not file.optional]
            checkpoint = {key: torch.empty(shape) for shapes in held for key, shape in shapes.items()}
            ours = NETWORKS[component.network].make().state_dict()
        converted = NETWORKS[component.network].convert(checkpoint)
        assert {key: converted[key].shape for key in ours} == {key: each.shape for key, each in ours.items()}
