"""Entry point of ``python -m sde_gen.train``."""

from sde_gen.cli.train import main

if __name__ == "__main__":
    main()
