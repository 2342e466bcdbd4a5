"""Attention: the written-out form that bfloat16 takes on CPU is the fused one."""

import torch
from torch.nn import functional as F

from guardlib.model.transformer import attend


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
