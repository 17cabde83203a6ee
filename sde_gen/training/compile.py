"""Execution of the network: eager, compiled block by block, or replayed as CUDA graphs."""

import abc
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sde_gen.distributed.fsdp import repeated_blocks
from sde_gen.utils.arguments import Checked


class Compiler(Checked, abc.ABC):
    """Base class of the execution modes of a network."""

    @abc.abstractmethod
    def compile(self, net: nn.Module, warmup_step: Callable[[], object]) -> None:
        """Change the execution of a network in place; parameters and their names stay.

        Arguments:
            net: the network.
            warmup_step: runs the network once as in training, so that compilation on first use happens here.
        """

    def no_recompile(self) -> AbstractContextManager[object]:
        """Return a context in which nothing is compiled: inputs of new shapes run eagerly."""
        return nullcontext()


@dataclass(frozen=True, kw_only=True)
class Eager(Compiler):
    """Eager execution, operator by operator."""

    def compile(self, net: nn.Module, warmup_step: Callable[[], object]) -> None:
        """Leave the network unchanged."""
        del net, warmup_step


@dataclass(frozen=True, kw_only=True)
class Blocks(Compiler):
    """Compile every block separately: the modules in the network's lists (``nn.ModuleList``).

    Blocks of the same shape share code, so this is much faster than compiling the network as a whole. Results differ
    from the eager ones in rounding. If a block cannot be compiled, the network stays unchanged and a warning gives the
    reason.

    Arguments:
        kinds: maximum number of compiled variants of blocks and inputs; further ones run eagerly.

    Raises:
        ValueError: kinds is not positive.
    """

    kinds: int = 64

    def __post_init__(self) -> None:
        if self.kinds < 1:
            raise ValueError(f"kinds={self.kinds} must be at least 1; to compile nothing use compile=eager")

    def compile(self, net: nn.Module, warmup_step: Callable[[], object]) -> None:
        """Compile the blocks and run them once.

        Raises:
            ValueError: the network has no blocks.
            OutOfMemoryError: the warm-up step did not fit into the device's memory; the network stays unchanged.
        """
        self._attempt(net, warmup_step)

    def no_recompile(self) -> AbstractContextManager[object]:
        """Return a context in which blocks run eagerly on inputs they were not compiled for."""
        stance: AbstractContextManager[object] = torch.compiler.set_stance("eager_on_recompile")
        return stance

    def _attempt(self, net: nn.Module, warmup_step: Callable[[], object], **options: Any) -> bool:
        """Compile the blocks with options of ``torch.compile``; warn and return False if this is not possible."""
        parts = repeated_blocks(net)
        if not parts:
            raise ValueError(
                f"{type(net).__name__} holds no blocks in lists that could be compiled; use compile=eager"
            )
        for block in parts:
            block.compile(dynamic=False, **options)
        try:
            with torch._dynamo.config.patch(recompile_limit=self.kinds):
                warmup_step()
        except Exception as error:  # of any compiler; an error of the network itself is raised again later
            for block in parts:
                block._compiled_call_impl = None
            if isinstance(error, torch.OutOfMemoryError):
                raise
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            warnings.warn(f"the network is not compiled: {reason}", stacklevel=3)
            return False
        return True


@dataclass(frozen=True, kw_only=True)
class Graphs(Blocks):
    """Compile every block, and let CUDA replay its kernels as one graph instead of launching them one by one.

    This removes the launch overhead of short kernels, in small networks and batches. A graph has a fixed input buffer,
    so every block copies its input, and every shape needs a separate graph. On a device without CUDA the network stays
    unchanged, with a warning.

    Source: CUDA graphs through ``torch.compile(mode="reduce-overhead")``.

    Arguments:
        kinds: as of :class:`Blocks`.
    """

    def compile(self, net: nn.Module, warmup_step: Callable[[], object]) -> None:
        """Compile the blocks, record their graphs and replay them once.

        Raises:
            ValueError, OutOfMemoryError: as :class:`Blocks`.
        """
        device = next(net.parameters()).device
        if device.type != "cuda":
            warnings.warn(
                f"the network is not compiled: {device} has no CUDA graphs, which compile=graphs needs",
                stacklevel=2,
            )
            return
        # outputs of blocks and tensors saved for the backward pass live until the network is called again
        mark = net.register_forward_pre_hook(_begin)
        keep = False
        try:
            keep = self._attempt(net, lambda: [warmup_step() for _ in WARMUP_STAGES], mode="reduce-overhead")
        finally:
            if not keep:
                mark.remove()


def _begin(*_: object) -> None:
    torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


WARMUP_STAGES = "compile and warm up", "record", "replay"
"""Work of the first, second and third call of a compiled function with a CUDA graph."""
