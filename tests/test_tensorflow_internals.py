"""What `qshift.tensorflow_internals` promises of TensorFlow's private names, each alone."""

import inspect
import pathlib
import warnings

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import config

import qshift
from qshift import tensorflow_internals as internals
from qshift.autodiff.unrolling import unrolled


def test_nothing_else_names_them():
    package = pathlib.Path(qshift.__file__).parent
    named = [path.name for path in package.rglob("*.py") if "tensorflow.python" in path.read_text()]
    assert named == ["tensorflow_internals.py"]


def in_graph(function, *arguments):
    """Calls a function while TensorFlow traces; returns what it returned then."""
    found = []
    traced = tf.function(lambda *xs: found.append(function(*xs)), autograph=False)
    traced.get_concrete_function(*arguments)
    return found[0]


def test_eager_tensors_have_a_class():
    x = tf.constant(1.0)
    assert isinstance(x, internals.EagerTensor)
    assert not in_graph(lambda x: isinstance(x, internals.EagerTensor), x)


@pytest.mark.parametrize("number", [np.float64(0.1), np.float32(0.1)])
def test_numbers_become_eager_tensors(number):
    expected = tf.constant(number)
    made = internals.EagerTensor(number, expected.device, None)
    assert (made.dtype, made.shape, made.device) == (expected.dtype, (), expected.device)
    assert made.numpy() == number and float(2 * made) == 2 * number


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 1, 3)])
def test_eager_tensors_say_their_shape(shape):
    assert internals.shape_of(tf.zeros(shape)) == shape


@pytest.mark.parametrize("device", [None, "CPU:0"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3)])
def test_arrays_become_eager_tensors_of_their_own(shape, dtype, device):
    array = np.arange(6, dtype=dtype)[: int(np.prod(shape))].reshape(shape)
    with tf.device(device):
        made, expected = internals.from_numpy(array), tf.constant(array)
    assert (made.dtype, made.shape, made.device) == (expected.dtype, shape, expected.device)
    array += 1
    np.testing.assert_array_equal(made, expected)
    backwards = np.arange(6.0)[::-2]
    np.testing.assert_array_equal(internals.from_numpy(backwards), backwards)


