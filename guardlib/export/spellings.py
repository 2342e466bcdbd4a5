"""Embeddings for the exported graph: what a piece's usual spellings add is looked up, not computed.

The characters of a piece of the vocabulary are nearly always the ones the vocabulary has, or those with a capital. Word
and character vector of these are added once, when the graph is made; the character network runs only for what is spelt
otherwise: look-alikes, accents, all capitals, words outside the vocabulary. In float32 the sum is the model's own.

Legend: B batch, L tokens, T = B L, S = T + 1, C characters per token, D width, V vocabulary, F forms of spelling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from guardlib.model.embeddings import MAX_CHARS, CharacterCNN, GuardEmbeddings

_AT_ONCE = 2048  # pieces convolved together; bounds memory


class SpelledEmbeddings(nn.Module):
    """:class:`GuardEmbeddings` in eval mode, for export: int [B, L], int [B, L, C] → [B, L, D].

    Args:
        spellings_FVC: characters of every piece in each of its usual forms.
    """

    def __init__(self, embeddings: GuardEmbeddings, spellings_FVC: Tensor) -> None:
        super().__init__()
        self.norm, self.embed, self.out = embeddings.norm, embeddings.characters.embed, embeddings.characters.out
        self.span = max(embeddings.characters.widths)
        self.bank = merged_banks(embeddings.characters)
        forms, self.vocab, chars = spellings_FVC.shape
        # Odd and below 2^40: no sum of 64 products overflows; another spelling has the same key by chance of 2^-40.
        multipliers = torch.randint(1, 2**40, (MAX_CHARS,), generator=torch.Generator().manual_seed(0)) | 1
        self.register_buffer("multipliers", multipliers[:chars])
        self.register_buffer("keys_VF", (spellings_FVC.long() * self.multipliers).sum(-1).T.contiguous())
        self.register_buffer("forms", torch.arange(1, forms + 1))
        with torch.inference_mode():
            parts = [self.convolve(part) for part in spellings_FVC.long().flatten(0, 1).split(_AT_ONCE)]
            word_VD = embeddings.word.weight
            vectors_FVD = torch.cat(parts).unflatten(0, (forms, self.vocab)) + word_VD
            # Form 0 is the word alone, to which the characters are added.
            table = torch.cat([word_VD[None], vectors_FVD]).flatten(0, 1)
        self.table = nn.Embedding.from_pretrained(table.clone())
        self.position = nn.Parameter(embeddings.position.weight.detach().clone(), requires_grad=False)

    def forward(self, input_ids_BL: Tensor, char_ids_BLC: Tensor) -> Tensor:
        keys_BL = (char_ids_BLC * self.multipliers).sum(-1)
        same_BLF = keys_BL.unsqueeze(-1) == self.keys_VF[input_ids_BL]
        form_BL = (same_BLF.long() * self.forms).amax(-1)
        known_BLD = self.table(form_BL * self.vocab + input_ids_BL)
        position_LD = self.position[: input_ids_BL.shape[1]]
        return self.norm(known_BLD + position_LD + self._unusual(char_ids_BLC, form_BL == 0))

    def _unusual(self, char_ids_BLC: Tensor, unusual_BL: Tensor) -> Tensor:
        """Character vectors where ``unusual_BL``, zeros elsewhere: [B, L, D]. An empty row keeps the network busy."""
        chars_SC = torch.cat([char_ids_BLC.new_zeros(1, char_ids_BLC.shape[-1]), char_ids_BLC.flatten(0, 1)])
        rows = torch.cat([unusual_BL.new_ones(1), unusual_BL.flatten()]).nonzero().squeeze(-1)
        vectors = self.convolve(chars_SC.index_select(0, rows))
        y_SD = vectors.new_zeros(chars_SC.shape[0], vectors.shape[-1]).index_copy(0, rows, vectors)
        return y_SD[1:].unflatten(0, unusual_BL.shape)

    def convolve(self, chars_UC: Tensor) -> Tensor:
        """What :meth:`CharacterCNN.convolve` computes, with all widths in one product: int [U, C] → [U, D]."""
        length = chars_UC.shape[1]
        padded = F.pad(self.embed(chars_UC), (0, 0, 0, self.span - 1))
        windows = torch.cat([padded[:, i : i + length] for i in range(self.span)], dim=-1)  # U, C, span d
        # In two dimensions: the exporter then keeps the name of the weights, by which they are known to stay in float.
        features = F.gelu(self.bank(windows.flatten(0, 1))).unflatten(0, (-1, length))
        return self.out((features * (chars_UC != 0).unsqueeze(-1)).amax(1))


def merged_banks(characters: CharacterCNN) -> nn.Linear:
    """The filter banks of all widths as one over windows of the widest, zeros where a narrower one does not reach."""
    weights = [bank.weight.detach() for bank in characters.banks]
    reach = max(weight.shape[1] for weight in weights)
    merged = nn.Linear(reach, sum(len(weight) for weight in weights))
    with torch.no_grad():
        merged.weight.copy_(torch.cat([F.pad(weight, (0, reach - weight.shape[1])) for weight in weights]))
        merged.bias.copy_(torch.cat([bank.bias.detach() for bank in characters.banks]))
    return merged
