"""Encoders of texts and tokenizers of diffusers' pipelines, as parts of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sde_gen.data.conditioning.tokenizer import Pretrained
from sde_gen.interop.converted_model import PARTS, ObjectSpec
from sde_gen.interop.diffusers.pipeline_folder import PipelineFolder
from sde_gen.interop.formats import files
from sde_gen.interop.settings import LARGEST
from sde_gen.interop.transformers.encoders import CLIP, T5
from sde_gen.interop.transformers.folder import digest_of

CLIP_KINDS = ("CLIPTextModel", "CLIPTextModelWithProjection")
T5_KINDS = ("T5EncoderModel",)
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
T5_TOKENIZERS = ("T5Tokenizer", "T5TokenizerFast")
"""Classes of transformers that are read."""


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """An encoder of texts and its tokenizer.

    Arguments:
        encoder: specification of the encoder.
        files: by path in the run folder, files to copy.
        features: features of a token.
        pooled: features of the whole text.
        length: tokens of a part.
    """

    encoder: ObjectSpec
    files: Mapping[str, Path]
    features: int
    pooled: int
    length: int


def clip_part(folder: PipelineFolder, number: str = "", **settings: Any) -> TextPart:
    """Return CLIP's encoder ``text_encoder`` with its tokenizer.

    Arguments:
        folder: the pipeline.
        number: end of the names of both parts, such as ``_2``.
        settings: arguments of :class:`~sde_gen.interop.transformers.CLIP`.

    Raises:
        ValueError: files are missing or do not fit together.
    """
    opened = CLIP(
        path=str(folder.folder(f"text_encoder{number}")), tokenizer=str(_tokenizer(folder, number))
    ).open()
    network, pooled = opened.network, settings.get("pooled", True)
    width = network.width if network.project is None else network.project.out_features
    return _part(
        folder,
        number,
        CLIP,
        opened.tokenizer,
        network.width,
        width if pooled else 0,
        network.length,
        settings,
    )


def t5_part(folder: PipelineFolder, number: str, length: int, *, masked: bool = False) -> TextPart:
    """Return T5's encoder with its tokenizer, of which the settings alone are read: it may be large.

    Arguments:
        folder: the pipeline.
        number: end of the names of both parts, such as ``_3``.
        length: tokens of a text.
        masked: whether the encoder does not attend to padding.

    Raises:
        ValueError: files are missing.
    """
    config = folder.config(f"text_encoder{number}")
    tokenizer = Pretrained(path=str(_tokenizer(folder, number)))
    width = int(config.get("d_model", 512))
    return _part(folder, number, T5, tokenizer, width, 0, length, {"truncate": True, "masked": masked})


def _part(
    folder: PipelineFolder,
    number: str,
    kind: type,
    tokenizer: Pretrained,
    features: int,
    pooled: int,
    longest: int,
    settings: Mapping[str, Any],
) -> TextPart:
    names = f"text_encoder{number}", f"tokenizer{number}"
    length = min(longest, _model_length(Path(tokenizer.path)))
    source = kind(path=str(folder.folder(names[0])), tokenizer=tokenizer.path)
    encoder = ObjectSpec(
        kind,
        path=f"{PARTS}{names[0]}",
        tokenizer=f"{PARTS}{names[1]}",
        sha256=digest_of(folder.folder(names[0])),
        tokenizer_sha256=tokenizer.fit([]).sha256,
        length=length,
        padding=source.padding_of(tokenizer),
        **{"masked": False, "parted": not settings.get("truncate", False), **settings},
    )
    copied = {f"{PARTS}{names[0]}/{file.name}": file for file in folder.encoder_files(names[0])} | {
        f"{PARTS}{names[1]}/{file.name}": file for file in folder.tokenizer_files(names[1])
    }
    return TextPart(encoder=encoder, files=copied, features=features, pooled=pooled, length=length)


def _tokenizer(folder: PipelineFolder, number: str) -> Path:
    name = f"tokenizer{number}"
    folder.tokenizer_files(name)  # which raises where they are missing
    return folder.folder(name)


def _model_length(path: Path) -> int:
    """Return the most tokens that a tokenizer gives; some files have a number without bound."""
    place = path / "tokenizer_config.json"
    found = files.json_of(place).get("model_max_length") if place.is_file() else None
    return found if isinstance(found, int) and 2 <= found <= LARGEST else LARGEST
