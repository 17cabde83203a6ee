"""Conditioning of the network besides noisy sample and time."""

from sde_gen.data.conditioning.base import Conditioning, SingleConditioning
from sde_gen.data.conditioning.canny import CannyEdges
from sde_gen.data.conditioning.control import Edges, Hint
from sde_gen.data.conditioning.embedder import Behind, Beside, Embedded, EmbeddedSizes, TextEmbedder
from sde_gen.data.conditioning.encoded_text import EncodedText
from sde_gen.data.conditioning.enlarged_image import EnlargedImage
from sde_gen.data.conditioning.file_image import FileImage
from sde_gen.data.conditioning.frozen_text import FrozenText
from sde_gen.data.conditioning.given import GivenTensors
from sde_gen.data.conditioning.image import ConditionImage
from sde_gen.data.conditioning.image_embedder import ImageEmbedder
from sde_gen.data.conditioning.image_prompt import ImagePrompt
from sde_gen.data.conditioning.inpainting import Inpainting
from sde_gen.data.conditioning.label import Label
from sde_gen.data.conditioning.masked_latents import MaskedLatents
from sde_gen.data.conditioning.no_tokens import NoTokens
from sde_gen.data.conditioning.noised_image import NoisedImage
from sde_gen.data.conditioning.none import Unconditional
from sde_gen.data.conditioning.restoration import Colorization, Restoration, Superresolution
from sde_gen.data.conditioning.several import Several
from sde_gen.data.conditioning.slerp import slerp
from sde_gen.data.conditioning.text import Text
from sde_gen.data.conditioning.tokenizer import Pretrained, Tokenizer, Words
from sde_gen.data.conditioning.vector import Vector

__all__ = [
    "Behind",
    "Beside",
    "CannyEdges",
    "Colorization",
    "ConditionImage",
    "Conditioning",
    "Edges",
    "Embedded",
    "EmbeddedSizes",
    "EncodedText",
    "EnlargedImage",
    "FileImage",
    "FrozenText",
    "GivenTensors",
    "Hint",
    "ImageEmbedder",
    "ImagePrompt",
    "Inpainting",
    "Label",
    "MaskedLatents",
    "NoTokens",
    "NoisedImage",
    "Pretrained",
    "Restoration",
    "Several",
    "SingleConditioning",
    "Superresolution",
    "Text",
    "TextEmbedder",
    "Tokenizer",
    "Unconditional",
    "Vector",
    "Words",
    "slerp",
]


def __dir__() -> list[str]:
    return sorted(__all__)
