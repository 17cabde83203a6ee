"""Public names of the package for type checkers; ``__init__.py`` loads them at first use."""

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
from sde_gen import report as report
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

__version__: str
