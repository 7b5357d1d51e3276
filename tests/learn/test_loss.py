"""Losses: one a photo, what label smoothing is, and what knows that counts are ordered."""

import pytest
import torch

from bintally.learn.loss import LossName, make_loss


def test_cross_entropy_is_the_negative_log_likelihood_of_each_photo() -> None:
    logits, classes = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 2])
    losses = make_loss("cross-entropy")(logits, classes)
    assert losses.shape == (2,)
    assert losses.tolist() == pytest.approx([-logits[0].log_softmax(0)[0].item(), 1.0986], abs=1e-4)


def test_smoothing_spreads_its_share_over_all_counts() -> None:
    logits, classes = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    target = torch.full((4, 5), 0.02) + 0.9 * torch.nn.functional.one_hot(classes, 5)
    by_hand = -(target * logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(make_loss("cross-entropy", label_smoothing=0.1)(logits, classes), by_hand)


NAMES: tuple[LossName, ...] = ("cross-entropy", "soft-ordinal", "emd", "cumulative")


def said(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_is_least_where_the_truth_is_and_has_finite_gradients(name: LossName) -> None:
    loss, classes = make_loss(name), torch.tensor([0, 2, 4])
    logits = torch.zeros(3, 5, requires_grad=True)
    for _ in range(300):
        (grad,) = torch.autograd.grad(loss(logits, classes).sum(), logits)
        logits = (logits - grad).detach().requires_grad_()
    assert logits.argmax(1).tolist() == [0, 2, 4]
    sure = torch.tensor([[80.0, -80.0, -80.0, -80.0, -80.0]] * 3, requires_grad=True)
    losses = loss(sure, classes)
    assert losses.shape == (3,)
    (grad,) = torch.autograd.grad(losses.sum(), sure)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(grad).all()


@pytest.mark.parametrize("name", NAMES[1:])
def test_far_off_costs_more_than_near(name: LossName) -> None:
    near, far, truth = said(0.1, 0.7, 0.1, 0.05, 0.05), said(0.1, 0.05, 0.05, 0.1, 0.7), torch.tensor([0])
    plain = make_loss("cross-entropy")
    assert plain(near, truth).item() == pytest.approx(plain(far, truth).item())
    loss = make_loss(name)
    assert loss(near, truth).item() < loss(far, truth).item() - 0.1


def test_the_squared_earth_mover_s_distance_by_hand() -> None:
    # P(count ≤ 0, 1, 2) is 0.1, 0.3, 0.6; for a truth of 1 it should be 0, 1, 1.
    assert make_loss("emd")(said(0.1, 0.2, 0.3, 0.4), torch.tensor([1])).item() == pytest.approx(0.01 + 0.49 + 0.16)


def test_the_cumulative_loss_by_hand() -> None:
    by_hand = -torch.tensor([0.9, 0.3, 0.6]).log().mean().item()  # more than 0: yes; more than 1, 2: no
    assert make_loss("cumulative")(said(0.1, 0.2, 0.3, 0.4), torch.tensor([1])).item() == pytest.approx(by_hand)


def test_soft_targets_are_as_wide_as_asked() -> None:
    logits, classes = torch.randn(4, 6), torch.tensor([0, 1, 3, 5])
    narrow = make_loss("soft-ordinal", width=0.05)(logits, classes)
    torch.testing.assert_close(narrow, make_loss("cross-entropy")(logits, classes))
    weights = torch.tensor([1.0, 0.135335, 0.000335])  # of 0, 1 and 2 counts off, at half a count
    target = torch.stack([weights[1], weights[0], weights[1], weights[2]])
    target /= target.sum()
    by_hand = -(target * logits[1, :4].log_softmax(0)).sum()
    torch.testing.assert_close(make_loss("soft-ordinal", width=0.5)(logits[1:2, :4], torch.tensor([1]))[0], by_hand)


def test_smoothing_and_cross_entropy_are_mixed_in() -> None:
    logits, classes = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    plain = make_loss("cross-entropy", label_smoothing=0.1)(logits, classes)
    torch.testing.assert_close(
        make_loss("soft-ordinal", width=0.01, label_smoothing=0.1)(logits, classes), plain, rtol=1e-4, atol=1e-4
    )
    mixed = make_loss("emd", label_smoothing=0.1, mix=0.25)(logits, classes)
    torch.testing.assert_close(mixed, 0.25 * plain + 0.75 * make_loss("emd")(logits, classes))
