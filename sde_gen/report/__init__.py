"""Reports: self-contained HTML pages about runs, evaluations and samples, and comparisons of runs."""

from sde_gen.report.reports import NAME, write_evaluation, write_run, write_samples

__all__ = ["NAME", "write_evaluation", "write_run", "write_samples"]


def __dir__() -> list[str]:
    return sorted(__all__)
