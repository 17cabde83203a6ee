"""Average the weights of several trainings: ``sde-gen soup runs=[...] rule=greedy out=...``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from sde_gen.checkpoint import manifest
from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.manifest import diff_config, line
from sde_gen.checkpoint.state_dict import compare
from sde_gen.checkpoint.store import Checkpoint
from sde_gen.cli import console, instantiate, pretrained
from sde_gen.cli.app import Command, as_list, require_int
from sde_gen.cli.constructors import accepts
from sde_gen.cli.renamed import upgrade_about
from sde_gen.cli.run import Run, load_run
from sde_gen.cli.run_data import open_data
from sde_gen.data import Dataset
from sde_gen.denoiser import NetworkDenoiser, NoisyClassifier
from sde_gen.interop.converted_model import PARTS
from sde_gen.noise import IID
from sde_gen.objective import DSM, Objective
from sde_gen.training import soup
from sde_gen.training.soup import MeanLoss, State
from sde_gen.utils.atomic import atomic_directory, require_absent

SAME = ("model", "sde", "parametrization", "codec", "conditioning", "adapter")
"""Parts of the configuration in which all runs must agree."""

RULES = ("uniform", "greedy")
"""Rules by which runs join."""


@dataclass(frozen=True, kw_only=True)
class Ingredient:
    """One set of averaged weights.

    Arguments:
        run: the run, with its network in memory.
        about: metadata of the checkpoint.
        state: its averaged weights.
    """

    run: Run
    about: dict[str, Any]
    state: State

    @property
    def name(self) -> str:
        """Its checkpoint, as the user would name it."""
        return f"{self.run.folder}/checkpoints/{self.run.checkpoint.name}"


def make_soup(config: DictConfig) -> None:
    """Average the weights of runs, and write the average as a run folder."""
    out, places = Path(config.out), [pretrained.resolve(str(place)) for place in as_list(config.runs)]
    require_absent(out)
    require_int(config, "batch_size")
    require_int(config, "n", least=2)
    if len(places) < 2:
        raise ValueError(f"runs={[str(place) for place in places]}: an average needs at least two")
    if config.rule not in RULES:
        raise ValueError(f"rule={line(str(config.rule), 60)}: expected {' or '.join(RULES)}")
    found = [_open(place, config) for place in places]
    for other in found[1:]:
        _check_same(found[0], other)
    losses, rows = _losses(found[0].run, config)
    states = [each.state for each in found]
    alone = [losses(state) for state in states]
    means = [MeanLoss.of(each).mean for each in alone]
    chosen = (
        list(range(len(states)))
        if config.rule == "uniform"
        else soup.greedy(states, means, lambda state: MeanLoss.of(losses(state)).mean)
    )
    made = soup.average([states[number] for number in sorted(chosen)])
    mixed = losses(made)
    best = min(range(len(states)), key=lambda number: means[number])
    segments = {
        number: soup.segment(states[best], states[number], losses)
        for number in range(len(states))
        if number != best
    }
    record = {
        "rule": config.rule,
        "rows": {"split": "train", "n": rows, "seed": config.seed},
        "runs": [
            {
                "checkpoint": each.name,
                "sha256": each.run.sha256,
                "images": each.run.images,
                "loss": MeanLoss.of(alone[number])._asdict(),
                "share": 1 / len(chosen) if number in chosen else 0.0,
                **({"segment": segments[number]._asdict()} if number in segments else {}),
            }
            for number, each in enumerate(found)
        ],
        "loss": MeanLoss.of(mixed)._asdict(),
    }
    path = _write(found, chosen, made, json.loads(json.dumps(record)), out)
    _report(config, found, chosen, alone, mixed, segments, path)


def _open(place: Path, config: DictConfig) -> Ingredient:
    """Open a run folder, or one of its checkpoints, ``RUN/checkpoints/NAME``."""
    folder, name = (place.parents[1], place.name) if (place / manifest.NAME).is_file() else (place, None)
    given = {
        "run": str(folder),
        "checkpoint": name,
        "trust": config.trust,
        "parts": config.parts,
        "device": "cpu",
    }
    trains = _trained(folder, name)
    run = load_run(OmegaConf.create(given), trains)
    about = upgrade_about(checkpoint.about(run.checkpoint))
    if "adapter" in run.config and not str(run.config.adapter._target_).endswith("NoAdapter"):
        raise ValueError(
            f"{run.folder} has an adapter, whose product of weights an average does not keep: average runs without"
        )
    if f'"{PARTS}' in json.dumps(about["config"]):
        raise ValueError(
            f"{run.folder} holds parts inside its folder; average runs that name their parts outside"
        )
    state = {name: value.clone() for name, value in run.denoiser.net.state_dict().items()}
    return Ingredient(
        run=run, about=about, state=state
    )  # its network takes the weights of the others in turn


def _trained(folder: Path, name: str | None) -> type:
    """Return what a run folder trains, by its newest checkpoint; a denoiser where that is not known."""
    paths = checkpoint.paths(folder / "checkpoints")
    stored = (
        checkpoint.about(folder / "checkpoints" / name if name else paths[-1]).get("config")
        if paths
        else None
    )
    target = str((stored or {}).get("objective", {}).get("_target_", "")) if isinstance(stored, dict) else ""
    return NoisyClassifier if target.endswith(".CrossEntropy") else NetworkDenoiser


def _check_same(first: Ingredient, other: Ingredient) -> None:
    """Raise an error for weights that do not belong to one network.

    Raises:
        ValueError: architecture, process, prediction type, codec, conditioning or data differ; the message says how.
    """
    pairs = [
        {
            **{name: each.about["config"].get(name) for name in SAME},
            "data": vars(each.run.data_spec) | {"class_names": each.run.data.class_names},
            "learned": {"codec": each.about.get("codec"), "conditioning": _learned(each.about)},
        }
        for each in (first, other)
    ]
    different = diff_config(pairs[0], pairs[1])
    if different:
        raise ValueError(
            f"{first.run.folder} and {other.run.folder} are of different networks: "
            f"{line('; '.join(different), 200)}; an average needs one architecture and one process"
        )
    compare(first.state, other.state, what=f"the checkpoint in {other.run.folder}")


def _learned(about: dict[str, Any]) -> Any:
    """Return what the conditioning has learned from its training split."""
    return about.get("conditioning", {}).get("learned")


class _Losses:
    """Losses of weights on fixed rows with fixed times and noise.

    Arguments:
        run: the run whose network takes the weights.
        data: the data with the conditions that the run reads.
        rows: indices of its samples.
        objective: the loss.
        batch_size: rows at a time.
        seed: of times and noise.
    """

    def __init__(
        self, run: Run, data: Dataset, rows: Tensor, objective: Objective, *, batch_size: int, seed: int
    ) -> None:
        self.run, self.objective, self.batches = run, objective, []
        generator = torch.Generator().manual_seed(seed)
        for index in torch.split(rows, batch_size):
            x0 = run.codec.encode(data.values[index], IID(generator))
            cond = run.conditioning(data.given(index), IID(generator))
            self.batches.append((x0, objective.draw(run.denoiser.sde, x0, IID(generator)), cond))

    @torch.no_grad()
    def __call__(self, state: State) -> Tensor:
        """Return the loss of every row, with shape (N,)."""
        self.run.denoiser.net.load_state_dict(dict(state))
        return torch.cat(
            [
                self.objective.loss(self.run.denoiser, x0, draw, **cond).per_sample
                for x0, draw, cond in self.batches
            ]
        )


def _losses(run: Run, config: DictConfig) -> tuple[_Losses, int]:
    """Return the losses on rows of the training split, drawn by seed, and their number."""
    moved = {str(key): value for key, value in config.data.items() if value is not None}
    train = run.conditioning.prepare(open_data(run, moved).train)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(config.seed))
    rows = order[: config.n].sort().values
    node = run.config.get("objective")
    objective: Objective = DSM()
    if node is not None:
        own = {"codec": run.codec} if accepts(node, "codec") else {}
        objective = instantiate.make(run.data_spec.filled(node), **own).for_evaluation
    losses = _Losses(run, train, rows, objective, batch_size=config.batch_size, seed=config.seed)
    return losses, len(rows)


def _write(
    found: Sequence[Ingredient], chosen: Sequence[int], made: State, record: dict[str, Any], out: Path
) -> Path:
    """Write the run folder: a checkpoint that has seen as many images as the longest training of the average."""
    longest = max((found[number] for number in chosen), key=lambda each: each.run.images)
    left_out = ("validation", "metrics", "init", "command")
    about = {
        **{key: value for key, value in longest.about.items() if key not in left_out},
        "config": {**longest.about["config"], "run": str(out), "init": None},
        "soup": record,
    }
    saved = Checkpoint(images=longest.run.images, net=made, ema=made, optimizer={}, about=about)
    with atomic_directory(out) as folder:
        return out / checkpoint.save(folder / "checkpoints", saved).relative_to(folder)


def _report(
    config: DictConfig,
    found: Sequence[Ingredient],
    chosen: Sequence[int],
    alone: Sequence[Tensor],
    mixed: Tensor,
    segments: dict[int, soup.Segment],
    path: Path,
) -> None:
    """Print losses, shares and barriers."""
    rows = []
    for number, each in enumerate(found):
        loss, between = MeanLoss.of(alone[number]), segments.get(number)
        barrier = (
            "the best" if between is None else f"{between.barrier.mean:+.4g} +- {between.barrier.se:.2g}"
        )
        rows.append(
            [
                each.name,
                f"{loss.mean:.4g} +- {loss.se:.2g}",
                f"{(number in chosen) / len(chosen):.3g}",
                barrier,
            ]
        )
    whole = MeanLoss.of(mixed)
    rows.append(["the average", f"{whole.mean:.4g} +- {whole.se:.2g}", "", ""])
    console.print_summary(
        f"{config.rule} soup, losses on {len(mixed)} rows of the training split (seed {config.seed})",
        ["checkpoint", "loss", "share", "barrier to the best"],
        rows,
    )
    apart = [found[number].name for number, between in segments.items() if between.separated]
    if apart:
        console.console.print(
            f"- {len(apart)} of {len(found)} lie in another basin than the best: on the segment between them the loss "
            f"rises above both ends ({line(', '.join(apart), 200)}); their average is worse than each",
            soft_wrap=True,
            markup=False,
        )
    console.print_table(
        f"average of {len(chosen)} of {len(found)}", {"rule": config.rule}, {"checkpoint": path}
    )


main = Command(name="soup", function=make_soup)
