"""Entry point of ``python -m sde_gen.evaluate``."""

from sde_gen.cli.evaluate import main

if __name__ == "__main__":
    main()
