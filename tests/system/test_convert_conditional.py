"""The convert command on networks with conditions of diffusers: a run that samples given a file, and mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.helpers import commands
from tests.unit.interop.test_diffusers_condition import CHAIN, small


def folder_of(folder: Path, name: str, **changes: Any) -> Path:
    config, weights, _ = small(name)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    (folder / "scheduler_config.json").write_text(json.dumps(CHAIN))
    safetensors.torch.save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    return folder


def text_of(path: Path, seed: int, length: int = 5) -> Path:
    draw = torch.Generator().manual_seed(seed)
    np.savez(
        path,
        tokens=torch.randn(length, 12, generator=draw).numpy(),
        vector=torch.randn(16, generator=draw).numpy(),
    )
    return path


def samples(out: Path) -> np.ndarray[Any, Any]:
    with np.load(out / "samples.npz") as file:
        found: np.ndarray[Any, Any] = file["model_space"]
        return found


@pytest.mark.long
def test_a_network_with_texts_samples_given_their_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    commands.enter(
        "convert", "from=diffusers", f"file={folder_of(tmp_path / 'original', 'sdxl')}", f"out={run}"
    )
    one, two = text_of(tmp_path / "one.npz", 1), text_of(tmp_path / "two.npz", 2, length=3)

    def sample(name: str, *words: str) -> np.ndarray[Any, Any]:
        out = tmp_path / name
        commands.enter("sample", f"run={run}", "n=2", "steps=2", "solver=ddim", f"out={out}", *words)
        return samples(out)

    both = sample("both", f"text=[{one},{two}]")
    assert both.shape == (2, 4, 8, 8)
    alone = sample("alone", f"text={one}", "threads=1")
    np.testing.assert_allclose(both[0], alone[0], rtol=1e-4, atol=1e-4)
    assert np.abs(both[1] - alone[1]).max() > 1e-2
    same = sample("same", f"text={one}", f"not_text={one}", "guidance=cfg", "guidance.scale=3", "threads=1")
    np.testing.assert_allclose(same, alone, rtol=1e-3, atol=1e-3)
    for words, answer in (
        ([], "the network needs text=FILE, an .npz or .safetensors with tokens (any, 12), vector (any,)"),
        ([f"text={tmp_path / 'none.npz'}"], "there is no file"),
        ([f"text={run / 'checkpoints'}"], "there is no file"),
    ):
        with pytest.raises(SystemExit):
            commands.enter(
                "sample", f"run={run}", "n=2", "threads=1", "steps=2", f"out={tmp_path / 'bad'}", *words
            )
        assert answer in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"_class_name": "UNet3DConditionModel"}, "_class_name='UNet3DConditionModel' is not supported"),
        ({"attention_type": "gated"}, "attention_type='gated' is not supported"),
        ({"block_out_channels": [8, 16]}, "but "),
    ],
)
def test_what_is_not_supported_is_one_line(
    changes: dict[str, Any], answer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "original", "sdxl", **changes)
    with pytest.raises(SystemExit):
        commands.enter("convert", "from=diffusers", f"file={folder}", f"out={tmp_path / 'run'}")
    message = capsys.readouterr().err.strip()
    assert answer in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()
