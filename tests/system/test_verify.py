"""The verify command: valid solvers, invalid ones, and solvers of user code."""

import json
import sys

import pytest

from sde_gen.evaluation.verification import verify_solver
from tests.helpers import commands
from tests.helpers.catalogue import make

BROKEN = """
from dataclasses import dataclass

from sde_gen.solver import DPMSolverPP


@dataclass(frozen=True, kw_only=True)
class Broken(DPMSolverPP):
    \"\"\"Its steps are a percent too long.\"\"\"

    def step(self, model, x_t, t, s, state, noise):
        x_s, state = super().step(model, x_t, t, s, state, noise)
        return 1.001 * x_s, state
"""


@pytest.mark.long
def test_certifies_a_subset_on_every_process(tmp_path, capfd):
    solvers = "[straight_adams,dpm_solver_pp_sde_2m,restart,dormand_prince]"
    commands.enter(
        "verify", f"solvers={solvers}", "sdes=[vp,ve,rectified]", "parametrizations=[v]", f"out={tmp_path}"
    )
    found = json.loads((tmp_path / "verify.json").read_text())["certificates"]
    assert len(found) == 4 * 3 * 2
    assert not any(one["failures"] for one in found)
    by = {(one["solver"], one["sde"], one["parametrization"]): one for one in found}
    assert by["straight_adams", "ve", ""]["order"] > 2.85
    assert by["dpm_solver_pp_sde_2m", "rectified", "v"]["order"] > 1.85
    assert by["dormand_prince", "vp", "v"]["order"] is None
    assert by["restart", "vp", ""]["declared"] == 0
    assert (tmp_path / "verify.png").stat().st_size > 1000
    assert "straight_adams" in capfd.readouterr().out


def test_a_broken_solver_of_the_user_s_own_fails(tmp_path, capfd, monkeypatch):
    (tmp_path / "mine.py").write_text(BROKEN)
    (tmp_path / "broken.yaml").write_text("_target_: mine.Broken\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        commands.enter("verify", f"solvers=[{tmp_path / 'broken.yaml'}]", "sdes=[vp]", f"out={tmp_path}")
    assert stop.value.code == 1
    out = " ".join(capfd.readouterr().out.split())
    assert "FAILED broken on vp: order" in out
    assert json.loads((tmp_path / "verify.json").read_text())["certificates"][0]["failures"]
    sys.modules.pop("mine", None)


def test_every_kind_of_failure_is_found():
    class Coupled(type(make("solver", "ddim"))):
        """Lets samples meet, and miscounts."""

        def step(self, model, x_t, t, s, state, noise):
            x_s, state = super().step(model, x_t, t, s, state, noise)
            return x_s + 1e-3 * x_s.mean(0), state

        def nfe(self, steps):
            return steps + 1

    failures = " ".join(verify_solver("coupled", Coupled(), "vp", make("sde", "vp")).failures)
    assert "order" in failures
    assert "depends on the batch" in failures
    assert "6 evaluations declared, 5 counted" in failures


def test_mistakes(tmp_path, capfd):
    for argument, words in [
        ("solvers=[hoin]", "did you mean"),
        ("solvers=[nowhere.yaml]", "file not found"),
        ("sdes=[vip]", "did you mean"),
        ("parametrizations=[epsilon]", "eps"),
    ]:
        assert words in commands.mistake(
            capfd,
            "verify",
            argument,
            "sdes=[vp]" if "sdes" not in argument else "solvers=[heun]",
            f"out={tmp_path / 'out'}",
        )
        assert not (tmp_path / "out").exists()
