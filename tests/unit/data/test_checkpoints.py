"""Weights of networks as data: vectors and their layout, principal components, networks that load, and mistakes."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sde_gen.data import Checkpoints, Column, Dataset
from sde_gen.data.codec import Columns, Principal


def network(hidden=4):
    return nn.Sequential(nn.Linear(3, hidden), nn.ReLU(), nn.Linear(hidden, 2))


@pytest.fixture
def folder(tmp_path):
    for seed in range(20):
        torch.manual_seed(seed)
        save_file(network().state_dict(), tmp_path / f"{seed:02d}.safetensors")
    return tmp_path


def test_a_vector_joins_the_tensors_by_name(folder):
    splits = Checkpoints(root=str(folder)).load()
    assert (len(splits.train), len(splits.test), splits.train.shape) == (18, 2, (26,))
    assert splits.train.columns == (
        Column(name="0.bias", shape=(4,)),
        Column(name="0.weight", shape=(4, 3)),
        Column(name="2.bias", shape=(2,)),
        Column(name="2.weight", shape=(2, 4)),
    )
    torch.manual_seed(7)
    parameters = dict(network().named_parameters())
    expected = torch.cat([parameters[column.name].flatten() for column in splits.train.columns])
    rows = torch.cat([splits.train.values, splits.test.values])
    assert int((rows == expected).all(1).sum()) == 1


def test_all_components_return_the_networks(folder):
    """17 components hold 18 networks without loss, and what comes back loads into the architecture."""
    train = Checkpoints(root=str(folder)).load().train
    codec = Principal(components=17).fit(train)
    x = codec.encode(train.values)
    torch.testing.assert_close(codec.decode(x), train.values, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cov(x.T), torch.eye(17), rtol=0, atol=1e-4)
    net = network()
    tensors = codec.networks(x)[3]
    net.load_state_dict(tensors)
    torch.testing.assert_close(
        torch.cat([dict(net.named_parameters())[column.name].flatten() for column in train.columns]),
        train.values[3],
        rtol=0,
        atol=1e-5,
    )
    again = Principal(components=17).restore(codec.stored())
    assert torch.equal(again.encode(train.values), x)


def test_components_are_those_of_numpy_after_every_tensor_has_unit_deviation(folder):
    train = Checkpoints(root=str(folder)).load().train
    w = train.values.double().numpy()
    w = w - w.mean(0)
    edges = np.cumsum([column.size for column in train.columns])[:-1]
    scaled = np.concatenate([part / np.sqrt((part**2).mean()) for part in np.split(w, edges, axis=1)], axis=1)
    variances = np.linalg.eigvalsh(np.cov(scaled.T))[::-1]
    codec = Principal(components=3).fit(train)
    np.testing.assert_allclose(np.square(codec.spread), variances[:3], rtol=1e-9)
    assert codec.event((26,)) == (3,)
    rest = scaled - np.concatenate(
        [
            part / s
            for part, s in zip(
                np.split(
                    codec.decode(codec.encode(train.values)).double().numpy()
                    - train.values.double().numpy().mean(0),
                    edges,
                    axis=1,
                ),
                codec.std,
                strict=True,
            )
        ],
        axis=1,
    )
    np.testing.assert_allclose((rest**2).sum() / 17, variances[3:].sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (network(5).state_dict(), r"0.bias is \(5,\) in .*zz.safetensors and \(4,\) in .*00.safetensors"),
        ({**network().state_dict(), "extra": torch.ones(1)}, r"extra is \(1,\) in .* and missing in"),
        ({k: v for k, v in network().state_dict().items() if k != "2.bias"}, "2.bias is missing in .*zz"),
        ({**network().state_dict(), "steps": torch.tensor(3)}, "steps is torch.int64; expected weights"),
        (
            {**network().state_dict(), "2.bias": torch.full((2,), torch.nan)},
            "2.bias holds numbers that are not",
        ),
        ({}, "zz.safetensors holds no tensors"),
    ],
)
def test_other_networks_are_refused_by_name(folder, tensors, words):
    save_file(tensors, folder / "zz.safetensors")
    with pytest.raises(ValueError, match=words):
        Checkpoints(root=str(folder)).load()


def test_damaged_and_missing_files_are_refused(folder, tmp_path):
    (folder / "zz.safetensors").write_bytes(b"no network")
    with pytest.raises(ValueError, match=r"zz.safetensors is not a complete safetensors file"):
        Checkpoints(root=str(folder)).load()
    with pytest.raises(ValueError, match=r"holds 0 networks \*.pt; both splits need one"):
        Checkpoints(root=str(folder), pattern="*.pt").load()
    with pytest.raises(ValueError, match="test_fraction"):
        Checkpoints(root=str(tmp_path), test_fraction=1.0)


def test_impossible_components_are_refused(folder):
    train = Checkpoints(root=str(folder)).load().train
    twice = Dataset(values=train.values[[0, 0, 1, 1]], levels=None, columns=train.columns)
    for wrong, words in (
        (lambda: Principal(components=0), "components=0: expected at least 1"),
        (lambda: Principal().fit(train), "components=64: 18 networks of 26 numbers have at most 17"),
        (lambda: Principal(components=3).fit(twice), "differ in fewer directions"),
        (
            lambda: Principal(components=1).fit(Dataset(values=torch.ones(3, 2), levels=None)),
            "data=checkpoints",
        ),
        (lambda: Principal().encode(train.values), "not known"),
        (
            lambda: Principal(components=2).fit(train).encode(torch.ones(2, 5)),
            r"\(2, 5\); expected \(B, 26\)",
        ),
        (lambda: Columns().fit(train), "the data are networks; use codec=principal"),
        (lambda: Principal(components=2).fit(train).log_det(torch.ones(2, 2)), "loses information"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()
