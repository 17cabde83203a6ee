"""Measure by retrieval whether samples show what their captions say: names of emoji that were in the training.

    python benchmarks/text_retrieval.py RUN [--n 200] [--scale 3] [--steps 20] [--passes 600] [--out FOLDER]

RUN is a run of data=emoji and a conditioning on text. Two towers, a convolutional one of pictures and a bag of words,
are trained on pictures and captions of the training split so that a picture is nearest to its own caption (Radford et
al., 2021, arXiv:2103.00020, section 2.3). Per sample, the captions of the training split are ranked: the share whose
own caption comes first, and among the first five. Null: the same samples beside shuffled captions. Ceiling: pictures of
the training. The towers are judges of captions that they have seen, not of new ones. Prints a table and writes JSON.
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import Tensor, nn

from benchmarks.text_adherence import draw
from sde_gen.cli import console
from sde_gen.cli.run import load_run
from sde_gen.cli.run_data import open_data
from sde_gen.cli.versions import package_versions
from sde_gen.data import Dataset
from sde_gen.data.conditioning import Text


class Towers(nn.Module):
    """Pictures (B, 3, 32, 32) in [0, 1] and tokens (B, L), mapped to unit vectors of one space.

    Arguments:
        vocabulary: number of tokens.
        width: features.
    """

    def __init__(self, vocabulary: int, width: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inward, outward in ((3, 32), (32, 64), (64, 128)):
            layers += [nn.Conv2d(inward, outward, 3, 2, 1), nn.GroupNorm(8, outward), nn.SiLU()]
        self.pictures = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, width))
        self.words = nn.EmbeddingBag(vocabulary, width, padding_idx=0)
        self.texts = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        """Return the logits (B, B) of every picture for every text."""
        return self.log_scale.exp() * self.seen(pictures) @ self.read(tokens).mT

    def seen(self, pictures: Tensor) -> Tensor:
        """Return unit vectors of pictures."""
        return F.normalize(self.pictures(pictures), dim=1)

    def read(self, tokens: Tensor) -> Tensor:
        """Return unit vectors of texts."""
        return F.normalize(self.texts(self.words(tokens)), dim=1)


def train(data: Dataset, text: Text, passes: int, seed: int = 0) -> Towers:
    """Train towers by the contrastive loss."""
    torch.manual_seed(seed)
    towers = Towers(text.sizes["vocabulary"])
    optimizer = torch.optim.AdamW(towers.parameters(), lr=2e-3, weight_decay=1e-3)
    tokens, values = text.given(data.conditions)["tokens"], data.values
    assert isinstance(values, Tensor)
    for _ in range(passes):
        rows = torch.randint(len(values), (128,))
        pictures = values[rows].float() / 255
        logits = towers(pictures + 0.05 * torch.randn_like(pictures), tokens[rows])
        same = (tokens[rows][:, None] == tokens[rows]).all(2).float()  # pictures of one name count as right
        target = same / same.sum(1, keepdim=True)
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return towers.eval().requires_grad_(False)


def score(towers: Towers, pictures: Tensor, tokens: Tensor, names: Tensor) -> dict[str, float]:
    """Return the shares of pictures (N, 3, 32, 32) whose text is the first, or among the first five, of all names."""
    logits = towers.seen(pictures.float() / 255) @ towers.read(names).mT
    own = (tokens[:, None] == names).all(2)
    rank = (logits > logits.masked_fill(~own, -2).amax(1, keepdim=True)).sum(1)
    found = {}
    for most in (1, 5):
        hit = (rank < most).double()
        found |= {f"top{most}": float(hit.mean()), f"top{most}_se": float(hit.std() / len(hit) ** 0.5)}
    return found


def main() -> None:
    """Train the towers, sample and rank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--scale", type=float, default=3.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--passes", type=int, default=600)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    run = load_run(OmegaConf.create({"run": str(args.run), "checkpoint": None, "trust": [], "device": "cpu"}))
    data = open_data(run).train
    if data.shape != (3, 32, 32):
        raise SystemExit(
            f"{args.run} has data of shape {data.shape}; the towers take (3, 32, 32), data=emoji"
        )
    text = Text().fit(data)
    towers = train(data, text, args.passes)
    count = min(args.n, len(data))
    tokens = text.given(data.conditions)["tokens"]
    names, own = tokens.unique(dim=0), tokens[:count]
    real = data.values[:count]
    assert isinstance(real, Tensor)
    with torch.no_grad():
        drawn = draw(run, data, args.scale, count, args.steps)
    rows: list[dict[str, Any]] = [
        {"samples": "training pictures", **score(towers, real, own, names)},
        {"samples": f"scale {args.scale:g}", **score(towers, drawn, own, names)},
        {"samples": f"scale {args.scale:g}, shuffled", **score(towers, drawn, own.roll(1, 0), names)},
    ]
    keys = ("top1", "top1_se", "top5", "top5_se")
    console.print_summary(
        f"captions of {args.run} ranked among {len(names)} ({count} samples, {args.steps} steps)",
        ["samples", "first", "+- s.e.", "first five", "+- s.e."],
        [[row["samples"], *(f"{row[key]:.3f}" for key in keys)] for row in rows],
    )
    args.out.mkdir(parents=True, exist_ok=True)
    about = {
        "machine": platform.processor() or platform.machine(),
        "images": run.images,
        **package_versions(),
    }
    path = args.out / "text_retrieval.json"
    path.write_text(json.dumps({**about, "n": count, "steps": args.steps, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
