"""Time the import of a network of 100 million parameters, and the memory it takes.

    python -m benchmarks.import_weights [--out FOLDER]

A network of guided-diffusion with random weights is written as a file of safetensors and of torch.save; the
command ``convert`` then reads each in a separate process, whose peak memory is measured. A process that only imports
the package measures the share of PyTorch. Prints a table and writes JSON with machine, commit and versions.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from sde_gen.cli import console
from sde_gen.cli.versions import package_versions
from tests.reference import adm, score_sde

CONFIG: dict[str, Any] = {
    "image_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 128,
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 3, 4],
    "attention_resolutions": [4, 8],
    "num_head_channels": 64,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "use_new_attention_order": True,
}
MEASURED = """
import resource, runpy, sys
sys.argv = ["sde_gen.convert", *sys.argv[1:]]
if len(sys.argv) > 1:
    runpy.run_module("sde_gen.convert", run_name="__main__")
else:
    import sde_gen.convert
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def guided_diffusion_tensors() -> dict[str, torch.Tensor]:
    """Return random tensors by the names of guided-diffusion, those that its network reads in an evaluation."""
    tensors, weights = score_sde.drawn()
    image = torch.zeros(1, CONFIG["in_channels"], CONFIG["image_size"], CONFIG["image_size"])
    adm.forward(CONFIG, weights, image.double(), torch.zeros(1), None)
    return tensors


def measured(*arguments: str) -> tuple[float, float]:
    """Seconds and largest memory in MiB of a process."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.perf_counter() - begin, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    tensors = guided_diffusion_tensors()
    count = sum(tensor.numel() for tensor in tensors.values())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        safetensors.torch.save_file(tensors, at / "net.safetensors")
        torch.save(tensors, at / "net.pt")
        (at / "settings.json").write_text(json.dumps(CONFIG))
        seconds, memory = measured()
        rows.append({"file": "nothing", "mib_of_file": 0.0, "seconds": seconds, "peak_mib": memory})
        for name in ("net.safetensors", "net.pt"):
            seconds, memory = measured(
                "from=guided_diffusion",
                f"file={at / name}",
                f"settings={at / 'settings.json'}",
                f"out={at / name}-run",
            )
            size = (at / name).stat().st_size / 2**20
            rows.append({"file": name, "mib_of_file": size, "seconds": seconds, "peak_mib": memory})
    about = {"parameters": count, "machine": platform.machine(), "versions": package_versions()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / "import_weights.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    console.print_summary(
        f"import of {count:,} parameters",
        ["file", "MiB", "seconds", "peak MiB"],
        [
            [row["file"], *(f"{row[key]:.1f}" for key in ("mib_of_file", "seconds", "peak_mib"))]
            for row in rows
        ],
    )
    console.console.print(str(path))


if __name__ == "__main__":
    main()
