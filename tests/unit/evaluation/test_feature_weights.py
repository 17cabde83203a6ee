"""Weights of extractors: checked, read as data, fetched whole or not at all; networks beside PyTorch's."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sde_gen.data import Digits, FashionMNIST
from sde_gen.evaluation.features import Classifier, DINOv2, EfficientNet, Inception, weights
from sde_gen.evaluation.features.classifier import SHIPPED
from sde_gen.evaluation.features.dinov2 import VisionTransformer
from sde_gen.evaluation.features.efficientnet_lite0 import EfficientNetLite0

CONTENT = bytes(range(256)) * 40


@contextmanager
def server(sent: bytes, promised: int) -> Iterator[str]:
    """Serve a body that may be shorter than promised, and give its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}/weights.pth"
        found.shutdown()


def test_a_download_warns_and_is_verified(tmp_path: Path) -> None:
    path, digest = tmp_path / "new" / "weights.pth", hashlib.sha256(CONTENT).hexdigest()
    with server(CONTENT, len(CONTENT)) as url:
        with pytest.warns(UserWarning, match=f"fetching {url} .*10 kB.* into {path}"):
            weights.fetch(url, path, sha256=digest[:8], size="10 kB")
        assert path.read_bytes() == CONTENT
        weights.fetch(
            url, path, sha256=digest[:8], size="10 kB"
        )  # is there: nothing is fetched, nothing said
        other = tmp_path / "other.pth"
        with (
            pytest.warns(UserWarning, match="fetching"),
            pytest.raises(ValueError, match=f"SHA-256 {digest}, expected 1234"),
        ):
            weights.fetch(url, other, sha256="1234", size="10 kB")
    assert not list(tmp_path.glob("*other*"))


def test_an_interrupted_download_leaves_no_file(tmp_path: Path) -> None:
    with server(CONTENT[:5000], len(CONTENT)) as url:
        with (
            pytest.warns(UserWarning, match="fetching"),
            pytest.raises(ValueError, match=r"cannot fetch.*(5,000 of|IncompleteRead)"),
        ):
            weights.fetch(url, tmp_path / "weights.pth", sha256=None, size="10 kB")
    assert not list(tmp_path.iterdir())
    with pytest.warns(UserWarning, match="fetching"), pytest.raises(ValueError, match="cannot fetch"):
        weights.fetch("http://127.0.0.1:9/weights.pth", tmp_path / "weights.pth", sha256=None, size="10 kB")
    assert not list(tmp_path.iterdir())


class Dangerous:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize(
    "content",
    [b"", b"abc", b"]q", b"\x80\x02.", b"\x80\x02}q\x00h\x05.", b"PK\x03\x04", b"\x80\x02c", CONTENT],
    ids=lambda content: repr(content[:8]),
)
def test_what_is_no_weight_file_is_refused_in_a_line(content: bytes) -> None:
    """Damaged pickles make PyTorch's reader fail in many ways."""
    with pytest.raises(ValueError, match="the weights of Inception cannot be read") as caught:
        weights.tensors(content, what="Inception")
    assert "\n" not in str(caught.value)


def test_weight_files_execute_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    for content in ({"a": Dangerous()}, [1, 2], {"a": torch.zeros(2)}):
        torch.save(content, path)
        for features in (DINOv2(weights=str(path)),):
            with pytest.raises(ValueError, match=r"cannot be read|holds no") as caught:
                features(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
            assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    with pytest.raises(
        ValueError, match=r"has SHA-256 [0-9a-f]{64}, expected 6726825d.*features.digest=null"
    ):
        Inception(weights=str(path)).about()


class Reference(nn.Module):
    """A vision transformer of PyTorch's layers, whose layer scale is 1."""

    def __init__(self, d: int, depth: int, side: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, d, 14, 14)
        self.token = nn.Parameter(torch.randn(1, 1, d))
        self.places = nn.Parameter(torch.randn(1, 1 + side**2, d))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                d, d // 64, 4 * d, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(d, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        tokens = (
            torch.cat([self.token.expand(len(x), -1, -1), self.patches(x).flatten(2).mT], 1) + self.places
        )
        for layer in self.layers:
            tokens = layer(tokens)
        out: Tensor = self.norm(tokens)[:, 0]
        return out

    def state(self) -> dict[str, Tensor]:
        """Its tensors under DINOv2's names."""
        d = self.token.shape[-1]
        found = {
            "cls_token": self.token,
            "pos_embed": self.places,
            "patch_embed.proj.weight": self.patches.weight,
            "patch_embed.proj.bias": self.patches.bias,
            "norm.weight": self.norm.weight,
            "norm.bias": self.norm.bias,
        }
        table = {"norm1": "norm1", "norm2": "norm2", "linear1": "mlp.fc1", "linear2": "mlp.fc2"}
        for number, layer in enumerate(self.layers):
            names = {**table, "self_attn.out_proj": "attn.proj"}
            for ours, original in names.items():
                for kind in ("weight", "bias"):
                    found[f"blocks.{number}.{original}.{kind}"] = layer.get_parameter(f"{ours}.{kind}")
            found[f"blocks.{number}.attn.qkv.weight"] = layer.self_attn.in_proj_weight
            found[f"blocks.{number}.attn.qkv.bias"] = layer.self_attn.in_proj_bias
            found |= {f"blocks.{number}.{name}.gamma": torch.ones(d) for name in ("ls1", "ls2")}
        return {name: tensor.detach() for name, tensor in found.items()}


