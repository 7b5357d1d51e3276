"""Losses: one a photo, and what label smoothing is."""

import pytest
import torch

from bintally.learn.loss import make_loss


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
