"""Entry point of ``python -m sde_gen.bundle``."""

from sde_gen.cli.bundle import main

if __name__ == "__main__":
    main()
