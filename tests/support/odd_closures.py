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
    """A Gaussian of the inner product: quadratic in x and in y."""
    s = (Q @ x) @ (K @ y)
    return average(V @ y, exp(-(s**2)))


@gaussian_closure(state="x[d]")
def gaussian_of_product(x, y):
    """The same without normalisation, off centre, times a power."""
    s = (Q @ x) @ (K @ y)
    return integral(V @ y, exp(-((s - 1) ** 2) / 2) * s)


@gaussian_closure(state="x[d]")
def quartic_of_product(x, y):
    """exp of a polynomial of the inner product."""
    s = (Q @ x) @ (K @ y)
    return integral(V @ y, exp(s - s**4))


@gaussian_closure(state="x[d]")
def gauss_times_cosine(x, y):
    """A Gaussian in the key times a cosine."""
    key = K @ y
    return integral(V @ y, exp(-beta * (key @ key) / 2) * cos((Q @ x) @ key + bias))


@gaussian_closure(state="x[d]")
def normalised_wave(x, y):
    """A normaliser that oscillates."""
    key = K @ y
    return average(V @ y, exp(-(key @ key)) * (2 + cos((Q @ x) @ key)))


@gaussian_closure(state="x[d]")
def differential_l2(x, y):
    """Softmax minus lam times L2, each normalised by itself."""
    gap = Q_2 @ x - K_2 @ y
    return average(V @ y, exp((Q @ x) @ (K @ y))) - lam * average(F @ y, exp(-(gap @ gap)))


@gaussian_closure(state="x[d]")
def polynomial_normaliser(x, y):
    """A weight that is a positive polynomial."""
    return average(V @ y, 1 + ((Q @ x) @ (K @ y)) ** 2)


@gaussian_closure(state="x[d]", keys="y[d_y]")
def cross_sigmoid(x, y):
    """Sigmoid attention to keys with a law of their own."""
    return integral(Vy @ y, sigmoid((Q @ x) @ (Ky @ y)))


@gaussian_closure(state="x[d]")
def tanh_network(x, y):
    """Softmax, a smooth feed-forward part and noise."""
    return average(V @ y, exp((Q @ x) @ (K @ y))) + W @ tanh(U @ x + b) + noise(G)


@gaussian_closure(state="x[d]")
def mixed_heads(x, y):
    """A softmax, a sigmoid and a linear head in one sum."""
    soft = average(V @ y, exp((Q @ x) @ (K @ y)))
    return soft + integral(F @ y, sigmoid((Q_2 @ x) @ (K_2 @ y) + bias)) - x


@gaussian_closure(state="x[d]")
def two_kinds_a_head(x, y):
    """In every head a softmax and an unnormalised quadratic weight."""

    def head(h):
        s = (Qh[h] @ x) @ (Kh[h] @ y)
        return Wh[h].T @ (average(Vh[h] @ y, exp(s)) + integral(Vh[h] @ y, s**2 / 2))

    return sum_over(H, head)


@gaussian_closure(state="x[d]")
def causal_sigmoid(x, y, s, tau):
    """Sigmoid attention to what came before."""
    return integral(V @ y, sigmoid((Q @ x) @ (K @ y)) * (tau < s)) - x


@gaussian_closure(state="x[d]")
def capped(x, y):
    """Softmax of capped scores."""
    return average(V @ y, exp(tanh((Q @ x) @ (K @ y))))


@gaussian_closure(state="x[d]")
def sigmoid_and_gauss(x, y):
    """A sigmoid times a Gaussian in the key."""
    key = K @ y
    return integral(V @ y, sigmoid((Q @ x) @ key) * exp(-(key @ key) / 2))


