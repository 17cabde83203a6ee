"""Training with augmentation labels, and sampling without."""

import pytest
import torch
from torch import nn

import sde_gen as sg
from sde_gen.checkpoint import store as checkpoint
from sde_gen.data import Dataset, EDMAugmentation
from sde_gen.data.codec import UniformCodec
from sde_gen.data.conditioning import Unconditional
from sde_gen.utils.timing import Stopwatch
from tests.helpers.commands import TINY, enter, mistake
from tests.helpers.tiny_run import trainer


class Net(nn.Module):
    """A convolution shifted by the labels, which records the labels of every call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.embedding = nn.Linear(9, 1, bias=False)
        self.calls: list[torch.Tensor | None] = []

    def forward(self, x, c_noise, *, augment=None):
        self.calls.append(augment)
        return self.conv(x) if augment is None else self.conv(x) + self.embedding(augment)[:, :, None, None]


def images(count: int, seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 17, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return Dataset(values=values, labels=None, levels=17, classes=0)


def training(folder, accumulation: int):
    torch.manual_seed(0)
    return trainer(
        folder,
        net=Net(),
        train=images(24, 0),
        held_out=images(8, 1),
        codec=UniformCodec(levels=17),
        augmentation=EDMAugmentation(probability=0.5),
        conditioning=Unconditional(),
        settings={"accumulation": accumulation},
    )


def test_samples_and_labels_of_a_step_do_not_depend_on_accumulation(tmp_path):
    found = []
    for accumulation in (1, 4):
        one = training(tmp_path / str(accumulation), accumulation)
        parts = one.train_step.compute_gradients(one.denoiser, 3, Stopwatch(torch.device("cpu")))
        found.append((torch.cat([x0 for x0, _ in parts]), torch.cat(one.denoiser.net.calls)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert found[0][1].any()


def test_validation_uses_unaugmented_images(tmp_path):
    one = training(tmp_path, 1)
    one.ema_model.net.calls.clear()
    one.validation_loss()
    assert one.ema_model.net.calls == [None] * len(one.ema_model.net.calls) != []


@pytest.mark.long
def test_a_network_with_labels_is_trained_opened_and_sampled(tmp_path, capfd):
    words = [*TINY, "augmentation=edm", "engine.images=64", "threads=1"]
    out = tmp_path / "run"
    enter("train", *words, "model=song_unet", f"run={out}")
    saved = checkpoint.latest(out / "checkpoints")
    assert saved.ema["augmentation.weight"].shape == (8, 9)
    assert sg.load(out).sample(2, sampler=sg.Sampler(steps=2)).shape == (2, 1, 8, 8)
    refused = mistake(capfd, "train", *words, f"run={tmp_path / 'other'}")
    assert "9 labels, which NCSNpp does not take" in refused
    assert "song_unet" in refused