def test_tapes_follow_tensors_backwards():
    x, y = tf.constant(2.0), tf.constant(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        assert internals.records_backprop([y, 2 * x]) and not internals.records_backprop([y])
    assert not internals.records_backprop([x])


def test_dtypes_that_have_derivatives():
    kinds = (tf.float64, tf.complex64, tf.int32, tf.bool)
    found = [internals.is_trainable(tf.zeros([], kind)) for kind in kinds]
    assert found == [True, True, False, False]


def recorded(x):
    """3 x, whose derivative is said to be 5 backwards and 7 forwards."""
    with internals.stop_recording():
        y = tf.constant(3.0) * x
    internals.record_operation(
        "OfTests", [y], [x], lambda up: [5.0 * up], lambda step: [7.0 * step]
    )
    return y


def test_operations_are_recorded_for_tapes():
    x = tf.constant(2.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = recorded(x)
    assert float(tape.gradient(y, x)) == 5.0


def test_operations_are_recorded_for_forward_accumulators():
    x = tf.constant(2.0)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(1.0)) as forward:
        y = recorded(x)
    assert float(forward.jvp(y)) == 7.0


def test_whether_anything_might_record():
    assert not internals.could_record()
    with tf.GradientTape() as tape:
        assert internals.could_record()
        with tape.stop_recording():
            assert not internals.could_record()


def test_who_follows_a_tensor():
    x, y = tf.constant(1.0), tf.constant(2.0)
    assert internals.following([x]) == 0
    with tf.GradientTape() as tape:
        tape.watch(x)
        assert (internals.following([x]), internals.following([y])) == (1, 0)
        assert internals.is_watched(2 * x) and not internals.is_watched(y)
        with tf.autodiff.ForwardAccumulator(x, tf.constant(1.0)):
            assert internals.following([x]) == 2
    assert not internals.is_watched(x)


def test_tapes_begin_and_end_to_record_by_their_own_methods(monkeypatch):
    told = []
    for kind, name in internals.RECORDING:
        own = getattr(kind, name)
        instead = lambda self, own=own, name=name: (own(self), told.append((name, self)))  # noqa: E731
        monkeypatch.setattr(kind, name, instead)
    x = tf.constant(1.0)
    with tf.GradientTape() as tape:
        assert told == [("_push_tape", tape)]
        with tf.autodiff.ForwardAccumulator(x, x) as forward:
            assert told[1:] == [("_push_accumulator", forward)]
        assert told[2:] == [("_pop_accumulator", forward)]
        with tape.stop_recording():
            assert told[3:] == [("_pop_tape", tape)]
        assert told[4:] == [("_push_tape", tape)]
        tape.reset()  # what it recorded is forgotten
        assert told[5:] == [("_pop_tape", tape), ("_push_tape", tape)]
        tape.watch(x)
        y = x * x
        assert len(told) == 7
        tape.gradient(y, x)
        assert told[7:] == [("_pop_tape", tape)]
    assert len(told) == 8


def test_callbacks_see_all_ops():
    kinds = []

    def callback(op_type, inputs, attrs, outputs, op_name=None, graph=None):
        kinds.append((tf.compat.as_str(op_type), graph is None))

    internals.add_callback(callback)
    try:
        tf.sin(tf.constant(1.0))
        in_graph(tf.cos, tf.constant(1.0))
    finally:
        internals.remove_callback(callback)
    tf.tan(tf.constant(1.0))
    assert ("Sin", True) in kinds and ("Cos", False) in kinds
    assert "Tan" not in {kind for kind, _ in kinds}


def test_threads_have_started():
    tf.constant(1.0)
    assert internals.is_initialized()


@tf.RegisterGradient("TestsOwn")
def gradient_of_own(op, *cotangents):
    return []


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
def test_saved_models_hold_other_functions(stateful, traced, tmp_path, monkeypatch):
    told = []

    def double(x):
        return [2 * x, x]

    def replacement(function, read):
        told.append((function, read))
        spec = tf.TensorSpec([None], tf.float32)
        return tf.function(lambda x: [4 * x, tf.zeros([0])]).get_concrete_function(spec)

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None])])
        def run(self, x):
            graph = tf.compat.v1.get_default_graph()
            kind = "PyFunc" if stateful else internals.PYTHON_OP
            with graph.gradient_override_map({kind: "TestsOwn"}):
                first, _ = internals.python_op(double, [x], [tf.float32] * 2, stateful=stateful)
            return first

        @tf.function(input_signature=[tf.TensorSpec([None])])
        def nested(self, x):
            return self.run(self.run(x))

    # As `tf.saved_model.save` was, and with this replacement alone.
    build = inspect.unwrap(internals.save._build_meta_graph_impl)
    monkeypatch.setattr(internals.save, "_build_meta_graph_impl", build)
    internals.replace_python_ops_saved(replacement, ["TestsOwn"])
    module = Module()
    if traced:
        np.testing.assert_array_equal(module.nested(tf.constant([1.0, 2.0])), [4.0, 8.0])
    tf.saved_model.save(module, str(tmp_path))
    assert told and all(each == (double, {0}) for each in told)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.nested(tf.constant([1.0, 2.0])), [16.0, 32.0])
    np.testing.assert_array_equal(loaded.run(tf.constant([3.0])), [12.0])
    written = saved_model_pb2.SavedModel()
    written.ParseFromString((tmp_path / "saved_model.pb").read_bytes())
    (graph,) = written.meta_graphs
    library = graph.graph_def.library
    nodes = [node for function in library.function for node in function.node_def]
    used = {node.op for node in [*nodes, *graph.graph_def.node]}
    used |= {op.name for op in graph.meta_info_def.stripped_op_list.op}
    assert "PartitionedCall" in used and not any("PyFunc" in name for name in used)
    assert not [each for each in library.registered_gradients]
    assert not [node for node in nodes if "_gradient_op_type" in node.attr]


@pytest.mark.parametrize("stateful", [True, False])
def test_functions_are_ops_in_graphs(stateful):
    calls = []

    def double(x):
        calls.append(x)
        return 2 * x

    @tf.function
    def used(x):
        return internals.python_op(double, [x], [tf.float32], stateful=stateful)[0]

    @tf.function
    def unused(x):
        internals.python_op(double, [x], [tf.float32], stateful=stateful)
        return x

    assert float(used(tf.constant(2.0))) == 4.0 and len(calls) == 1
    unused(tf.constant(2.0))
    assert len(calls) == 1 + stateful
    graph = used.get_concrete_function(tf.constant(2.0)).graph
    (op,) = (op for op in graph.get_operations() if op.type.startswith("PyFunc"))
    attrs = {"token": op.node_def.attr["token"]}
    assert internals.function_of(op) is double
    assert internals.function_of_copied(op.type, attrs) is (None if stateful else double)
    assert internals.function_of_copied("Identity", {}) is None


def test_a_variable_is_known_to_be_accessed():
    variable = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        internals.variable_accessed(variable)
    assert tape.watched_variables() == (variable,)


def test_python_ops_have_several_results_of_several_dtypes():
    @tf.function
    def fn(x):
        function = lambda x: [2 * x, np.array([1, 2])]  # noqa: E731
        return internals.python_op(function, [x], [tf.float32, tf.int64], stateful=False)

    doubled, numbers = fn(tf.constant(2.0))
    assert float(doubled) == 4.0 and numbers.numpy().tolist() == [1, 2]


