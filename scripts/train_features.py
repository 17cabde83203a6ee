"""Train the classifiers whose features come with the package.

    python scripts/train_features.py digits --epochs 40
    python scripts/train_features.py fashion_mnist --epochs 5

The file holds the weights in float16 and a card: data, shape, held-out accuracy and this command.
"""

import argparse
import sys
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from sde_gen.data import Dataset, Digits, FashionMNIST
from sde_gen.evaluation.features.classifier import SHIPPED, SmallCNN
from sde_gen.utils import atomic

SOURCES = {"digits": Digits(), "fashion_mnist": FashionMNIST()}


def to_input(data: Dataset, index: Tensor) -> Tensor:
    """Images of a data set as the extractor gives them to the network."""
    assert isinstance(data.values, Tensor)
    assert data.levels is not None
    images = torch.round(data.values[index] * (255 / (data.levels - 1)))
    return images.float() / 127.5 - 1


def shifted(x: Tensor, generator: torch.Generator, most: int = 1) -> Tensor:
    """Shift a batch by up to one pixel."""
    up, left = torch.randint(2 * most + 1, (2,), generator=generator).tolist()
    height, width = x.shape[2:]
    return F.pad(x, (most,) * 4, value=-1.0)[:, :, up : up + height, left : left + width]


def train(
    train: Dataset, test: Dataset, *, epochs: int, batch_size: int = 64, lr: float = 3e-3
) -> tuple[SmallCNN, float]:
    """Train by AdamW with one cycle of the learning rate; return the network in float16 precision and its accuracy."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    net = SmallCNN(channels=train.shape[0], classes=train.classes)
    steps = epochs * (len(train) // batch_size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    assert train.labels is not None
    assert test.labels is not None
    for epoch in range(epochs):
        net.train()
        order = torch.randperm(len(train), generator=generator)
        for index in order[: len(train) // batch_size * batch_size].split(batch_size):
            logits = net(shifted(to_input(train, index), generator))[1]
            loss = F.cross_entropy(logits, train.labels[index], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss:.4f}, held-out accuracy {accuracy(net, test):.4f}", flush=True)
    net.half().float()
    return net, accuracy(net, test)


@torch.no_grad()
def accuracy(net: SmallCNN, data: Dataset) -> float:
    """Return the fraction of images that are classified correctly."""
    net.eval()
    assert data.labels is not None
    right = 0
    for index in torch.arange(len(data)).split(500):
        right += int((net(to_input(data, index))[1].argmax(1) == data.labels[index]).sum())
    return right / len(data)


def main() -> None:
    """Train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=sorted(SOURCES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    splits = SOURCES[given.data].load()
    net, right = train(splits.train, splits.test, epochs=given.epochs)
    card = {
        "data": given.data,
        "shape": "x".join(map(str, splits.train.shape)),
        "classes": str(splits.train.classes),
        "accuracy": f"{right:.4f}",
        "command": f"python scripts/train_features.py {given.data} --epochs {given.epochs}",
    }
    tensors = {
        name: value.half().contiguous()
        for name, value in net.state_dict().items()
        if value.is_floating_point()
    }
    path = given.out or SHIPPED / f"{given.data}.safetensors"
    atomic.write(path, safetensors.torch.save(tensors, metadata=card))
    print(f"{path}: {path.stat().st_size:,} bytes, {card}", file=sys.stderr)


if __name__ == "__main__":
    main()
