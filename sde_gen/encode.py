"""Entry point of ``python -m sde_gen.encode``."""

from sde_gen.cli.encode import main

if __name__ == "__main__":
    main()
