"""The last layer: from pooled features to logits over counts, which may be told that counts are ordered.

Whatever the kind, K logits come out, one a count, whose softmax is the answer: losses, calibration, export and maps ask
no further. The ordinal kinds learn K - 1 questions "more than k?" and turn their answers into log-probabilities.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

HeadKind = Literal["linear", "corn", "coral"]


class LinearHead(nn.Linear):
    """One linear logit a count: the order of counts is not known to it.

    All heads have `out_features`: how many logits come out.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__(num_channels, num_classes)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def start_from(self, shares: Tensor) -> None:
        """Sets the bias so that no features give these class shares (K,)."""
        self.bias.copy_(shares.log())

    def maps(self, h_NCHW: Tensor) -> Tensor:
        """Class activation maps (N, K, h, w); a map's mean plus the bias is the logit."""
        return _over_places(h_NCHW, self.weight)


class CornHead(nn.Module):
    """Conditional questions: "more than k, given that it is k or more?" (Shi et al. 2021, https://arxiv.org/abs/2111.08851).

    P(k) is the product of the answers up to k, so that the cross-entropy of what comes out is the sum of the
    questions' own cross-entropies over the photos that each of them is put to: the CORN loss, weighted by photo.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.out_features = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes - 1, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_classes - 1))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, K) from pooled features (N, C)."""
        asked = self._ask(features)
        yes, no = nn.functional.logsigmoid(asked), nn.functional.logsigmoid(-asked)
        none = torch.zeros_like(asked[:, :1])
        return torch.cat([none, yes.cumsum(dim=1)], dim=1) + torch.cat([no, none], dim=1)

    def start_from(self, shares: Tensor) -> None:
        """Sets the bias so that no features give these class shares (K,)."""
        self.bias.copy_((_above(shares) / shares[:-1]).log())

    def maps(self, h_NCHW: Tensor) -> Tensor:
        """(N, K, h, w): what each place adds to each log-probability, to first order about the answer.

        That is Grad-CAM (Selvaraju et al. 2016, https://arxiv.org/abs/1610.02391) with the signs left in.
        """
        places = _over_places(h_NCHW, self.weight)
        asked = self._ask(h_NCHW.mean(dim=(2, 3)))[:, :, None, None]
        # d log P(k) / d asked_j is P(no) for questions before k, -P(yes) for the question of k, 0 beyond.
        yes, no = places * torch.sigmoid(asked), places * torch.sigmoid(-asked)
        none = torch.zeros_like(places[:, :1])
        return torch.cat([none, no.cumsum(dim=1)], dim=1) - torch.cat([yes, none], dim=1)

    def _ask(self, features: Tensor) -> Tensor:
        """The K - 1 answers, as logits of yes."""
        return nn.functional.linear(features, self.weight, self.bias).float()


class CoralHead(nn.Module):
    """One scale with K - 1 thresholds on it: P(more than k) = sigmoid(w·x + b_k).

    Cao et al. 2020 (https://arxiv.org/abs/1901.07884). The thresholds are in order by construction: `bias` holds the
    first one, then how far down each next one lies, as the inverse of softplus.
    """

    def __init__(self, num_channels: int, num_classes: int) -> None:
        super().__init__()
        self.out_features = num_classes
        self.weight = nn.Parameter(torch.empty(1, num_channels))
        self.bias = nn.Parameter(torch.zeros(num_classes - 1))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities (N, K) from pooled features (N, C)."""
        asked = self._ask(features)
        yes, no = nn.functional.logsigmoid(asked), nn.functional.logsigmoid(-asked)
        none = torch.zeros_like(asked[:, :1])
        # s(a) - s(b) = s(a) · s(-b) · (1 - exp(b - a)): no difference of nearly equal figures is taken.
        gaps = torch.log(-torch.expm1(-self._steps()))
        between = torch.cat([gaps.new_zeros(1), gaps, gaps.new_zeros(1)])
        return torch.cat([none, yes], dim=1) + torch.cat([no, none], dim=1) + between

    def start_from(self, shares: Tensor) -> None:
        """Sets the thresholds so that no features give these class shares (K,)."""
        wanted = torch.logit(_above(shares))
        steps = wanted[:-1] - wanted[1:]
        self.bias.copy_(torch.cat([wanted[:1], torch.log(torch.expm1(steps))]))

    def maps(self, h_NCHW: Tensor) -> Tensor:
        """(N, K, h, w): see `CornHead.maps`."""
        places = _over_places(h_NCHW, self.weight)
        asked = self._ask(h_NCHW.mean(dim=(2, 3)))[:, :, None, None]
        none = torch.zeros_like(asked[:, :1])
        slope = torch.cat([none, torch.sigmoid(-asked)], dim=1) - torch.cat([torch.sigmoid(asked), none], dim=1)
        return slope * places

    def _ask(self, features: Tensor) -> Tensor:
        """The K - 1 answers to "more than k?", as logits of yes."""
        return nn.functional.linear(features, self.weight).float() + self._thresholds()

    def _steps(self) -> Tensor:
        return nn.functional.softplus(self.bias[1:]) + 1e-4  # never 0: every count keeps a probability

    def _thresholds(self) -> Tensor:
        return self.bias[0] - torch.cat([self.bias.new_zeros(1), self._steps().cumsum(dim=0)])


Head = LinearHead | CornHead | CoralHead


def make_head(kind: HeadKind, num_channels: int, num_classes: int) -> Head:
    """A new head of that kind; its random weights come from torch's generator."""
    kinds: dict[HeadKind, type[Head]] = {"linear": LinearHead, "corn": CornHead, "coral": CoralHead}
    return kinds[kind](num_channels, num_classes)


def join_heads(heads: Sequence[Head]) -> Head:
    """One head over the pooled features of several networks side by side, which answers with the mean of theirs.

    Args:
        heads: of one kind and number of classes; not changed.

    Returns:
        A head whose logits are the mean of a linear head's logits (after the softmax: of log-probabilities), or of an
        ordinal one's: of the log-odds of its questions.
    """
    kind, num = type(heads[0]), len(heads)
    if any(type(one) is not kind for one in heads):
        raise ValueError("heads of different kinds cannot be joined")
    joined = kind(sum(one.weight.shape[1] for one in heads), heads[0].out_features)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([one.weight for one in heads], dim=1) / num)
        biases = torch.stack([one.bias for one in heads])
        if kind is CoralHead:  # what lies in it is not the thresholds themselves, but how far apart they are
            steps = nn.functional.softplus(biases[:, 1:]).mean(dim=0)
            joined.bias.copy_(torch.cat([biases[:, :1].mean(dim=0), torch.log(torch.expm1(steps))]))
        else:
            joined.bias.copy_(biases.mean(dim=0))
    return joined


def start_head(head: Head, shares: Sequence[float]) -> None:
    """Sets the head's bias so that its first answers are these shares; a class without any counts as a rare one."""
    rare = 0.5 / max(1, len(shares)) * 0.01
    with torch.no_grad():
        head.start_from(torch.tensor([max(share, rare) for share in shares]))


def _above(shares: Tensor) -> Tensor:
    """(K - 1,) Share of more than k."""
    shares = shares / shares.sum()
    return shares.flip(0).cumsum(0).flip(0)[1:]


def _over_places(h_NCHW: Tensor, weight: Tensor) -> Tensor:
    return nn.functional.conv2d(h_NCHW, weight[:, :, None, None])
