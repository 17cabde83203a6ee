"""The metrics of Inception features beside torch-fidelity's, with one file of random weights for both."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sde_gen.data import FashionMNIST
from sde_gen.evaluation.features import Inception, extract
from sde_gen.evaluation.metric import FrechetDistance, InceptionScore, KernelDistance, PrecisionRecall

fidelity = pytest.importorskip("torch_fidelity", reason="the extra metrics is not installed")

N, SUBSET = 500, 200


def random_weights(path: Path) -> Path:
    """A file for torch-fidelity's Inception whose activations neither vanish nor grow."""
    module = __import__("torch_fidelity.feature_extractor_inceptionv3", fromlist=["x"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.normal_(net.fc.weight, std=0.05)
    torch.save(net.state_dict(), path)
    return path


class Images(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """A set of images as torch-fidelity reads them."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index]


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_metrics_equal_torch_fidelity(tmp_path: Path) -> None:
    file = random_weights(tmp_path / "random.pth")
    values = FashionMNIST().load().test.values[: 2 * N]
    assert isinstance(values, torch.Tensor)
    reference = values[N:].expand(-1, 3, -1, -1).contiguous()
    noise = torch.randint(-25, 26, reference.shape, generator=torch.Generator().manual_seed(0))
    samples = (values[:N] + noise).clamp(0, 255).to(torch.uint8)
    original = fidelity.calculate_metrics(
        input1=Images(samples),
        input2=Images(reference),
        feature_extractor="inception-v3-compat",  # its default for precision and recall is another one
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        kid_subset_size=SUBSET,
        feature_extractor_weights_path=str(file),
        batch_size=50,
        cache=False,
        verbose=False,
    )
    features = Inception(weights=str(file), digest=None)
    ours, others = (extract(features, images, batch_size=50) for images in (samples, reference))
    with pytest.warns(UserWarning, match="singular"):
        fid = FrechetDistance(features=features, groups=2).checked(ours, others)
    kid = KernelDistance(features=features, subset_size=SUBSET).checked(ours, others)
    score = InceptionScore(features=features).checked(ours, others)
    precision, recall = PrecisionRecall(features=features).checked(ours, others).quantities.values()
    table = {
        "frechet_inception_distance": fid.value,
        "kernel_inception_distance_mean": kid.value,
        "inception_score_mean": score.value,
        "inception_score_std": [*score.quantities.values()][1].value,
        "precision": precision.value,
        "recall": recall.value,
    }
    for name, value in table.items():
        print(f"{name}: torch-fidelity {original[name]:.8g}, ours {value:.8g}")
    assert fid.name == "FID@500"
    assert table["inception_score_mean"] > 1.001, "the random network distinguishes images"
    for name, value in table.items():
        assert value == pytest.approx(original[name], rel=1e-4), name
    spread = [*kid.quantities.values()][1].value  # beside the kernels of torch-fidelity, which are float32
    assert spread == pytest.approx(original["kernel_inception_distance_std"], abs=1e-4 * kid.value)
