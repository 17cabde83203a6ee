"""Make a pretrained model of a finished run: averaged weights in bfloat16, and a card with figures measured on these.

``python scripts/pretrain_card.py runs/digits-vp-ncsnpp digits-vp --description "8x8 digits" --data "..."
--command "python -m sde_gen.train sde=vp" --evaluate metrics=[bpd] integrator.steps=64 batch_size=150``
"""

import argparse
import hashlib
import inspect
import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
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


def figures(folder: Path, name: str, words: list[str]) -> list[pretrained.Figure]:
    """Evaluate a run folder, and read what was found."""
    out = folder / "evaluation"
    command = [sys.executable, "-m", "sde_gen.evaluate", f"run={folder}", f"out={out}", *words]
    subprocess.run(command, check=True)
    found = []
    for path in sorted(out.glob("*.json")):
        report = json.loads(path.read_text())
        found.append(
            pretrained.Figure(
                metric=report["metric"],
                mean=round(report["mean"], 4),
                standard_error=round(report["standard_error"], 4),
                unit=report["unit"],
                images=report["images"],
                split=report["settings"].get("split", "test"),
                nfe=report["network_evaluations_per_image"],
                command=" ".join(["python -m sde_gen.evaluate", f"run=pretrained/{name}", *words]),
            )
        )
    return found


def main() -> None:
    """Write sde_gen/pretrained/NAME."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="the finished run folder")
    parser.add_argument("name", help="name of the model, such as digits-vp")
    parser.add_argument("--description", required=True, help="one line")
    parser.add_argument("--data", required=True, help="data set, source and license")
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument("--license", default="Apache-2.0", help="license of the weights")
    parser.add_argument(
        "--evaluate", nargs="+", default=["metrics=[bpd]"], help="words of python -m sde_gen.evaluate"
    )
    chosen = parser.parse_args()
    target = pretrained.FOLDER / chosen.name
    if target.exists():
        raise SystemExit(f"{target} exists already; delete it first")
    saved = checkpoint.latest(chosen.run / "checkpoints", ("ema",))
    if saved is None:
        raise SystemExit(f"{chosen.run} has no checkpoint")
    tensors, stored = rounded(chosen.run), about(chosen.run, chosen.name)
    pretrained.FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / chosen.name
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
            figures=figures(folder, chosen.name, chosen.evaluate),
            license=chosen.license,
            sha256=hashlib.sha256(weights).hexdigest(),
        )
        shutil.rmtree(folder / "evaluation")
        text = yaml.safe_dump(
            {**asdict(card), "figures": [asdict(each) for each in card.figures]}, sort_keys=False
        )
        atomic.write(folder / pretrained.CARD, text)
        pretrained.verify(folder)
        with atomic.folder(target) as made:
            shutil.copytree(folder, made, dirs_exist_ok=True)
    print(f"{target}: {len(weights):,} bytes; {card.summary()}")


if __name__ == "__main__":
    main()
