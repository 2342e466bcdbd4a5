"""Embeddings that know the characters of each piece.

Word, position and character parts are added, then normalised. The character part is a convolutional network of several
widths (Kim et al. 2016, arXiv 1508.06615) whose last projection starts at zero: at step 0 the embeddings are the
backbone's own, exactly, and training decides how much to listen to characters.

Legend: B batch, L tokens, C characters per token, D width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guardlib.model.transformer import LAYER_NORM_EPS, TextDropout

MAX_CHARS = 64  # characters of a piece that can be told apart


class CharacterCNN(nn.Module):
    """Characters of each piece → vector of the piece: int [B, L, C] → [B, L, D]. Id 0 is padding."""

    def __init__(self, buckets: int, char_dim: int, widths: tuple[int, ...], filters: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(buckets, char_dim, padding_idx=0)
        # Each filter bank is a linear map over a sliding window: one matrix product, far faster on CPU than a
        # convolution over a few channels.
        self.banks = nn.ModuleList(nn.Linear(w * char_dim, filters) for w in widths)
        self.widths = widths
        self.out = nn.Linear(filters * len(widths), width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

        # Odd multipliers: two different pieces collide with probability about 2^-60.
        multipliers = torch.randint(1, 2**62, (MAX_CHARS,), generator=torch.Generator().manual_seed(0)) | 1
        self.register_buffer("multipliers", multipliers, persistent=False)

    def forward(self, char_ids_BLC: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self.convolve(char_ids_BLC)
        # A batch repeats its pieces ("the", padding): each different one is convolved once.
        flat_TC = char_ids_BLC.flatten(0, 1)
        keys_T = (flat_TC * self.multipliers[: flat_TC.shape[1]]).sum(-1)
        unique, inverse_T = torch.unique(keys_T, return_inverse=True)
        first = torch.zeros_like(unique).scatter_(0, inverse_T, torch.arange(len(keys_T), device=keys_T.device))
        return self.convolve(flat_TC[first])[inverse_T].unflatten(0, char_ids_BLC.shape[:2])

    def convolve(self, char_ids: Tensor) -> Tensor:
        """int [..., C] → [..., D]."""
        chars = self.embed(char_ids)  # ..., C, d
        present = (char_ids != 0).unsqueeze(-1)
        features = []
        for width, bank in zip(self.widths, self.banks, strict=True):
            padded = F.pad(chars, (0, 0, 0, width - 1))
            length = char_ids.shape[-1]
            windows = torch.cat([padded[..., i : i + length, :] for i in range(width)], dim=-1)  # ..., C, w d
            features.append((F.gelu(bank(windows)) * present).amax(-2))
        return self.out(torch.cat(features, dim=-1))


class GuardEmbeddings(nn.Module):
    """Word + position + characters → LayerNorm → dropout: int [B, L], int [B, L, C] → [B, L, D]."""

    def __init__(self, vocab: int, positions: int, width: int, characters: CharacterCNN, dropout: float) -> None:
        super().__init__()
        self.word = nn.Embedding(vocab, width, padding_idx=0)
        self.position = nn.Embedding(positions, width)
        self.characters = characters
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.dropout = TextDropout(dropout)

    def forward(self, input_ids_BL: Tensor, char_ids_BLC: Tensor) -> Tensor:
        positions = torch.arange(input_ids_BL.shape[1], device=input_ids_BL.device)
        x_BLD = self.word(input_ids_BL) + self.position(positions) + self.characters(char_ids_BLC)
        return self.dropout(self.norm(x_BLD))
