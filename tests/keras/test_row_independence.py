"""What is known to treat the rows of a batch alike and separately, op by op."""

import numpy as np
import pytest
import tensorflow as tf

from qshift.keras.row_independence import are_separate

N, F = 5, 4
MATRIX = tf.constant(np.random.default_rng(0).normal(size=(F, F)).astype("float32"))
TABLE = tf.constant(np.arange(12.0, dtype="float32").reshape(6, 2))
PER_ROW = tf.constant(np.arange(float(N), dtype="float32"))

SEPARATE = {
    "feature": lambda x: x[:, 1],
    "ellipsis": lambda x: x[..., 1:3],
    "new axis": lambda x: x[tf.newaxis, :, 2:, tf.newaxis][0],
    "reversed features": lambda x: x[:, ::-1],
    "unstack": lambda x: tf.stack(tf.unstack(x, axis=1)[:2], 1),
    "stack first": lambda x: tf.transpose(tf.stack([x[:, 0], x[:, 1]])),
    "split": lambda x: tf.split(x, 2, axis=1)[1],
    "split sizes": lambda x: tf.split(x, [1, 3], axis=-1)[1],
    "slice": lambda x: tf.slice(x, [0, 1], [-1, 2]),
    "gather": lambda x: tf.gather(x, [2, 0], axis=1),
    "table": lambda x: tf.gather(TABLE, tf.cast(x[:, 0] > 0, tf.int32)),
    "reshape": lambda x: tf.reshape(x, [-1, 2, 2]),
    "expand and squeeze": lambda x: tf.squeeze(x[:, None, :, None], [1, 3]),
    "concat": lambda x: tf.concat([x, x**2, tf.ones([N, 1])], 1),
    "broadcast": lambda x: tf.broadcast_to(x[:, :1], [N, F]) + MATRIX[0],
    "where": lambda x: tf.where(x > 0, x, -3 * x),
    "functions": lambda x: tf.atan2(tf.sin(x), tf.nn.relu(x) + 1) ** 2 / np.pi,
    "clipped rows": lambda x: tf.clip_by_norm(x, 1.0, axes=-1),
    "normalised rows": lambda x: tf.math.l2_normalize(x, -1),
    "reductions": lambda x: tf.reduce_max(x, -1) + tf.reduce_logsumexp(x, 1),
    "kept axes": lambda x: x - tf.reduce_mean(x, 1, keepdims=True),
    "argmax": lambda x: tf.one_hot(tf.argmax(x, 1), F),
    "softmax": lambda x: tf.nn.softmax(x),
    "sort": lambda x: tf.sort(x),
    "cumulative": lambda x: tf.cumsum(x, axis=1),
    "matmul": lambda x: x @ MATRIX,
    "from the left": lambda x: tf.transpose(tf.matmul(MATRIX, x, transpose_b=True)),
    "matvec": lambda x: tf.linalg.matvec(MATRIX, x),
    "batched": lambda x: x[:, None, :] @ x[:, :, None],
    "einsum": lambda x: tf.einsum("ni,...i->n...", x, MATRIX),
    "padded": lambda x: tf.pad(x, [[0, 0], [0, 2]]),
    "tiled": lambda x: tf.tile(x, [1, 3]),
    "constants of weights": lambda x: tf.stack([x[:, 0], MATRIX[0, 0] * tf.ones_like(x[:, 1])], 1),
    "weights alone": lambda x: tf.concat([x, tf.broadcast_to(MATRIX[0], [N, F])], 1),
}

MIXED = {
    "one row": lambda x: x[0] + 0 * x,
    "reversed rows": lambda x: x[::-1],
    "some rows": lambda x: tf.concat([x[:2], x[2:]], 0),
    "first hundred": lambda x: x[:100],
    "rolled": lambda x: tf.roll(x, 1, 0),
    "unstack": lambda x: tf.stack(tf.unstack(x)),
    "clip by norm": lambda x: tf.clip_by_norm(x, np.pi),
    "largest": lambda x: x / tf.maximum(1.0, tf.reduce_max(tf.abs(x))),
    "any": lambda x: tf.where(tf.reduce_any(x < 0), x + 1, x),
    "condition": lambda x: tf.cond(tf.reduce_sum(x) < 0, lambda: -x, lambda: x),
    "loop": lambda x: tf.while_loop(lambda y: tf.reduce_max(y) > 9, lambda y: (y / 2,), [x])[0],
    "global norm": lambda x: tf.clip_by_global_norm([x], 3.0)[0][0],
    "centred": lambda x: x - tf.reduce_mean(x, 0),
    "cumulative": lambda x: tf.cumsum(x),
    "sorted rows": lambda x: tf.sort(x, axis=0),
    "each row its own": lambda x: x * PER_ROW[:, None],
    "joined to its own": lambda x: tf.concat([x, PER_ROW[:, None]], 1),
    "softmax": lambda x: tf.nn.softmax(x, axis=0),
    "gram": lambda x: tf.matmul(x, x, transpose_b=True),
    "einsum": lambda x: tf.einsum("ni,ni->i", x, x)[None] + x,
    "other order": lambda x: tf.reshape(tf.transpose(x), [N, F]),
    "gather": lambda x: tf.gather(x, [1, 0, 2, 3, 4]),
    "unknown": lambda x: tf.numpy_function(np.sin, [x], tf.float32),
    "own row": lambda x: x + PER_ROW[:, None],
    "no function of it": lambda x: PER_ROW,
}


@pytest.mark.parametrize("name", SEPARATE)
def test_what_keeps_rows_apart(name):
    function = SEPARATE[name]
    # That it does is what TensorFlow says: others in the place of all rows but one.
    random = np.random.default_rng(1)
    x, others = random.normal(size=(2, N, F)).astype("float32") * 3
    made = function(tf.constant(x))
    rolled = tf.constant(np.roll(x, 1, 0))
    np.testing.assert_allclose(np.roll(made, 1, 0), function(rolled), atol=1e-5)
    for row in range(N):
        changed = others.copy()
        changed[row] = x[row]
        np.testing.assert_allclose(made[row], function(tf.constant(changed))[row], atol=1e-5)
    assert graph_says(function)


@pytest.mark.parametrize("name", MIXED)
def test_what_may_mix_them(name):
    assert not graph_says(MIXED[name])


def graph_says(function) -> bool:
    # Eager tensors are no part of a graph, so a function of TensorFlow's captures them.
    said = []

    def call(batch):
        out = tf.convert_to_tensor(function(batch))
        said.append(are_separate([out], tf.compat.v1.get_default_graph().inputs[0]))
        return out

    tf.function(call, autograph=False).get_concrete_function(tf.TensorSpec([N, F]))
    return said[0]


def test_what_is_written_may_be_read_again():
    variable = tf.Variable(0.0)

    def function(x):
        variable.assign(tf.reduce_sum(x))
        return x - variable

    assert not graph_says(function)
    assert graph_says(lambda x: x * variable)
