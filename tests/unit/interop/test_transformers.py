"""Encoders of texts: the features that transformers gives for the same weights, and folders that do not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sde_gen.interop.transformers import load_clip, load_t5
from sde_gen.model.text.clip import CLIPText, quick_gelu

DATA = Path(__file__).parents[2] / "data" / "text_encoders"
CLIPS = ("clip_text_sd15", "clip_text_sd15_published", "clip_text_projection")
PRECISIONS = [(torch.float64, "out_exact", 1e-11), (torch.float32, "out_f32", 5e-6)]


def golden(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / name / "io.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize(("dtype", "kind", "tolerance"), PRECISIONS, ids=["float64", "float32"])
def test_clip_is_that_of_transformers(name, dtype, kind, tolerance) -> None:
    """Every layer, the last but one with and without normalization, the whole text, and masked padding."""
    io, net = golden(name), load_clip(DATA / name).to(dtype)
    found = net(io["in/input_ids"])
    expected = {key.removeprefix(f"{kind}/"): value for key, value in io.items() if key.startswith(kind)}
    for number, hidden in enumerate(found.hidden):
        if kind == "out_exact":
            close(hidden, expected[f"hidden_{number}"], tolerance)
    close(found.last, expected["last_hidden_state"], tolerance)
    close(found.hidden[-2], expected["penultimate"], tolerance)
    close(net.norm(found.hidden[-2]), expected["penultimate_normed"], tolerance)
    if "text_embeds" in expected:
        close(found.projected, expected["text_embeds"], tolerance)
    else:
        assert found.projected is None
        close(found.pooled, expected["pooler_output"], tolerance)
    masked = net(io["in/input_ids"], io["in/attention_mask"])
    close(masked.last, expected["last_hidden_state_masked"], tolerance)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), PRECISIONS, ids=["float64", "float32"])
def test_t5_is_that_of_transformers(dtype, kind, tolerance) -> None:
    io, net = golden("t5_v11"), load_t5(DATA / "t5_v11").to(dtype)
    masked = net(io["in/input_ids"], io["in/attention_mask"])
    close(masked.last, io[f"{kind}/last_hidden_state"], tolerance)
    close(net(io["in/input_ids"]).last, io[f"{kind}/last_hidden_state_no_mask"], tolerance)
    if kind == "out_exact":
        for number, hidden in enumerate(masked.hidden[:-1]):
            close(hidden, io[f"{kind}/hidden_{number}"], tolerance)


def changed(tmp_path: Path, name: str, settings: dict, tensors: dict) -> Path:
    """A copy of a folder with other settings and tensors; None removes one."""
    folder = tmp_path / "folder"
    shutil.copytree(DATA / name, folder)
    config = {**json.loads((folder / "config.json").read_text()), **settings}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    state = {**safetensors.torch.load_file(folder / "model.safetensors"), **tensors}
    kept = {key: value for key, value in state.items() if value is not None}
    safetensors.torch.save_file(kept, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "settings", "tensors", "answer"),
    [
        ("clip_text_sd15", {"hidden_act": "mish"}, {}, "hidden_act='mish' is not supported; expected gelu"),
        ("clip_text_sd15", {"num_attention_heads": 5}, {}, "heads=5.*heads that divide the width"),
        ("clip_text_sd15", {"vocab_size": 600}, {}, r"token_embedding.weight gives shape \(634, 24\)"),
        ("clip_text_sd15", {"model_type": "siglip"}, {}, "model_type='siglip' is not supported"),
        ("clip_text_sd15", {"num_hidden_layers": 4}, {}, r"encoder.layers.3.layer_norm1.weight is missing"),
        ("clip_text_sd15", {"num_hidden_layers": 2}, {}, r"encoder.layers.2.\S+ is not known"),
        ("clip_text_sd15", {}, {"final_layer_norm.bias": torch.full((24,), torch.nan)}, "holds NaN or infinity"),
        ("clip_text_sd15", {}, {"final_layer_norm.bias": None}, "final_layer_norm.bias is missing"),
        ("t5_v11", {"feed_forward_proj": "gated-gelu-x"}, {}, "feed_forward_proj='gated-gelu-x' is not supported"),
        ("t5_v11", {"relative_attention_num_buckets": 2}, {}, "relative_attention_num_buckets=2 is not supported"),
        ("t5_v11", {"model_type": "umt5"}, {}, "model_type='umt5' is not supported"),
        ("t5_v11", {"d_ff": 0}, {}, "d_ff=0 is not supported"),
    ],
)  # fmt: skip
def test_folders_that_do_not_fit_are_refused_by_name(tmp_path, name, settings, tensors, answer) -> None:
    folder = changed(tmp_path, name, settings, tensors)
    with pytest.raises(ValueError, match=answer) as caught:
        (load_t5 if name == "t5_v11" else load_clip)(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files(tmp_path) -> None:
    with pytest.raises(ValueError, match="there is no folder"):
        load_clip(tmp_path / "none")
    with pytest.raises(ValueError, match=r"there is no .*config\.json"):
        load_clip(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds none of model\.safetensors"):
        load_clip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        load_clip(tmp_path)


def test_clip_out_of_a_whole_model(tmp_path) -> None:
    """Settings inside ``text_config``, and tensors of the encoder of images beside it."""
    config = json.loads((DATA / "clip_text_projection" / "config.json").read_text())
    folder = changed(
        tmp_path,
        "clip_text_projection",
        {},
        {
            "vision_model.a": torch.zeros(2),
            "visual_projection.weight": torch.zeros(2),
            "logit_scale": torch.zeros(()),
        },
    )
    (folder / "config.json").write_text(
        json.dumps({"model_type": "clip", "text_config": config, "projection_dim": 20})
    )
    io = golden("clip_text_projection")
    found = load_clip(folder).double()(io["in/input_ids"]).projected
    close(found, io["out_exact/text_embeds"], 1e-11)


def test_t5_out_of_a_whole_model_and_a_second_table(tmp_path) -> None:
    table = safetensors.torch.load_file(DATA / "t5_v11" / "model.safetensors")["shared.weight"]
    more = {
        "encoder.embed_tokens.weight": table.clone(),
        "lm_head.weight": table.clone(),
        "decoder.a": table[:1].clone(),
    }
    io = golden("t5_v11")
    found = load_t5(changed(tmp_path, "t5_v11", {}, more)).double()(io["in/input_ids"]).last
    close(found, io["out_exact/last_hidden_state_no_mask"], 1e-11)


@pytest.mark.parametrize(("end", "place"), [(3, 2), (None, 1)])
def test_features_of_a_text_are_those_of_the_first_end_or_of_the_largest_token(
    end: int | None, place: int
) -> None:
    """Published settings differ: the mark of the end is not the largest token of every vocabulary."""
    net = CLIPText(
        vocabulary=9, length=6, width=8, depth=1, heads=2, hidden=8, activation=quick_gelu, end=end
    )
    found = net(torch.tensor([[0, 8, 3, 3, 1]]))
    assert torch.equal(found.pooled, found.last[:, place])
