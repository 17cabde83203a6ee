"""Measure the orders of other packages' solvers on the exact problem of ``python -m sde_gen.verify``.

    python -m benchmarks.peer_orders [--out FOLDER]

Those installed of k-diffusion, azula and diffusers, called as in benchmarks/peer_solvers.py, in float64 on equal
steps of the log-SNR: the slope of the error over three doublings, from 12 to 96 steps and from 64 to 512, of which
the larger is kept. Prints a table and writes JSON with versions.
"""

import argparse
import json
import math
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.peer_solvers import PATHS, Method, Track, methods
from sde_gen.cli import console
from sde_gen.cli.versions import package_versions
from sde_gen.evaluation.verification import oracles
from sde_gen.evaluation.verification.verify_solver import COARSE, FINE


def model(z: Tensor, ratio: float) -> Tensor:
    """E[x_0 | z] of the mixture, by Tweedie's formula on the oracle's score."""
    x = z.numpy()
    return torch.from_numpy(x + ratio**2 * oracles.score(x, ratio))


def error(method: Method, path: Track, steps: int) -> float:
    """RMS error of the end point in x / alpha."""
    first, last = np.log(oracles.RATIOS)
    ratios = torch.exp(torch.linspace(first, last, steps + 1, dtype=torch.float64))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        end = method.run(model, torch.from_numpy(oracles.starts().copy()), ratios, path).double().numpy()
    return float(np.sqrt(np.mean((end - oracles.ends()) ** 2)))


def order(method: Method, path: Track) -> tuple[float | None, str]:
    """The larger slope, and why there is none."""
    try:
        pairs = [[error(method, path, steps) for steps in ends] for ends in (COARSE, FINE)]
    except Exception as failure:  # of another package: shown in the table
        return None, f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else ''}"
    slopes = [math.log2(a / b) / 3 for a, b in pairs if math.isfinite(a) and math.isfinite(b) and b > 0]
    return (max(slopes), "") if slopes else (None, "not finite")


def main() -> None:
    """Measure the orders of all solvers and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    found, versions = methods()
    rows = []
    for method in found:
        row: dict[str, object] = {"method": method.name}
        for name, path in PATHS.items():
            row[name], why = order(method, path)
            if why:
                row["why"] = why
        rows.append(row)
    cells = [
        [row["method"], *("-" if row[name] is None else f"{row[name]:.2f}" for name in PATHS)] for row in rows
    ]
    console.print_summary("measured order", ["solver", *PATHS], cells)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "peer_orders.json"
    path.write_text(json.dumps({**package_versions(), "peers": versions, "rows": rows}, indent=1))
    print(path)


if __name__ == "__main__":
    main()