def test_gradients_of_copied_ops_are_known():
    with tf.Graph().as_default() as graph:
        with graph.gradient_override_map({"Sin": "QShiftPartials"}):
            with_other = tf.sin(tf.constant(0.0)).op
        plain = tf.sin(tf.constant(0.0)).op
    assert internals.gradient_of_copied(with_other.node_def.attr) == "QShiftPartials"
    assert internals.gradient_of_copied(plain.node_def.attr) == ""


def test_graphs_that_keep_their_outputs():
    seen = []

    def see(x):
        seen.append(internals.keeps_outputs(tf.compat.v1.get_default_graph()))
        return x

    tf.function(see)(1.0)
    tf.function(lambda x: tf.cond(x > 0, lambda: see(x), lambda: see(x)))(tf.constant(1.0))
    assert seen == [True] * 3
    tf.compat.v1.wrap_function(see, [tf.TensorSpec([], tf.float32)])
    with tf.Graph().as_default():
        see(tf.constant(1.0))
    assert seen[3:] == [False] * 2


def test_functions_with_python_ops_are_spared_xla(monkeypatch):
    names = []
    module = internals.atomic_function
    monkeypatch.setattr(module, "from_func_graph", module.from_func_graph)
    internals.spare_python_ops_xla(names.append)

    def doubled(x):
        return internals.python_op(lambda x: 2 * x, [x], [tf.float32], stateful=False)[0]

    assert float(tf.function(lambda x: 2 * x, jit_compile=True)(1.0)) == 2.0 and not names
    with warnings.catch_warnings(action="ignore", category=qshift.QShiftWarning):
        assert float(tf.function(doubled, jit_compile=True)(tf.constant(1.0))) == 2.0
    assert names == ["doubled"]


def test_deterministic_ops():
    assert not internals.are_deterministic()
    tf.config.experimental.enable_op_determinism()
    try:
        assert internals.are_deterministic()
    finally:
        config.disable_op_determinism()


def test_custom_gradients_of_users_are_told_from_tensorflows():
    @tf.custom_gradient
    def own(x):
        return tf.identity(x), lambda up: -up

    def made(function):
        def gradients(x):
            function(x)
            ops = tf.compat.v1.get_default_graph().get_operations()
            return any(map(internals.has_users_gradient, ops))

        return in_graph(gradients, tf.ones([2]))

    assert made(own)
    assert not made(tf.sin) and not made(tf.nn.silu)


def test_the_graph_of_a_function_is_found_from_its_loops():
    assert internals.function_graph() is None

    def graphs(x):
        inner = []
        body = lambda i: inner.append(internals.function_graph()) or i + 1  # noqa: E731
        tf.while_loop(lambda i: i < 2, body, [x])
        return tf.compat.v1.get_default_graph(), inner[0]

    here, inside = in_graph(graphs, tf.constant(0))
    assert here is inside


def test_vectorised_loops_ask_converters():
    def body(x):
        y = tf.sin(x)
        y.op.pfor_converter = convert
        return y

    def convert(inputs: internals.LoopInputs):
        tensor, is_stacked, _ = inputs.input(0)
        assert is_stacked and inputs.op.type == "Sin"
        return [internals.wrapped(tensor + 10.0, True)]

    found = tf.vectorized_map(body, tf.constant([1.0, 2.0]))
    np.testing.assert_allclose(found, [11.0, 12.0])


def test_converters_learn_the_length_of_the_loop():
    def body(x):
        y = tf.sin(x)
        internals.vectorise(y.op, lambda inputs: [filled(inputs)])
        return y

    def filled(inputs):
        return internals.wrapped(tf.fill([internals.loop_length(inputs)], 7.0), True)

    np.testing.assert_array_equal(tf.vectorized_map(body, tf.zeros([3])), [7.0] * 3)


def test_converters_may_refuse():
    def refuse(inputs):
        raise internals.NotVectorisedError("not in a test")

    def body(x):
        y = tf.sin(x)
        y.op.pfor_converter = refuse
        return y

    x = tf.constant([1.0, 2.0])
    np.testing.assert_allclose(tf.vectorized_map(body, x), np.sin(x), rtol=1e-6)


def test_ops_that_do_not_depend_on_a_loop_are_copied(monkeypatch):
    monkeypatch.setattr(internals.pfor, "_create_op", internals.pfor._create_op)
    copied = []
    internals.copy_ops(lambda kind, inputs, attrs: copied.append((kind, len(inputs))))
    x = tf.constant(0.5)

    def body(_):
        with tf.control_dependencies([tf.raw_ops.Assert(condition=x < 1.0, data=[x])]):
            return tf.tan(tf.identity(x))

    tf.function(lambda: tf.vectorized_map(body, tf.zeros([2])))()
    assert ("Tan", 1) in copied


