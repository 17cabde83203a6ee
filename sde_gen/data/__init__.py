"""Data sets in memory and on disk, batches, augmentation."""

from sde_gen.data import codec, conditioning, simulator
from sde_gen.data.arrays import Arrays
from sde_gen.data.augment import Augmentation, HorizontalFlip, NoAugmentation
from sde_gen.data.base import Dataset, DatasetSource, Splits
from sde_gen.data.batches import Batches
from sde_gen.data.bucket_batches import BucketBatches
from sde_gen.data.checkpoints import Checkpoints
from sde_gen.data.columns import Column
from sde_gen.data.digit_grids import DigitGrids
from sde_gen.data.digits import Digits
from sde_gen.data.edm_augmentation import EDMAugmentation
from sde_gen.data.emoji import Emoji
from sde_gen.data.fashion_mnist import FashionMNIST
from sde_gen.data.hugging_face import HuggingFace
from sde_gen.data.identity import DataIdentity
from sde_gen.data.image import decode_image
from sde_gen.data.image_buckets import ImageBuckets
from sde_gen.data.image_folder import ImageFolder
from sde_gen.data.latents import Latents
from sde_gen.data.lazy_images import LazyImages
from sde_gen.data.pairs import Pairs
from sde_gen.data.series import Series
from sde_gen.data.shards import Shards
from sde_gen.data.simulations import Simulations, SimulationTable
from sde_gen.data.stationary import Autoregressive, GaussianProcess, StationaryProcess
from sde_gen.data.streaming import ImageStream, Sample, StreamingSource
from sde_gen.data.table import TabularData
from sde_gen.data.tar import index_members
from sde_gen.data.text import decode_texts, encode_texts
from sde_gen.data.toys import Checkerboard, Moons, Ring, SwissRoll

__all__ = [
    "Arrays",
    "Augmentation",
    "Autoregressive",
    "Batches",
    "BucketBatches",
    "Checkerboard",
    "Checkpoints",
    "Column",
    "DataIdentity",
    "Dataset",
    "DatasetSource",
    "DigitGrids",
    "Digits",
    "EDMAugmentation",
    "Emoji",
    "FashionMNIST",
    "GaussianProcess",
    "HorizontalFlip",
    "HuggingFace",
    "ImageBuckets",
    "ImageFolder",
    "ImageStream",
    "Latents",
    "LazyImages",
    "Moons",
    "NoAugmentation",
    "Pairs",
    "Ring",
    "Sample",
    "Series",
    "Shards",
    "SimulationTable",
    "Simulations",
    "Splits",
    "StationaryProcess",
    "StreamingSource",
    "SwissRoll",
    "TabularData",
    "codec",
    "conditioning",
    "decode_image",
    "decode_texts",
    "encode_texts",
    "index_members",
    "simulator",
]


def __dir__() -> list[str]:
    return sorted(__all__)
