"""Contract of all networks: shapes, a zero start, live parameters, independence within the batch."""

import pytest
import torch

from sde_gen.cli.annotations import Network
from sde_gen.cli.build import networks
from sde_gen.likelihood.divergence import Exact
from sde_gen.model import Conditions
from sde_gen.noise import IID
from tests.helpers.catalogue import make

SHAPES = {"mlp": (3,), "modulated_mlp": (3,)}
MAX_WEIGHT_SUM = "sde_gen.model.transformer.attention"
LEVEL = {"_target_": "sde_gen.model.Level", "width": 16, "hidden": 16}
SMALL = {
    "mlp": {},
    "modulated_mlp": {"width": 16},
    "kunet": {"width": 8, "channels": [8, 16]},
    "unet_cross": {"width": 8, "head_channels": 8},
    "dit": {"width": 16, "depth": 2},
    "mmdit": {"width": 16, "depth": 2},
    "jit": {"width": 16, "depth": 2},
    "hdit": {
        "features": 16,
        "mapping_hidden": 16,
        "levels": [
            {**LEVEL, "reach": {"_target_": f"{MAX_WEIGHT_SUM}.NeighborhoodAttention", "head": 8, "size": 3}},
            {**LEVEL, "reach": {"_target_": f"{MAX_WEIGHT_SUM}.GlobalAttention", "head": 8}},
        ],
    },
}
MODELS = [name for name in networks(Network) if name != "controlled"]
"""Networks that need no run of another network; for that one see tests/unit/model/test_control.py."""
VECTORS = ("mlp", "modulated_mlp")
"""Networks without an image as condition."""


def build(name, **overrides):
    return make(
        "model",
        name,
        shape=SHAPES.get(name, (1, 8, 8)),
        **SMALL.get(name, {"width": 8}),
        **overrides,
    )


