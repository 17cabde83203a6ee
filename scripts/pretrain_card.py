r"""Make a pretrained model of a run: averaged weights in bfloat16, and a card with figures measured on these.

    python scripts/pretrain_card.py make runs/digits-vp-ncsnpp digits-vp --description "8x8 digits" --data "..." \
        --command "python -m sde_gen.train sde=vp" --evaluate metrics=[bpd] integrator.steps=64 batch_size=150
    python scripts/pretrain_card.py measure digits-vp \
        --evaluate metrics=[fid,kid] features=efficientnet_lite0 n=300 metric.kid.subset_size=300

    python scripts/pretrain_card.py table

``--evaluate`` takes words of ``python -m sde_gen.evaluate`` and may be given several times. All figures are read from
the files that it writes to WORK, ``runs/pretrained_cards/NAME`` by default; the same command continues an interrupted
evaluation there. ``measure`` adds figures to a card, in place of those of the same name. ``table`` prints all figures
of all cards as Markdown, with draws and baselines.
"""

import argparse
import hashlib
import inspect
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from sde_gen.checkpoint import store as checkpoint
from sde_gen.checkpoint.writer import CheckpointWriter
from sde_gen.cli import pretrained
from sde_gen.cli.data_spec import source_class
from sde_gen.cli.renamed import upgrade_about
from sde_gen.cli.run import load_run
from sde_gen.cli.targets import import_object
from sde_gen.distributed.storage import TensorShard
from sde_gen.model.adapter import merged
from sde_gen.report.plot import PM
from sde_gen.report.result_sections import estimate
from sde_gen.utils import atomic


def rounded(run: Path) -> dict[str, torch.Tensor]:
    """Averaged weights: parameters with more than one dimension in bfloat16, all other tensors as they are."""
    saved = checkpoint.latest(run / "checkpoints", ("ema",))
    if saved is None:
        raise SystemExit(f"{run} has no checkpoint")
    net = load_run(
        OmegaConf.create({"run": str(run), "checkpoint": None, "device": "cpu", "trust": []})
    ).denoiser.net
    parameters = {name for name, parameter in net.named_parameters() if parameter.ndim > 1}
    tensors = {name: value[()] for name, value in merged(saved.ema).items()}
    return {name: x.bfloat16() if name in parameters else x for name, x in tensors.items()}


def about(run: Path, name: str) -> dict[str, Any]:
    """Metadata of the newest checkpoint without paths of this machine and without adapters, which are merged."""
    saved = checkpoint.latest(run / "checkpoints", ("ema",))
    assert saved is not None
    stored: dict[str, Any] = json.loads(json.dumps(upgrade_about(saved.about)))
    config = stored["config"]
    config |= {
        "run": f"runs/{name}",
        "loggers": [],
        "init": None,
        "adapter": {"_target_": "sde_gen.model.NoAdapter"},
    }
    data = source_class(OmegaConf.create(config["data"]))
    for key, parameter in inspect.signature(import_object(config["data"]["_target_"])).parameters.items():
        if key in data.places:
            config["data"][key] = None if parameter.default is inspect.Parameter.empty else parameter.default
    stored.get("data", {})["places"] = {}
    if "init" in stored:
        stored["init"]["path"] = Path(stored["init"]["path"]).name
    stored.pop("trained", None)
    return stored


def figures(folder: Path, name: str, evaluations: list[list[str]], work: Path) -> list[pretrained.Figure]:
    """Evaluate the weights of a folder, and read what was found.

    Arguments:
        folder: run folder of the weights.
        name: name of the model.
        evaluations: words of the commands.
        work: folder of the evaluations, which are continued there.
    """
    found = []
    for words in evaluations:
        out = work / hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
        for path in out.glob("*.json"):
            path.unlink()  # of other settings perhaps; what is measured is kept in other files
        places = [f"run={folder}", f"out={out}", f"cache={work / 'reference'}"]
        subprocess.run([sys.executable, "-m", "sde_gen.evaluate", *places, *words], check=True)
        command = " ".join(["python -m sde_gen.evaluate", f"run={pretrained.PREFIX}{name}", *portable(words)])
        found += [
            pretrained.Figure.of(json.loads(path.read_text()), command) for path in sorted(out.glob("*.json"))
        ]
    return found


def portable(words: list[str]) -> list[str]:
    """Return the words of a command without locations of data on this machine."""
    return [word for word in words if not word.startswith("data.")]