def test_graphs_ask_for_inputs_when_they_run():
    variable = tf.Variable(2.0)

    def late():
        return variable + 1.0

    def call(x):
        graph = tf.compat.v1.get_default_graph()
        return x * graph.capture_call_time_value(late, tf.TensorSpec([]), key="late")

    wrapped = tf.compat.v1.wrap_function(call, [tf.TensorSpec([])])
    (found,) = internals.deferred_captures(wrapped.graph)
    (value,) = tf.nest.flatten(found())
    assert float(value) == 3.0
    pruned = wrapped.prune(wrapped.inputs, wrapped.outputs)
    assert float(tf.squeeze(pruned(tf.constant(2.0), value))) == 6.0
    assert in_graph(lambda: internals.deferred_captures(tf.compat.v1.get_default_graph())) == []


def test_calls_of_functions_with_python_ops_are_told(monkeypatch):
    kind, told = atomic_function.AtomicFunction, []
    monkeypatch.setattr(kind, "call_flat", kind.call_flat)  # which is put back in the end
    own = lambda x: internals.python_op(lambda x: 2 * x, [x], [tf.float64], stateful=False)[0]  # noqa: E731
    inner = tf.function(own, autograph=False)
    outer, plain = tf.function(lambda x: inner(x) + 1.0), tf.function(tf.sin)
    x = tf.constant(1.0, tf.float64)
    outer(x)
    internals.tell_before_calls(lambda: told.append(1))
    plain(x)
    assert told == []
    outer(x)
    assert told == [1]
    inner(x)
    assert told == [1, 1]
    with tf.GradientTape() as tape:
        tape.watch(x)
        plain(inner(x))
    assert told == [1, 1, 1]


def test_graphs_say_which_ops_always_run():
    total = tf.Variable(1.0)

    @tf.function
    def function(x):
        tf.cos(x, name="unused")
        total.assign_add(tf.sin(x, name="assigned"))
        tf.print(tf.exp(x, name="printed"))
        return tf.tanh(x, name="returned")

    graph = function.get_concrete_function(tf.TensorSpec([])).graph
    names = {op.name for op in internals.always_run(graph)}
    assert {"assigned", "printed", "returned"} <= names and "unused" not in names
    assert len(names) == len(internals.always_run(graph))


def test_ops_are_given_converters():
    def body(x):
        y = tf.sin(x)
        internals.vectorise(y.op, lambda inputs: [internals.wrapped(inputs.stacked_input(0), True)])
        return y

    x = tf.constant([1.0, 2.0])
    np.testing.assert_array_equal(tf.vectorized_map(body, x), x)


def test_ops_say_what_they_change_and_whether_their_gradient_is_their_own():
    @tf.custom_gradient
    def halved(x):
        return tf.identity(x), lambda cotangent: cotangent / 2

    x = tf.Variable(0.1)
    with tf.Graph().as_default() as graph:
        with graph.gradient_override_map({"Sin": "QShiftPartials"}):
            other = tf.sin(tf.constant(0.1))
        own = tf.sin(tf.constant(0.1))
        random = tf.random.uniform([])
    assert internals.has_other_gradient(other.op) and not internals.has_other_gradient(own.op)
    assert internals.has_state(random.op) and not internals.has_state(own.op)
    graph = tf.function(lambda: [halved(x), x.assign_add(1.0)]).get_concrete_function().graph
    assert any(map(internals.has_other_gradient, graph.get_operations()))
    assert any(internals.has_state(op) for op in graph.get_operations() if "Assign" in op.type)


def test_tensors_of_graphs_iterate_where_they_may():
    def entries(x):
        with unrolled():
            length, found = len(x), list(x)
        with pytest.raises((tf.errors.OperatorNotAllowedInGraphError, TypeError)):
            iter(x)
        with pytest.raises(TypeError):
            len(x)
        return [length, *found]

    found = tf.function(entries, autograph=False)(tf.constant([0.1, 0.2]))
    np.testing.assert_allclose([float(each) for each in found], [2, 0.1, 0.2], rtol=1e-6)


def test_what_tapes_are_told_to_watch_is_known():
    x, y, z = (tf.constant(0.5) for _ in range(3))
    variable, before = tf.Variable(0.5), internals.watches()
    with tf.GradientTape() as tape:
        tape.watch([x])
    with tf.autodiff.ForwardAccumulator(y, tf.constant(1.0)):
        pass
    with tf.GradientTape() as tape:
        tape.watch(variable)
    told = [internals.was_told_to_watch(each) for each in (x, y, variable.handle)]
    assert told == [before + 1, before + 2, before + 3] and internals.watches() == before + 3
    assert [internals.was_told_to_watch(each) for each in (z, x + y)] == [0, 0]
