"""A parameter is one number: an array of them is refused with the call that maps over it."""

import jax
import numpy as np
import pytest

from derive.generated import causal_shaped_attention, shaped_attention, shaped_transformer

V = np.array([[1.0, 0.3, -0.2], [0.3, 1.2, 0.1], [-0.2, 0.1, 0.8]])
SEVERAL = np.array([0.3, 0.5, 0.7])
FUNCTIONS = ("drift", "diffusion", "mixing_rate", "mixing_effect", "volatility")


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("module", [shaped_attention, causal_shaped_attention, shaped_transformer])
def test_an_array_of_parameters_is_refused_by_name(module, name):
    values = dict.fromkeys(module.Params._fields, 0.5)
    for field in module.Params._fields:
        params = module.Params(**{**values, field: SEVERAL})
        with pytest.raises(ValueError, match=rf"{field} has shape \(3,\).*vmap"):
            getattr(module, name)(V, params)
        with pytest.raises(ValueError, match="vmap"):
            jax.jit(getattr(module, name))(V, params)


def test_the_remedy_does_what_was_meant():
    params = shaped_attention.Params(gamma=0.5, tau_0=0.8)
    mapped = jax.vmap(lambda g: shaped_attention.drift(V, params._replace(gamma=g)))(SEVERAL)
    alone = [shaped_attention.drift(V, params._replace(gamma=g)) for g in SEVERAL]
    assert np.allclose(mapped, np.array(alone), rtol=1e-6)


def test_noise_and_layers_refuse_them_too():
    params = shaped_attention.Params(gamma=SEVERAL, tau_0=0.8)
    with pytest.raises(ValueError, match="vmap"):
        shaped_attention.noise(jax.random.key(0), V, params)
    blocks = [np.zeros((3, 3))] * 3
    with pytest.raises(ValueError, match="vmap"):
        shaped_attention.step_layer(np.eye(3), blocks, params, shaped_attention.Dims(8.0, 4.0))


def test_gradients_by_a_parameter_pass():
    def total(gamma):
        return shaped_attention.drift(V, shaped_attention.Params(gamma, 0.8)).sum()

    slope = jax.grad(total)(0.5)
    assert abs(slope - (total(0.501) - total(0.499)) / 0.002) < 1e-2 * abs(slope)
