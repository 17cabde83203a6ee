"""Entry point of ``python -m sde_gen.soup``."""

from sde_gen.cli.soup import main

if __name__ == "__main__":
    main()
