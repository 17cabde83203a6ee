"""Names of version 0.1, for configurations stored in run folders and for words on the command line."""

from collections.abc import Mapping
from typing import Any

_MOVED = (
    (
        "sde_gen.data.codec",
        "sde_gen.codec",
        "Affine Scaled Uniform=UniformCodec affine.Affine scaled.Scaled uniform.Uniform=UniformCodec",
    ),
    (
        "sde_gen.data.conditioning",
        "sde_gen.conditioning",
        "Label Unconditional label.Label none.Unconditional",
    ),
    (
        "sde_gen.data",
        "sde_gen.data",
        "augment.HorizontalFlip augment.NoAugmentation digits.Digits emoji.Emoji fashion_mnist.FashionMNIST "
        "hugging_face.HuggingFace image_folder.ImageFolder shards.Shards toys.Checkerboard toys.Moons "
        "toys.Ring toys.SwissRoll",
    ),
    (
        "sde_gen.training",
        "sde_gen.engine",
        "Settings=TrainingConfig compiler.Blocks compiler.Eager compiler.Graphs ema.HalfLife=HalfLifeEMA "
        "ema.Ramp=WarmupEMA lr_schedule.Constant=ConstantLR lr_schedule.Cosine=CosineLR "
        "lr_schedule.Linear=LinearLR optimizer.Adam optimizer.AdamW precision.Auto precision.BFloat16 "
        "precision.Float32 settings.Settings=TrainingConfig",
    ),
    (
        "sde_gen.distributed",
        "sde_gen.engine",
        "sharded.Sharded=FSDP team.Alone=SingleProcess team.Replicated=DDP",
    ),
    (
        "sde_gen.grid",
        "sde_gen.grid",
        "angle.Angle cosine.Cosine=CosineGrid ddpm.DDPMLeading ddpm.DDPMLinspace ddpm.DDPMTrailing "
        "exponential.Exponential iddpm.IDDPM karras.Karras listed.Listed listed.ListedLogSNRs "
        "listed.ListedRatios log_snr.LogSNR quadratic.Quadratic TimeOf=ProcessTime time_of.TimeOf=ProcessTime "
        "uniform.Uniform",
    ),
    ("sde_gen.model.activation", "sde_gen.model", "activation.Exponential=ELU activation.Leaky=LeakyReLU"),
    (
        "sde_gen.model",
        "sde_gen.model",
        "adm.ADM adm_encoder.ADMEncoder change.BlockChange=ResBlockResample "
        "change.ConvolutionChange=ConvResample change.PlainChange=PlainResample ddpmpp.DDPMpp encoder.Encoder "
        "hdit.HDiT hdit.Level ho.HoUNet=DDPMUNet kunet.KUNet=KDiffusionUNet mlp.MLP ncsnpp.NCSNpp "
        "norms.Common=GCDGroups norms.Fixed=FixedGroups norms.FixedBesideMiddle=FixedGroupsExceptMiddle "
        "norms.JoinedQuarters=QuarterGroupsConcatenated norms.Quarters=QuarterGroups "
        "pool.AttentionPool=AttentionPooling pool.AveragePool=AveragePooling "
        "pool.LevelsPool=MultiScalePooling pool.NormalisedLevelsPool=NormalizedMultiScalePooling "
        "pyramid.JoinedInput pyramid.NoInput pyramid.NoOutput pyramid.ResidualInput pyramid.ResidualOutput "
        "pyramid.SkipInput pyramid.SkipOutput reach.Everywhere=GlobalAttention "
        "reach.Neighbourhood=NeighborhoodAttention reach.ShiftedWindow=ShiftedWindowAttention "
        "rotary.LearnedRotation rotary.SpreadRotation unet.UNet",
    ),
    ("sde_gen.model.unet.centered", "sde_gen.model", "centred.Centred=CenteredInput"),
    ("sde_gen.model.embedding", "sde_gen.model", "embedding.Learned=LearnedEmbedding"),
    (
        "sde_gen.model.unet.resample",
        "sde_gen.model",
        "resample.Box resample.CentredBox=CenteredBox resample.FIR resample.MirroredFIR",
    ),
    ("sde_gen.model.unet.song_unet", "sde_gen.model", "song.SongUNet"),
    ("sde_gen.objective", "sde_gen.objective", "cross_entropy.CrossEntropy dsm.DSM"),
    (
        "sde_gen.denoiser.parametrization",
        "sde_gen.parametrization",
        "EDM Eps LearnedRange=LearnedVariance LogRatio LogSigma LogTime NearestStep NearestTime Ratio Score "
        "Time V Velocity X0 edm.EDM eps.Eps label.LogRatio label.LogSigma label.LogTime label.NearestStep "
        "label.NearestTime label.Ratio label.Time learned_range.LearnedRange=LearnedVariance score.Score v.V "
        "velocity.Velocity x0.X0",
    ),
    (
        "sde_gen.sde",
        "sde_gen.sde",
        "cosine.Cosine ddpm.DDPM ddpm.cosine_betas ddpm.linear_betas ddpm.scaled_linear_betas "
        "ddpm.sigmoid_betas ddpm.zero_snr_betas edm.EDM=EDMProcess linear.Linear linear.Table "
        "rectified.Rectified sub_vp.SubVP ve.VE vp.VP",
    ),
    ("sde_gen.ode", "sde_gen.solver", "adaptive_runge_kutta.AdaptiveRungeKutta"),
    (
        "sde_gen.solver.ode_solver",
        "sde_gen.solver",
        "adaptive_runge_kutta.BogackiShampine=bogacki_shampine "
        "adaptive_runge_kutta.DormandPrince=dormand_prince scipy_ode.ScipyODE=scipy_ode "
        "torch_diffeq.TorchDiffEq=torch_diffeq",
    ),
    (
        "sde_gen.solver",
        "sde_gen.solver",
        "adaptive_sde.AdaptiveSDE ancestral.Ancestral annealed_langevin.AnnealedLangevin ddim.DDIM "
        "deis_rhoab.DEISRhoAB deis_tab.DEISTAB dpm_adaptive.DPMAdaptive dpm_solver_1.DPMSolver1 "
        "dpm_solver_2.DPMSolver2 dpm_solver_2_ancestral.DPMSolver2Ancestral dpm_solver_2m.DPMSolver2M "
        "dpm_solver_3.DPMSolver3 dpm_solver_3m.DPMSolver3M dpm_solver_pp.DPMSolverPP "
        "dpm_solver_pp_2s.DPMSolverPP2S dpm_solver_pp_2s_ancestral.DPMSolverPP2SAncestral "
        "dpm_solver_pp_3m.DPMSolverPP3M dpm_solver_pp_3s.DPMSolverPP3S dpm_solver_pp_sde.DPMSolverPPSDE "
        "dpm_solver_pp_sde_2m.DPMSolverPPSDE2M dpm_solver_pp_sde_3m.DPMSolverPPSDE3M "
        "dpm_solver_sde.DPMSolverSDE edm_churn.EDMChurn euler.Euler euler_maruyama.EulerMaruyama heun.Heun "
        "ipndm.IPNDM langevin.AffineLangevin langevin.BatchLangevin langevin.Langevin lms.LMS "
        "midpoint.Midpoint multistep_weights.PlainWeights multistep_weights.TaylorWeights pndm.PNDM "
        "predictor_corrector.PredictorCorrector restart.Restart reverse_diffusion.ReverseDiffusion "
        "runge_kutta_4.RungeKutta4 straight_adams.StraightAdams torch_sde.TorchSDE unipc.UniPC unipc.UniPCBH1 "
        "unipc.UniPCBH2",
    ),
    ("sde_gen.inverse", "sde_gen.solver", "projection.Projection repaint.RePaint twisted_smc.TwistedSMC"),
    (
        "sde_gen.objective.time_sampler",
        "sde_gen.time_sampler",
        "Importance Information=Log1pSNR LogNormal Mixture Stratified Uniform=UniformTime "
        "importance.Importance information.Information=Log1pSNR log_normal.LogNormal mixture.Mixture "
        "stratified.Stratified uniform.Uniform=UniformTime",
    ),
    (
        "sde_gen.objective.weighting",
        "sde_gen.weighting",
        "EDM=EDMWeighting Law=TimeDensity Likelihood MinSNR Simple TruncatedSNR edm.EDM=EDMWeighting "
        "law.Law=TimeDensity likelihood.Likelihood min_snr.MinSNR simple.Simple truncated_snr.TruncatedSNR",
    ),
)
"""Public package, package of version 0.1, and the classes that moved from its modules, as ``module.Old=New``."""

