"""The losses of the paper's recipe for CodeFormer, on its codes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..restore.restorer import Restorer
from .objective import Batch, Objective, in_words
from .settings import FinetuneSettings


class Codebook(Objective):
    """CodeFormer's second stage (Zhou et al., NeurIPS 2022, eq. 3 and 4) on pseudo targets.

    The codes to predict are those that the base's own encoder finds nearest to the pseudo target:
    ``weight_code·CE(s, ŝ) + weight_feature·‖z - sg(z_q)‖²``, the latter a mean over all elements.
    """

    def __init__(self, restorer: Restorer, settings: FinetuneSettings) -> None:
        super().__init__(restorer, settings)
        network: Any = restorer.network
        self.encoder = deepcopy(network.encoder).requires_grad_(False).eval()
        self.codes = network.quantize.embedding.weight

    def terms(self, batch: Batch) -> tuple[dict[str, Tensor], None]:
        wanted = self._codes_of(batch.target)
        features, logits = _predict_codes(self.restorer.network, batch.lq * 2 - 1)
        terms, settings = {}, self.settings
        if settings.code:
            terms["code"] = settings.code * F.cross_entropy(logits.float().mT, wanted)
        if settings.feature:
            apart = features.float().flatten(2).mT - self.codes[wanted].float()
            terms["feature"] = settings.feature * apart.square().mean()
        return terms, None

    @torch.no_grad()
    def _codes_of(self, target: Tensor) -> Tensor:
        """B×256 numbers of the codes nearest to a target's features."""
        with torch.autocast(target.device.type, enabled=False):
            features = self.encoder(target * 2 - 1).flatten(2).mT
            # ‖z - e‖² without ‖z‖², which is the same for all codes e
            return (self.codes.square().sum(1) - 2 * features @ self.codes.mT).argmin(2)

    def describe(self) -> str:
        parts = {"code cross-entropy": self.settings.code, "features": self.settings.feature}
        words = in_words(parts, self.frozen)
        without = "; no identity term, as no image is made" if self.settings.identity else ""
        return words + without


def _predict_codes(network: Any, faces: Tensor) -> tuple[Tensor, Tensor]:
    """CodeFormer up to its codes: features B×256×16×16 and logits B×256×codes.

    The network's own call also makes the picture, which the loss does not need: twice the work.
    """
    features = network.encoder(faces)
    places = network.position_emb[:, None].expand(-1, len(faces), -1)
    query = network.feat_emb(features.flatten(2).permute(2, 0, 1))
    for layer in network.ft_layers:
        query = layer(query, query_pos=places)
    return features, network.idx_pred_layer(query).transpose(0, 1)
