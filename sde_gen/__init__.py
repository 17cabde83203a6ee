"""Score-based generative modelling with stochastic and ordinary differential equations."""

__version__ = "0.1.0"
