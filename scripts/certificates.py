"""Write docs/solver_certificates.md from what ``sde_gen.verify`` and benchmarks/peer_orders.py measured.

python -m sde_gen.verify out=benchmarks/results/certificates
python scripts/certificates.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

HEAD = """# Solver certificates

What every solver of this package does, measured against exact answers. `python -m sde_gen.verify` measures it
again, also for solvers and processes of your own (`solvers=[my/solver.yaml]`), and fails where a certificate does;
CI runs all of it. This page is written by `scripts/certificates.py` from its figures ({versions}).

The order is the slope of the error over three doublings of the number of steps, in float64 on equal steps of the
log-SNR. Deterministic solvers are judged by their end point on the probability flow of a mixture of Gaussians,
against SciPy's eighth-order method on the mixture's definition; stochastic ones by the covariance of their output on
Gaussian data, which is read off without Monte Carlo. A certificate also holds that the evaluations counted are
those declared, and that a sample alone is the same as in a batch. Solvers of order 0 keep a bias that more steps
alone do not remove; adaptive ones choose their own steps and are held to an error below 1e-3 at their default
tolerance. The bias is the largest error over the processes with 24 evaluations, or as many as an adaptive solver
chooses. It is blank for `annealed_langevin`, which refuses so few steps, and for `adaptive_sde`, whose
output has no closed form.

"""

PEERS = """
## Other packages on the same problem

The same mixture, the same steps, float64 ({versions}). The slopes of the error from 12 to 96 steps and from 64 to
512, the larger one. A number at the end of a name is the order that the package gives the method.

"""


def cell(one: dict) -> str:
    """Measured order of a certificate."""
    if one["failures"]:
        return "fails"
    order = one["order"]
    return "exact" if order == "exact" else "holds" if order is None else f"{order:.2f}"


def versions(found: dict, *names: str) -> str:
    """Versions in words."""
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def certificates(found: dict) -> str:
    """The table of our solvers."""
    table = [one for one in found["certificates"] if not one["parametrization"]]
    sdes = list(dict.fromkeys(one["sde"] for one in table))
    lines = [f"| solver | declared | {' | '.join(sdes)} | bias |", "|---" * (len(sdes) + 3) + "|"]
    for name in dict.fromkeys(one["solver"] for one in table):
        mine = {one["sde"]: one for one in table if one["solver"] == name}
        first = next(iter(mine.values()))
        declared = "adaptive" if first["declared"] is None else first["declared"]
        known = [one["bias"] for one in mine.values() if one["bias"] is not None]
        bias = f"{max(known):.0e}" if known else ""
        lines.append(f"| `{name}` | {declared} | {' | '.join(cell(mine[sde]) for sde in sdes)} | {bias} |")
    return "\n".join(lines) + "\n"


def peers(found: dict) -> str:
    """The table of other packages."""
    lines = ["| solver | EDM path | VP path |", "|---|---|---|"]
    for row in found["rows"]:
        cells = ["no result" if row[path] is None else f"{row[path]:.2f}" for path in ("EDM", "VP")]
        lines.append(f"| {row['method']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    ours = json.loads((RESULTS / "certificates" / "verify.json").read_text())
    others = json.loads((RESULTS / "peer_orders.json").read_text())
    page = HEAD.format(versions=versions(ours, "torch", "numpy", "scipy", "commit"))
    page += certificates(ours) + "\n![measured less declared order](_static/certificates.png)\n"
    page += PEERS.format(versions=", ".join(f"{name} {number}" for name, number in others["peers"].items()))
    page += peers(others)
    (ROOT / "docs" / "solver_certificates.md").write_text(page)
    picture = RESULTS / "certificates" / "verify.png"
    (ROOT / "docs" / "_static" / "certificates.png").write_bytes(picture.read_bytes())


if __name__ == "__main__":
    main()
