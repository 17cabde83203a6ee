"""Strength of hints: scales between two times, a ramp, and the network without hints elsewhere."""

import pytest
import torch
from torch import Tensor

from sde_gen.denoiser import Denoiser
from sde_gen.denoiser.prediction import Prediction
from sde_gen.guidance import ControlStrength
from sde_gen.sde import VP


class Recorder(Denoiser):
    """A denoiser that keeps the conditions that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sde, self.given = VP(), {}

    def forward(self, x_t: Tensor, t: Tensor, **cond: Tensor) -> Prediction:
        self.given = cond
        alpha, sigma = self.sde.marginal(t)
        return Prediction(x_t, x_t, x_t, alpha, sigma)


X = torch.zeros(2, 1, 4, 4)
HINTS = torch.cat([torch.rand(2, 3, 4, 4), torch.ones(2, 2, 4, 4)], 1)


def given(t: float, **settings: object) -> dict[str, Tensor]:
    recorder = Recorder()
    model = ControlStrength(denoiser=recorder, **settings)  # type: ignore[arg-type]
    model(X, torch.tensor(t, dtype=torch.float64), control=HINTS, label=torch.zeros(2))
    found: dict[str, Tensor] = recorder.given
    return found


def test_every_hint_has_its_scale_and_its_times() -> None:
    settings = {"scale": [0.5, 2.0], "t_min": [0.0, 0.4], "t_max": [0.6, 1.0]}
    for t, scales in ((0.2, [0.5, 0.0]), (0.5, [0.5, 2.0]), (0.9, [0.0, 2.0])):
        control = given(t, **settings)["control"]
        assert torch.equal(control[:, :3], HINTS[:, :3])
        assert control[:, 3:].amax((0, 2, 3)).tolist() == scales == control[:, 3:].amin((0, 2, 3)).tolist()


def test_where_all_scales_are_zero_the_network_has_no_hints() -> None:
    assert set(given(0.9, scale=[1.0], t_max=[0.5, 0.6])) == {"label"}
    assert set(given(0.3, scale=[0.0, 0.0])) == {"label"}


def test_a_ramp_is_passed_on() -> None:
    assert "control_ramp" not in given(0.5, scale=[1.0, 1.0])
    assert given(0.5, scale=[1.0, 1.0], ramp=0.25)["control_ramp"].tolist() == [0.25, 0.25]


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"scale": [1.0, 2.0], "t_min": [0.1, 0.2, 0.3]}, "expected a number for every hint, or one"),
        ({"scale": [float("nan")]}, "must be a list of finite numbers"),
        ({"t_min": [0.7], "t_max": [0.5]}, "expected 0 <= t_min <= t_max <= 1"),
        ({"ramp": 0.0}, r"ramp=0\.0 must lie in"),
        ({"scale": 5 * [1.0]}, "there are 5 scales for hints with 5 channels"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, object], answer: str) -> None:
    with pytest.raises(ValueError, match=answer):
        given(0.5, **settings)
