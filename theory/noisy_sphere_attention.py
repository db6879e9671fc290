"""Self-attention on the sphere with noise: when does the uniform law lose to clusters?"""

from derive.notation import average, dims, exp, eye, noise, params, sphere, sqrt, token_flow

d = dims("d: token dimension")
beta, kappa = params("beta: positive", "kappa: positive")


@token_flow(state="x[d]", on=sphere)
def noisy_sphere_attention(x, y):
    return average(y, exp(beta * (x @ y))) + noise(sqrt(2 * kappa) * eye(d))
