"""Entry point of ``python -m sde_gen.demo``."""

from sde_gen.cli.demo import main

if __name__ == "__main__":
    main()
