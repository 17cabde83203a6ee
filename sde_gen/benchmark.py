"""Entry point of ``python -m sde_gen.benchmark``."""

from sde_gen.cli.benchmark import main

if __name__ == "__main__":
    main()
