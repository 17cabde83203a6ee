"""Score-based generative modeling with stochastic and ordinary differential equations.

The public names are loaded at first use: ``import sde_gen as sg; sg.solver.Heun()``.
"""

import sys

__version__ = "0.2.0"

_PACKAGES = (
    "checkpoint data denoiser distributed evaluation grid guidance interop inverse likelihood model noise "
    "objective ode report sde solver training"
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


def __getattr__(name: str) -> object:
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


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if sys.argv[:1] == ["-m"] and any(word.startswith("sde_gen.") for word in sys.orig_argv):
    import signal  # only here: it would triple the time of importing the package

    # A command is being started: until its work begins, Ctrl-C ends it at once, without a traceback of its imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
