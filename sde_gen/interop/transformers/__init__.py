"""Import of encoders of texts and images from folders of transformers."""

from sde_gen.interop.transformers.clip import load as load_clip
from sde_gen.interop.transformers.embedder import FolderEmbedder
from sde_gen.interop.transformers.encoders import CLIP, T5
from sde_gen.interop.transformers.image_encoder import CLIPImages
from sde_gen.interop.transformers.t5 import load as load_t5

__all__ = ["CLIP", "T5", "CLIPImages", "FolderEmbedder", "load_clip", "load_t5"]


def __dir__() -> list[str]:
    return sorted(__all__)
