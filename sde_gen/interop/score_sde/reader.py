"""Networks of score_sde_pytorch: NCSN++ and DDPM++ in all their variants, and DDPM, under VE, VP and sub-VP."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sde_gen.data.codec.uniform import UniformCodec
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.denoiser.parametrization.eps import Eps
from sde_gen.denoiser.parametrization.label import LogRatio, LogTime, NearestTime, Ratio, Time
from sde_gen.denoiser.parametrization.score import Score
from sde_gen.interop.converted_model import ConvertedModel, ObjectSpec
from sde_gen.interop.formats import files
from sde_gen.interop.score_sde.ncsnpp import NCSNppLayout
from sde_gen.interop.settings import MOST_STEPS, choice, flag, given, real, section, whole
from sde_gen.model.unet.centered import CenteredInput
from sde_gen.sde.ddpm import DDPM, linear_betas
from sde_gen.sde.sub_vp import SubVP
from sde_gen.sde.ve import VE
from sde_gen.sde.vp import VP


def load(path: Path, config: Mapping[str, Any] | None) -> ConvertedModel:
    """Read the EMA weights of a training checkpoint, or a state dictionary.

    Arguments:
        path: the file.
        config: as in :func:`read`.

    Raises:
        ValueError: as :func:`~sde_gen.interop.formats.files.read` and :func:`read`.
    """
    found = files.read(path)
    training = isinstance(found, dict) and "model" in found
    state = files.tensors(found, *(["model"] if training else []))
    ema = found.get("ema") if training else None
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if shadow is None:
        return read(state, given(config))
    if not isinstance(shadow, list):
        raise ValueError("ema.shadow_params is not a list of tensors")
    return read(averaged(state, list(files.tensors(dict(enumerate(shadow))).values())), given(config))


def read(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ConvertedModel:
    """Convert a network of score_sde.

    VP and sub-VP networks have the noise label 999 t (the step of a discrete chain) and predict the noise, -sigma times
    the score. VE networks have the noise level as label (the index of the level in a discrete chain, 0 being the
    noisiest) and predict the score, with ``scale_by_sigma`` after a division by the level; the last convolutions
    change sign, so that they predict the noise. VE data on [0, 1], centered to 2 x - 1 by the original networks, have
    range [-1, 1] here and twice the noise level; VP data on [0, 1] keep their range, and the network centers them.

    Source: Song et al., 2021, arXiv:2011.13456; conventions: score_sde_pytorch, models/utils.py and models/ncsnpp.py.

    Arguments:
        tensors: the state dictionary, without ``module.``.
        config: the original configuration as a dictionary, with the sections ``model``, ``data`` and ``training``, of
            which ``sde`` is needed (vpsde, subvpsde or vesde) and ``continuous``.

    Raises:
        ValueError: settings are missing or unsupported, or tensors do not fit; the message names them.
    """
    model, data, training = (section(config, name) for name in ("model", "data", "training"))
    centered = flag(data, "centered")
    layout = NCSNppLayout(model, data)
    continuous = flag({"continuous": True, **training}, "continuous")
    if layout.fourier and not continuous:
        raise ValueError("embedding_type=fourier with continuous=False: their chains have positional labels")
    ve = choice(training, "sde", "vpsde", "subvpsde", "vesde") == "vesde"
    conventions = (_exploding if ve else _preserving)(
        model, training, fourier=layout.fourier, unit=2 - centered
    )
    mapper = layout.map_weights(tensors)
    state = mapper.finish()
    for head in layout.output_layers():
        for name in (f"{head}.weight", f"{head}.bias"):
            state[name] = conventions.factor * state[name]
    net = layout.spec()
    own = not centered and not ve
    if own:
        net, state = (
            ObjectSpec(CenteredInput, net=net),
            {f"net.{name}": value for name, value in state.items()},
        )
    return ConvertedModel(
        config={
            "model": net.config(),
            "sde": conventions.sde.config(),
            "parametrization": conventions.parametrization.config(),
            "codec": ObjectSpec(UniformCodec, levels=256, low=0.0 if own else -1.0, high=1.0).config(),
            "conditioning": ObjectSpec(Unconditional).config(),
        },
        shape=tuple(layout.shape),
        levels=256,
        classes=0,
        state=state,
        unused=mapper.unused,
    )


class _Conventions(NamedTuple):
    """Return process, parametrization, and the factor by which the last convolutions are multiplied."""

    sde: ObjectSpec
    parametrization: ObjectSpec
    factor: float


def _exploding(
    model: Mapping[str, Any], training: Mapping[str, Any], *, fourier: bool, unit: int
) -> _Conventions:
    """Return VE on data scaled by ``unit``."""
    levels, divided = whole(model, "num_scales", maximum=MOST_STEPS) - 1, flag(model, "scale_by_sigma")
    if not flag({"continuous": True, **training}, "continuous"):
        label = ObjectSpec(NearestTime, scale=-float(levels), offset=float(levels))
    elif fourier:
        label = ObjectSpec(LogRatio, unit=float(unit))
    elif divided:
        raise ValueError(
            "scale_by_sigma=True with embedding_type=positional and continuous=True: their code looks the noise level "
            "up in a table at the place that is the noise level"
        )
    else:
        label = ObjectSpec(Ratio, unit=float(unit))
    sde = ObjectSpec(
        VE,
        sigma_min=unit * real(model, "sigma_min"),
        sigma_max=unit * real(model, "sigma_max"),
        t_min=1e-5,
    )
    if divided:
        return _Conventions(sde, ObjectSpec(Eps, label=label), -1.0)
    return _Conventions(sde, ObjectSpec(Score, label=label), 1 / unit)


def _preserving(
    model: Mapping[str, Any], training: Mapping[str, Any], *, fourier: bool, unit: int
) -> _Conventions:
    """Return VP, sub-VP, or the discrete chain of VP."""
    del unit
    if flag(model, "scale_by_sigma"):
        raise ValueError(
            f"scale_by_sigma=True with sde={training['sde']}: expected False; only VE divides by the noise level"
        )
    steps, low, high = (
        whole(model, "num_scales", maximum=MOST_STEPS),
        real(model, "beta_min"),
        real(model, "beta_max"),
    )
    sub = choice(training, "sde", "vpsde", "subvpsde") == "subvpsde"
    if not flag({"continuous": True, **training}, "continuous"):
        if sub:
            raise ValueError("continuous=False with sde=subvpsde: there is no such chain")
        betas = ObjectSpec(linear_betas, steps=steps, beta_min=low / steps, beta_max=high / steps)
        label = ObjectSpec(Time, scale=float(steps), offset=-1.0)
        return _Conventions(ObjectSpec(DDPM, betas=betas), ObjectSpec(Eps, label=label), 1.0)
    label = ObjectSpec(LogTime if fourier else Time, scale=999.0)
    sde = ObjectSpec(SubVP if sub else VP, beta_min=low, beta_max=high, t_min=1e-5)
    return _Conventions(sde, ObjectSpec(Eps, label=label), 1.0)


def averaged(tensors: Mapping[str, Tensor], shadow: list[Tensor]) -> dict[str, Tensor]:
    """Assign names to the EMA weights of a checkpoint, a list in the order of the parameters.

    Arguments:
        tensors: state dictionary of the checkpoint; its buffers and fixed frequencies have no average.
        shadow: ``shadow_params`` of the EMA.

    Raises:
        ValueError: length of the list or shapes differ from the parameters.
    """
    learned = [name for name in tensors if (name != "sigmas" and not name.endswith(".W")) or "NIN" in name]
    if len(learned) != len(shadow):
        raise ValueError(f"the averages are {len(shadow)} tensors for {len(learned)} parameters")
    for name, value in zip(learned, shadow, strict=True):
        if value.shape != tensors[name].shape:
            raise ValueError(
                f"the average of {name} has shape {tuple(value.shape)}, not {tuple(tensors[name].shape)}"
            )
    return {**tensors, **dict(zip(learned, shadow, strict=True))}
