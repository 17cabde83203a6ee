"""Names of other projects in messages lead to their counterparts."""

import re

import pytest
from hydra import compose, initialize_config_dir

from sde_gen.cli.aliases import NAMES, SETTINGS, counterpart
from sde_gen.cli.config_files import CONF, choices, load, names, suggest
from sde_gen.cli.overrides import keys, validate_overrides

ASKED = {
    "dpm_2_a": "dpm_solver_2_ancestral",
    "KDPM2AncestralDiscreteScheduler": "dpm_solver_2_ancestral",
    "dpm_2": "dpm_solver_2",
    "KDPM2DiscreteScheduler": "dpm_solver_2",
    "dpmpp_2m": "dpm_solver_pp",
    "sample_dpmpp_2m": "dpm_solver_pp",
    "DPMSolverMultistepScheduler": "dpm_solver_pp",
    "dpmpp_2m_karras": "dpm_solver_pp",
    "dpmpp_2m_sde_gpu": "dpm_solver_pp_sde_2m",
    "dpmpp_sde": "dpm_solver_pp_sde",
    "DPMSolverSDEScheduler": "dpm_solver_pp_sde",
    "dpmpp_2s_a": "dpm_solver_pp_2s_ancestral",
    "euler_a": "ancestral",
    "k_euler_a": "ancestral",
    "EulerAncestralDiscreteScheduler": "ancestral",
    "EulerDiscreteScheduler": "ddim",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "heunpp2": "heun",
    "HeunDiscreteScheduler": "heun",
    "LMSDiscreteScheduler": "lms",
    "k_lms": "lms",
    "uni_pc": "unipc_bh2",
    "uni_pc_bh2": "unipc_bh2",
    "UniPCMultistepScheduler": "unipc_bh2",
    "ddpm": "ancestral",
    "DDPMScheduler": "ancestral",
    "DDIMScheduler": "ddim",
    "plms": "pndm",
    "PNDMScheduler": "pndm",
    "DPMSolverPP": "dpm_solver_pp",
    "edm": "edm_churn",
}


@pytest.mark.parametrize("name", ASKED)
def test_a_solver_of_another_project_is_answered_with_ours(name):
    said = f"solver={name} is unknown; did you mean {ASKED[name]}?"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        load("solver", name)


@pytest.mark.parametrize(
    ("command", "word", "said"),
    [
        ("sample", "solver=dpm_2_a", "solver=dpm_2_a is unknown; did you mean dpm_solver_2_ancestral?"),
        (
            "benchmark",
            "solver@reference.solver=plms",
            "solver@reference.solver=plms is unknown; did you mean pndm?",
        ),
        ("sample", "solver=lcm", "it has no counterpart; there are adaptive_sde"),
        ("train", "parametrization=v_prediction", "did you mean v?"),
        ("train", "sde=flow_matching", "did you mean rectified?"),
        ("train", "learning_rate=1", "did you mean optimizer.lr?"),
        ("sample", "guidance_scale=3", "did you mean guidance=cfg guidance.scale?"),
        ("sample", "+num_inference_steps=3", "did you mean steps?"),
    ],
)
def test_the_command_line_answers_with_our_names(command, word, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        validate_overrides(command, ["run=x", word])


@pytest.mark.parametrize("kind", NAMES)
def test_every_counterpart_exists_and_no_alias_hides_a_name_of_ours(kind):
    assert {target for target in NAMES[kind].values() if target} <= set(names(kind))
    assert not NAMES[kind].keys() & set(names(kind))
    assert all(counterpart(kind, name, names(kind)) == target for name, target in NAMES[kind].items())
    assert all(counterpart(kind, name, names(kind)) == name for name in names(kind))


def test_every_setting_exists():
    known = set()
    for command in ("sample", "train"):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            known |= {*keys(compose(command)), *choices(command)}
    assert {target.partition(" ")[0].partition("=")[0] for target in SETTINGS.values()} <= known


def test_other_mistakes_are_answered_with_the_nearest_names():
    assert counterpart("solver", "huen", names("solver")) is None
    assert "heun" in suggest("huen", names("solver"))
