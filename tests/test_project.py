"""What holds for the project as a whole: walls between packages, one list of requirements, clean notebooks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch", "types-PyYAML": "types-pyyaml", "jupyter-core": "jupyter_core"}
IMPORTED = re.compile(r"^\s*(?:from|import)\s+([A-Za-z_][\w.]*)", re.MULTILINE)


def imports(folder: str) -> dict[str, set[str]]:
    files = (ROOT / folder).rglob("*.py")
    return {str(file.relative_to(ROOT)): set(IMPORTED.findall(file.read_text())) for file in files}


def offenders(folder: str, package: str, but: str = "\0") -> list[str]:
    return [
        file
        for file, modules in imports(folder).items()
        if not file.startswith(but) and any(m == package or m.startswith(package + ".") for m in modules)
    ]


def test_training_knows_nothing_of_views() -> None:
    assert offenders("sauron_train", "sauron_viz") == []


def test_only_the_data_package_knows_torchio() -> None:
    assert offenders("sauron_train", "torchio", but="sauron_train/data/") == []
    assert offenders("sauron_train/data", "torchio"), "the rule would hold for nothing"


def test_views_read_runs_only_through_the_contract() -> None:
    allowed = (
        "sauron_train.runlog",
        "sauron_train.analysis",
        "sauron_train.errors",
        "sauron_train.config",
        "sauron_train.imports",
        "sauron_train.entry",
        "sauron_train.words",
    )
    used = {m for modules in imports("sauron_viz").values() for m in modules if m.split(".")[0] == "sauron_train"}
    assert used
    # What a training is asked for in; none of it trains.
    asking = ("sauron_train.recipes", "sauron_train.keys", "sauron_train.mistakes", "sauron_train.data")
    assert {m for m in used if m != "sauron_train" and not m.startswith((*allowed, *asking))} == set()
    assert offenders("sauron_viz", "sauron_train.recipes", but="sauron_viz/training/") == []
    assert offenders("sauron_viz", "sauron_train.data", but="sauron_viz/training/") == []
    assert offenders("sauron_viz", "torch") == []


@pytest.mark.parametrize(
    "module",
    [
        "sauron_train",
        "sauron_train.cli",
        "sauron_train.data.datasets",
        "sauron_train.data.split",
        "sauron_train.study.main",
        "sauron_train.study.cluster",
        "sauron_train.runlog",
        "sauron_train.analysis.distances",
        "sauron_viz.apps",
    ],
)
def test_these_load_without_torch(module: str) -> None:
    pytest.importorskip("ipywidgets")
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_image_of_ones_own_does_not_wait_for_monai() -> None:
    code = "import sys, sauron_train.derive_maps; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_conda_and_pip_ask_for_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["viz"], *extras["dev"]]
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    listed = [d for d in conda if isinstance(d, str)] + next(d["pip"] for d in conda if isinstance(d, dict))
    assert f"python{project['requires-python']}" in listed

    def conda_name(requirement: str) -> str:
        name = re.match(r"[\w-]+", requirement)[0]  # type: ignore[index]
        return CONDA_NAMES.get(name, name) + requirement[len(name) :]

    own = {"pip", f"python{project['requires-python']}", "--editable ."}
    from_pip = {CONDA_NAMES.get(r, r) for r in map(conda_name, wanted)}
    assert from_pip == set(listed) - own


def test_the_constraint_fits_the_requirement() -> None:
    pins = re.findall(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert len(pins) == 1
    assert int(pins[0].split(".")[0]) == 2


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_have_few_cells_and_no_outputs(notebook: Path) -> None:
    cells = [c for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == "code"]
    assert 1 <= len(cells) <= 5
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells)


def test_no_pickle_is_read() -> None:
    for folder in ("sauron_train", "sauron_viz"):
        for file in (ROOT / folder).rglob("*.py"):
            text = file.read_text()
            assert "allow_pickle=True" not in text, file
            assert not re.search(r"\bpickle\.load", text), file
            for call in re.findall(r"torch\.load\([^)]*\)", text):
                assert "weights_only=True" in call, file


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))])
def test_links_lead_somewhere(page: str) -> None:
    file = ROOT / page
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", file.read_text())
    for link in (link for link in links if "://" not in link):
        assert (file.parent / link).exists(), link


def test_scoring_does_not_wait_for_what_it_does_not_use() -> None:
    code = (
        "import sys; from sauron_train.monai_parts import surfaces; surfaces(); "
        "sys.exit('rfc3987_syntax' in sys.modules or 'monai' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
