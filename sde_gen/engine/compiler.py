"""Whether the network of a training is compiled."""

import abc
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sde_gen.engine.blocks import blocks


class Compiler(abc.ABC):
    """A choice of how the network is executed."""

    @abc.abstractmethod
    def compile(self, net: nn.Module, trial: Callable[[], object]) -> None:
        """Change how a network is executed, in place; parameters and their names stay.

        Arguments:
            net: the network.
            trial: uses the network once, as it will be used: what compiles on first use does so here.
        """


@dataclass(frozen=True, kw_only=True)
class Eager(Compiler):
    """As it is written, operator by operator."""

    def compile(self, net: nn.Module, trial: Callable[[], object]) -> None:
        """Change nothing."""
        del net, trial


@dataclass(frozen=True, kw_only=True)
class Blocks(Compiler):
    """Compile every block by itself: the modules that the network holds in lists (``nn.ModuleList``).

    Blocks of one shape share their code, so this takes much less time than to compile the network as a whole. Results
    differ from the eager ones in rounding. Where a block can not be compiled, the network stays as it was and a warning
    says why.

    Arguments:
        kinds: how many kinds of block and input may be compiled; further ones are executed as they are written.
    """

    kinds: int = 64

    def __post_init__(self) -> None:
        """Check the constructor's arguments."""
        if self.kinds < 1:
            raise ValueError(f"kinds={self.kinds} must be at least 1; for no compiling use compiler=eager")

    def compile(self, net: nn.Module, trial: Callable[[], object]) -> None:
        """Compile the blocks, and see whether they work.

        Raises:
            ValueError: the network has no blocks.
        """
        parts = blocks(net)
        if not parts:
            raise ValueError(
                f"{type(net).__name__} holds no blocks in lists that could be compiled; use compiler=eager"
            )
        for block in parts:
            block.compile(dynamic=False)
        try:
            with torch._dynamo.config.patch(recompile_limit=self.kinds):
                trial()
        except Exception as error:  # whatever a compiler says; what the network gets wrong it will say again
            for block in parts:
                block._compiled_call_impl = None
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            warnings.warn(f"the network is not compiled: {reason}", stacklevel=2)
