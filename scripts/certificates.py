"""Write docs/solver_certificates.md from the results of ``sde_gen.verify`` and benchmarks/peer_orders.py.

python -m sde_gen.verify out=benchmarks/results/certificates
python scripts/certificates.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"

HEAD = """# Solver certificates

Measured orders and biases of every solver of this package, against exact solutions. `python -m sde_gen.verify`
repeats the measurements, also for your own solvers and processes (`solvers=[my/solver.yaml]`), and fails if a
certificate fails; CI runs all of it. `scripts/certificates.py` writes this page from its figures
({versions}).

The order is the slope of the error over three doublings of the number of steps, in float64 on equal steps in
log-SNR. The error of a deterministic solver is that of its end point on the probability flow of a mixture of
Gaussians, against SciPy's eighth-order method on the definition of the mixture; the error of a stochastic solver is
that of its output covariance on Gaussian data, computed without Monte Carlo. A certificate also verifies the declared
number of evaluations and batch independence. Solvers of order 0 have a bias that more steps alone do not remove;
adaptive solvers must have an error below 1e-3 at their default tolerance. The bias is the largest error over the
processes with 24 evaluations, or as many as an adaptive solver takes. It is blank for `annealed_langevin`, which
rejects so few steps, and for `adaptive_sde`, whose output distribution has no closed form.

"""

PEERS = """
## Other packages on the same problem

The same mixture and steps, float64
({versions}).
The larger of the slopes of the error from 12 to 96 and from 64 to 512 steps. A number at the end of a name is the order
as declared by the package.

"""


def cell(one: dict) -> str:
    """Format the measured order of a certificate."""
    if one["failures"]:
        return "fails"
    order = one["order"]
    return "exact" if order == "exact" else "holds" if order is None else f"{order:.2f}"


def versions(found: dict, *names: str) -> str:
    """Format package versions."""
    return ", ".join(f"{name} {found[name]}" for name in names if name in found)


def certificates(found: dict) -> str:
    """Format the table of the solvers of this package."""
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
    """Format the table of other packages."""
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
