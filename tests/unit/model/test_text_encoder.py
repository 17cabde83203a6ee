"""Encoders of texts: the control whose network sees the text as a whole alone."""

import torch

from sde_gen.model import Conditions, PooledTransformer, TextTransformer, UNetCross

TOKENS = torch.tensor([[2, 3, 0], [3, 2, 0], [4, 2, 3]])


def test_the_pooled_control_hides_the_tokens_and_keeps_the_whole() -> None:
    torch.manual_seed(0)
    whole = TextTransformer(vocabulary=5, length=3, width=8).double()
    control = PooledTransformer(vocabulary=5, length=3, width=8).double()
    control.load_state_dict(whole.state_dict())
    found, expected = control(TOKENS), whole(TOKENS)
    assert torch.equal(found.pooled, expected.pooled)
    assert found.tokens.shape == (3, 1, 8)
    assert bool(found.mask.all())
    assert torch.equal(found.tokens[0], found.tokens[1])
    assert not torch.allclose(expected.tokens[0], expected.tokens[1])


def test_a_network_of_the_control_depends_on_the_text_by_its_whole_alone() -> None:
    """With a pooled vector of zero every text gives the same prediction; without that it does not."""
    torch.manual_seed(0)
    inputs = Conditions(vocabulary=5, length=3, encoder=PooledTransformer)
    net = UNetCross(shape=(1, 8, 8), width=8, head_channels=8, inputs=inputs).double().eval()
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    x, c_noise = torch.randn(1, 1, 8, 8).double().expand(3, -1, -1, -1), torch.zeros(3).double()
    out = net(x, c_noise, tokens=TOKENS)
    assert not torch.allclose(out[0], out[1])
    net.text.pool.weight.data.zero_()
    silent = net(x, c_noise, tokens=TOKENS)
    torch.testing.assert_close(silent[1:], silent[:1].expand(2, -1, -1, -1), rtol=1e-12, atol=1e-12)
