"""Entry point of ``python -m sde_gen.compare``."""

from sde_gen.cli.compare import main

if __name__ == "__main__":
    main()
