"""Names of other projects with their counterparts here, for error messages.

Sources: k-diffusion, ``sampling.py``; diffusers 0.42, ``schedulers``; score_sde, ``sampling.py``; DPM-Solver's, UniPC's
and EDM's own code; torchdiffeq and SciPy. Nothing is chosen by these names.
"""

import re
from collections.abc import Iterator, Sequence

NAMES: dict[str, dict[str, str]] = {
    "solver": {
        "ancestral_sampling": "ancestral",
        "bosh3": "bogacki_shampine",
        "ddpm": "ancestral",
        "ddpm_parallel": "ancestral",
        "deis": "deis_tab",
        "deis_multistep": "deis_tab",
        "dopri5": "dormand_prince",
        "dpm_2": "dpm_solver_2",
        "dpm_2_a": "dpm_solver_2_ancestral",
        "dpm_2_ancestral": "dpm_solver_2_ancestral",
        "dpm_fast": "dpm_solver_3",
        "dpm_solver_fast": "dpm_solver_3",
        "dpm_solver_multistep": "dpm_solver_pp",
        "dpm_solver_sde_scheduler": "dpm_solver_pp_sde",
        "dpm_solver_singlestep": "dpm_solver_pp_2s",
        "dpmpp": "dpm_solver_pp",
        "dpmpp_2m": "dpm_solver_pp",
        "dpmpp_2m_sde": "dpm_solver_pp_sde_2m",
        "dpmpp_2s": "dpm_solver_pp_2s",
        "dpmpp_2s_a": "dpm_solver_pp_2s_ancestral",
        "dpmpp_2s_ancestral": "dpm_solver_pp_2s_ancestral",
        "dpmpp_3m": "dpm_solver_pp_3m",
        "dpmpp_3m_sde": "dpm_solver_pp_sde_3m",
        "dpmpp_3s": "dpm_solver_pp_3s",
        "dpmpp_sde": "dpm_solver_pp_sde",
        "edm": "edm_churn",
        "edm_dpm_solver_multistep": "dpm_solver_pp",
        "edm_euler": "ddim",
        "euler_a": "ancestral",
        "euler_ancestral": "ancestral",
        "euler_ancestral_discrete": "ancestral",
        "euler_discrete": "ddim",
        "flow_match_euler": "euler",
        "flow_match_heun": "heun",
        "heunpp2": "heun",
        "ipndm_v": "ipndm",
        "karras_ve": "edm_churn",
        "langevin": "annealed_langevin",
        "lcm": "",
        "ode": "dormand_prince",
        "pc": "predictor_corrector",
        "plms": "pndm",
        "rk4": "runge_kutta_4",
        "rk45": "dormand_prince",
        "sa": "",
        "score_sde_ve": "predictor_corrector",
        "score_sde_vp": "euler_maruyama",
        "tcd": "",
        "unipc": "unipc_bh2",
        "unipc_multistep": "unipc_bh2",
    },
    "grid": {
        "edm": "karras",
        "linear": "uniform",
        "polynomial": "karras",
        "sigmas": "listed_ratios",
        "time_quadratic": "quadratic",
        "time_uniform": "uniform",
        "timesteps": "listed",
    },
    "sde": {
        "cfm": "rectified",
        "flow_matching": "rectified",
        "fm": "rectified",
        "ot": "rectified",
        "rectified_flow": "rectified",
        "sub_vpsde": "sub_vp",
        "vesde": "ve",
        "vpsde": "vp",
    },
    "parametrization": {
        "data": "x0",
        "flow": "velocity",
        "flow_prediction": "velocity",
        "noise": "eps",
        "sample": "x0",
        "v_prediction": "v",
        "x_start": "x0",
    },
}
"""By group, the counterpart of a name; empty where there is none."""

SETTINGS = {
    "cfg_scale": "guidance=cfg guidance.scale",
    "epochs": "engine.images",
    "guidance_scale": "guidance=cfg guidance.scale",
    "learning_rate": "optimizer.lr",
    "loss": "objective",
    "n_samples": "n",
    "num_images_per_prompt": "n",
    "num_inference_steps": "steps",
    "num_samples": "n",
    "scheduler": "solver",
}
"""Settings by the names of other projects; the first part is a setting here."""


def counterpart(kind: str, word: str, known: Sequence[str]) -> str | None:
    """Return the name here of what another project names so; empty where there is none, None where it is not known.

    Arguments:
        kind: the group, such as ``solver``.
        word: the name: of a class (``DPMSolverMultistepScheduler``), of a function (``sample_dpmpp_2m``) or of a menu
            (``DPM++ 2M Karras``).
        known: names of the group.
    """
    table = {_letters(name): target for name, target in NAMES.get(kind, {}).items()}
    own = {_letters(name): name for name in known}
    return next((found for form in _forms(_letters(word)) for found in _both(form, table, own)), None)


def setting(word: str, known: Sequence[str]) -> str | None:
    """Return the setting here that another project names so, None where there is none."""
    found = SETTINGS.get(word)
    return found if found is not None and found.partition("=")[0].partition(" ")[0] in known else None


def _both(form: str, table: dict[str, str], own: dict[str, str]) -> Iterator[str]:
    yield from (names[form] for names in (table, own) if form in names)


def _forms(letters: str) -> Iterator[str]:
    """Yield a name, and what is left without the affixes of classes, functions and menus."""
    yield letters
    for affix in ("^sample", "(scheduler|solver|sampler)$", "(gpu|karras|exponential)$", "discrete$", "^k"):
        shorter = re.sub(affix, "", letters)
        if shorter not in ("", letters):
            letters = shorter
            yield letters


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))
