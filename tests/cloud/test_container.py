import json
from pathlib import Path

import pytest

from bintally.cloud.container import (
    SHOWN,
    Container,
    deliver_model,
    deliver_reports,
    failure_file,
    find_data,
    forget_failure,
    in_container,
    read_container,
    rendezvous,
    wait_for_name,
    write_failure,
)
from bintally.data.folders import NAMES
from bintally.errors import BintallyError, SettingsError
from tests.cloud.opt_ml import lay_out


def found(root: Path, **more: str) -> Container:
    return read_container({"BINTALLY_OPT_ML": str(root), **more})


def channel(root: Path, name: str, *inner: str) -> Path:
    folder = root / "input/data" / name
    folder.mkdir(parents=True)
    for one in inner:
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).write_bytes(b"x")
    return folder


def test_what_the_files_say(tmp_path: Path) -> None:
    lay_out(tmp_path, {"epochs": "3"}, hosts=("algo-2", "algo-1"), host="algo-1")
    channel(tmp_path, "data")
    place = found(tmp_path)
    assert place.hyperparameters == {"epochs": "3"}
    assert place.channels == {"data": tmp_path / "input/data/data"}
    assert (place.host, place.rank, place.hosts, place.interface) == ("algo-1", 1, ("algo-2", "algo-1"), "lo")
    assert place.model == tmp_path / "model"
    assert place.output_data == tmp_path / "output/data"
    assert place.failure == tmp_path / "output/failure"
    assert place.run == tmp_path / "checkpoints/run"


def test_only_channels_of_the_configuration_count(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    channel(tmp_path, "data")
    channel(tmp_path, "data-manifest")
    (tmp_path / "input/config/inputdataconfig.json").write_text('{"data": {"TrainingInputMode": "File"}}')
    assert list(found(tmp_path).channels) == ["data"]
    (tmp_path / "input/config/inputdataconfig.json").write_text('{"data": {"TrainingInputMode": "Pipe"}}')
    with pytest.raises(SettingsError, match="the channel data is given as a pipe"):
        found(tmp_path)


def test_what_a_toolkit_says_comes_first(tmp_path: Path) -> None:
    lay_out(tmp_path, {"epochs": "3"})
    (tmp_path / "elsewhere").mkdir()
    place = found(
        tmp_path,
        SM_HPS='{"epochs": 4, "train.channels_last": true, "recipe": "demo"}',
        SM_MODEL_DIR=str(tmp_path / "m"),
        SM_OUTPUT_DIR=str(tmp_path / "o"),
        SM_OUTPUT_DATA_DIR=str(tmp_path / "o/d"),
        SM_CHANNEL_TRAIN=str(tmp_path / "elsewhere"),
        SM_HOSTS='["a", "b"]',
        SM_CURRENT_HOST="b",
        SM_NUM_GPUS="4",
        SM_NETWORK_INTERFACE_NAME="eth7",
    )
    assert place.hyperparameters == {"epochs": "4", "train.channels_last": "true", "recipe": "demo"}
    assert (place.model, place.output_data, place.failure) == (
        tmp_path / "m",
        tmp_path / "o/d",
        tmp_path / "o/failure",
    )
    assert place.channels == {"train": tmp_path / "elsewhere"}
    assert (place.rank, place.num_gpus, place.interface) == (1, 4, "eth7")


def test_what_is_meant_for_the_toolkit_is_left_out_and_quotes_come_off(tmp_path: Path) -> None:
    lay_out(
        tmp_path,
        {
            "sagemaker_program": '"train.py"',
            "_tuning_objective_metric": "validation:nll",
            "recipe": '"seed"',
            "epochs": "3",
            "odd": '"',
        },
    )
    assert found(tmp_path).hyperparameters == {"recipe": "seed", "epochs": "3", "odd": '"'}


def test_whether_this_is_a_container_at_all(tmp_path: Path) -> None:
    assert not in_container({"BINTALLY_OPT_ML": str(tmp_path)})
    assert in_container({"BINTALLY_OPT_ML": str(tmp_path), "SM_HPS": "{}"})
    lay_out(tmp_path, {})
    assert in_container({"BINTALLY_OPT_ML": str(tmp_path)})
    assert failure_file({"BINTALLY_OPT_ML": str(tmp_path)}) == tmp_path / "output/failure"
    assert failure_file({}) == Path("/opt/ml/output/failure")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hyperparameters.json", "{", "cannot read .*hyperparameters"),
        ("hyperparameters.json", "[]", "holds no JSON object"),
        ("resourceconfig.json", '{"hosts": ["a"], "current_host": "b"}', "this host, b, is none of a"),
    ],
)
def test_damaged_surroundings(tmp_path: Path, name: str, text: str, says: str) -> None:
    lay_out(tmp_path, {})
    (tmp_path / "input/config" / name).write_text(text)
    with pytest.raises(SettingsError, match=says):
        found(tmp_path)