TARGETS = {
    f"{old}.{path}": f"{new}.{name or path.rpartition('.')[2]}"
    for new, old, words in _MOVED
    for path, _, name in (word.partition("=") for word in words.split())
}
"""Public paths of classes that configurations store, by their paths in version 0.1."""

KEYS = {
    "team": "distributed",
    "compiler": "compile",
    "dequantisation": "dequantization",
    "encoder": "model",
}
"""Groups, which are top-level keys of a configuration, by their names in version 0.1."""

OPTIONS = {
    "sample": {"film": "gif", "strip": "trajectory_frames", "guidance.told": "guidance.pass_label"},
    "evaluate": {
        "metric.bpd.closer": "metric.bpd.diagnose_every",
        "guidance.told": "guidance.pass_label",
        **{
            f"metric.{name}.ending": f"metric.{name}.data_term"
            for name in ("elbo", "elbo_levels", "vlb", "vlb_density", "vlb_last_step")
        },
    },
}
"""By command, settings by their former names."""

CHOICES = {
    "distributed": {"replicated": "ddp", "sharded": "fsdp"},
    "encoder": {"residual": "encoder", "adm": "adm_encoder"},
    "time_sampler": {"information": "log1p_snr"},
    "weighting": {"law": "time_density"},
}
"""By group, files by their names in version 0.1."""