def randomize(net, dtype=torch.float64):
    """Give every parameter a value, the zeros of the start too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return net.to(dtype).eval()


def batch(name, count=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    shape = SHAPES.get(name, (1, 8, 8))
    return torch.randn(count, *shape, generator=generator).to(dtype), torch.randn(
        count, generator=generator
    ).to(dtype)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [0, 4])
def test_starts_at_zero_with_live_parameters(name, classes):
    net = build(name, num_classes=classes)
    x, c_noise = batch(name, dtype=torch.float32)
    label = torch.tensor([0, 3, 1]) if classes else None
    out = net(x, c_noise, label=label)
    assert out.shape == x.shape
    assert not out.any()
    net = randomize(net)
    (net(x.double(), c_noise.double(), label=label) ** 2).sum().backward()
    dead = [
        at for at, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert all(
        at.endswith("key.bias") for at in dead
    )  # softmax: the same number added to all keys has no effect


def conditions(name, count=3):
    """All conditions of a network and their sizes; the second sample has none."""
    generator = torch.Generator().manual_seed(2)
    sizes = {"vector": 3, "vocabulary": 7, "length": 4}
    given = {
        "label": torch.tensor([0, 4, 1, 2, 3])[:count],
        "vector": torch.cat([torch.randn(count, 2, generator=generator), torch.ones(count, 1)], 1),
        "tokens": torch.tensor([[2, 3, 5, 0], [0, 0, 0, 0], [4, 6, 0, 0], [3, 2, 5, 0], [1, 2, 3, 4]])[
            :count
        ],
    }
    given["vector"][1] = 0
    if name not in VECTORS:
        sizes["image"] = 2
        given["image"] = torch.randn(count, 2, *SHAPES.get(name, (1, 8, 8))[1:], generator=generator)
        given["image"][1] = 0
    return {"_target_": "sde_gen.model.Conditions", **sizes}, given


def doubled(given):
    return {key: value.double() if value.is_floating_point() else value for key, value in given.items()}


@pytest.mark.parametrize("name", MODELS)
def test_takes_all_conditions_from_a_zero_start_with_live_parameters(name):
    sizes, given = conditions(name)
    net = build(name, num_classes=4, inputs=sizes)
    x, c_noise = batch(name, dtype=torch.float32)
    assert not net(x, c_noise, **given).any()
    net = randomize(net)
    (net(x.double(), c_noise.double(), **doubled(given)) ** 2).sum().backward()
    dead = [at for at, part in net.named_parameters() if part.grad is None or not part.grad.any()]
    assert all(at.endswith("key.bias") for at in dead), dead


@pytest.mark.parametrize("name", MODELS)
def test_every_condition_matters_and_a_dropped_one_is_none_to_the_bit(name):
    sizes, given = conditions(name)
    given = doubled(given)
    net = randomize(build(name, num_classes=4, inputs=sizes))
    x, c_noise = batch(name)
    whole, bare = net(x, c_noise, **given), net(x, c_noise)
    assert torch.equal(
        whole[1], net(x, c_noise, **{key: value[[1, 1, 1]] for key, value in given.items()})[1]
    )
    nulls = {key: torch.zeros_like(value) for key, value in given.items()} | {"label": torch.full((3,), 4)}
    assert torch.equal(net(x, c_noise, **nulls), bare)
    for key in given:
        without = net(x, c_noise, **{other: value for other, value in given.items() if other != key})
        assert torch.equal(without, net(x, c_noise, **{**given, key: nulls[key]})), key
        assert ((whole - without)[[0, 2]].flatten(1).norm(dim=1) > 1e-6).all(), key


@pytest.mark.parametrize("name", MODELS)
def test_a_permuted_batch_gives_permuted_predictions_and_padding_changes_nothing(name):
    sizes, given = conditions(name, 5)
    given = doubled(given)
    net = randomize(build(name, num_classes=4, inputs=sizes))
    x, c_noise = batch(name, 5)
    order = torch.tensor([3, 0, 4, 2, 1])
    whole = net(x, c_noise, **given)
    permuted = net(x[order], c_noise[order], **{key: value[order] for key, value in given.items()})
    torch.testing.assert_close(permuted, whole[order], rtol=1e-12, atol=1e-12)
    short = {**given, "tokens": given["tokens"][:, :3]}
    alike = [0, 1, 2, 3]  # the last text has four tokens
    torch.testing.assert_close(net(x, c_noise, **short)[alike], whole[alike], rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        net.text.table.weight[0] += 100  # of the padding
    torch.testing.assert_close(net(x, c_noise, **given), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_embedded_tokens_matter_and_masked_ones_do_not(name):
    sizes = {"_target_": "sde_gen.model.Conditions", "features": 3, "length": 4}
    net = randomize(build(name, inputs=sizes))
    x, c_noise = batch(name)
    tokens = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(3)).double()
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    whole, bare = net(x, c_noise, tokens=tokens, mask=mask), net(x, c_noise)
    assert torch.equal(net(x, c_noise, tokens=0 * tokens, mask=mask & False), bare)
    torch.testing.assert_close(whole[1], bare[1], rtol=1e-12, atol=1e-12)
    other = torch.where(mask[..., None], tokens, -5.0)
    torch.testing.assert_close(net(x, c_noise, tokens=other, mask=mask), whole, rtol=1e-12, atol=1e-12)
    assert ((whole - bare)[[0, 2]].flatten(1).norm(dim=1) > 1e-6).all()
    assert torch.equal(net(x, c_noise, tokens=tokens), net(x, c_noise, tokens=tokens, mask=mask | True))
    for wrong, answer in (
        ({"tokens": tokens[:, :, :2]}, "embedded tokens have shape"),
        ({"tokens": tokens, "mask": mask[:, :2]}, "the mask has shape"),
        ({"mask": mask}, "a mask was given without tokens"),
    ):
        with pytest.raises(ValueError, match=answer):
            net(x, c_noise, **wrong)
    with pytest.raises(ValueError, match="as tokens or as embedded"):
        Conditions(features=3, vocabulary=5)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in VECTORS])
def test_every_pixel_of_a_rectangle_matters(name):
    settings = {"width": 8, **SMALL.get(name, {})} if name != "hdit" else SMALL[name]
    net = randomize(make("model", name, shape=(1, 8, 12), **settings))
    x = torch.randn(1, 1, 8, 12, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    out = net(x, torch.zeros(1).double())
    assert out.shape == x.shape
    (out**2).sum().backward()
    assert x.grad.all()


@pytest.mark.parametrize("name", MODELS)
def test_a_condition_that_the_network_does_not_know_is_refused(name):
    _, given = conditions(name)
    x, c_noise = batch(name, dtype=torch.float32)
    for key, value in given.items():
        with pytest.raises(ValueError, match=r"was given to a network without.*conditioning="):
            build(name)(x, c_noise, **{key: value})


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_does_not_see_its_batch(name):
    net = randomize(build(name))
    x, c_noise = batch(name, 5)
    torch.testing.assert_close(net(x, c_noise)[2:3], net(x[2:3], c_noise[2:3]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_noise_label_and_class_matter(name):
    net = randomize(build(name, num_classes=2))
    x, c_noise = batch(name)
    label = torch.zeros(3, dtype=torch.long)
    seen = [
        net(x, c_noise),
        net(x, c_noise + 1),
        net(x, c_noise, label=label),
        net(x, c_noise, label=label + 1),
    ]
    for i, one in enumerate(seen):
        assert all((one - other).abs().max() > 1e-6 for other in seen[:i])


@pytest.mark.parametrize("name", MODELS)
def test_state_returns(name):
    first, second = randomize(build(name)), build(name).double()
    second.load_state_dict(first.state_dict())
    x, c_noise = batch(name)
    assert torch.equal(first(x, c_noise), second.eval()(x, c_noise))


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_is_near(name):
    net = randomize(build(name), torch.float32)
    x, c_noise = batch(name, dtype=torch.float32)
    exact = net(x, c_noise)
    with torch.autocast("cpu", torch.bfloat16):
        near = net(x, c_noise).float()
    assert (near - exact).norm() < 0.1 * exact.norm()


@pytest.mark.long
@pytest.mark.parametrize("name", MODELS)
def test_divergence_of_a_network(name):
    net = randomize(build(name))
    x, c_noise = batch(name, 2)
    _, found = Exact().prepare(x, IID.seeded(0))(lambda y: net(y, c_noise), x)
    # of the sum over samples, which do not see each other: the Jacobians of both side by side
    both = torch.autograd.functional.jacobian(lambda y: net(y, c_noise).sum(0), x)
    for i, one in enumerate(both.reshape(x[0].numel(), 2, -1).unbind(1)):
        torch.testing.assert_close(found[i, 0], one.trace())


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("ncsnpp", {"shape": (1, 9, 8)}, "multiples of 2"),
        ("ddpmpp", {"shape": (1, 30, 30), "multipliers": [1, 2, 2]}, "28 or 32"),
        ("ncsnpp", {"shape": (3,)}, "model=mlp"),
        ("mlp", {"shape": (1, 8, 8)}, "model=ncsnpp"),
        ("ncsnpp", {"attention_levels": [5]}, "levels 0 to 1"),
        ("ncsnpp", {"dropout": 1.5}, "dropout"),
        ("ncsnpp", {"num_classes": -1}, "num_classes"),
        ("ncsnpp", {"blocks": 0}, "at least one block"),
        ("kunet", {"shape": (3,)}, "model=mlp"),
        ("kunet", {"shape": (1, 2, 2)}, "multiples of 2, at least 4"),
        ("kunet", {"patch": 3}, "multiples of 6"),
        ("kunet", {"blocks": [1]}, "for every level"),
        ("kunet", {"attention_levels": [2]}, "levels 0 to 1"),
        ("kunet", {"features": 7}, "even number of features"),
        ("kunet", {"dropout": 1.0}, "a rate in"),
        ("kunet", {"channels": [32, 100]}, "3 equal groups"),
        ("hdit", {"shape": (3,)}, "model=mlp"),
        ("hdit", {"shape": (1, 8, 6)}, "multiples of 4 and 4"),
        ("hdit", {"shape": (1, 4, 4)}, "no neighborhoods of 3x3"),
        ("hdit", {"patch": [2]}, "height and width of a patch"),
        ("hdit", {"features": 7}, "of features an even one"),
        ("hdit", {"conditions": -1}, "must not be negative"),
    ],
)
def test_impossible_settings(name, settings, words):
    with pytest.raises(Exception, match=words) as failure:
        make("model", name, **{"shape": SHAPES.get(name, (1, 8, 8)), **settings})
    assert isinstance(failure.value.__cause__ or failure.value, ValueError)


def test_label_without_classes():
    for name in MODELS:
        x, c_noise = batch(name, dtype=torch.float32)
        with pytest.raises(ValueError, match="conditioning=label"):
            build(name)(x, c_noise, label=torch.zeros(3, dtype=torch.long))


def test_dropout_keeps_the_mean_and_its_rate():
    """Six standard errors over 2^20 elements."""
    from sde_gen.model.unet.blocks import Dropout

    torch.manual_seed(0)
    out = Dropout(0.25).train()(torch.ones(2**20))
    rate = float((out == 0).float().mean())
    assert abs(rate - 0.25) < 6 * (0.25 * 0.75 / 2**20) ** 0.5
    assert abs(float(out.mean()) - 1) < 6 * (1 / 3) ** 0.5 / 2**10
    assert torch.equal(Dropout(0.25).eval()(out), out)
    for rate in (0.001, 0.999):  # rates beyond the finest step are no rates of 0 and 1
        out = Dropout(rate).train()(torch.ones(2**16))
        assert 0 < float((out == 0).float().mean()) < 1


UNTIL = {"_target_": "sde_gen.model.Conditions", "until": True}
CHEAP = ("mlp", "modulated_mlp", "dit", "jit", "mmdit")


def of_two_times(*few):
    """Networks as parameters, all but a few for slow runs."""
    return [pytest.param(name, marks=[] if name in few else pytest.mark.slow) for name in MODELS]


@pytest.mark.parametrize("name", of_two_times(*CHEAP, "ho"))
def test_a_second_time_matters_and_an_equal_one_changes_nothing(name):
    net = build(name, inputs=UNTIL)
    bare, (x, c_noise) = randomize(build(name), torch.float32), batch(name, dtype=torch.float32)
    assert not net(x, c_noise, until=2 * c_noise).any()
    net = randomize(net, torch.float32)
    bare.load_state_dict({key: value for key, value in net.state_dict().items() if key != "until.weight"})
    with torch.no_grad():
        alone = bare(x, c_noise)
        assert torch.equal(net(x, c_noise, until=c_noise), alone)
        other = net(x, c_noise, until=torch.stack([c_noise[0], c_noise[1] + 0.3, c_noise[2]]))
    assert torch.equal(net(x, c_noise), alone)
    assert torch.equal(other[[0, 2]], alone[[0, 2]])
    assert float((other - alone)[1].norm()) > 1e-4 * float(alone[1].norm())
    with pytest.raises(ValueError, match="to a network without"):
        bare(x, c_noise, until=c_noise)


@pytest.mark.parametrize("name", of_two_times(*CHEAP))
def test_forward_derivatives_are_the_adjoint_of_reverse_ones_and_can_be_differentiated(name):
    """In sample and both times: w . (J v) of forward mode is (J^T w) . v of reverse mode."""
    net = randomize(build(name, inputs=UNTIL), torch.float32)
    x, c_noise = batch(name, 2, torch.float32)
    start = (x, 0.1 * c_noise, 0.1 * c_noise - 0.05)
    way = (torch.ones_like(x), torch.tensor([0.3, 0.2]), torch.tensor([-0.4, 0.1]))

    def call(*at):
        return net(at[0], at[1], until=at[2])

    out, found = torch.func.jvp(call, start, way)
    leaves = [part.clone().requires_grad_() for part in start]
    torch.testing.assert_close(call(*leaves), out, rtol=1e-3, atol=1e-3 * float(out.detach().abs().max()))
    weight = torch.sign(found.detach())  # nothing cancels on the left
    gradient = torch.autograd.grad((weight * call(*leaves)).sum(), leaves)
    reverse = sum(float((part * v).sum()) for part, v in zip(gradient, way, strict=True))
    assert float((weight * found).sum().detach()) == pytest.approx(reverse, rel=1e-3)
    (found**2).sum().backward()
    assert bool(net.until.weight.grad.any())
