"""Time attention as it is written out in the networks against PyTorch's scaled_dot_product_attention.

    python -m benchmarks.attention [--rounds 9] [--calls 3] [--device auto] [--out FOLDER]

A block of attention forward and backward, in float32 and bfloat16, at the sizes of images of 32x32 and 64x64. Both have
the same weights, and none is timed whose answer differs. They take turns; the ratio is the written-out block's time
over the other's, so that below 1 writing it out is faster (quartiles over rounds).

Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from benchmarks import machine
from benchmarks.machine import about, count, name, quartiles, rounds, seconds
from sde_gen.cli import console
from sde_gen.model.unet.blocks import AttentionBlock
from sde_gen.training.precision import exact_float32

SIZES = [(16, 128, 1, 16), (16, 128, 4, 16), (16, 256, 1, 16), (4, 256, 4, 32)]
"""Images, channels, heads, and the side of the feature map."""


class Fused(AttentionBlock):
    """The same block by PyTorch's own function."""

    def forward(self, x: Tensor) -> Tensor:
        """Attend: (B, C, H, W) to the same."""
        h = self.norm(x)
        query, key, value = (
            part(h).unflatten(1, (self.heads, -1)).flatten(3).mT
            for part in (self.query, self.key, self.value)
        )
        mixed = scaled_dot_product_attention(query, key, value).mT.reshape(x.shape)
        out: Tensor = (x + self.out(mixed)) * self.scale
        return out


def compare(
    size: tuple[int, int, int, int], dtype: torch.dtype, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Times of both at one size."""
    images, channels, heads, side = size
    device, generator = arguments.device, torch.Generator().manual_seed(0)
    written, fused = (kind(channels, scale=1.0, heads=heads) for kind in (AttentionBlock, Fused))
    for weight in written.parameters():
        nn.init.normal_(weight, std=channels**-0.5, generator=generator)
    fused.load_state_dict(written.state_dict())
    x = torch.randn(images, channels, side, side, generator=generator).to(device).requires_grad_()

    def gradient(block: nn.Module) -> Tensor:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            out = block(x)
        (found,) = torch.autograd.grad(out.float().square().sum(), x)
        return found

    blocks = {"written": written.to(device), "fused": fused.to(device)}
    torch.testing.assert_close(
        *(gradient(block).double() for block in blocks.values()),
        rtol=0,
        atol=(1e-4 if dtype == torch.float32 else 0.05) * float(gradient(written).abs().max()),
    )
    times: dict[str, list[float]] = {kind: [] for kind in blocks}
    for _ in range(arguments.rounds):
        for kind, block in blocks.items():
            took = seconds(lambda block=block: [gradient(block) for _ in range(arguments.calls)], device)
            times[kind].append(1e3 * took / arguments.calls)
    ratios = [ours / original for ours, original in zip(*times.values(), strict=True)]
    milliseconds = {kind: quartiles(found)[1] for kind, found in times.items()}
    return {"size": size, "dtype": str(dtype), "milliseconds": milliseconds, "ratio": quartiles(ratios)}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=rounds, default=9)
    parser.add_argument("--calls", type=count, default=3)
    parser.add_argument("--device", type=machine.device, default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    exact_float32()
    facts = {**about(arguments.device), "rounds": arguments.rounds}
    rows = [compare(size, dtype, arguments) for dtype in (torch.float32, torch.bfloat16) for size in SIZES]
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"attention_{arguments.device.type}.json"
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"a block of attention forward and backward, {name(facts)}",
        ["format", "images", "channels", "heads", "side", "written out, ms", "PyTorch's, ms", "ratio"],
        [
            [
                row["dtype"].removeprefix("torch."),
                *map(str, row["size"]),
                f"{row['milliseconds']['written']:.1f}",
                f"{row['milliseconds']['fused']:.1f}",
                "{1:.2f} ({0:.2f} to {2:.2f})".format(*row["ratio"]),
            ]
            for row in rows
        ],
    )
    console.console.print(str(path), soft_wrap=True)


if __name__ == "__main__":
    main()