def test_a_toolkit_that_talks_nonsense(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="the variable SM_HPS is no JSON"):
        found(tmp_path, SM_HPS="{")


def test_photos_are_found_in_whatever_channel_they_are(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    channel(tmp_path, "backbone", "split.parquet")
    train = channel(tmp_path, "train", "3/a.jpg", "10+/b.jpg")
    validation = channel(tmp_path, "validation", "3/a.jpg")
    assert find_data(found(tmp_path)) == {"train": train, "validation": validation}
    pushed = channel(tmp_path, "bins", "split.parquet", "train/3/a.jpg")
    assert find_data(found(tmp_path)) == pushed
    data = channel(tmp_path, "data", "split.parquet")
    assert find_data(found(tmp_path)) == data


def test_class_folders_of_all_parts_in_one_channel(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    data = channel(tmp_path, "training", "train/3/a.jpg", "validation/3/a.jpg")
    assert find_data(found(tmp_path)) == data


def test_no_photos(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    with pytest.raises(SettingsError, match="The channels are: none"):
        find_data(found(tmp_path))
    channel(tmp_path, "data", "a.csv", "b.csv", "c.csv", "d.csv")
    channel(tmp_path, "more")
    with pytest.raises(SettingsError, match=r"data \(a.csv, b.csv, c.csv, …\); more \(empty\)"):
        find_data(found(tmp_path))


def test_every_part_channel_has_its_part() -> None:
    from bintally.cloud.container import PART_CHANNELS

    assert set(PART_CHANNELS) == set(NAMES)


def test_one_host_needs_no_rendezvous_and_several_agree(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    assert rendezvous(found(tmp_path), {}) == {}
    lay_out(tmp_path, {}, hosts=("algo-1", "algo-2"), host="algo-2")
    told = rendezvous(found(tmp_path), {"NODE_RANK": "7"})
    assert told["MASTER_ADDR"] == "algo-1"
    assert told["NODE_RANK"] == "1"
    assert told["GLOO_SOCKET_IFNAME"] == "lo"
    assert int(told["MASTER_PORT"]) > 1024
    given = rendezvous(found(tmp_path), {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "5"})
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("127.0.0.1", "5")
    assert "GLOO_SOCKET_IFNAME" not in rendezvous(found(tmp_path, SM_NETWORK_INTERFACE_NAME="none0"), {})


def test_names_are_waited_for() -> None:
    wait_for_name("127.0.0.1", 1)
    with pytest.raises(BintallyError, match=r"the host no\.such\.host\.invalid is not known by its name"):
        wait_for_name("no.such.host.invalid", 0.2)


def test_a_failure_is_told_in_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "output/failure"
    write_failure(path, SettingsError("the recipe\nis not known"))
    assert path.read_text() == "the recipe is not known\n"
    try:
        raise KeyError("oops" * 1000)
    except KeyError as error:
        write_failure(path, error)
    text = path.read_text()
    assert text[:SHOWN].startswith("KeyError: 'oopsoops")
    assert text[SHOWN - 1] == "…"
    assert "Traceback (most recent call last)" in text
    forget_failure(path)
    forget_failure(path)
    assert not path.exists()


def test_the_model_and_the_reports_go_where_they_belong(tmp_path: Path) -> None:
    lay_out(tmp_path, {})
    place = found(tmp_path)
    exported = tmp_path / "exported"
    exported.mkdir()
    for name in ("model.json", "model.onnx"):
        (exported / name).write_text(name)
    deliver_model(exported, place)
    assert {one.name for one in place.model.iterdir()} == {"model.json", "model.onnx"}
    deliver_reports(place)  # nothing is there yet
    for name in ("history.csv", "watch/watch.html", "model.safetensors", "checkpoints/last.safetensors", ".x.part"):
        (place.run / name).parent.mkdir(parents=True, exist_ok=True)
        (place.run / name).write_text(name)
    place.profile.mkdir()
    (place.profile / "profile.json").write_text(json.dumps({}))
    deliver_reports(place)
    kept = {one.relative_to(place.output_data).as_posix() for one in place.output_data.rglob("*") if one.is_file()}
    assert kept == {"history.csv", "watch/watch.html", "profile/profile.json"}
