"""Score-based generative modeling with stochastic and ordinary differential equations.

The public names are loaded at first use: ``import sde_gen as sg; sg.solver.Heun()``.
"""

import sys

TYPE_CHECKING = False  # a type checker takes it as true; typing itself would double the time of this import
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from sde_gen import checkpoint as checkpoint
    from sde_gen import data as data
    from sde_gen import denoiser as denoiser
    from sde_gen import distributed as distributed
    from sde_gen import evaluation as evaluation
    from sde_gen import grid as grid
    from sde_gen import guidance as guidance
    from sde_gen import interop as interop
    from sde_gen import inverse as inverse
    from sde_gen import likelihood as likelihood
    from sde_gen import model as model
    from sde_gen import noise as noise
    from sde_gen import objective as objective
    from sde_gen import ode as ode
    from sde_gen import sde as sde
    from sde_gen import solver as solver
    from sde_gen import training as training
    from sde_gen.cli.loaded_run import LoadedRun as LoadedRun
    from sde_gen.cli.loaded_run import list_names as list  # noqa: F401
    from sde_gen.cli.loaded_run import load as load
    from sde_gen.denoiser import NetworkDenoiser as NetworkDenoiser
    from sde_gen.likelihood import log_prob as log_prob
    from sde_gen.noise import IID as IID
    from sde_gen.noise import Brownian as Brownian
    from sde_gen.noise import PerSample as PerSample
    from sde_gen.objective import DSM as DSM
    from sde_gen.sampler import Sampler as Sampler

__version__ = "0.2.0"

_PACKAGES = (
    "checkpoint data denoiser distributed evaluation grid guidance interop inverse likelihood model noise "
    "objective ode sde solver training"
).split()

_OBJECTS = {
    "Brownian": "sde_gen.noise.Brownian",
    "DSM": "sde_gen.objective.DSM",
    "IID": "sde_gen.noise.IID",
    "LoadedRun": "sde_gen.cli.loaded_run.LoadedRun",
    "NetworkDenoiser": "sde_gen.denoiser.NetworkDenoiser",
    "PerSample": "sde_gen.noise.PerSample",
    "Sampler": "sde_gen.sampler.Sampler",
    "list": "sde_gen.cli.loaded_run.list_names",
    "load": "sde_gen.cli.loaded_run.load",
    "log_prob": "sde_gen.likelihood.log_prob",
}

__all__ = sorted([*_PACKAGES, *_OBJECTS])


def __getattr__(name: str) -> "Any":
    """Import a public name at its first use (PEP 562)."""
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"sde_gen.{name}")
    if name in _OBJECTS:
        module, _, attribute = _OBJECTS[name].rpartition(".")
        value = getattr(import_module(module), attribute)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'sde_gen' has no attribute {name!r}")


def __dir__() -> "Iterable[str]":
    return [*__all__, "__version__"]


if sys.argv[:1] == ["-m"] and any(word.startswith("sde_gen.") for word in sys.orig_argv):
    import signal  # only here: it would triple the time of importing the package

    # A command is being started: until its work begins, Ctrl-C ends it at once, without a traceback of its imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
