"""Heads: log-probabilities whatever the kind, what the ordinal ones ask, and maps that add up."""

import pytest
import torch

from bintally.learn.head import HeadKind, join_heads, make_head, start_head

KINDS: tuple[HeadKind, ...] = ("linear", "corn", "coral")
SHARES = [0.05, 0.3, 0.25, 0.2, 0.15, 0.05]


@pytest.mark.parametrize("kind", KINDS)
def test_no_features_give_the_class_shares(kind: HeadKind) -> None:
    head = make_head(kind, 8, 6)
    start_head(head, SHARES)
    assert head(torch.zeros(1, 8)).softmax(1)[0].tolist() == pytest.approx(SHARES, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_count_that_nobody_saw_is_rare_but_possible(kind: HeadKind) -> None:
    head = make_head(kind, 8, 3)
    start_head(head, [0.5, 0.0, 0.5])
    found = head(torch.zeros(1, 8)).softmax(1)[0].tolist()
    assert 0 < found[1] < 0.01
    assert found[0] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_ordinal_heads_give_log_probabilities_however_sure_they_are(kind: HeadKind) -> None:
    torch.manual_seed(0)
    head = make_head(kind, 4, 6)
    for scale in (1.0, 100.0, 3000.0):
        features = (scale * torch.randn(16, 4)).requires_grad_()
        with torch.no_grad():
            head.weight.normal_()
        logits = head(features)
        torch.testing.assert_close(logits.logsumexp(1), torch.zeros(16), atol=2e-4, rtol=0)
        (grad,) = torch.autograd.grad(logits[:, 2].sum(), features)
        assert torch.isfinite(logits).all()
        assert torch.isfinite(grad).all()


def test_corn_s_likelihood_is_the_sum_of_its_questions() -> None:
    torch.manual_seed(0)
    head = make_head("corn", 4, 5)
    features, count = torch.randn(1, 4), 3
    asked = torch.nn.functional.linear(features, head.weight, head.bias)[0]
    answers = torch.tensor([1.0, 1.0, 1.0, 0.0])  # more than 0, 1, 2: yes; more than 3: no
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(asked, answers, reduction="sum")
    assert -head(features)[0, count].item() == pytest.approx(by_hand.item(), rel=1e-5)
    answers = torch.tensor([1.0, 0.0])  # of a bin with one item, the further questions are not asked
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(asked[:2], answers, reduction="sum")
    assert -head(features)[0, 1].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_coral_has_one_scale() -> None:
    torch.manual_seed(0)
    head = make_head("coral", 4, 5)
    start_head(head, [0.2] * 5)
    features = torch.linspace(-40, 40, 30)[:, None] * torch.nn.functional.normalize(head.weight.detach())
    with torch.no_grad():
        head.weight.div_(head.weight.norm())
    likeliest = head(features).argmax(1)
    assert likeliest.tolist() == sorted(likeliest.tolist())
    assert {0, 4} <= set(likeliest.tolist())


def test_a_linear_head_s_maps_add_up_to_its_logits() -> None:
    torch.manual_seed(0)
    head, features = make_head("linear", 4, 5), torch.randn(2, 4, 3, 3)
    logits = head(features.mean(dim=(2, 3)))
    torch.testing.assert_close(head.maps(features).mean(dim=(2, 3)) + head.bias, logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_tells_what_a_place_adds_to_a_logit(kind: HeadKind) -> None:
    torch.manual_seed(0)
    head = make_head(kind, 4, 5).double()
    with torch.no_grad():
        head.weight.normal_()
    features, more = torch.randn(1, 4, 2, 2).double(), 1e-4
    place = torch.zeros(1, 4, 2, 2).double()
    place[..., 1, 0] = features[..., 1, 0]

    def logits(h: torch.Tensor) -> torch.Tensor:
        return head(h.mean(dim=(2, 3))).double()

    slope = (logits(features + more * place) - logits(features - more * place)) / (2 * more)
    torch.testing.assert_close(head.maps(features).double()[..., 1, 0] / 4, slope, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_joined_head_asks_for_the_mean(kind: HeadKind) -> None:
    torch.manual_seed(0)
    heads = [make_head(kind, channels, 6) for channels in (4, 7)]
    for head in heads:
        start_head(head, SHARES)
        torch.nn.init.normal_(head.weight)
        torch.nn.init.normal_(head.bias)
    features = [torch.randn(16, 4), torch.randn(16, 7)]

    def asked(logits: torch.Tensor) -> torch.Tensor:
        """What a kind of head is asked: its logits, log-odds of more given k or more, log-odds of more than k."""
        p = logits.softmax(1)
        above = p.flip(1).cumsum(1).flip(1)[:, 1:]
        if kind == "linear":
            return logits.log_softmax(1) - logits.log_softmax(1).mean(1, keepdim=True)
        odds: torch.Tensor = (above / p[:, :-1]).log() if kind == "corn" else torch.logit(above)
        return odds

    both = join_heads(heads)(torch.cat(features, dim=1))
    mean = sum(asked(head(one)) for head, one in zip(heads, features, strict=True)) / 2
    torch.testing.assert_close(asked(both), mean, atol=2e-3, rtol=2e-3)


def test_heads_of_different_kinds_are_not_joined() -> None:
    with pytest.raises(ValueError, match="kinds"):
        join_heads([make_head("linear", 4, 6), make_head("corn", 4, 6)])
