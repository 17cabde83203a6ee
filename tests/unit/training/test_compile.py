"""Compiled training: the same losses, weights under the same names, and a network as it was where compiling fails."""

import copy
import warnings

import pytest
import torch
from torch import nn

from sde_gen.denoiser import NetworkDenoiser
from sde_gen.denoiser.parametrization import Eps
from sde_gen.model import DDPMpp
from sde_gen.sde import VP
from sde_gen.training.compile import Blocks, Eager, Graphs
from tests.helpers.tiny_run import same, trainer, weights


class Block(nn.Module):
    """A custom layer; PyTorch never compiles its layers alone."""

    def __init__(self, inputs):
        super().__init__()
        self.layer = nn.Linear(inputs, 8)

    def forward(self, x):
        return torch.tanh(self.layer(x))


class Deep(nn.Module):
    """A network of two shapes of blocks, in lists."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(2), Block(8), nn.Identity(), Block(8)])
        self.out = nn.Linear(8, 2)

    def forward(self, x, c_noise, *, label=None):
        del label
        for block in self.blocks:
            x = block(x) + 0.01 * c_noise[:, None]
        return self.out(x)


def deep():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Deep()


@pytest.fixture
def _without_inductor(monkeypatch):
    """Compile with the graphs captured and differentiated, but without generating code."""
    compile_ = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self, **options: compile_(self, backend="aot_eager", **options)
    )


@pytest.mark.long
@pytest.mark.usefixtures("_without_inductor")
def test_the_same_training(tmp_path):
    """Blocks are compiled, the head is not; so are losses and weights, and the trial leaves no trace."""
    eager = trainer(tmp_path / "a", net=deep(), settings={"images": 64})
    compiled = trainer(tmp_path / "b", net=deep(), settings={"images": 64}, compiler=Blocks())
    assert eager.run()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert compiled.run()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    blocks = list(compiled.denoiser.net.blocks)
    assert [block._compiled_call_impl is not None for block in blocks] == [True, True, False, True]
    assert compiled.denoiser.net.out._compiled_call_impl is None
    assert compiled.ema_model.net.blocks[0]._compiled_call_impl is None
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("_without_inductor")
def test_compiled_training_resumes_bit_identically(tmp_path):
    whole = trainer(tmp_path / "a", net=deep(), settings={"images": 64}, compiler=Blocks())
    whole.run()
    asked = iter([False, False, True])
    stopped = trainer(
        tmp_path / "b", net=deep(), settings={"images": 64}, compiler=Blocks(), stop=lambda: next(asked)
    )
    assert not stopped.run()
    rest = trainer(tmp_path / "b", net=deep(), settings={"images": 64}, compiler=Blocks())
    rest.run()
    for name, value in weights(whole).items():
        assert torch.equal(weights(rest)[name], value), name


def test_what_does_not_compile_stays_as_it_was(tmp_path, monkeypatch):
    def broken(self, **options):
        def call(*args, **kwargs):
            raise RuntimeError("\nno compiler found\nat all")

        self._compiled_call_impl = call

    monkeypatch.setattr(nn.Module, "compile", broken)
    eager = trainer(tmp_path / "a", net=deep(), settings={"images": 16})
    eager.run()
    training = trainer(tmp_path / "b", net=deep(), settings={"images": 16}, compiler=Blocks())
    with pytest.warns(UserWarning, match="the network is not compiled: no compiler found$"):
        training.run()
    for name, value in weights(eager).items():
        assert torch.equal(weights(training)[name], value), name


def test_a_network_without_blocks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Linear holds no blocks"):
        Blocks().compile(nn.Linear(2, 2), lambda: None)
    with pytest.raises(ValueError, match="kinds=0"):
        Blocks(kinds=0)


def test_eager_has_no_requirements():
    net = deep()
    Eager().compile(net, lambda: pytest.fail("tried"))
    assert all(module._compiled_call_impl is None for module in net.modules())


def test_insufficient_memory_is_no_fault_of_the_compiler():
    """Whoever makes the batch can make it smaller; until then the network is as it was."""
    net = deep()

    def trial():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Blocks().compile(net, trial)
    assert all(module._compiled_call_impl is None for module in net.modules())


@pytest.mark.usefixtures("_without_inductor")
def test_no_recompile_runs_new_shapes_eagerly():
    """A batch of another size meets the blocks as they are written, to the bit."""
    net, written = deep(), deep()
    x, other = torch.randn(6, 2), torch.randn(3, 2)
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters
    counted.clear()
    Blocks().compile(net, lambda: net(x, x[:, 0]))
    graphs = counted["stats"]["unique_graphs"]
    assert graphs == 2
    with Blocks().no_recompile():
        assert torch.equal(net(other, other[:, 0]), written(other, other[:, 0]))
        net(x, x[:, 0])
        assert counted["stats"]["unique_graphs"] == graphs
    net(other, other[:, 0])
    assert counted["stats"]["unique_graphs"] > graphs


def test_no_graphs_without_cuda(tmp_path):
    eager = trainer(tmp_path / "a", net=deep(), settings={"images": 16})
    eager.run()
    training = trainer(tmp_path / "b", net=deep(), settings={"images": 16}, compiler=Graphs())
    with pytest.warns(UserWarning, match="the network is not compiled: cpu has no CUDA graphs"):
        training.run()
    assert same(weights(eager), weights(training))


@pytest.mark.gpu
@pytest.mark.parametrize("accumulation", [1, 2])
def test_graphs_train_the_same(tmp_path, accumulation):
    """Losses, weights and what is held out, to rounding; or, a warning, and then to the bit."""
    numbers = {"images": 64, "accumulation": accumulation}
    denoisers = [NetworkDenoiser(net=deep(), sde=VP(), parametrization=Eps()).cuda() for _ in range(2)]
    eager = trainer(tmp_path / "a", denoiser=denoisers[0], settings=numbers)
    graphs = trainer(tmp_path / "b", denoiser=denoisers[1], settings=numbers, compiler=Graphs())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert eager.run()
        assert graphs.run()
    failed = any("not compiled" in str(note.message) for note in caught)
    assert not failed or accumulation > 1, [str(note.message) for note in caught]
    for name, value in weights(eager).items():
        torch.testing.assert_close(weights(graphs)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
def test_graphs_predict_the_same():
    """Without gradients too, call after call, on inputs that change."""
    written = DDPMpp(shape=[3, 16, 16], width=8, multipliers=[1, 2], blocks=1).cuda().eval()
    for parameter in written.parameters():
        nn.init.normal_(parameter, std=0.1)
    net = copy.deepcopy(written)
    x, c_noise = torch.randn(4, 3, 16, 16, device="cuda"), torch.randn(4, device="cuda")
    with torch.no_grad():
        Graphs().compile(net, lambda: net(x, c_noise))
        for shift in (0.0, 1.0, 2.0):
            torch.testing.assert_close(
                net(x + shift, c_noise), written(x + shift, c_noise), rtol=1e-3, atol=1e-4
            )


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_u_net_with_generated_code(dtype):
    """By inductor: outputs and gradients as without, to rounding; more kinds of block than PyTorch's own limit of 8."""
    torch.manual_seed(0)
    net = DDPMpp(shape=[3, 16, 16], width=8, multipliers=[1, 2, 3], blocks=1).to(
        memory_format=torch.channels_last
    )
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    x, c_noise = torch.randn(2, 3, 16, 16), torch.randn(2)

    def results():
        net.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = net(x, c_noise)
        out.float().square().mean().backward()
        return [out.detach().float(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]

    eager = results()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Blocks().compile(net, results)
    assert not [warning for warning in caught if "not compiled" in str(warning.message)]
    compiled = results()
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for mine, original in zip(compiled, eager, strict=True):
        assert float((mine - original).norm()) <= tolerance * float(original.norm()) + 1e-6
