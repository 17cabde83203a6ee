"""Weights of score_sde_pytorch's networks on ours, matched in the order in which both build their modules."""

from collections.abc import Iterator

from torch import Tensor, nn

from sde_gen.model.blocks import Attention, ResBlock
from sde_gen.model.embedding import Fourier
from sde_gen.model.unet import UNet

BLOCK = {
    "GroupNorm_0": "norm_in",
    "Conv_0": "conv_in",
    "Dense_0": "embed",
    "GroupNorm_1": "norm_out",
    "Conv_1": "conv_out",
    "Conv_2": "skip",
}
ATTENTION = {"GroupNorm_0": "norm", "NIN_0": "query", "NIN_1": "key", "NIN_2": "value", "NIN_3": "out"}


def modules(net: UNet) -> Iterator[nn.Module]:
    """Our modules in their order of construction."""
    if isinstance(net.embedding, Fourier):
        yield net.embedding
    yield from (net.embed[0], net.embed[2], net.stem)
    index = 0
    for level in range(len(net.descend) + 1):
        for _ in range(net.blocks):
            yield from (net.down_blocks[index], net.down_attention[index])
            index += 1
        if level < len(net.descend):
            yield net.descend[level]
            yield from (m for m in net.inputs[level].modules() if isinstance(m, nn.Conv2d))
    yield from (net.middle_in, net.middle_attention, net.middle_out)
    index = 0
    for level in range(len(net.ascend) + 1):
        for _ in range(net.blocks + 1):
            yield net.up_blocks[index]
            index += 1
        yield net.up_attention[level]
        if level < len(net.ascend):
            yield net.ascend[level]
    yield from (net.output.head.norm, net.output.head.conv)


def load(net: UNet, theirs: dict[str, Tensor]) -> None:
    """Copy their tensors into our network; all of both sides must match (``sigmas`` is no weight)."""
    ours, left = dict(net.state_dict()), {key: value for key, value in theirs.items() if key != "sigmas"}
    names = {id(module): name for name, module in net.named_modules()}
    real = [module for module in modules(net) if not isinstance(module, nn.Identity)]
    for number, module in enumerate(real):
        prefix, at = f"all_modules.{number}.", names[id(module)]
        for key in [key for key in left if key.startswith(prefix)]:
            part, _, kind = key[len(prefix) :].rpartition(".")
            table = (
                BLOCK if isinstance(module, ResBlock) else ATTENTION if isinstance(module, Attention) else {}
            )
            inner = table.get(part, "")
            kind = (
                "frequencies" if isinstance(module, Fourier) else {"W": "weight", "b": "bias"}.get(kind, kind)
            )
            value = left.pop(key)
            if part.startswith("NIN") and kind == "weight":
                value = value.T[:, :, None, None]
            ours.pop(name := ".".join(filter(None, (at, inner, kind))))
            target = dict(net.named_parameters()).get(name, dict(net.named_buffers()).get(name))
            target.data.copy_(value)
    assert not left, sorted(left)
    assert not ours, sorted(ours)