ARGUMENTS = {
    "sde_gen.evaluation.metric.BitsPerDim": {"closer": "diagnose_every"},
    "sde_gen.likelihood.divergence.HutchPlusPlus": {"law": "distribution"},
    "sde_gen.likelihood.divergence.Hutchinson": {"law": "distribution"},
    "sde_gen.objective.time_sampler.Stratified": {"law": "distribution"},
}
"""By class, arguments of the constructor by their former names."""

COMMANDS = {"train_classifier": "python -m sde_gen.train objective=cross_entropy"}
"""Commands of version 0.1, and what to write for them."""


def upgrade(config: Any) -> Any:
    """Rename keys, classes and arguments of a stored configuration, nested ones in place.

    Arguments:
        config: the configuration, plain data of any kind.

    Returns:
        The configuration; anything other than a mapping is returned unchanged.
    """
    if not isinstance(config, dict):
        return config
    if "encoder" in config:  # a classifier's: the command was named after the objective
        config = {"objective": {"_target_": "sde_gen.objective.CrossEntropy"}, **config}
    config = {KEYS.get(key, key) if isinstance(key, str) else key: value for key, value in config.items()}
    nodes: list[Any] = [config]
    while nodes:  # without recursion: stored configurations may be nested to any depth
        node = nodes.pop()
        if isinstance(node, dict):
            target = node.get("_target_")
            if isinstance(target, str):
                target = node["_target_"] = TARGETS.get(target, target)
                for old in ARGUMENTS.get(target, {}).keys() & node.keys():
                    node[ARGUMENTS[target][old]] = node.pop(old)
            nodes.extend(node.values())
        elif isinstance(node, list):
            nodes.extend(node)
    return config


ADDED: dict[str, Any] = {
    "adapter": {"_target_": "sde_gen.model.NoAdapter"},
    "freeze": [],
    "step_sampler": {"_target_": "sde_gen.objective.step_sampler.UniformSteps"},
    "pointwise_loss": {"_target_": "sde_gen.objective.pointwise_loss.SquaredError"},
    "training_noise": {"_target_": "sde_gen.objective.training_noise.IndependentNoise"},
}
"""Settings of a training that earlier versions did not have, with the values that they amounted to."""

INPUTS = {
    "_target_": "sde_gen.model.Conditions",
    "vector": 0,
    "image": 0,
    "vocabulary": 0,
    "length": 0,
    "encoder": {"_target_": "sde_gen.model.TextTransformer", "_partial_": True, "depth": 2, "heads": 4},
}
"""The argument ``inputs`` of networks, which had none in version 0.2: no conditions besides the class."""


RECORDED = ("quality",)
"""Settings that earlier versions did not have and that do not change a training, only what it reports."""


def upgrade_about(about: dict[str, Any], current: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Rename the configuration in the metadata of a checkpoint, and add settings that its version did not have.

    Arguments:
        about: metadata of a checkpoint.
        current: the configuration to compare with; its settings of what a training reports count as unchanged.
    """
    if "config" not in about:
        return about
    config: Any = upgrade(about["config"])
    if not (isinstance(config, dict) and "engine" in config and "model" in config):
        return {**about, "config": config}
    reports = {key: current[key] for key in RECORDED if current is not None and key in current}
    config = {**ADDED, **reports, **config, "model": with_inputs(config["model"])}
    objective = config.get("objective")
    if isinstance(objective, dict) and str(objective.get("_target_")).endswith(".DSM"):
        config["objective"] = {
            **{key: ADDED[key] for key in ("pointwise_loss", "training_noise")},
            **objective,
        }
    return {**about, "config": config}


def with_inputs(model: Any) -> Any:
    """Add the argument ``inputs`` to the configuration of a network of version 0.2; a classifier takes none.

    The MLP of version 0.2 had no argument ``outputs``, either.
    """
    package, _, name = str(model.get("_target_") if isinstance(model, dict) else "").rpartition(".")
    takes = package.startswith("sde_gen.model") and not name.endswith("Encoder")
    outputs = {"outputs": 1} if name == "MLP" else {}
    return {**outputs, **model, "inputs": model.get("inputs", INPUTS)} if takes else model
