"""Fashion-MNIST, from the four IDX files."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from sde_gen.data.base import Dataset, DatasetSource, Splits
from sde_gen.data.download import fetch
from sde_gen.data.idx import read_idx

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Folder of Debian's package dataset-fashion-mnist."""

CONTENT = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of the decompressed files of Debian's package, version 0.0~git20200523."""


@dataclass(frozen=True, kw_only=True)
class FashionMNIST(DatasetSource):
    """70,000 gray images of clothes, 28x28 with 256 levels, in 10 classes; 10,000 are the test split.

    The files are read from ``root``, or else from the folder of Debian's package dataset-fashion-mnist. MNIST, KMNIST
    and similar sets consist of the same four files: give their folder as ``root``.

    Source: Xiao et al., 2017, arXiv:1708.07747 (MIT license).

    Arguments:
        root: folder with the four files, gzipped or not; None uses Debian's folder.
        download: download missing files (30 MB) from ``url`` into ``root``.
        url: address of the files.
    """

    root: str | None = None
    download: bool = False
    url: str = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"

    places: ClassVar[frozenset[str]] = frozenset({"root"})
    idle: ClassVar[frozenset[str]] = frozenset({"download", "url"})

    def __post_init__(self) -> None:
        if self.download and self.root is None:
            raise ValueError("download=true needs a folder for the files: give data.root=...")

    def load(self) -> Splits:
        """Read the four files."""
        folder = DEBIAN if self.root is None else Path(self.root)
        if self.download:
            for name, content in CONTENT.items():
                if not (folder / name).exists():
                    fetch(f"{self.url}/{name}", folder / name, sha256_of_content=content)
        train, test = self._read(folder, "train"), self._read(folder, "t10k")
        classes = max(train.classes, test.classes)
        return Splits(train=replace(train, classes=classes), test=replace(test, classes=classes))

    def _read(self, folder: Path, part: str) -> Dataset:
        values = read_idx(self._find(folder, f"{part}-images-idx3-ubyte")).unsqueeze(1)
        labels = read_idx(self._find(folder, f"{part}-labels-idx1-ubyte")).long()
        return Dataset(values=values, labels=labels, levels=256, classes=int(labels.max()) + 1)

    def _find(self, folder: Path, name: str) -> Path:
        for path in (folder / f"{name}.gz", folder / name):
            if path.exists():
                return path
        raise ValueError(
            f"no file {name}.gz in {folder}; install Debian's package dataset-fashion-mnist, name the folder that "
            "has the files with data.root=..., or fetch them with data.root=<new folder> data.download=true"
        )
