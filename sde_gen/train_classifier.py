"""``python -m sde_gen.train_classifier`` of version 0.1, now ``python -m sde_gen.train objective=cross_entropy``."""

from sde_gen.cli.app import exit_with_error
from sde_gen.cli.renamed import COMMANDS

if __name__ == "__main__":
    exit_with_error(
        f"train_classifier is part of train since version 0.2: write {COMMANDS['train_classifier']}"
    )
