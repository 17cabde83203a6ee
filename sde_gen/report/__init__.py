"""Reports: self-contained HTML pages about runs, evaluations and samples, and comparisons of runs."""

from sde_gen.report.reports import REPORT_NAME, write_evaluation, write_run, write_samples

__all__ = ["REPORT_NAME", "write_evaluation", "write_run", "write_samples"]


def __dir__() -> list[str]:
    return sorted(__all__)
