"""The fast branch: the shared stem, an early exit, and the router that may overrule it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from guardlib.model.embeddings import GuardEmbeddings
from guardlib.model.ngrams import NgramHead
from guardlib.model.router import Router
from guardlib.model.transformer import ClassifierHead, Pool, TransformerLayer


class FrontOutput(NamedTuple):
    """hidden [B, L, D] for the deep branch, fast_logits [B, K], router_logit [B], ngram_logits [B, K], focus [B, L].

    fast_logits has the n-grams in it; those of the deep branch are to be added to its own.
    """

    hidden: Tensor
    fast_logits: Tensor
    router_logit: Tensor
    ngram_logits: Tensor
    focus: Tensor


class FastBranch(nn.Module):
    """Embeddings → stem layers → fast head, which n-grams join, and router. 70 % of texts take no other path."""

    def __init__(
        self,
        embeddings: GuardEmbeddings,
        stem: list[TransformerLayer],
        pool: Pool,
        head: ClassifierHead,
        ngrams: NgramHead,
        router: Router,
    ) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.stem = nn.ModuleList(stem)
        self.pool = pool
        self.head = head
        self.ngrams = ngrams
        self.router = router

    def forward(self, input_ids_BL: Tensor, char_ids_BLC: Tensor, attention_mask_BL: Tensor) -> FrontOutput:
        mask_B11L = attention_mask_BL.bool()[:, None, None, :]
        x_BLD = self.embeddings(input_ids_BL, char_ids_BLC)
        for layer in self.stem:
            x_BLD = layer(x_BLD, mask_B11L)
        pooled, focus_BL = self.pool(x_BLD, attention_mask_BL)
        ngram_logits = self.ngrams(input_ids_BL)
        fast_logits = self.head(pooled) + ngram_logits
        return FrontOutput(x_BLD, fast_logits, self.router(pooled, fast_logits), ngram_logits, focus_BL)
