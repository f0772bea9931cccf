"""The masked LM's task: hide 15 % of the tokens, ask for them (Devlin et al. 2018, section 3.1 and appendix A.1)."""

from __future__ import annotations

import torch
from torch import Tensor

HIDDEN, AS_MASK, AS_RANDOM = 0.15, 0.8, 0.1  # of the tokens; of the hidden ones
IGNORED = -100  # the label that F.cross_entropy leaves out


def hide_tokens(
    input_ids: Tensor, special_ids: Tensor, choices: Tensor, mask_id: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """What the model gets and what it is asked for, both int64 [B, S], from rows of ids [B, S].

    The labels are the hidden ids, and IGNORED everywhere else.

    special_ids: [K], never hidden: [CLS], [SEP], [PAD] …
    choices: [N], the ids that a random token is drawn from: all of the vocabulary but special and unused ones.
    generator: of the random numbers; None: PyTorch's own.

    Of each row's n ordinary tokens 0.15 n are hidden, that many at random, rounded up or down at random so that the
    mean is exact. Google's create_pretraining_data.py rounds to the nearest number, and to one at least.
    """
    order, action, choice = torch.rand(3, *input_ids.shape, generator=generator, dtype=torch.float64)
    border = torch.rand(len(input_ids), 1, generator=generator, dtype=torch.float64)
    special = torch.isin(input_ids, special_ids)
    rank = order.masked_fill(special, 1.0).argsort(dim=1).argsort(dim=1)  # 0, 1 … : the row's tokens, shuffled
    hidden = ~special & (HIDDEN * (~special).sum(dim=1, keepdim=True) - rank > border)

    labels = torch.where(hidden, input_ids, IGNORED)
    random_ids = choices[(choice * len(choices)).long()]
    shown = input_ids.masked_fill(hidden & (action < AS_MASK), mask_id)
    replaced = hidden & (action >= AS_MASK) & (action < AS_MASK + AS_RANDOM)  # the last tenth stays
    return torch.where(replaced, random_ids, shown), labels
