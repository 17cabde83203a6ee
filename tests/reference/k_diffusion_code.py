"""k-diffusion's own code, where its sources are installed: models alone, without what the package imports."""

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def available() -> bool:
    """Return whether the sources and the dependencies of the models are installed."""
    return all(importlib.util.find_spec(name) for name in ("k_diffusion", "einops", "dctorch"))


def module(name: str) -> Any:
    """One of k_diffusion.models, in a package without the parts that no model uses."""
    os.environ["K_DIFFUSION_USE_COMPILE"] = os.environ["K_DIFFUSION_USE_FLASH_2"] = "0"
    if "k_diffusion.utils" not in sys.modules:
        spec = importlib.util.find_spec("k_diffusion")
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for package, place in (("k_diffusion", folder), ("k_diffusion.models", folder / "models")):
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__ = [str(place)]  # type: ignore[attr-defined]
        for part in ("sampling", "utils"):
            sys.modules[f"k_diffusion.{part}"] = types.ModuleType(f"k_diffusion.{part}")
            setattr(sys.modules["k_diffusion"], part, sys.modules[f"k_diffusion.{part}"])
        sys.modules["k_diffusion.utils"].append_dims = append_dims  # type: ignore[attr-defined]
    return importlib.import_module(f"k_diffusion.models.{name}")


def append_dims(x: Tensor, count: int) -> Tensor:
    """Axes of length one at the end, up to the given number."""
    return x.reshape(*x.shape, *[1] * (count - x.ndim))


class Augmented(nn.Module):
    """As their wrapper for augmentations, whose module needs more packages: nine zeros before the other numbers."""

    def __init__(self, inner_model: nn.Module) -> None:
        super().__init__()
        self.inner_model = inner_model

    def forward(self, x: Tensor, sigma: Tensor, mapping_cond: Tensor | None = None) -> Tensor:
        """Call the network."""
        nothing = x.new_zeros(len(x), 9)
        cond = nothing if mapping_cond is None else mapping_cond
        out: Tensor = self.inner_model(x, sigma, mapping_cond=cond)
        return out


def image_v1(model: dict[str, Any]) -> nn.Module:
    """Call make_model of k-diffusion with a section ``model`` without the settings that have a default there."""
    wrapped = model.get("augment_wrapper", True)
    net: nn.Module = module("image_v1").ImageDenoiserModelV1(
        model["input_channels"],
        model["mapping_out"],
        model["depths"],
        model["channels"],
        model["self_attn_depths"],
        patch_size=model.get("patch_size", 1),
        mapping_cond_dim=model.get("mapping_cond_dim", 0) + 9 * wrapped,
        skip_stages=model.get("skip_stages", 0),
        has_variance=model.get("has_variance", False),
    )
    return Augmented(net) if wrapped else net


def image_transformer_v1(model: dict[str, Any], classes: int) -> nn.Module:
    """Call make_model of k-diffusion with a section ``model`` and a number of classes."""
    net: nn.Module = module("image_transformer_v1").ImageTransformerDenoiserModelV1(
        n_layers=model["depth"],
        d_model=model["width"],
        d_ff=model["d_ff"],
        in_features=model["input_channels"],
        out_features=model["input_channels"],
        patch_size=model["patch_size"],
        num_classes=classes + 1 if classes else 0,
    )
    return net


def randomize(net: nn.Module) -> nn.Module:
    """Random numbers in place of all learned ones, the zeros of the start too, in float64."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        size = 1.0 if parameter.ndim < 2 else 1.5 / parameter[0].numel() ** 0.5
        parameter.data = size * torch.randn(parameter.shape, generator=generator)
    return net.double().eval()


def denoiser(net: nn.Module, sigma_data: float) -> Any:
    """Return the preconditioned denoiser of k-diffusion around a network."""
    return importlib.import_module("k_diffusion.layers").Denoiser(net, sigma_data=sigma_data)
