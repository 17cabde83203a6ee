"""Networks of sde_gen equal those of score_sde_pytorch: outputs and input gradients, to rounding."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from sde_gen.interop.score_sde import reader as score_sde
from sde_gen.model import DDPMpp, NCSNpp

DATA = Path(__file__).parents[2] / "data"
SMALL = {"shape": (3, 16, 16), "width": 32, "multipliers": (1, 2), "blocks": 1, "attention_levels": (1,)}


def ncsnpp_ve(net, x, sigma):
    """The original takes data in [0, 1] and log sigma, and returns the score; the import changes the sign."""
    return -net(2 * x - 1, torch.log(sigma)) / sigma.view(-1, 1, 1, 1)


def ddpmpp_vp(net, x, label):
    """The original takes data in [-1, 1] and 999 t."""
    return net(x, label)


@pytest.mark.parametrize(
    ("name", "build", "call"),
    [("ncsnpp_ve", NCSNpp, ncsnpp_ve), ("ddpmpp_vp", DDPMpp, ddpmpp_vp)],
    ids=["ncsnpp", "ddpmpp"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 3e-5)], ids=str)
def test_same_function_as_score_sde(name, build, call, dtype, tolerance):
    net = build(**SMALL)
    with np.load(DATA / f"score_sde_{name}.npz") as file:
        config = json.loads(str(file["config_json"]))
    config["training"]["sde"] = "vesde" if name == "ncsnpp_ve" else "vpsde"
    original = safetensors.torch.load_file(DATA / f"score_sde_{name}.safetensors")
    net.load_state_dict(score_sde.read(original, config).state)
    net = net.to(dtype).eval()
    with np.load(DATA / f"score_sde_{name}.npz") as file:
        given = {
            key: torch.from_numpy(file[key]) for key in file.files if not key.endswith(("json", "names"))
        }
    x = given["in/x"].to(dtype).requires_grad_()
    out = call(net, x, given["in/labels"].to(dtype))
    out.backward(given["cotangent"].to(dtype))
    for found, key in ((out, "out_f64"), (x.grad, "grad_x_f64")):
        exact = given[key]
        assert (found.double() - exact).abs().max() <= tolerance * exact.abs().max()
