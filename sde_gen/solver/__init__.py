"""Solvers: what moves samples from noise to data, or back."""

from sde_gen.solver.adaptive_runge_kutta import AdaptiveRungeKutta, BogackiShampine, DormandPrince
from sde_gen.solver.adaptive_sde import AdaptiveSDE
from sde_gen.solver.ancestral import Ancestral
from sde_gen.solver.annealed_langevin import AnnealedLangevin
from sde_gen.solver.base import Solver, StepSolver
from sde_gen.solver.ddim import DDIM
from sde_gen.solver.deis_rhoab import DEISRhoAB
from sde_gen.solver.deis_tab import DEISTAB
from sde_gen.solver.dpm_adaptive import DPMAdaptive
from sde_gen.solver.dpm_solver_1 import DPMSolver1
from sde_gen.solver.dpm_solver_2 import DPMSolver2
from sde_gen.solver.dpm_solver_2_ancestral import DPMSolver2Ancestral
from sde_gen.solver.dpm_solver_2m import DPMSolver2M
from sde_gen.solver.dpm_solver_3 import DPMSolver3
from sde_gen.solver.dpm_solver_3m import DPMSolver3M
from sde_gen.solver.dpm_solver_pp import DPMSolverPP
from sde_gen.solver.dpm_solver_pp_2s import DPMSolverPP2S
from sde_gen.solver.dpm_solver_pp_2s_ancestral import DPMSolverPP2SAncestral
from sde_gen.solver.dpm_solver_pp_3m import DPMSolverPP3M
from sde_gen.solver.dpm_solver_pp_3s import DPMSolverPP3S
from sde_gen.solver.dpm_solver_pp_sde import DPMSolverPPSDE
from sde_gen.solver.dpm_solver_pp_sde_2m import DPMSolverPPSDE2M
from sde_gen.solver.dpm_solver_pp_sde_3m import DPMSolverPPSDE3M
from sde_gen.solver.dpm_solver_sde import DPMSolverSDE
from sde_gen.solver.edm_churn import EDMChurn
from sde_gen.solver.euler import Euler
from sde_gen.solver.euler_maruyama import EulerMaruyama
from sde_gen.solver.heun import Heun
from sde_gen.solver.ipndm import IPNDM
from sde_gen.solver.langevin import AffineLangevin, BatchLangevin, Corrector, Langevin
from sde_gen.solver.lms import LMS
from sde_gen.solver.midpoint import Midpoint
from sde_gen.solver.multistep_weights import MultistepWeights, PlainWeights, TaylorWeights
from sde_gen.solver.pndm import PNDM
from sde_gen.solver.predictor_corrector import PredictorCorrector
from sde_gen.solver.restart import Restart
from sde_gen.solver.reverse_diffusion import ReverseDiffusion
from sde_gen.solver.runge_kutta_4 import RungeKutta4
from sde_gen.solver.scipy_ode import ScipyODE
from sde_gen.solver.straight_adams import StraightAdams
from sde_gen.solver.torch_diffeq import TorchDiffEq
from sde_gen.solver.torch_sde import TorchSDE
from sde_gen.solver.unipc import UniPC, UniPCBH1, UniPCBH2

__all__ = [
    "DDIM",
    "DEISTAB",
    "IPNDM",
    "LMS",
    "PNDM",
    "AdaptiveRungeKutta",
    "AdaptiveSDE",
    "AffineLangevin",
    "Ancestral",
    "AnnealedLangevin",
    "BatchLangevin",
    "BogackiShampine",
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
    "DormandPrince",
    "EDMChurn",
    "Euler",
    "EulerMaruyama",
    "Heun",
    "Langevin",
    "Midpoint",
    "MultistepWeights",
    "PlainWeights",
    "PredictorCorrector",
    "Restart",
    "ReverseDiffusion",
    "RungeKutta4",
    "ScipyODE",
    "Solver",
    "StepSolver",
    "StraightAdams",
    "TaylorWeights",
    "TorchDiffEq",
    "TorchSDE",
    "UniPC",
    "UniPCBH1",
    "UniPCBH2",
]