def test_dinov2_is_pytorchs_transformer(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = Reference(128, 2, 16).eval()
        images = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    torch.save(reference.state(), tmp_path / "vit.pth")
    mean, deviation = (
        torch.tensor(t).reshape(3, 1, 1) for t in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        expected = reference((images / 255 - mean) / deviation)
    found = DINOv2(weights=str(tmp_path / "vit.pth"))(images).features
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_positions_of_dinov2_are_resized() -> None:
    """A linear ramp stays one at the centers of cells of 37 / 16.1, up to the kernel, which is not exact for it."""
    side = 37
    ramp = torch.arange(side).float().repeat(side, 1)  # grows along the width
    state = {
        "pos_embed": torch.cat([torch.zeros(1), ramp.flatten()]).reshape(1, -1, 1),
        "blocks.0.x": torch.zeros(1),
    }
    resized = VisionTransformer(state).positions(16, 16)[0, 1:, 0].reshape(16, 16)
    centers = (torch.arange(16) + 0.5) * side / 16.1 - 0.5
    torch.testing.assert_close(resized[3, 2:-2], centers[2:-2], rtol=0, atol=0.06)
    assert (centers * 16.1 / 16 - resized[3])[-3] > 0.15, "cells of 37 / 16 would differ"


def test_positions_of_dinov2_are_read_where_the_released_code_reads_them() -> None:
    """With the scale (h + 0.1) / side, at (i + 1/2) side / (h + 0.1) - 1/2, from positions that grow linearly."""
    side, h = 37, 16
    row = torch.arange(side).double().expand(side, side)
    grid = torch.stack([row, row.mT], -1).reshape(1, -1, 2)
    state = {"pos_embed": torch.cat([torch.zeros(1, 1, 2).double(), grid], 1), "blocks.0": torch.zeros(1)}
    found = VisionTransformer(state).positions(h, h)[0, 1:].reshape(h, h, 2)
    places = (torch.arange(h).double() + 0.5) * side / (h + 0.1) - 0.5
    for along in (found[8, :, 0], found[:, 8, 1]):
        assert along[1:-1] == pytest.approx(places[1:-1], abs=0.055), (
            "but for the error of cubic interpolation"
        )


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_of_efficientnet_are_padded_and_normalized_as_in_tensorflow(stride: int) -> None:
    """Padding at the end first; the normalization adds 1e-3 to the variance (Tan and Le's code)."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    conv, norm = nn.Conv2d(3, 4, 3, stride, bias=False), nn.BatchNorm2d(4, eps=1e-3).eval()
    norm.running_var = torch.rand(4) * 1e-3
    state = {f"a.{name}": value for name, value in conv.state_dict().items()}
    state |= {f"b.{name}": value for name, value in norm.state_dict().items()}
    padded = F.pad(x, (1, 1, 1, 1) if stride == 1 else (0, 1, 0, 1))
    torch.testing.assert_close(EfficientNetLite0(state).convolution(x, "a", "b", stride), norm(conv(padded)))


def test_efficientnet_lite_is_given_levels_less_127_in_units_of_128() -> None:
    class Shown(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.mean((2, 3)), x

    features = EfficientNet()
    vars(features)["net"] = Shown()
    for level, value in ((127, 0.0), (255, 1.0), (63, -0.5)):
        images = torch.full((1, 1, 4, 4), level, dtype=torch.uint8)
        assert features(images).features == pytest.approx(torch.full((1, 3), value), abs=1e-5)


def test_every_given_digit_of_a_hash_counts(tmp_path: Path) -> None:
    (path := tmp_path / "weights.pth").write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    other = digest[:7] + f"{(int(digest[7], 16) + 1) % 16:x}"
    assert weights.read(path, sha256=digest[:8].upper(), what="a", advice="b") == CONTENT
    with pytest.raises(ValueError, match=f"has SHA-256 {digest}, expected {other}"):
        weights.read(path, sha256=other, what="a", advice="b")


def test_repeated_gray_images_are_noted() -> None:
    gray, color = (torch.zeros(1, channels, 8, 8, dtype=torch.uint8) for channels in (1, 3))
    assert Inception().note(gray) == ("gray images are repeated to 3 channels for Inception",)
    assert Inception().note(color) == Classifier().note(gray) == ()


def test_efficientnet_classifies_sweatshirts() -> None:
    """Trained on ImageNet, it calls pullovers and coats cardigan, fur coat, lab coat, sweatshirt or trench coat."""
    features = EfficientNet()
    try:
        features.about()
    except ValueError as error:
        pytest.skip(str(error))
    test = FashionMNIST().load().test
    assert isinstance(test.values, Tensor)
    assert test.labels is not None
    pullovers_and_coats = test.values[:100][(test.labels[:100] == 2) | (test.labels[:100] == 4)]
    logits = features(pullovers_and_coats).logits
    assert logits is not None
    right = torch.isin(logits.argmax(1), torch.tensor([474, 568, 617, 841, 869]))
    assert right.double().mean() > 1 / 3, "by chance it would be 0.5 %"


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.safetensors")))
def test_shipped_classifiers_have_the_stated_accuracy(name: str) -> None:
    """On 500 held-out images, within three standard errors; the file is small."""
    features = Classifier(weights=name)
    data = {"digits": Digits(), "fashion_mnist": FashionMNIST()}[name].load().test
    assert isinstance(data.values, Tensor)
    assert data.labels is not None
    assert data.levels is not None
    images = torch.round(data.values[:500].double() * (255 / (data.levels - 1))).to(torch.uint8)
    logits = features(images).logits
    assert logits is not None
    right = float((logits.argmax(1) == data.labels[:500]).double().mean())
    stated = float(features.card["accuracy"])
    assert abs(right - stated) <= 3 * (stated * (1 - stated) / len(images)) ** 0.5
    assert (SHIPPED / f"{name}.safetensors").stat().st_size < 200_000
    assert name in features.card["command"]
