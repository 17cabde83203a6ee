"""Maps between data and model space."""

from sde_gen.data.codec.affine import Affine
from sde_gen.data.codec.base import Codec, LatentBound, Lossy
from sde_gen.data.codec.codes import Codes
from sde_gen.data.codec.columns import Columns
from sde_gen.data.codec.latent import Latent, TrainedAutoencoder
from sde_gen.data.codec.logit import Logit
from sde_gen.data.codec.observation import Observation
from sde_gen.data.codec.out_of_range import OutOfRange
from sde_gen.data.codec.principal import Principal
from sde_gen.data.codec.scaled import Scaled
from sde_gen.data.codec.standardized import Standardized
from sde_gen.data.codec.uniform import UniformCodec

__all__ = [
    "Affine",
    "Codec",
    "Codes",
    "Columns",
    "Latent",
    "LatentBound",
    "Logit",
    "Lossy",
    "Observation",
    "OutOfRange",
    "Principal",
    "Scaled",
    "Standardized",
    "TrainedAutoencoder",
    "UniformCodec",
]


def __dir__() -> list[str]:
    return sorted(__all__)
