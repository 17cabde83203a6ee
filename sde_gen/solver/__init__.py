"""Solvers of the probability flow and of the reverse-time SDE."""

from sde_gen.solver._adaptive import AdaptiveSolver
from sde_gen.solver._brownian_bisection import BrownianBisection
from sde_gen.solver._integrals import FlowIntegral
from sde_gen.solver._multistep import limit_extrapolation
from sde_gen.solver._sde_multistep import SDEIntegral
from sde_gen.solver.adaptive_sde import AdaptiveSDE
from sde_gen.solver.ancestral import Ancestral
from sde_gen.solver.base import Solver, StepSolver
from sde_gen.solver.callbacks import Hook, NFECounter, Progress, StepInfo, StopOnNaN, Trajectory
from sde_gen.solver.ddim import DDIM
from sde_gen.solver.deis import DEISTAB, DEISRhoAB
from sde_gen.solver.dpm_adaptive import DPMAdaptive
from sde_gen.solver.dpm_solver import DPMSolver1, DPMSolver2, DPMSolver2M, DPMSolver3, DPMSolver3M
from sde_gen.solver.dpm_solver_pp import DPMSolverPP, DPMSolverPP2S, DPMSolverPP3M, DPMSolverPP3S
from sde_gen.solver.dpm_solver_pp_sde import (
    DPMSolverPP2SAncestral,
    DPMSolverPPSDE,
    DPMSolverPPSDE2M,
    DPMSolverPPSDE3M,
)
from sde_gen.solver.dpm_solver_sde import DPMSolver2Ancestral, DPMSolverSDE
from sde_gen.solver.edm_churn import EDMChurn
from sde_gen.solver.euler_maruyama import EulerMaruyama
from sde_gen.solver.gan_ancestral import GANAncestral
from sde_gen.solver.jump import Jump
from sde_gen.solver.langevin import AffineLangevin, AnnealedLangevin, BatchLangevin, Corrector, Langevin
from sde_gen.solver.lms import LMS
from sde_gen.solver.multistep_weights import MultistepWeights, PlainWeights, TaylorWeights
from sde_gen.solver.ode_solver import ODESolver
from sde_gen.solver.pndm import IPNDM, PNDM
from sde_gen.solver.predictor_corrector import PredictorCorrector
from sde_gen.solver.restart import Restart
from sde_gen.solver.reverse_diffusion import ReverseDiffusion
from sde_gen.solver.runge_kutta import Euler, Heun, Midpoint, RungeKutta4
from sde_gen.solver.straight_adams import StraightAdams
from sde_gen.solver.torch_sde import TorchSDE
from sde_gen.solver.unipc import UniPC, UniPCBH1, UniPCBH2

__all__ = [
    "DDIM",
    "DEISTAB",
    "IPNDM",
    "LMS",
    "PNDM",
    "AdaptiveSDE",
    "AdaptiveSolver",
    "AffineLangevin",
    "Ancestral",
    "AnnealedLangevin",
    "BatchLangevin",
    "BrownianBisection",
    "Corrector",
    "DEISRhoAB",
    "DPMAdaptive",
    "DPMSolver1",
    "DPMSolver2",
    "DPMSolver2Ancestral",
    "DPMSolver2M",
    "DPMSolver3",
    "DPMSolver3M",
    "DPMSolverPP",
    "DPMSolverPP2S",
    "DPMSolverPP2SAncestral",
    "DPMSolverPP3M",
    "DPMSolverPP3S",
    "DPMSolverPPSDE",
    "DPMSolverPPSDE2M",
    "DPMSolverPPSDE3M",
    "DPMSolverSDE",
    "EDMChurn",
    "Euler",
    "EulerMaruyama",
    "FlowIntegral",
    "GANAncestral",
    "Heun",
    "Hook",
    "Jump",
    "Langevin",
    "Midpoint",
    "MultistepWeights",
    "NFECounter",
    "ODESolver",
    "PlainWeights",
    "PredictorCorrector",
    "Progress",
    "Restart",
    "ReverseDiffusion",
    "RungeKutta4",
    "SDEIntegral",
    "Solver",
    "StepInfo",
    "StepSolver",
    "StopOnNaN",
    "StraightAdams",
    "TaylorWeights",
    "TorchSDE",
    "Trajectory",
    "UniPC",
    "UniPCBH1",
    "UniPCBH2",
    "limit_extrapolation",
]


def __dir__() -> list[str]:
    return sorted(__all__)
