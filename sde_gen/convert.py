"""Entry point of ``python -m sde_gen.convert``."""

from sde_gen.cli.convert import main

if __name__ == "__main__":
    main()
