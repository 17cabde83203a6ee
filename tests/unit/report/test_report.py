"""Reports of run folders: content, damaged files, and escaping of untrusted content."""

import base64
import hashlib
import html.parser
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sde_gen.report import training_sections, write_evaluation, write_run, write_samples
from sde_gen.report.page import LARGEST
from sde_gen.report.pictures import Budget
from sde_gen.report.run_folder import MOST_SETTINGS, flatten, read

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</pre></style></script><iframe src='http://evil'>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\x00\x1b[31m\u202eetad",
    "\ud800",
]
"""Untrusted values that a page must escape."""


class Page(html.parser.HTMLParser):
    """Elements and text of a page, as a browser reads them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attributes]

    def handle_data(self, data):
        self.text += data


def picture(path: Path, side: int = 16) -> Path:
    """A picture of noise, which is not compressible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def stored(folder: Path, about: dict[str, object], images: int = 128) -> None:
    """A checkpoint without tensors."""
    path = folder / "checkpoints" / f"{images:012d}"
    path.mkdir(parents=True)
    text = json.dumps({"images": images, "about": about, "sha256": {}})
    (path / "checkpoint.json").write_text(text)
    (path / "checkpoint.json.sha256").write_text(hashlib.sha256(text.encode()).hexdigest())


def log(folder: Path, *records: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def results(folder: Path, **more: object) -> Path:
    """A result of an evaluation."""
    content = {"metric": "bpd", "mean": 1.97022, "standard_error": 0.012072, "unit": "bits/dim", **more}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{content['metric']}.json".replace("/", "_").replace("\0", "")
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "digits-vp"
    config = {"engine": {"images": 128}, "sde": {"_target_": "sde_gen.sde.VP", "beta_max": 20.0}}
    stored(folder, {"config": config, "validation": 0.25, "command": "python -m sde_gen.train sde=vp"})
    levels = {"-4 to 0": 0.5, "0 to 4": None}
    log(
        folder,
        *(
            {"images": 64 * i, "loss": 1 / i, "lr": 1e-3, "grad_norm": 2.0, "error_by_log_snr": levels}
            for i in (1, 2)
        ),
    )
    for images in (64, 128):
        picture(folder / "previews" / f"{images:012d}.png")
    results(
        folder / "evaluation",
        spread={"probes": 0.0016},
        offset={"ODE": {"mean": -0.0008, "standard_error": 0.0004, "images": 21}},
        classes={
            "0": {"mean": 2.0, "standard_error": 0.1},
            "1": {"name": "one", "mean": 1.9, "standard_error": 0.1},
        },
        per_image=[1.0, 2.0, 2.1, 2.2, 2.3],
        command="python -m sde_gen.evaluate run=digits-vp",
    )
    samples = folder / "samples" / "heun-9"
    picture(samples / "samples.png")
    (samples / "samples.npz").touch()
    (samples / "samples.json").write_text(
        json.dumps({"n": 4, "nfe": 18.0, "command": "python -m sde_gen.sample"})
    )
    rows = [{"solver": "heun", "nfe": nfe, "median": 1 / nfe} for nfe in (10, 20)]
    (folder / "benchmark").mkdir()
    (folder / "benchmark" / "benchmark.json").write_text(json.dumps({"n": 8, "rows": rows}))
    return folder


def test_a_run_shows_training_pictures_results_and_configuration(run: Path) -> None:
    page = Page(write_run(run))
    for text in (
        *("digits-vp", "1.970 \N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}0.012", "python -m sde_gen.train sde=vp"),
        *(
            "Gradient norm",
            "Learning rate",
            "log-SNR -4 to 0",
            "after 64 images",
            "after 128 images",
            "heun-9",
        ),
        *("probes", "discretization of the ODE", "Error of solvers by NFE", "beta_max: 20.0", "validation"),
    ):
        assert text in page.text, text
    assert page.tags.count("img") == 3
    assert [tag for tag in page.tags if tag == "input"], "the slider"
    assert "could not be shown" not in page.text


@pytest.mark.parametrize(("images", "state"), [(127, "of 128"), (128, "finished"), (130, "finished")])
def test_a_training_is_finished_with_its_last_image(run: Path, images: int, state: str) -> None:
    log(run, {"images": images, "loss": 1.0})
    assert training_sections.tiles(read(run))[0].detail == state


def test_evaluations_and_samples_have_their_own_reports(run: Path) -> None:
    page = Page(write_evaluation(run / "evaluation", run))
    assert "python -m sde_gen.evaluate run=digits-vp" in page.text
    assert "bpd of single images" in page.text
    page = Page(write_samples(run / "samples" / "heun-9", run))
    assert "python -m sde_gen.sample" in page.text
    assert page.tags.count("img") == 1


def test_metrics_of_samples_show_draws_and_baselines(run: Path) -> None:
    """Results of another metric, as an evaluation of samples leaves them."""
    for nfe, value in ((10, 31.5), (50, 12.25)):
        quantities = {"FID@500": {"value": value, "standard_error": 0.5}, "bias": {"value": 3.125}}
        draw = {"quantities": quantities, "samples": 500}
        content = {
            **{"metric": "fid", "name": "FID@500", "mean": value, "standard_error": 0.3},
            **{
                "network_evaluations_per_sample": nfe,
                "draws": [draw, draw],
                "baselines": {"train against test": draw},
            },
        }
        (run / "evaluation" / f"fid-{nfe}.json").write_text(json.dumps(content))
    page = Page(write_run(run))
    sign = "\N{PLUS-MINUS SIGN}\N{NO-BREAK SPACE}"
    for text in (
        "FID@500, 10 NFE",
        "FID@500, 50 NFE",
        f"12.25 {sign}0.30",
        "draw 2",
        "train against test",
        "3.125",
    ):
        assert text in page.text, text


def test_metrics_of_posteriors_show_the_model_its_baselines_and_their_plot(run: Path) -> None:
    """A result without draws: the numbers of the model are the first row, and every number has a column."""
    for path in (run / "evaluation").glob("*.json"):
        path.unlink()

    def numbers(*values: float) -> dict[str, Any]:
        names = ("TARP", "p-value")
        pairs = zip(names, values, strict=True)
        return {name: {"value": value, "standard_error": None} for name, value in pairs}

    baselines = {"null: half the spread": {"quantities": numbers(0.25, 0.75)}}
    content = {"metric": "tarp", "name": "TARP", "mean": 0.5, "standard_error": 0.1, "baselines": baselines}
    (run / "evaluation" / "tarp-1.json").write_text(
        json.dumps({**content, "quantities": numbers(0.5, 0.875)})
    )
    before = Page(write_evaluation(run / "evaluation", run)).tags.count("img")
    Image.new("L", (4, 4)).save(run / "evaluation" / "tarp-1.png")
    page = Page(write_evaluation(run / "evaluation", run))
    assert page.tags.count("img") == before + 1
    table = "".join(page.text.split("draws and baselines")[1].split())
    assert table.startswith(
        "drawor baselineTARPp-valuethe model0.50.875null: half the spread0.250.75".replace(" ", "")
    )


def test_columns_without_entries_are_left_out(run: Path) -> None:
    for path in (run / "evaluation").glob("*.json"):
        path.unlink()
    draws = [{"seeds": [0, 9], "samples": 10, "quantities": {}}] * 3
    results(run / "evaluation", metric="fid", unit="", draws=draws)
    text = Page(write_evaluation(run / "evaluation", run)).text
    assert "3 x 10 samples" in text
    assert "unit" not in text.split("Training:")[0]


def test_metrics_of_a_training_have_a_plot(run: Path) -> None:
    one = {"value": 7.5, "standard_error": 0.5, "larger_is_better": False}
    log(run, *({"images": i, "metrics": {"fid": one}} for i in (1, 2)), {"images": 3, "metrics": [EVIL]})
    page = Page(write_run(run))
    assert "fid of the training" in page.text


def test_a_page_loads_nothing_and_runs_only_its_script(run: Path) -> None:
    path = write_run(run)
    text = path.read_text()
    page = Page(path)
    assert page.tags.count("script") == 1
    assert not {"link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert all(value.startswith("data:image/") for name, value in page.attributes if name in ("src", "href"))
    assert "url(" not in text
    assert "@import" not in text
    (policy,) = (value for name, value in page.attributes if name == "content" and "default-src" in value)
    (script,) = re.findall("<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ")[0] == "default-src 'none'"
    assert f"script-src 'sha256-{digest}'" in policy


def evil_node(index: int) -> dict[str, object]:
    return {evil: {"value": evil, evil: [evil, index]} for evil in EVIL}


def test_untrusted_content_is_escaped(tmp_path: Path) -> None:
    folder = tmp_path / "<b>run"
    names = {evil: 0.5 for evil in EVIL}
    about = {
        "config": {"sde": evil_node(0), "engine": {"images": EVIL[0]}},
        "versions": names,
        "facts": names,
    }
    stored(folder, {**about, "command": EVIL[2], "data": {"train": names}, "execution": names})
    log(
        folder,
        *({"images": i, "loss": EVIL[0] if i == 2 else 1.0, "error_by_log_snr": names} for i in (1, 2, 3)),
    )
    for index, evil in enumerate(EVIL):
        more = {key: evil for key in ("unit", "what", "command", "images")}
        settings = {"metric": evil_node(1), "split": evil}
        path = results(
            folder / "evaluation",
            **more,
            settings=settings,
            spread=names,
            offset={evil: {"mean": evil}},
            classes={**{evil: {"name": evil, "mean": 1.0} for evil in EVIL}},
            not_known_to_be_small=names,
        )
        path.rename(path.with_name(f"{index}.json"))
    samples = folder / "samples" / "<i>samples"
    picture(samples / "samples.png")
    (samples / "samples.npz").touch()
    content = {"settings": evil_node(2), "details": names, "command": EVIL[1], "nfe": EVIL[0]}
    (samples / "samples.json").write_text(json.dumps(content))
    (folder / "benchmark").mkdir()
    rows = [{"solver": evil, "nfe": 5, "median": 0.1} for evil in EVIL] + [evil_node(3), 7]
    (folder / "benchmark" / "benchmark.json").write_text(json.dumps({"n": EVIL[0], "rows": rows}))
    pages = [
        write_run(folder),
        write_evaluation(folder / "evaluation", folder),
        write_samples(samples, folder),
    ]
    for path in pages:
        page = Page(path)
        assert page.tags.count("script") == 1
        assert "iframe" not in page.tags
        assert not any(name.startswith("on") for name, _ in page.attributes)
        assert all(value.startswith("data:image/png") for name, value in page.attributes if name == "src")
        assert EVIL[0] in page.text
        assert EVIL[3] in page.text
    assert "<b>run" in Page(pages[0]).text


def test_damaged_files_are_noted_and_the_rest_is_shown(run: Path) -> None:
    (run / "log.jsonl").write_text('{"images": 64, "loss": 0.5}\nnot json\n[1]\nnull\n{"images"\n')
    (run / "evaluation" / "kid.json").write_text("{")
    (run / "evaluation" / "list.json").write_text("[" * 100_000)
    (run / "previews" / "000000000064.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 2**21)
    (run / "previews" / "000000000128.png").write_text("<svg onload='alert(1)'>")
    (run / "benchmark" / "benchmark.json").unlink()
    os.mkfifo(run / "benchmark" / "benchmark.json")
    page = Page(write_run(run))
    for name in (
        "log.jsonl",
        "kid.json",
        "list.json",
        "000000000064.png",
        "000000000128.png",
        "benchmark.json",
    ):
        assert f"{name} cannot be" in page.text, name
    assert "1.970" in page.text
    assert page.tags.count("img") == 1


def test_a_run_without_checkpoints_or_results_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("sde:\n  _target_: sde_gen.sde.VP\nengine: {images: 10}\n")
    log(tmp_path, {"images": 5, "loss": 0.5})
    page = Page(write_run(tmp_path))
    assert "of 10" in page.text
    (tmp_path / "config.yaml").write_text("!!python/object/apply:os.system [touch evil]")
    assert "config.yaml cannot be read" in Page(write_run(tmp_path)).text
    with pytest.raises(ValueError, match="there is no run folder"):
        write_run(tmp_path / "nothing")


@pytest.mark.long
def test_a_page_stays_below_its_limit(run: Path) -> None:
    for index in range(40):
        picture(run / "previews" / f"{1000 + index:012d}.png", 256)  # 200 kB each
    for index in range(10):
        picture(run / "samples" / f"many-{index}" / "samples.png", 800)  # 2 MB each
        (run / "samples" / f"many-{index}" / "samples.npz").touch()
    path = write_run(run)
    assert path.stat().st_size < LARGEST
    page = Page(path)
    assert page.tags.count("img") > 12, "reduced, not left out"
    assert "after 1,039 images" in page.text


def test_large_pictures_are_reduced_and_small_ones_kept(tmp_path: Path) -> None:
    small = picture(tmp_path / "small.png")
    pictures = Budget()
    uri = pictures.embed(small)
    assert uri is not None
    assert base64.b64decode(uri.partition(",")[2]) == small.read_bytes()
    uri = pictures.embed(picture(tmp_path / "large.png", 800), 2**17)
    assert uri is not None
    assert len(uri) <= 2**17
    assert Budget(left=10).embed(small) is None
    assert not pictures.notes


def test_settings_are_flattened_up_to_a_limit() -> None:
    assert dict(flatten({"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": None}], "g": True})) == {
        "a.b": "1",
        "a.c": "{}",
        "d": "[1, 2]",
        "e.0.f": "null",
        "g": "true",
    }
    bomb: object = "x"
    for _ in range(40):
        bomb = {"a": bomb, "b": bomb}  # 2**40 settings, as aliases of YAML make them
    with pytest.raises(ValueError, match=f"more than {MOST_SETTINGS}"):
        dict(flatten(bomb))


def test_pictures_of_a_page_share_its_size(tmp_path: Path) -> None:
    path, pictures = picture(tmp_path / "a.png", 32), Budget(left=10_000)
    shown = [pictures.embed(path) for _ in range(6)]
    assert shown[0] is not None
    assert shown[-1] is None
    assert sum(len(uri) for uri in shown if uri is not None) + pictures.left == 10_000
    assert pictures.notes[-1] == "a.png is left out: the page would be too large"


@pytest.mark.parametrize("doubtful", [True, False])
def test_a_bias_that_is_not_small_is_marked(run: Path, doubtful: bool) -> None:
    offset = {"ODE": {"mean": -0.3, "standard_error": 0.1, "images": 4}}
    results(run / "evaluation", offset=offset, not_known_to_be_small=["ODE"] if doubtful else [])
    text = Page(write_evaluation(run / "evaluation", run)).text
    assert ("NOT small beside the standard error" in text) == doubtful
