"""One interval of the grid by the Rosenbrock method Rodas5P, for stiff twins: order 5(4), L-stable, eight stages.

With J = ∂f/∂y, W = I / (γh) − J and f_t = ∂f/∂t, all at the start of a step of size h, the stages u_i and the step are

    W u_i = f(t + c_i h, y + Σ_j a_ij u_j) + Σ_j C_ij u_j / h + d_i h f_t,   y ← y + Σ_i m_i u_i,   error = u_8.

All stages share one W, and nothing is iterated: see `benchmarks/stiff.py` for what that is worth. G. Steinebach (2023),
Construction of Rosenbrock–Wanner method Rodas5P, doi:10.1007/s10543-023-00967-x.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax

from bayestwin.dynamics.adaptive import Slope, march, weighted

GAMMA = 0.21193756319429014
NODES = (0.0, 0.6358126895828704, 0.4095798393397535, 0.9769306725060716, 0.4288403609558664, 1.0, 1.0, 1.0)
RATES = (GAMMA, -0.42387512638858027, -0.3384627126235924, 1.8046452872882734, 2.325825639765069, 0.0, 0.0, 0.0)
_SIXTH = (-7.502846399306121, 2.561846144803919, -11.627539656261098, -0.18268767659942256, 0.030198172008377946)
WEIGHTS = (*_SIXTH, 1.0, 1.0, 1.0)
STAGES = (
    (),
    (3.0,),
    (2.849394379747939, 0.45842242204463923),
    (-6.954028509809101, 2.489845061869568, -10.358996098473584),
    (2.8029986275628964, 0.5072464736228206, -0.3988312541770524, -0.04721187230404641),
    _SIXTH,
    (*_SIXTH, 1.0),
    (*_SIXTH, 1.0, 1.0),
)
COUPLINGS = (
    (),
    (-14.155112264123755,),
    (-17.97296035885952, -2.859693295451294),
    (147.12150275711716, -1.41221402718213, 71.68940251302358),
    (165.43517024871676, -0.4592823456491126, 42.90938336958603, -5.961986721573306),
    (24.854864614690072, -3.0009227002832186, 47.4931110020768, 5.5814197821558125, -0.6610691825249471),
    (
        *(30.91273214028599, -3.1208243349937974, 77.79954646070892, 34.28646028294783),
        *(-19.097331116725623, -28.087943162872662),
    ),
    (
        *(37.80277123390563, -3.2571969029072276, 112.26918849496327, 66.9347231244047),
        *(-40.06618937091002, -54.66780262877968, -9.48861652309627),
    ),
)


def take_step(slope: Slope, t: Array, state: Array, step: Array) -> tuple[Array, Array]:
    """One step: the proposed state and the estimate of its error, which are not finite where W is singular."""
    jacobian = jax.jacfwd(slope, argnums=1)(t, state)
    drift = jax.jvp(lambda t: slope(t, state), (t,), (jnp.ones_like(t),))[1]
    matrix = jnp.eye(state.size) / (GAMMA * step) - jacobian
    inverse = invert(lax.stop_gradient(matrix))
    found: list[Array] = []
    for node, rate, stage, coupling in zip(NODES, RATES, STAGES, COUPLINGS, strict=True):
        at = state + weighted(stage, found) if found else state
        right = slope(t + node * step, at) + rate * step * drift
        if found:
            right = right + weighted(coupling, found) / step
        found.append(_solve(inverse, matrix, right))
    return state + weighted(WEIGHTS, found), found[-1]


advance = functools.partial(march, take_step)


def invert(matrix: Array) -> Array:
    """The inverse of a small matrix, by Gauss–Jordan elimination with partial pivoting; shape (s, s).

    Under `vmap` every entry of the batch goes through the same few array operations, where LAPACK would be called
    once for each. Not finite where the matrix is singular or not finite itself.
    """
    size = len(matrix)
    rows = jnp.arange(size)

    def eliminate(k: Array, both: Array) -> Array:
        pivot = jnp.argmax(jnp.where(rows >= k, jnp.abs(both[:, k]), -1.0))
        both = both[jnp.where(rows == k, pivot, jnp.where(rows == pivot, k, rows))]
        row = both[k] / both[k, k]
        return jnp.where((rows == k)[:, None], row, both - jnp.outer(both[:, k], row))

    both = jnp.concatenate([matrix, jnp.eye(size)], axis=1)
    return lax.fori_loop(0, size, eliminate, both, unroll=size <= 16)[:, size:]


@jax.custom_jvp
def _solve(inverse: Array, matrix: Array, right: Array) -> Array:
    """The x of `matrix @ x = right`, whose derivative needs none of the elimination's."""
    del matrix
    return inverse @ right


@_solve.defjvp
def _(primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]) -> tuple[Array, Array]:
    (inverse, matrix, right), (_, of_matrix, of_right) = primals, tangents
    x = _solve(inverse, matrix, right)
    return x, inverse @ (of_right - of_matrix @ x)
