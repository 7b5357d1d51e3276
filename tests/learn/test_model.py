"""The network: exact on ResNets, frozen where it should be, class activation maps that add up, clear refusals."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from bintally.card import ModelCard
from bintally.counts import CountRange
from bintally.errors import BackboneError, ModelError
from bintally.learn.checkpoint import same_bits
from bintally.learn.head import HeadKind
from bintally.learn.model import (
    SNAPSHOT_VARIABLE,
    CountModel,
    ModelSettings,
    build_model,
    load_run_model,
)
from bintally.learn.run import save_best
from bintally.pixels import PixelSpec

SMALL = {"embedding_size": 8, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1], "layer_type": "basic"}


def snapshot(folder: Path, dtype: torch.dtype = torch.float16) -> Path:
    torch.manual_seed(3)
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(**SMALL)).to(dtype)
    model.save_pretrained(folder)
    return folder


def built(folder: Path, unfrozen: int = 0) -> CountModel:
    torch.manual_seed(0)
    return build_model(ModelSettings(backbone=str(folder), unfrozen_stages=unfrozen), CountRange())


def test_a_snapshot_may_stand_in_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = built(snapshot(tmp_path / "there"))
    monkeypatch.setenv(SNAPSHOT_VARIABLE, str(tmp_path / "there"))
    named = build_model(ModelSettings(backbone="nobody/such-backbone"), CountRange())
    for name, value in there.backbone.state_dict().items():
        assert torch.equal(named.backbone.state_dict()[name], value)
    monkeypatch.setenv(SNAPSHOT_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(BackboneError, match="nowhere is no snapshot folder"):
        build_model(ModelSettings(backbone="nobody/such-backbone"), CountRange())
    built(tmp_path / "there")  # a folder that is named by its path is taken as it is


def test_a_resnet_snapshot_is_the_very_network_in_float32(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path)).eval()
    theirs = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        pooled = theirs(x).pooler_output.flatten(1)
        torch.testing.assert_close(model(x), model.head(pooled), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("unfrozen", "num_frozen"), [(0, 5), (1, 4), (4, 1), (5, 0), (9, 0)])
def test_stages_are_frozen_from_the_stem_on(tmp_path: Path, unfrozen: int, num_frozen: int) -> None:
    model = built(snapshot(tmp_path), unfrozen).train()
    assert model.num_frozen == num_frozen
    names = ["embedder", *(f"encoder.stages.{k}" for k in range(4))]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(4, 3, 64, 64)).sum().backward()
    for place, name in enumerate(names):
        part = model.backbone.get_submodule(name)
        trained = place >= num_frozen
        assert part.training == trained
        assert all(p.requires_grad == trained and (p.grad is not None) == trained for p in part.parameters())
        moved = [
            key
            for key, value in model.state_dict().items()
            if key.startswith(f"backbone.{name}.") and not torch.equal(value, before[key])
        ]
        assert bool(moved) == trained, moved  # batch norm's statistics
    assert model.head.weight.grad is not None


def test_the_frozen_part_makes_no_graph_and_the_two_halves_are_the_whole(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path), 1).eval()
    x = torch.randn(2, 3, 64, 64)
    frozen = model.frozen_features(x)
    assert not frozen.requires_grad
    assert torch.equal(model.logits_of(model.last_features(frozen)), model(x))
    whole = built(tmp_path, 5)
    assert whole.frozen_features(x) is x


def test_maps_average_to_the_logits(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path)).eval()
    with torch.no_grad():
        model.head.weight.normal_()
        logits, maps = model.forward_maps(torch.randn(3, 3, 96, 96))
    assert maps.shape == (3, 6, 3, 3)
    torch.testing.assert_close(maps.mean((2, 3)) + model.head.bias, logits, rtol=0, atol=1e-5)


def test_it_starts_from_the_class_shares(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path)).eval()
    shares = [0.5, 0.3, 0.2, 0.0, 0.0, 0.0]
    model.start_from(shares)
    with torch.no_grad():
        model.head.weight.zero_()
        given = model(torch.randn(1, 3, 64, 64)).softmax(1)[0].tolist()
    assert given == pytest.approx(shares, abs=0.01)


def test_dropout_is_for_training_alone(tmp_path: Path) -> None:
    settings = ModelSettings(backbone=str(snapshot(tmp_path)), dropout=0.5)
    model = build_model(settings, CountRange()).train()
    x = torch.randn(2, 3, 64, 64)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_tiny_is_always_trained_in_full() -> None:
    model = build_model(ModelSettings(backbone="tiny", unfrozen_stages=0), CountRange(lowest=1, highest=4))
    assert model.num_frozen == 0
    assert all(p.requires_grad for p in model.parameters())
    assert model(torch.zeros(2, 3, 48, 48)).shape == (2, 4)


def test_a_convnext_ends_in_a_feature_map_too(tmp_path: Path) -> None:
    config = transformers.ConvNextV2Config(depths=[1, 1, 1, 1], hidden_sizes=[4, 8, 12, 16])
    transformers.ConvNextV2Model(config).save_pretrained(tmp_path)
    model = built(tmp_path, 1)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in model.named_parameters() if p.grad is not None}  # nothing that is not run


def test_a_backbone_without_feature_maps_is_refused(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="ResNet or ConvNeXt"):
        built(tmp_path)


def test_an_unknown_backbone_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(BackboneError, match=r"no-one/nothing.*network.*cache.*--backbone") as caught:
        build_model(ModelSettings(backbone="no-one/nothing"), CountRange())
    assert "\n" not in str(caught.value)
    with pytest.raises(BackboneError, match=r"no config\.json"):
        build_model(ModelSettings(backbone=str(tmp_path)), CountRange())


@pytest.mark.parametrize("damage", ["config", "weights", "no weights", "pickle"])
def test_a_damaged_snapshot_is_named(tmp_path: Path, damage: str) -> None:
    snapshot(tmp_path)
    if damage == "config":
        (tmp_path / "config.json").write_text("{not json")
    elif damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"x" * 64)
    else:
        (tmp_path / "model.safetensors").unlink()
    if damage == "pickle":
        torch.save({}, tmp_path / "pytorch_model.bin")  # must not even be looked at
    with pytest.raises(BackboneError, match=str(tmp_path)):
        built(tmp_path)


@pytest.mark.parametrize("head", ["linear", "corn", "coral"])
def test_a_mirroring_model_answers_with_the_mean_of_both_views(tmp_path: Path, head: HeadKind) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(backbone=str(snapshot(tmp_path)), unfrozen_stages=2, mirror=True, head=head)
    model = build_model(settings, CountRange())
    with torch.no_grad():
        model.head.weight.normal_()
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        model.train()
        for _ in range(10):
            one_view = model(x)
        model.eval()
        logits, maps = model.forward_maps(x)
        torch.testing.assert_close(model(x), logits)
        frozen = torch.cat([model.frozen_features(x), model.frozen_features(x.flip(3))])
        torch.testing.assert_close(model.from_frozen(frozen), logits)
        back, turned = model.forward_maps(x.flip(3))
        torch.testing.assert_close(back, logits)
        torch.testing.assert_close(turned.flip(3), maps)
        model.mirror = False
        torch.testing.assert_close((model(x) + model(x.flip(3))) / 2, logits)
        (_, plain), (_, other) = model.forward_maps(x), model.forward_maps(x.flip(3))
        torch.testing.assert_close((plain + other.flip(3)) / 2, maps)
    assert one_view.shape == logits.shape == (3, 6)
    assert maps.shape == (3, 6, 2, 2)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    model = build_model(ModelSettings(backbone="tiny"), CountRange())
    card = ModelCard(architecture="tiny", pixels=PixelSpec(size=48), counts=CountRange())
    save_best(tmp_path, model.state_dict(), model.backbone.config.to_dict(), card)  # type: ignore[union-attr,operator]
    return tmp_path


def test_a_run_loads_frozen_and_in_evaluation_mode(run: Path) -> None:
    model, card = load_run_model(run)
    assert not any(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert card.model_id != "unsaved"
    assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 6)


def test_a_run_that_differs_from_its_card_does_not_load(run: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, run / "model.safetensors")
    with pytest.raises(ModelError, match="differs from its card"):
        load_run_model(run)
    (run / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="lacks"):
        load_run_model(run)
    body = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(body | {"files": {}}))
    with pytest.raises(ModelError, match="names no"):
        load_run_model(run)


def test_scales_answer_with_the_mean_over_the_sizes(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path)).eval()
    model.mirror = True
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        plain, plain_maps = model.forward_maps(x)
        model.look_at((64,), 64)
        torch.testing.assert_close(model(x), plain)
        model.look_at((32, 64, 96), 64)
        seen = model.at_scales(x)
        assert [one.shape[-1] for one in seen] == [32, 64, 96]
        logits, maps = model.forward_maps(x)
        torch.testing.assert_close(logits, model(x))
        assert maps.shape == plain_maps.shape
        model.look_at((), 64)
        each = torch.stack([model(one) for one in seen])
        torch.testing.assert_close(logits, each.mean(dim=0))
        assert (each[0] - each[1]).abs().max() > 1e-4  # the sizes do differ in what they see
        torch.testing.assert_close(model.forward_maps(x), (plain, plain_maps))


def test_training_looks_at_photos_as_they_are_and_scales_are_no_weights(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path), unfrozen=1)
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    model.look_at((32, 64), 64)
    assert model.training
    assert same_bits(before, model.state_dict())
    x = torch.randn(2, 3, 64, 64)
    assert len(model.train().at_scales(x)) == 1
    assert len(model.eval().at_scales(x)) == 2


def test_a_run_is_loaded_with_the_scales_of_its_card(tmp_path: Path) -> None:
    model = built(snapshot(tmp_path / "snapshot"))
    card = ModelCard(architecture="a", pixels=PixelSpec(size=64), counts=CountRange(), mirror=True, scales=(32, 64))
    config = model.backbone.config
    done = save_best(tmp_path / "run", model.state_dict(), config.to_dict(), card)  # type: ignore[operator,union-attr]
    loaded, its = load_run_model(tmp_path / "run")
    assert loaded.scales == its.scales == (32, 64)
    ids = {
        done.model_id,
        *(replace(done, **change).model_id for change in ({"scales": ()}, {"mirror": False}, {"scales": (64,)})),
    }
    assert len(ids) == 4