def make(chosen: argparse.Namespace) -> None:
    """Write sde_gen/pretrained/NAME."""
    target = pretrained.FOLDER / chosen.name
    if target.exists():
        raise SystemExit(f"{target} exists already; delete it first")
    saved = checkpoint.latest(chosen.run / "checkpoints", ("ema",))
    if saved is None:
        raise SystemExit(f"{chosen.run} has no checkpoint")
    tensors, stored = rounded(chosen.run), about(chosen.run, chosen.name)
    folder = chosen.work / chosen.name
    shutil.rmtree(folder, ignore_errors=True)
    writer = CheckpointWriter(folder / "checkpoints", saved.images, stored)
    writer.begin()
    writer.commit(writer.write("ema", {name: TensorShard(x) for name, x in tensors.items()}))
    weights = (writer.final / pretrained.WEIGHTS).read_bytes()
    if len(weights) > pretrained.LARGEST_WEIGHTS:
        raise SystemExit(f"{len(weights):,} bytes of weights; at most {pretrained.LARGEST_WEIGHTS:,}")
    config = stored["config"]
    kind = {key: config[key]["_target_"].rpartition(".")[2] for key in ("sde", "model")}
    process = ", ".join(f"{key}={value}" for key, value in config["sde"].items() if key != "_target_")
    count = sum(x.numel() for x in tensors.values() if x.is_floating_point())
    card = pretrained.Card(
        name=chosen.name,
        description=chosen.description,
        data=chosen.data,
        process=f"{kind['sde']}({process})",
        network=f"{kind['model']}, {count:,} numbers",
        images=saved.images,
        command=chosen.command,
        figures=figures(folder, chosen.name, chosen.evaluate, chosen.work),
        license=chosen.license,
        sha256=hashlib.sha256(weights).hexdigest(),
    )
    card.write(folder)
    pretrained.verify(folder)
    pretrained.FOLDER.mkdir(exist_ok=True)
    with atomic.folder(target) as made:
        for part in ("checkpoints", pretrained.CARD):
            source = folder / part
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, made / part)
    print(f"{target}: {len(weights):,} bytes; {card.summary()}")


def measure(chosen: argparse.Namespace) -> None:
    """Add figures to the card of sde_gen/pretrained/NAME."""
    folder = pretrained.folder(chosen.name)
    card, copy = pretrained.Card.read(folder), chosen.work / chosen.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)  # which receives a report
    found = figures(copy, chosen.name, chosen.evaluate, chosen.work)
    card.with_figures(found).write(folder)
    print(f"{folder / pretrained.CARD}: {', '.join(each.title for each in found)}")


def table(chosen: argparse.Namespace) -> None:
    """Print the figures of all cards: value, draws, and images in place of samples."""
    del chosen
    print(
        "| model | figure | value | draws | in place of samples | images | evaluations |\n" + 7 * "|---" + "|"
    )
    for name in pretrained.names():
        for one in pretrained.Card.read(pretrained.FOLDER / name).figures:
            cells = [
                name,
                one.title,
                f"{estimate(one.mean, one.standard_error)} {one.unit}".strip(),
                ", ".join(f"{value:.3g}" for value in one.draws),
                "; ".join(f"{what} {estimate(*pair)}" for what, pair in one.baselines.items()),
                f"{one.images:,}",
                f"{one.nfe:.3g}",
            ]
            print("| " + " | ".join(cells).replace(PM, "+- ") + " |")


def main() -> None:
    """Make a model, measure one, or print the figures of all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="make a model of a run")
    making.set_defaults(function=make)
    making.add_argument("run", type=Path, help="the run folder")
    measuring = commands.add_parser("measure", help="add figures to a card")
    measuring.set_defaults(function=measure)
    commands.add_parser("table", help="print the figures of all cards").set_defaults(function=table)
    for each in (making, measuring):
        each.add_argument("name", help="name of the model, such as digits-vp")
        each.add_argument(
            "--evaluate", nargs="+", action="append", help="words of python -m sde_gen.evaluate"
        )
        each.add_argument("--work", type=Path, help="folder of the evaluations")
    making.add_argument("--description", required=True, help="one line")
    making.add_argument("--data", required=True, help="data set, source and license")
    making.add_argument("--command", required=True, help="the command that trained it")
    making.add_argument("--license", default="Apache-2.0", help="license of the weights")
    chosen = parser.parse_args()
    if "name" in chosen:
        chosen.evaluate = chosen.evaluate or [["metrics=[bpd]"]]
        chosen.work = (chosen.work or Path("runs") / "pretrained_cards" / chosen.name).resolve()
    chosen.function(chosen)


if __name__ == "__main__":
    main()
