"""Members lie side by side: one feature map, one configuration file, one state dict, none that is trained."""

import json
from pathlib import Path

import torch

from bintally.card import ModelCard
from bintally.counts import CountRange
from bintally.learn.members import Members, stages_of
from bintally.learn.model import TINY, CountModel, ModelSettings, build_model, load_run_model
from bintally.learn.run import save_best
from bintally.pixels import PixelSpec

COUNTS = CountRange(lowest=0, highest=5)


def make(seed: int) -> CountModel:
    torch.manual_seed(seed)
    return build_model(ModelSettings(backbone=TINY), COUNTS).eval()


def test_feature_maps_lie_behind_one_another() -> None:
    one, other = make(1), make(2)
    members = Members([one.backbone, other.backbone])
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        together = members(x)
        torch.testing.assert_close(together[:, :128], one.last_features(one.frozen_features(x)))
        torch.testing.assert_close(together[:, 128:], other.last_features(other.frozen_features(x)))
    assert stages_of(members) == [members]
    assert members.config.hidden_sizes == [256]
    assert [*members] == [one.backbone, other.backbone]


def test_they_come_back_from_a_run_folder(tmp_path: Path) -> None:
    inner = Members([make(1).backbone, make(2).backbone])
    members = Members([inner, make(3).backbone])  # an ensemble may be a member
    model = CountModel(members, 6, unfrozen_stages=0, head="corn").eval()
    card = ModelCard(architecture="three", head="corn", pixels=PixelSpec(size=32), counts=COUNTS)
    save_best(tmp_path, model.state_dict(), members.config.to_dict(), card)
    again, _ = load_run_model(tmp_path)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    assert not any(parameter.requires_grad for parameter in again.backbone.parameters())
    assert json.loads((tmp_path / "backbone.json").read_text())["members"][1]["model_type"] == "resnet"
