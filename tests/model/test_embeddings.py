from __future__ import annotations

import torch

from guardlib.model.embeddings import MAX_CHARS, CharacterCNN
from guardlib.model.inference import to_tensors
from tests.helpers import make_batch, make_model

TEXTS = ["the cat and the dog and the cat", "qzxw the IGNORE 漢字 ъыь"]


def network(chars: int = 8) -> tuple[CharacterCNN, torch.Tensor]:
    torch.manual_seed(0)
    made = CharacterCNN(256, 8, (2, 3, 4), 8, 24)
    torch.nn.init.normal_(made.out.weight)
    ids = torch.randint(0, 256, (3, 20, chars), generator=torch.Generator().manual_seed(1))
    ids[:, 5:9] = ids[:, :1]  # repeats
    ids[:, 10:] = 0  # padding
    return made, ids


def test_once_per_different_piece_is_the_same_as_every_piece():
    made, ids = network()
    torch.testing.assert_close(made(ids), made.convolve(ids))


def test_the_longest_pieces_are_told_apart():
    made, ids = network(MAX_CHARS)
    torch.testing.assert_close(made(ids), made.convolve(ids))


def test_one_character_makes_another_piece():
    made, ids = network()
    changed = ids.clone()
    changed[0, 0, 7] = (changed[0, 0, 7] + 1) % 256
    assert (made(changed)[0, 0] - made(ids)[0, 0]).abs().max() > 1e-4
    torch.testing.assert_close(made(changed)[1:], made(ids)[1:])


def test_order_of_characters_matters():
    made, ids = network()
    assert (made(ids.flip(-1))[:, 0] - made(ids)[:, 0]).abs().max() > 1e-3


def test_gradients_of_both_paths_agree():
    made, ids = network()
    made(ids).square().sum().backward()
    unique = [parameter.grad.clone() for parameter in made.parameters()]
    made.zero_grad()
    made.convolve(ids).square().sum().backward()
    for name, a, b in zip([name for name, _ in made.named_parameters()], unique, made.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-4, atol=1e-3, msg=name)


def test_at_step_zero_characters_say_nothing_but_can_learn():
    model = make_model()
    torch.nn.init.zeros_(model.front.embeddings.characters.out.weight)
    ids, chars, mask = to_tensors(make_batch(TEXTS))
    output = model(ids, chars, mask)
    torch.testing.assert_close(model(ids, torch.zeros_like(chars), mask).fast_logits, output.fast_logits)
    output.fast_logits.square().sum().backward()
    assert model.front.embeddings.characters.out.weight.grad.abs().max() > 0


def test_trained_characters_change_the_logits_and_get_gradients():
    model = make_model()
    ids, chars, mask = to_tensors(make_batch(TEXTS))
    output = model(ids, chars, mask)
    other = model(ids, torch.where(chars > 0, 90, 0), mask)
    assert (output.fast_logits - other.fast_logits).abs().max() > 1e-4
    assert (output.deep_logits - other.deep_logits).abs().max() > 1e-4
    output.fast_logits.square().sum().backward()
    for name, parameter in model.front.embeddings.characters.named_parameters():
        assert parameter.grad.abs().max() > 0, name
    assert not model.front.embeddings.characters.embed.weight.grad[0].any()  # padding stays zero
