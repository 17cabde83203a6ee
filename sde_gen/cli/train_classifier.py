"""Train a classifier of noisy samples: ``python -m sde_gen.train_classifier data=fashion_mnist sde=vp``."""

from omegaconf import DictConfig

from sde_gen.cli import build
from sde_gen.cli.app import Command
from sde_gen.cli.training import fit


def train_classifier(config: DictConfig) -> None:
    """Train, or continue from the last checkpoint of the run folder."""
    fit(config, build.classifier)


main = Command(name="train_classifier", function=train_classifier)
