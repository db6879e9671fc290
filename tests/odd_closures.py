"""Definitions that are in no paper, to try the engine on."""

from derive.notation import (
    Rational,
    average,
    bistochastic,
    cos,
    dims,
    erf,
    exp,
    gaussian_closure,
    integral,
    log,
    matrices,
    noise,
    params,
    relu,
    sigmoid,
    sin,
    sqrt,
    sum_over,
    tanh,
)

H, d, d_k, d_v, d_y, r = dims(
    "H: heads", "d: tokens", "d_k: keys", "d_v: values", "d_y: other tokens", "r: noise"
)
Q, K, V = matrices(Q=(d_k, d), K=(d_k, d), V=(d, d))
Q_2, K_2 = matrices(Q_2=(d_k, d), K_2=(d_k, d))
Qh, Kh, Vh, Wh = matrices(Qh=(H, d_k, d), Kh=(H, d_k, d), Vh=(H, d_v, d), Wh=(H, d_v, d))
Ky, Vy = matrices(Ky=(d_k, d_y), Vy=(d, d_y))
U, W, b, F, G, c = matrices(U=(d_k, d), W=(d, d_k), b=(d_k,), F=(d, d), G=(d, r), c=(d,))
lam, beta, bias = params("lam: real", "beta: positive", "bias: real")


@gaussian_closure(state="x[d]")
def key_penalised(x, y):
    """Softmax with a Gaussian penalty on keys and an affine shift of queries."""
    return average(V @ y + c, exp((Q @ x + b) @ (K @ y) - beta * ((K @ y) @ (K @ y)) / 2))


@gaussian_closure(state="x[d]")
def differential(x, y):
    """Differential attention: softmax minus lam softmax."""
    first = average(V @ y, exp((Q @ x) @ (K @ y)))
    second = average(V @ y, exp((Q_2 @ x) @ (K_2 @ y)))
    return first - lam * second


@gaussian_closure(state="x[d]", keys="y[d_y]")
def cross(x, y):
    """Cross-attention: keys with a law of their own."""
    return average(Vy @ y, exp((Q @ x) @ (Ky @ y)))


@gaussian_closure(state="x[d]")
def feed_forward(x, y):
    """Softmax, an affine part and a ReLU network."""
    return average(V @ y, exp((Q @ x) @ (K @ y))) + F @ x + c + W @ relu(U @ x + b)


@gaussian_closure(state="x[d]")
def noisy(x, y):
    """Softmax with additive noise."""
    return average(V @ y, exp((Q @ x) @ (K @ y))) - x + noise(G)


@gaussian_closure(state="x[d]")
def unnormalised(x, y):
    """Exponential weight without normalisation."""
    return integral(V @ y, exp((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def polynomial(x, y):
    """A polynomial weight."""
    s = (Q @ x) @ (K @ y)
    return integral(V @ y, 1 + s + s**2 / 2)


@gaussian_closure(state="x[d]")
def polynomial_times_softmax(x, y):
    """Softmax with a value that is quadratic in the key: still affine after the tilt? No."""
    return average(((K @ y) @ b) * (V @ y), exp((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def cosine(x, y):
    """A cosine weight."""
    return integral(V @ y, cos((Q @ x) @ (K @ y) + bias))


@gaussian_closure(state="x[d]")
def sine(x, y):
    """A sine weight."""
    return integral(V @ y, sin((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def tanh_weight(x, y):
    """A tanh weight with an affine argument."""
    return integral(V @ y, tanh((Q @ x + b) @ (K @ y) + bias))


@gaussian_closure(state="x[d]")
def probit(x, y):
    """A probit weight."""
    return integral(V @ y, (1 + erf(((Q @ x) @ (K @ y) + bias) / sqrt(2))) / 2)


@gaussian_closure(state="x[d]")
def gelu_weight(x, y):
    """A GELU weight."""
    s = (Q @ x) @ (K @ y) + bias
    return integral(V @ y, s * (1 + erf(s / sqrt(2))) / 2)


@gaussian_closure(state="x[d]")
def softplus_weight(x, y):
    """A softplus weight: the second derivative is the first integrable one."""
    return integral(V @ y, log(1 + exp((Q @ x) @ (K @ y) + bias)))


@gaussian_closure(state="x[d]")
def sigmoid_heads(x, y):
    """Multi-head sigmoid."""

    def head(h):
        return Wh[h].T @ integral(Vh[h] @ y, sigmoid((Qh[h] @ x) @ (Kh[h] @ y)))

    return sum_over(H, head)


@gaussian_closure(state="x[d]")
def l2_heads(x, y):
    """Multi-head L2."""

    def head(h):
        gap = Qh[h] @ x - Kh[h] @ y
        return Wh[h].T @ average(Vh[h] @ y, exp(-(gap @ gap)))

    return sum_over(H, head)


@gaussian_closure(state="x[d]")
def normalised_sigmoid(x, y):
    """Row-normalised sigmoid."""
    return average(V @ y, sigmoid((Q @ x) @ (K @ y) + bias))


@gaussian_closure(state="x[d]")
def two_exponentials(x, y):
    """A weight that is a sum of two exponentials."""
    return average(V @ y, exp((Q @ x) @ (K @ y)) + exp((Q_2 @ x) @ (K_2 @ y)))


@gaussian_closure(state="x[d]", keys="y[d_y]")
def cross_sinkhorn(x, y):
    """A coupling of two different laws, with parts that the potentials absorb."""
    gap = Q @ x - Ky @ y
    return integral(Vy @ y, bistochastic(exp(-(gap @ gap) / 2))) - x


@gaussian_closure(state="x[d]")
def after_softmax(x, y, s, tau):
    """Anti-causal L2 with positions."""
    gap = Q @ x - K @ y
    return average(V @ y, exp(-(gap @ gap)) * (tau >= s)) - Rational(1, 2) * x


@gaussian_closure(state="x[d]")
def quartic(x, y):
    """Outside reach: the exponent is quartic."""
    s = (Q @ x) @ (K @ y)
    return average(V @ y, exp(-(s**2) * ((K @ y) @ (K @ y))))


@gaussian_closure(state="x[d]")
def quadratic_in_both(x, y):
    """Outside reach: the quadratic part depends on x."""
    s = (Q @ x) @ (K @ y)
    return average(V @ y, exp(-(s**2)))


@gaussian_closure(state="x[d]")
def transposed(x, y):
    """A mistake: Q the wrong way round."""
    return average(V @ y, exp((Q.T @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def vector_weight(x, y):
    """A mistake: a weight that is a vector."""
    return average(V @ y, exp(K @ y))
