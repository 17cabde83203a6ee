"""Score-based generative modeling with stochastic and ordinary differential equations."""

import signal
import sys

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and any(word.startswith("sde_gen.") for word in sys.orig_argv):
    # A command is being started: until its work begins, Ctrl-C ends it at once, without a traceback of its imports.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
