"""Networks of other projects: their files in, ours out; nothing in a file is ever executed."""

from sde_gen.interop.imported import Imported
from sde_gen.interop.transfer import Transfer

__all__ = ["Imported", "Transfer"]
