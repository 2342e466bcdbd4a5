from __future__ import annotations

import pytest
import torch

from guardlib.model import deep_branch
from guardlib.model.deep_branch import MixtureOfExperts
from guardlib.model.transformer import FeedForward, Pool, SelfAttention

WIDTH, FFN, EXPERTS = 16, 32, 3


def mixture(seed: int = 0, spread: float = 1.0) -> MixtureOfExperts:
    torch.manual_seed(seed)
    made = MixtureOfExperts(WIDTH, FFN, EXPERTS)
    torch.nn.init.normal_(made.gate.weight, std=spread)
    return made


def tokens(batch: int = 4, length: int = 10, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(batch, length, WIDTH, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(batch, length, dtype=torch.long)
    for row in range(1, batch):
        mask[row, length - 2 * row :] = 0
    return x, mask


def test_each_token_goes_through_the_expert_of_the_highest_gate():
    made = mixture()
    x, mask = tokens()
    y = made(x, mask).y
    chosen = (x @ made.gate.weight.T).argmax(-1)
    assert set(chosen.flatten().tolist()) == {0, 1, 2}
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            expected = made.experts[int(chosen[row, column])](x[row, column])
            torch.testing.assert_close(y[row, column], expected)


def test_experts_multiply_few_shapes_under_autocast_and_their_own_tokens_elsewhere(monkeypatch):
    """Autocast compiles a kernel for every new shape; filling up changes neither output nor gradient."""
    made = mixture()
    x, mask = tokens()
    sizes: list[int] = []
    for expert in made.experts:
        expert.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    results = []
    for filled in (True, False):
        monkeypatch.setattr(deep_branch, "_ROWS_MULTIPLE", 64 if filled else 1)
        made.zero_grad()
        sizes.clear()
        with torch.autocast("cpu", torch.bfloat16):
            y = made(x, mask).y
        y.float().square().sum().backward()
        results.append([y, *(parameter.grad for parameter in made.parameters())])
        assert all(size % 64 == 0 for size in sizes) if filled else sum(sizes) == mask.numel()
    torch.testing.assert_close(*results, atol=1e-2, rtol=1e-2)
    sizes.clear()
    made(x, mask)
    assert sum(sizes) == mask.numel()


def test_equal_experts_are_the_dense_layer():
    made, dense = mixture(), FeedForward(WIDTH, FFN)
    for expert in made.experts:
        expert.load_state_dict(dense.state_dict())
    x, mask = tokens()
    torch.testing.assert_close(made(x, mask).y, dense(x))


def test_load_and_balance_by_hand():
    """Switch Transformer, eq. 4: E · Σ_e share of tokens · mean probability, over real tokens."""
    made = mixture().requires_grad_(False)
    x, mask = tokens()
    output = made(x, mask)
    share, mean_p, count = [0.0] * EXPERTS, [0.0] * EXPERTS, 0
    for row, column in mask.nonzero().tolist():
        p = torch.softmax(made.gate.weight @ x[row, column], 0)
        share[int(p.argmax())] += 1
        mean_p = [a + float(b) for a, b in zip(mean_p, p, strict=True)]
        count += 1
    share, mean_p = [a / count for a in share], [a / count for a in mean_p]
    torch.testing.assert_close(output.load, torch.tensor(share))
    expected = EXPERTS * sum(a * b for a, b in zip(share, mean_p, strict=True))
    assert float(output.balance_loss) == pytest.approx(expected, rel=1e-5)


def test_balance_is_one_when_even_and_the_number_of_experts_when_all_go_one_way():
    made = mixture().requires_grad_(False)
    torch.nn.init.zeros_(made.gate.weight)
    made.gate.weight.data[:, :EXPERTS] = torch.eye(EXPERTS) * 50
    x = torch.zeros(1, 6, WIDTH)
    for column in range(6):
        x[0, column, column % EXPERTS] = 1
    mask = torch.ones(1, 6, dtype=torch.long)
    assert float(made(x, mask).balance_loss) == pytest.approx(1, abs=1e-4)
    assert float(made(x[:, :1].expand(1, 6, WIDTH), mask).balance_loss) == pytest.approx(EXPERTS, abs=1e-4)


def test_padding_does_not_count():
    made = mixture()
    x, mask = tokens()
    before = made(x, mask)
    noise = torch.where(mask.bool().unsqueeze(-1), x, 100 * torch.randn_like(x))
    after = made(noise, mask)
    torch.testing.assert_close(after.load, before.load)
    torch.testing.assert_close(after.balance_loss, before.balance_loss)
    assert float(before.load.sum()) == pytest.approx(1)


def test_no_real_token_is_no_error():
    made = mixture()
    x, mask = tokens()
    output = made(x, torch.zeros_like(mask))
    assert torch.isfinite(output.balance_loss)


def test_the_gate_learns_from_the_output_alone():
    made = mixture()
    x, mask = tokens()
    made(x, mask).y.pow(2).sum().backward()
    assert made.gate.weight.grad.abs().max() > 1e-4


def test_the_gate_learns_from_the_balance_loss_alone():
    made = mixture()
    x, mask = tokens()
    made(x, mask).balance_loss.backward()
    assert made.gate.weight.grad.abs().max() > 1e-5


def test_an_idle_expert_is_no_error():
    made = mixture()
    torch.nn.init.zeros_(made.gate.weight)  # a tie: all tokens to the first
    x, mask = tokens()
    output = made(x, mask)
    assert output.load.tolist() == [1, 0, 0]
    output.y.sum().backward()


def test_the_exported_path_is_the_trained_one(monkeypatch):
    made = mixture()
    x, mask = tokens()
    trained = made(x, mask)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    exported = made(x, mask)
    assert (trained.load > 0).all()
    torch.testing.assert_close(exported.y, trained.y)


def test_the_gate_is_float32_under_autocast():
    made = mixture()
    x, mask = tokens()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made(x, mask)
    assert output.balance_loss.dtype == torch.float32
    torch.testing.assert_close(output.load, made(x, mask).load)


@pytest.mark.parametrize(("weight", "focused"), [(0.0, [2.0, -6.0]), (50.0, [3.0, -7.0])])
def test_pool_is_mean_maximum_and_focus_of_real_tokens(weight, focused):
    x = torch.tensor([[[1.0, -5], [3, -7], [100, 100]]])
    pool = Pool(2)
    with torch.no_grad():
        pool.focus.weight.copy_(torch.tensor([[weight, 0.0]]))  # the greater the first channel, the more a token counts
        pool.focus.bias.fill_(-1.0)
        state, focus = pool(x, torch.tensor([[1, 1, 0]]))
        assert state.tolist() == [[2, -6, 3, -5, *focused]]
        assert focus[0, :2].tolist() == [weight - 1, 3 * weight - 1]
        assert torch.isfinite(pool(x, torch.tensor([[0, 0, 0]])).state).all()


def test_attention_by_hand():
    torch.manual_seed(0)
    layer = SelfAttention(8, 2)
    x, mask = torch.randn(1, 4, 8), torch.tensor([[1, 1, 1, 0]])
    q, k, v = layer.qkv(x)[0].split(8, dim=-1)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        weights = torch.softmax(q[:, head] @ k[:3, head].T / 2, dim=-1)
        heads.append(weights @ v[:3, head])
    expected = layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(x, mask.bool()[:, None, None, :])[0], expected)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match=r"d_model \(10\) must be a multiple of num_heads \(4\)"):
        SelfAttention(10, 4)
