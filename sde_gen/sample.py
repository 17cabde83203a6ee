"""Entry point of ``python -m sde_gen.sample``."""

from sde_gen.cli.sample import main

if __name__ == "__main__":
    main()
