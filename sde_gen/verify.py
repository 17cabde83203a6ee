"""Entry point of ``python -m sde_gen.verify``."""

from sde_gen.cli.verify import main

if __name__ == "__main__":
    main()
