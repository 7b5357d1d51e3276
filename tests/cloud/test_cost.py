import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from bintally.cloud.cost import (
    batch_cost,
    dollars,
    endpoint_cost,
    read_prices,
    running_cost,
    training_cost,
    tuning_cost,
)
from bintally.cloud.options import CloudSettings
from bintally.cloud.shapes import service_model
from bintally.errors import SettingsError

PRICES = read_prices()


def test_the_table_knows_what_the_settings_take_by_default() -> None:
    settings = CloudSettings()
    for instance in (settings.train_instance, settings.serve_instance, settings.batch_instance):
        assert PRICES.machine_hour[instance] > 0
    known = service_model("sagemaker")["shapes"]["TrainingInstanceType"]["enum"]
    assert settings.train_instance in known
    everything = {*known, *service_model("sagemaker")["shapes"]["ProductionVariantInstanceType"]["enum"]}
    assert set(PRICES.machine_hour) <= everything
    assert PRICES.table.date >= "2026-11-22"


def test_a_training_costs_its_time_limit_at_most() -> None:
    settings = CloudSettings(train_instance="ml.m5.xlarge", train_instances=2, train_hours=3, train_volume_gb=73)
    found = training_cost(settings, PRICES)
    machine, disk = found.lines
    assert machine.usd == pytest.approx(2 * 3 * PRICES.machine_hour["ml.m5.xlarge"])
    assert disk.usd == pytest.approx(2 * 3 * 73 / 730 * PRICES.storage.machine_gb_month)
    assert found.usd == pytest.approx((machine.usd or 0) + (disk.usd or 0))
    assert "at most" in found.words()
    assert PRICES.table.date in found.words()
    assert any("cheaper" in note for note in training_cost(replace(settings, spot=True), PRICES).notes)


def test_a_tuning_costs_all_its_trainings() -> None:
    one, ten = training_cost(CloudSettings(), PRICES), tuning_cost(CloudSettings(), PRICES, 10)
    assert ten.usd == pytest.approx(10 * (one.usd or 0))


def test_an_endpoint_by_the_day_and_its_month() -> None:
    found = endpoint_cost(CloudSettings(serve_instance="ml.c5.large"), PRICES, most=3)
    assert found.usd == pytest.approx(3 * 24 * PRICES.machine_hour["ml.c5.large"])
    assert dollars(3 * 730 * PRICES.machine_hour["ml.c5.large"]) in found.notes[0]
    free = endpoint_cost(CloudSettings(serverless_memory_mb=2048), PRICES, serverless=True, photos=1000)
    assert free.lines[0].usd == pytest.approx(1000 * 0.3 * 2 * PRICES.serverless.gb_second)


def test_a_batch_grows_with_its_photos() -> None:
    few, many = (batch_cost(CloudSettings(), PRICES, photos).usd or 0 for photos in (1000, 100_000))
    assert 0 < few < many
    assert batch_cost(CloudSettings(), PRICES, None).span == "an hour:"


def test_what_the_table_does_not_know_is_past_every_limit() -> None:
    found = training_cost(CloudSettings(train_instance="ml.p5.48xlarge"), PRICES)
    assert found.usd is None
    assert found.exceeds(1e9)
    assert "does not have ml.p5.48xlarge" in found.words()
    known = training_cost(CloudSettings(), PRICES)
    assert known.exceeds((known.usd or 0) - 0.01)
    assert not known.exceeds(known.usd or 0)


def test_what_runs() -> None:
    found = running_cost([("endpoint e", "ml.c5.large", 2), ("training t", "ml.m5.xlarge", 1)], PRICES)
    assert found.usd == pytest.approx(2 * PRICES.machine_hour["ml.c5.large"] + PRICES.machine_hour["ml.m5.xlarge"])
    assert running_cost([], PRICES).usd == 0


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    text = (resources.files("bintally") / "cloud" / "prices.toml").read_text(encoding="utf-8")
    mine = tmp_path / "prices.toml"
    mine.write_text(text.replace('"us-east-1"', '"eu-central-1"'), encoding="utf-8")
    assert read_prices(mine).table.region == "eu-central-1"
    assert tomllib.loads(text)["machine_hour"]
    mine.write_text(text.replace("gb_second = 0.00002", "gb_second = -1"), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"serverless.gb_second"):
        read_prices(mine)
    with pytest.raises(SettingsError, match="cannot read"):
        read_prices(tmp_path / "none.toml")
