"""DiT and MM-DiT: the outputs of diffusers' networks of the same weights, patches of any rank, and text in context."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sde_gen.model import Conditions, DiT, MMDiT, TextEncoder, TextFeatures
from sde_gen.model.transformer.patches import Patches, sincos

DATA = Path(__file__).parents[2] / "data"


class Sinusoids(nn.Module):
    """Cosines and sines of 256 / 2 frequencies, the last being 1 / 10000 in diffusers' DiT."""

    features = 256

    def __init__(self, less: int) -> None:
        super().__init__()
        self.less = less

    def forward(self, c: Tensor) -> Tensor:
        omega = torch.exp(-np.log(10000) * torch.arange(128, dtype=c.dtype) / (128 - self.less))
        return torch.cat([(c[:, None] * omega).cos(), (c[:, None] * omega).sin()], 1)


def golden(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    io = np.load(DATA / f"{name}.npz")
    return (
        {key: part.double() for key, part in load_file(DATA / f"{name}.safetensors").items()},
        {key: torch.from_numpy(io[key]) for key in io.files},
    )


def rows_of_patches(weight: Tensor, channels: int) -> Tensor:
    """Rows in our order, channels first, of a last layer in the original order, channels last."""
    return weight.unflatten(0, (4, channels)).transpose(0, 1).flatten(0, 1)


def of_stream(original: dict[str, Tensor], block: str, ours: str, names: dict[str, str]) -> dict[str, Tensor]:
    return {
        f"{ours}.{mine}.{kind}": original[f"{block}.{name}.{kind}"]
        for mine, name in names.items()
        for kind in ("weight", "bias")
    }


EMBED = {"embed.0": "timestep_embedder.linear_1", "embed.2": "timestep_embedder.linear_2"}
LAYERS = {
    "modulation.project": "norm1.linear",
    "attention.query": "attn.to_q",
    "attention.key": "attn.to_k",
    "attention.value": "attn.to_v",
    "attention.out": "attn.to_out.0",
    "mlp.0": "ff.net.0.proj",
    "mlp.2": "ff.net.2",
}
OF_TEXT = {
    "modulation.project": "norm1_context.linear",
    "attention.query": "attn.add_q_proj",
    "attention.key": "attn.add_k_proj",
    "attention.value": "attn.add_v_proj",
    "attention.out": "attn.to_add_out",
    "mlp.0": "ff_context.net.0.proj",
    "mlp.2": "ff_context.net.2",
}


def test_dit_is_diffusers() -> None:
    """Outputs and gradients in float64; their table of places is float32."""
    original, io = golden("dit")
    net = DiT(
        shape=(4, 8, 8), width=32, depth=3, heads=4, num_classes=10, outputs=2, embedding=Sinusoids(1)
    ).double()
    state = {
        f"{mine}.{kind}": original[f"transformer_blocks.0.norm1.emb.{name}.{kind}"]
        for mine, name in EMBED.items()
        for kind in ("weight", "bias")
    }
    state["classes.weight"] = original["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"]
    for index in range(3):
        names = {mine: name.replace("attn.", "attn1.") for mine, name in LAYERS.items()}
        state |= of_stream(original, f"transformer_blocks.{index}", f"blocks.{index}", names)
    state["stem.0.weight"] = original["pos_embed.proj.weight"].flatten(1)
    state["stem.0.bias"] = original["pos_embed.proj.bias"]
    for kind in ("weight", "bias"):
        state[f"modulation.project.{kind}"] = original[f"proj_out_1.{kind}"]
        state[f"out.{kind}"] = rows_of_patches(original[f"proj_out_2.{kind}"], 8)
    net.load_state_dict(state)
    for block in net.blocks:
        block.norm_mlp.eps = 1e-5  # of their config; the authors' code has 1e-6
    half = net.positions.chunk(2, dim=1)
    net.positions = torch.cat(half[::-1], 1).double()  # the original embeds the column first
    x = io["in/sample"].double().requires_grad_()
    out = net(x, io["in/timestep"].double(), label=io["in/class_labels"])
    (out * io["cotangent"].double()).sum().backward()
    torch.testing.assert_close(out, io["out_exact/sample"], rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(x.grad, io["grad_sample_exact"], rtol=3e-6, atol=3e-6)


class Given(TextEncoder):
    """Features that were computed elsewhere."""

    def __init__(self, **sizes: int) -> None:
        super().__init__(**sizes)
        self.features: TextFeatures | None = None

    def forward(self, tokens: Tensor) -> TextFeatures:
        assert self.features is not None
        return self.features

    def encode(self, features: Tensor, mask: Tensor) -> TextFeatures:
        raise NotImplementedError


def test_mmdit_is_stable_diffusion_3_of_diffusers() -> None:
    original, io = golden("sd3")
    conditions = Conditions(vocabulary=2, length=1, encoder=Given)
    net = MMDiT(
        shape=(16, 8, 10),
        width=24,
        depth=3,
        heads=3,
        qk_norm=False,
        embedding=Sinusoids(0),
        inputs=conditions,
    ).double()
    state = {
        f"{mine}.{kind}": original[f"time_text_embed.{name}.{kind}"]
        for mine, name in EMBED.items()
        for kind in ("weight", "bias")
    }
    for index in range(3):
        block, ours = f"transformer_blocks.{index}", f"joint.{index}"
        state |= of_stream(original, block, f"{ours}.sample", LAYERS)
        if index < 2:
            state |= of_stream(original, block, f"{ours}.text", OF_TEXT)
        else:
            state |= of_stream(
                original, block, f"{ours}.context", {"key": "attn.add_k_proj", "value": "attn.add_v_proj"}
            )
            for kind in ("weight", "bias"):
                scale, shift = original[f"{block}.norm1_context.linear.{kind}"].chunk(2)
                state[f"{ours}.context.modulation.project.{kind}"] = torch.cat([shift, scale])
    state["stem.0.weight"] = original["pos_embed.proj.weight"].flatten(1)
    state["stem.0.bias"] = original["pos_embed.proj.bias"]
    for kind in ("weight", "bias"):
        scale, shift = original[f"norm_out.linear.{kind}"].chunk(2)
        state[f"modulation.project.{kind}"] = torch.cat([shift, scale])
        state[f"out.{kind}"] = rows_of_patches(original[f"proj_out.{kind}"], 16)
    left = net.load_state_dict(state, strict=False)
    assert set(left.missing_keys) == {"text.table.weight", "text.begin"}
    places = original["pos_embed.pos_embed"].unflatten(1, (12, 12))[
        0, 4:8, 3:8
    ]  # the middle of their larger table
    net.positions = places.flatten(0, 1)

    def dense(name: str, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, original[f"{name}.weight"], original[f"{name}.bias"])

    words = dense("context_embedder", io["in/encoder_hidden_states"].double())
    inner = dense("time_text_embed.text_embedder.linear_1", io["in/pooled_projections"].double())
    pooled = dense("time_text_embed.text_embedder.linear_2", torch.nn.functional.silu(inner))
    net.text.features = TextFeatures(words, torch.ones(words.shape[:2], dtype=torch.bool), pooled)
    x = io["in/hidden_states"].double().requires_grad_()
    out = net(x, io["in/timestep"].double())
    (out * io["cotangent"].double()).sum().backward()
    torch.testing.assert_close(out, io["out_exact/sample"], rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(x.grad, io["grad_hidden_states_exact"], rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize(
    ("shape", "patch", "first"),
    [
        ((2, 6), (3,), lambda x: x[:, :, :3]),
        ((3, 4, 6), (2,), lambda x: x[:, :, :2, :2]),
        ((1, 4, 6), (2, 3), lambda x: x[:, :, :2, :3]),
        ((2, 2, 4, 6), (1, 2, 3), lambda x: x[:, :, :1, :2, :3]),
    ],
)
def test_patches_of_any_rank_go_there_and_back(shape, patch, first) -> None:
    patches = Patches(shape, patch)
    x = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    tokens = patches.tokens(x)
    assert torch.equal(tokens[:, 0], first(x).flatten(1))
    assert torch.equal(patches.event(tokens, shape[0]), x)


def test_places_differ_along_every_axis() -> None:
    table = sincos((3, 4), 16)
    assert len({tuple(row) for row in table.tolist()}) == 12
    rows, columns = table.view(3, 4, 16).chunk(2, dim=2)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert torch.equal(columns, columns[:1].expand_as(columns))
    torch.testing.assert_close(rows[2, 0, 0], torch.tensor(2.0).sin())  # the frequency 1


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"patch": (3,)}, r"patch=\[3\] does not divide .* sides \[4, 6\]"),
        ({"patch": (2, 2, 2)}, "does not divide"),
        ({"shape": (3,)}, "model=mlp"),
        ({"width": 30}, "a multiple of 4"),
        ({"heads": 5}, "heads=5"),
        ({"depth": 0}, "depth=0"),
        ({"bottleneck": 0}, "bottleneck=0"),
    ],
)
def test_impossible_settings(settings, answer) -> None:
    for kind in (DiT, MMDiT):
        with pytest.raises(ValueError, match=answer):
            kind(**{"shape": (3, 4, 6), "width": 32, **settings})
