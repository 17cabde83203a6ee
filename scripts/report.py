"""Say what a run folder holds: ``python scripts/report.py runs/digits-vp-ncsnpp``."""

import json
import sys
from pathlib import Path


def newest(folder: Path, pattern: str) -> str:
    """The newest file of a pattern."""
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    return str(found[-1]) if found else f"nothing like {folder / pattern}"


def main() -> None:
    """Print the likelihood and where pictures, samples and weights lie."""
    run = Path(sys.argv[1])
    bpd = json.loads((run / "evaluation" / "bpd.json").read_text())
    mean, error, count = bpd["mean"], bpd["standard_error"], bpd["images"]
    print(f"bits/dim     {mean:.3f} +- {error:.3f} (standard error), {count} held-out images")
    print(f"picture      {newest(run, 'samples/**/*.png')}")
    print(f"samples      {newest(run, 'samples/**/*.npz')}")
    print(f"checkpoint   {newest(run, 'checkpoints/[0-9]*')}")
    print(f"evaluation   {run / 'evaluation' / 'bpd.json'}")


if __name__ == "__main__":
    main()
