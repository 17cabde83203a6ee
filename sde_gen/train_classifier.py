"""Entry point of ``python -m sde_gen.train_classifier``."""

from sde_gen.cli.train_classifier import main

if __name__ == "__main__":
    main()