@gaussian_closure(state="x[d]")
def neural_value(x, y):
    """The value is a network of the key."""
    return average(W @ tanh(K @ y + b), exp((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def slow_tails(x, y):
    """A weight whose transform is not smooth."""
    return integral(V @ y, 1 / (1 + ((Q @ x) @ (K @ y)) ** 2))


@gaussian_closure(state="x[d]")
def kinked(x, y):
    """A ReLU of the inner product."""
    return integral(V @ y, relu((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def key_repelled(x, y):
    """exp(+|Ky|^2 / 2): integrable for small covariances alone."""
    key = K @ y
    return average(V @ y, exp((Q @ x) @ key + (key @ key) / 2))


@gaussian_closure(state="x[d]")
def cubic(x, y):
    """Not integrable: exp of a cube."""
    return average(V @ y, exp(((Q @ x) @ (K @ y)) ** 3))


@gaussian_closure(state="x[d]")
def growing_square(x, y):
    """Not integrable for large x: exp of a positive square."""
    return integral(V @ y, exp(((Q @ x) @ (K @ y)) ** 2 / 4))


@gaussian_closure(state="x[d]")
def two_sigmoids(x, y):
    """A product of functions of two different scores."""
    return integral(V @ y, sigmoid((Q @ x) @ (K @ y)) * sigmoid((Q_2 @ x) @ (K_2 @ y)))


@gaussian_closure(state="x[d]")
def sigmoid_of_distance(x, y):
    """A function of something quadratic in the key."""
    gap = Q @ x - K @ y
    return integral(V @ y, sigmoid(bias - gap @ gap))


@gaussian_closure(state="x[d]")
def transposed(x, y):
    """A mistake: Q the wrong way round."""
    return average(V @ y, exp((Q.T @ x) @ (K @ y)))


@gaussian_closure(state="x[d]")
def vector_weight(x, y):
    """A mistake: a weight that is a vector."""
    return average(V @ y, exp(K @ y))


@gaussian_closure(state="x[d]")
def quotient(x, y):
    """Softmax as a quotient of integrals."""
    s = (Q @ x) @ (K @ y)
    return V @ integral(y, exp(s)) / integral(1, exp(s))


@gaussian_closure(state="x[d]")
def powers_of_exponentials(x, y):
    """Softmax of s with exponentials divided, rooted and raised."""
    s = (Q @ x) @ (K @ y)
    return average(V @ y, exp(2 * s) / sqrt(exp(s)) ** 3 * exp(log(exp(s))) ** Rational(1, 3))


@gaussian_closure(state="x[d]")
def sink(x, y):
    """Softmax with a weight that no key has."""
    s = (Q @ x) @ (K @ y)
    return integral(V @ y, exp(s)) / (beta + integral(1, exp(s)))


@gaussian_closure(state="x[d]")
def squared_tanh(x, y):
    """A square of a function of scores."""
    return integral(V @ y, tanh((Q @ x) @ (K @ y)) ** 2)


@gaussian_closure(state="x[d]")
def logistic_slope(x, y):
    """A product of two functions of scores."""
    s = (Q @ x) @ (K @ y)
    return integral(V @ y, sigmoid(s) * (1 - sigmoid(s)))


@gaussian_closure(state="x[d]")
def capped_at(x, y):
    """Softmax with capped scores, the cap a parameter."""
    s = (Q @ x) @ (K @ y)
    return average(V @ y, exp(beta * tanh(s / beta)))


@gaussian_closure(state="x[d]")
def features(x, y):
    """Vectors of positive features."""
    return integral(V @ y, exp(Q @ x) @ exp(K @ y))


@gaussian_closure(state="x[d]")
def positive_features(x, y):
    """Random features of softmax, normalised."""
    q = Q @ x
    return average(V @ y, exp(q - q @ q / 2) @ exp(K @ y))


@gaussian_closure(state="x[d]")
def phases(x, y):
    """Phases that attract: the mean rests."""
    return beta * integral(sin(y - x))


@gaussian_closure(state="x[d]", law="centred")
def centred_relu(x, y):
    """ReLU scores under a law of mean zero."""
    return integral(V @ y, relu((Q @ x) @ (K @ y)))


@gaussian_closure(state="x[d]", law="centred")
def centred_bias(x, y):
    """A velocity that leaves a mean of zero."""
    return integral(V @ y, relu((Q @ x) @ (K @ y))) + c


@gaussian_closure(state="x[d]", law="centred")
def centred_network(x, y):
    """Softmax and a network without bias."""
    return average(V @ y, exp((Q @ x) @ (K @ y))) + W @ tanh(U @ x)


@gaussian_closure(state="x[d]", law="mixture")
def mixed(x, y):
    """Softmax under a mixture."""
    return average(V @ y, exp((Q @ x) @ (K @ y) / sqrt(d_k)))


@gaussian_closure(state="x[d]", law="mixture")
def mixed_linear(x, y):
    """Linear attention under a mixture."""
    return integral(V @ y, (Q @ x) @ (K @ y))


@gaussian_closure(state="x[d]", keys="z[d_y]")
def decoder(x, y, z):
    """Self-attention and cross-attention side by side."""
    own = average(V @ y, exp((Q @ x) @ (K @ y)))
    return own + average(Vy @ z, exp((Q_2 @ x) @ (Ky @ z)))


@gaussian_closure(state="x[d]")
def pairs(x, y, z):
    """Attention to pairs of tokens."""
    return average(V @ (y * z), exp((Q @ x) @ (K @ y) + (Q_2 @ x) @ (K_2 @ z)))


@gaussian_closure(state="x[d]")
def sloped(x, y, s, tau):
    """Causal softmax with scores that fall with the distance."""
    score = (Q @ x) @ (K @ y) - beta * (s - tau)
    return average(V @ y, exp(score) * (tau <= s))


@gaussian_closure(state="x[d]")
def windowed(x, y, s, tau):
    """Linear attention to what is near."""
    return integral(V @ y, (Q @ x) @ (K @ y) * (tau <= s) * (s - tau <= beta))


@gaussian_closure(state="x[d]")
def blind(x, y, s, tau):
    """The first token sees nothing."""
    return average(V @ y, exp((Q @ x) @ (K @ y)) * (tau <= s) * (tau < s))


@gaussian_closure(state="x[d]")
def rms(x, y):
    """Softmax of queries and keys of root mean square one, values too."""
    q, k = x / sqrt((x @ x) / d + beta), y / sqrt((y @ y) / d + beta)
    return average(V @ k, exp((Q @ q) @ (K @ k)))


@gaussian_closure(state="x[d]")
def bare_norm(x, y):
    """Keys of length one, with nothing to keep zero out of reach."""
    return average(V @ y, exp((Q @ x) @ (K @ y) / sqrt(y @ y)))


@gaussian_closure(state="x[d]")
def grows(x, y):
    """An exponent that grows like a cube."""
    return average(V @ y, exp((Q @ x) @ (K @ y) * sqrt(beta + y @ y) * tanh(c @ x)))
