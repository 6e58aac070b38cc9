"""Study files: what they ask for, run by run, and sentences for what they cannot mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sauron_train import recipes
from sauron_train.cli import app
from sauron_train.config import parse
from sauron_train.errors import ConfigError, RunError
from sauron_train.keys import with_overrides
from sauron_train.study.file import load
from sauron_train.study.folder import COPY, check_folder, keep_copy, working_in
from sauron_train.study.plan import Asked, Planned, as_changes, by_arm, plan
from sauron_train.study.processes import visible_gpus
from sauron_train.study.results import arm_rows, run_rows
from sauron_train.study.tabular import latex, markdown

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yaml"))
TWO = {"recipe": "phantom2d", "arms": {"baseline": {"prune.enabled": False, "loss.lambda": 0}, "sauron": {}}}


def written(folder: Path, **keys: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(TWO | keys))
    return path


def planned(path: Path, **asked: object) -> list[Planned]:
    values = {"out": Path("/runs"), "recipes": {}, "data": {"": "/data"}, **asked}
    return plan(load(path), Asked(**values))  # type: ignore[arg-type]


def bare(out: Path) -> Asked:
    return Asked(out, {}, {})


def test_every_shipped_study_can_be_trained_as_in_the_paper() -> None:
    assert [path.stem for path in SHIPPED] == ["benchmark", "clusterability", "normalization", "unpruned_maps"]
    modes = {path.stem: {run.arm: run.config.mode for run in planned(path)} for path in SHIPPED}
    assert modes == {
        "benchmark": {"baseline": "baseline", "sauron": "maps", "until_last_cut": "maps", "lambda_0": "λ=0"}
        | {"fpgm": "fpgm", "l1": "l1"},
        "clusterability": {"delta_opt": "maps, not pruned", "control": "baseline"},
        "normalization": {"baseline": "baseline", "maps": "maps", "none": "none", "distances": "distances"},
        "unpruned_maps": {"rats": "baseline", "acdc": "baseline", "kits19": "baseline"},
    }
    for path in SHIPPED:
        for run in planned(path):
            if run.begin[0] == "run":
                changes = [run.begin[i + 1] for i, word in enumerate(run.begin) if word == "--set"]
                assert parse(with_overrides(recipes.load(run.begin[2]), changes)) == run.config, "the command means it"


def test_seeds_come_before_arms_and_rivals_after_what_they_need(tmp_path: Path) -> None:
    arms = TWO["arms"] | {"l1": {"rival": "l1", "fine_tune": 0.5, "optimizer.lr": 0.01}}  # type: ignore[operator]
    runs = planned(written(tmp_path, arms=arms, seeds=[3, 4], folds=2))
    assert [run.name for run in runs][:6] == [
        *("baseline_seed_3_fold_0", "sauron_seed_3_fold_0", "l1_seed_3_fold_0"),
        *("baseline_seed_3_fold_1", "sauron_seed_3_fold_1", "l1_seed_3_fold_1"),
    ]
    assert len(runs) == len({run.name for run in runs}) == 12
    rival = runs[2]
    assert rival.needs == ("baseline_seed_3_fold_0", "sauron_seed_3_fold_0")
    assert rival.config.epochs == 22
    assert rival.config.optimizer.lr == 0.01
    assert (rival.config.seed, rival.config.data.folds, rival.config.data.fold) == (3, 2, 0)
    assert {(run.config.data.fold, run.config.seed) for run in runs} == {(f, s) for f in (0, 1) for s in (3, 4)}


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"set": {"seed": 3}}, "seed is not for the study to set, as in 'seed=3': give seeds in its file"),
        ({"grid": {"seed": [1, 2]}}, "give seeds in its file"),
        ({"set": {"data": {"folds": 3}}, "folds": 2}, "give folds in its file"),
    ],
)
def test_what_it_sets_itself_is_refused(tmp_path: Path, more: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        planned(written(tmp_path, **more))


def test_rivals_are_trained_for_epochs_or_a_share_of_them(tmp_path: Path) -> None:
    for given, epochs in ((1, 2), (1.0, 43), (0.25, 11), (30, 31)):
        arms = TWO["arms"] | {"l1": {"rival": "l1", "fine_tune": given}}  # type: ignore[operator]
        (rival,) = (run for run in planned(written(tmp_path, arms=arms)) if run.arm == "l1")
        assert rival.config.epochs == epochs, "the first is the cut"
    with pytest.raises(ConfigError, match="fine_tune"):
        planned(written(tmp_path, arms=TWO["arms"] | {"l1": {"rival": "l1", "fine_tune": 1.5}}))  # type: ignore[operator]


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    runs = planned(written(tmp_path, grid={"loss.window": [2, 3], "prune.threshold_max": [0.25, 0.5]}))
    assert len(runs) == 8
    assert "sauron_window_3_threshold_max_0.25_seed_0" in {run.name for run in runs}
    assert {(run.config.loss.window, run.config.prune.threshold_max) for run in runs} == {
        (window, threshold) for window in (2, 3) for threshold in (0.25, 0.5)
    }
    for run in (run for run in runs if run.setting == "sauron"):
        (base,) = (other for other in runs if other.setting == "baseline" and run.is_beside(other))
        assert base.config.loss.window == run.config.loss.window, "what it is compared with"
        assert base.config.prune.threshold_max == run.config.prune.threshold_max


def test_what_an_arm_sets_itself_is_not_gone_through(tmp_path: Path) -> None:
    grid = {"loss.lambda": [0.1, 1], "loss.window": [2, 3]}
    runs = planned(written(tmp_path, grid=grid))
    assert [run.name for run in runs if run.setting == "baseline"] == [
        "baseline_window_2_seed_0",
        "baseline_window_3_seed_0",
    ]
    assert {run.config.loss.lambda_ for run in runs if run.setting == "baseline"} == {0}
    sauron = [run for run in runs if run.setting == "sauron"]
    assert len(sauron) == 4
    for run in sauron:
        (base,) = (other for other in runs if other.setting == "baseline" and run.is_beside(other))
        assert base.config.loss.window == run.config.loss.window


def test_an_arm_that_sets_a_key_is_beside_the_baseline_of_its_value(tmp_path: Path) -> None:
    arms = {"baseline": {"prune.enabled": False}, "three": {"loss.window": 3}}
    runs = planned(written(tmp_path, arms=arms, grid={"loss.window": [2, 3]}))
    (three,) = (run for run in runs if run.setting == "three")
    assert [run.name for run in runs if run is not three and three.is_beside(run)] == ["baseline_window_3_seed_0"]


def test_a_preset_lies_over_what_comes_before_it(tmp_path: Path) -> None:
    study, out = load(written(tmp_path, set={"optimizer.lr": 0.1})), tmp_path / "out"
    asked = Asked(out, {}, {"": "/data"}, ("preset=paper", "optimizer.lr=0.5"))
    keep_copy(out, study, asked)
    again = plan(load(out / COPY), bare(out))
    assert {run.config.optimizer.lr for run in again} == {0.5}
    assert [run.config for run in again] == [run.config for run in plan(study, asked)]


def test_the_command_line_wins_over_the_file_and_arms_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, set={"epochs": 5, "prune.first_epoch": 2}, data="/from/file")
    study = load(path)
    baseline, sauron = planned(
        path,
        changes=("epochs=7", "prune.enabled=true"),
        recipes=by_arm(["sunnybrook2d", "sauron=phantom2d"], study, "--recipe"),
        data=by_arm(["sauron=/other"], study, "--data"),
    )
    assert (baseline.config.name, sauron.config.name) == ("sunnybrook2d", "phantom2d")
    assert (baseline.config.epochs, baseline.config.prune.enabled) == (7, False)
    assert (baseline.data, sauron.data) == ("/from/file", "/other")
    with pytest.raises(ConfigError, match="--data is given twice for all arms"):
        by_arm(["/a", "/b"], study, "--data")
    with pytest.raises(ConfigError, match="--data saurn=/a: the study has no arm 'saurn'; did you mean 'sauron'"):
        by_arm(["saurn=/a"], study, "--data")
    (tmp_path / "seed=3").mkdir()
    for folder in ("/data/seed=3", str(tmp_path / "seed=3")):
        assert by_arm([folder], study, "--data") == {"": folder}
    monkeypatch.chdir(tmp_path)
    assert by_arm(["seed=3"], study, "--data") == {"": "seed=3"}


def test_the_table_of_runs_tells_the_values_of_the_grid(tmp_path: Path) -> None:
    path = written(tmp_path, grid={"loss.window": [2, 3], "data.patch": [[32, 32], [64, 64]]})
    runs = planned(path, out=tmp_path / "out")
    for run in runs[1:]:
        run.folder.mkdir(parents=True)
    table = run_rows(runs, None)
    assert list(table["status"]) == ["not begun", *["damaged"] * 7]
    assert len(arm_rows(table)) == 8, "an arm without a finished run is not left out"
    assert list(table.columns[:5]) == ["run", "arm", "data.patch", "loss.window", "seed"]
    assert list(table["loss.window"]) == [2, 3] * 4
    assert list(table["data.patch"])[1:3] == [[32, 32], [64, 64]]
    arms = {"baseline": {"prune.enabled": False}, "three": {"loss.window": 3}}
    table = run_rows(planned(written(tmp_path, arms=arms, grid={"loss.window": [2, 3]}), out=tmp_path / "none"), None)
    assert list(table["loss.window"]) == [2, 3, 3]


def test_its_copy_is_a_study_file_that_asks_for_the_same(tmp_path: Path) -> None:
    more = {"other": {"data": "/other", "loss": {"window": 3}}, "l1": {"rival": "l1", "fine_tune": 0.5}}
    keys = {"set": {"epochs": 5, "prune": {"first_epoch": 2}}, "seeds": [3, 4], "folds": 2, "data": "/data"}
    study = load(written(tmp_path, arms=TWO["arms"] | more, **keys))  # type: ignore[operator]
    out = tmp_path / "out"
    for asked in (
        Asked(out, {"": "sunnybrook2d", "sauron": "phantom2d"}, {"": "/a", "baseline": "/b"}, ("epochs=30",)),
        Asked(out, {"sauron": "sunnybrook2d"}, {"sauron": "/a"}, ("optimizer.lr=1e-3",)),
    ):
        keep_copy(out, study, asked)
        again = load(out / COPY)
        assert again.name == "mine"
        # The words of the commands differ, because a key that was changed is there once.
        first, second = (
            [replace(run, begin=()) for run in runs] for runs in (plan(study, asked), plan(again, bare(out)))
        )
        assert first == second
        assert {run.data for run in first} >= {"/a"}


def test_only_some_arms_with_what_their_rivals_need() -> None:
    benchmark = next(path for path in SHIPPED if path.stem == "benchmark")
    runs = planned(benchmark, only=("fpgm",))
    assert {run.arm for run in runs if run.wanted} == {"baseline", "sauron", "fpgm"}
    maps = next(path for path in SHIPPED if path.stem == "unpruned_maps")
    assert [run.arm for run in planned(maps, only=("acdc",), data={"acdc": "/acdc"}) if run.wanted] == ["acdc"]
    with pytest.raises(ConfigError, match="no data set is named for arm kits19; give --data DATA, or --data kits19="):
        planned(maps, data={"acdc": "/acdc", "rats": "/rats"})
    with pytest.raises(ConfigError, match="--only rat: the study has no arm 'rat'; did you mean 'rats'"):
        planned(maps, only=("rat",))


def test_keys_are_written_as_they_are_read() -> None:
    keys = {
        "data": {"patch": [64, 64], "group_by": "^(.*)_E[DS]$"},
        "prune.last_epoch": None,
        "loss.normalization": "off",
    }
    read = with_overrides({}, as_changes(keys))
    assert read == {
        "data": {"patch": [64, 64], "group_by": "^(.*)_E[DS]$"},
        "prune": {"last_epoch": None},
        "loss": {"normalization": "off"},
    }


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"arm": {}}, "unknown key 'arm'; did you mean 'arms'"),
        ({"xyzzy": 1}, "unknown key 'xyzzy'; docs/studies.md lists all keys"),
        ({"arms": {}}, r"arms must have at least 1 of what it lists \(it is {}\)"),
        ({"arms": {"a b": {}}}, "arm 'a b' names folders"),
        ({"arms": {"a": 3}}, "arm a must be a table of keys and values"),
        ({"arms": {"a": {"loss.lamda": 1}}}, r"arm a: unknown key 'loss\.lamda'; did you mean 'loss\.lambda'"),
        ({"arms": {"a": {"recipe": "phantom2"}}}, "arm a: there is no recipe 'phantom2'; did you mean 'phantom2d'"),
        ({"arms": {"a": {}, "b": {"match": "a"}}}, "arm b has match, which is for rivals; say which one it is"),
        ({"arms": {"a": {}, "b": {"rival": "l2", "of": "a"}}}, "arm b: rival must be 'fpgm' or 'l1'"),
        ({"arms": {"sauron": {}, "b": {"rival": "l1"}}}, "'of' of arm b is 'baseline', which is no arm"),
        ({"arms": {"base": {}, "b": {"rival": "l1", "of": "bas", "match": "base"}}}, "did you mean 'base'"),
        (
            {"arms": {"a": {"prune.enabled": False}, "b": {"rival": "l1", "of": "a", "match": "a"}}},
            "arm b is matched with a, which is not pruned",
        ),
        ({"arms": {"a": {}, "b": {"rival": "l1", "of": "a", "match": "a"}}, "grid": {"seed": [1]}}, "is a rival, for"),
        ({"grid": {"loss.window": []}}, r"grid\.loss\.window must have at least 1 of what it lists \(it is \[\]\)"),
        ({"grid": {"loss.window": 2}}, r"grid\.loss\.window must be a list in brackets \(it is 2\)"),
        ({"grid": {"loss.window": [2, 2]}}, "two runs of the study would be called baseline_window_2_seed_0"),
        ({"seeds": [0, 0]}, "names one twice"),
        ({"seeds": [-1]}, "seeds.0 must be at least 0"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"baseline": "sauro"}, "baseline is 'sauro', which is no arm; did you mean 'sauron'"),
        ({"ends_in": ["table5"]}, "ends_in.0 must be 'comparison', 'table4' or 'maps'"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, keys: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        planned(written(tmp_path, **keys))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHIPPED[0].parents[1])
    with pytest.raises(ConfigError, match=r"no study file normalization; did you mean studies/normalization\.yaml"):
        load(Path("normalization"))
    with pytest.raises(ConfigError, match="those that come with Sauron are in studies/"):
        load(tmp_path / "nothing.yaml")


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    study, asked = load(written(tmp_path)), Asked(tmp_path / "out", {}, {"": "/data"}, ("epochs=30",))
    out = asked.out
    keep_copy(out, study, asked)
    check_folder(out, plan(study, asked))
    with working_in(out), pytest.raises(RunError, match="another `sauron-train study` works in"), working_in(out):
        pass
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(RunError, match="is there already and no study; choose another --out"):
        check_folder(tmp_path / "full", [])
    copied = tmp_path / "copied"
    (copied / "sauron_seed_0").mkdir(parents=True)
    check_folder(copied, planned(written(tmp_path)))
    (tmp_path / "full" / "run.json").touch()
    with pytest.raises(RunError, match="is a run folder"):
        check_folder(tmp_path / "full", [])


def test_gpus_are_shared_out(tmp_path: Path) -> None:
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / bus).mkdir()
    assert visible_gpus({}, tmp_path) == ["0", "1"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3, 5"}, tmp_path) == ["3", "5"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
    assert visible_gpus({}, tmp_path / "no driver") == []


def test_tables_as_text() -> None:
    headings, rows = ["arm", "Δ Dice"], [["lambda_0", "−0.01 ± 0.002"], ["a|b", "5 %"]]
    assert markdown(headings, rows).splitlines() == [
        "| arm | Δ Dice |",
        "| --- | ---: |",
        "| lambda_0 | −0.01 ± 0.002 |",
        r"| a\|b | 5 % |",
    ]
    assert latex(headings, rows).splitlines() == [
        r"\begin{tabular}{lr}",
        r"\hline",
        r"arm & $\Delta$ Dice \\",
        r"\hline",
        r"lambda\_0 & $-$0.01 $\pm$ 0.002 \\",
        r"a|b & 5 \% \\",
        r"\hline",
        r"\end{tabular}",
    ]


def test_commands_are_registered() -> None:
    assert {"study", "rival"} <= {command.name for command in app.registered_commands}
