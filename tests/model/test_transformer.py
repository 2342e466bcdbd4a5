"""Attention: the written-out form that bfloat16 takes on CPU is the fused one. Dropout: one mask for a whole text."""

import pytest
import torch
from torch.nn import functional as F

from guardlib.model.transformer import TextDropout, attend


def test_written_out_attention_is_the_fused_one_with_its_gradients():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 9, 8, generator=generator) for _ in range(3))
    mask = torch.arange(9)[None, :] < torch.tensor([9, 5, 1])[:, None]
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [tensor.to(dtype).detach().requires_grad_() for tensor in (q, k, v)]
        output = attend(*inputs, mask[:, None, None, :])
        assert output.dtype == dtype
        output.float().pow(2).sum().backward()
        results.append([output.float(), *(tensor.grad.float() for tensor in inputs)])
    for fused, written_out in zip(*results, strict=True):
        torch.testing.assert_close(written_out, fused, atol=0.06, rtol=0.06)


def test_padding_is_not_attended_to():
    q, k, v = (torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(i)).bfloat16() for i in range(3))
    mask = torch.tensor([True, True, False, False])[None, None, None, :]
    expected = F.scaled_dot_product_attention(q, k[:, :, :2], v[:, :, :2])
    torch.testing.assert_close(attend(q, k, v, mask), expected, atol=0.02, rtol=0.02)


def test_dropout_has_one_mask_for_all_tokens_of_a_text_and_is_off_in_evaluation():
    torch.manual_seed(0)
    dropout, x_BLD = TextDropout(0.25), torch.ones(64, 5, 32)
    y_BLD = dropout(x_BLD)
    assert torch.equal(y_BLD, y_BLD[:, :1].expand_as(y_BLD))
    assert y_BLD.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y_BLD == 0).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(y_BLD[0], y_BLD[1])  # each text its own
    assert torch.equal(dropout.eval()(x_BLD), x_BLD)
