"""Time the import of a network of 100 million parameters, and the memory it takes.

    python benchmarks/import_weights.py [--out FOLDER]

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

import safetensors.torch
import torch

from sde_gen.cli import build, console
from sde_gen.interop.guided_diffusion import reader as guided_diffusion
from sde_gen.interop.weight_mapper import Transform

CONFIG = {
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


def their_tensors() -> dict[str, torch.Tensor]:
    """Random tensors by the names of guided-diffusion: whatever its reader asks for."""
    made: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    before, plausible = guided_diffusion.WeightMapper, guided_diffusion.plausible

    class Asked(before):  # type: ignore[misc, valid-type]
        """Create every tensor that is mapped."""

        def copy(self, target: str, source: str, transform: Transform | None = None) -> None:
            shape = self.needed[target]
            flat = shape[:-1] if transform is not None and len(shape) == 4 else shape
            made[source] = 0.02 * torch.randn(flat, generator=generator)
            self.tensors[source] = made[source]
            super().copy(target, source, transform)

    guided_diffusion.WeightMapper = Asked  # type: ignore[misc]
    guided_diffusion.plausible = lambda *_: None  # there are no tensors before they are asked for
    try:
        guided_diffusion.read(made, CONFIG)
    finally:
        guided_diffusion.WeightMapper, guided_diffusion.plausible = before, plausible  # type: ignore[misc]
    return made


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
    tensors = their_tensors()
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
    about = {"parameters": count, "machine": platform.machine(), "versions": build.versions()}
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
