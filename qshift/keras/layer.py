"""A Keras 3 layer whose weights are the angles of a quantum circuit."""

from __future__ import annotations

import inspect
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import pennylane as qml
import tensorflow as tf

from qshift.api.conversion import from_qnode
from qshift.autodiff.unrolling import UnknownSizeError
from qshift.errors import QShiftWarning, UnsupportedError
from qshift.fallbacks import warn_slower
from qshift.inputs import said
from qshift.keras import keras_internals as keras_internals  # which changes Keras
from qshift.keras.batching import Reading, joined, map_shapes, read
from qshift.keras.saving import found, reference
from qshift.keras.vectorized_samples import squeeze_samples_only, without_derivatives
from qshift.keras.weights import serialized, shape, specs
from qshift.tensorflow_internals import is_watched
from qshift.tensors import dense


@keras.saving.register_keras_serializable(package="qshift")
class QuantumLayer(keras.layers.Layer):
    """A quantum circuit as a Keras layer, differentiable any number of times.

    The quantum function has an argument named ``inputs``; its other arguments are the layer's
    weights. It describes the circuit of one sample, so ``inputs`` is a vector, float[features].
    Functions that are written for a whole batch, ``inputs[:, 0]``, work as well, if they keep its
    samples apart: results for a sample must not depend on the other samples in its batch. Either
    way, all samples of a batch run as one batch of circuits. (Functions that cannot be traced,
    because they read the numbers in tensors, work in eager mode only, one sample after another.)
    The last axis of the layer's inputs holds the features; all axes before it are batch axes, as
    for `keras.layers.Dense`. Complex inputs stay complex.

    The output of one sample is what the quantum function returns: shape () for an expectation
    value, [2**wires] for probabilities. Several measurements are flattened and concatenated, and a
    dict of measurements gives a dict of outputs.

    The layer works in eager mode, in `fit` and in a `tf.function`, inside other differentiation (a
    loss may contain derivatives of any order by inputs), and with finite shots. Only derivatives
    that are used cost circuits. XLA cannot run circuits, so models with this layer are not compiled
    by ``jit_compile="auto"``. Under mixed precision angles and results stay in the variables'
    dtype; the output is cast to the compute dtype.

    Args:
        qnode: A `qshift.QNode`, or a `qml.QNode` of any interface.
        weight_shapes: Shape of each weight, by the name of its argument. An int n > 1 is a vector,
            1 and 0 are scalars.
        output_dim: Shape of one sample's output. If given, the output is reshaped to it; for
            instance 1 makes [batch, 1] of an expectation value.
        weight_specs: For each weight, what `keras.layers.Layer.add_weight` takes: ``initializer``,
            ``regularizer`` and ``constraint`` (objects or names), ``trainable``, ``dtype``.
        input_arg: Name of the argument for the inputs.
        **kwargs: ``name``, ``dtype``, ``trainable`` and ``activity_regularizer``, as for any layer.

    Attributes:
        qnode: The `qshift.QNode`.
        qnode_weights: The weights by name, as TensorFlow variables, so that
            ``layer.qnode(inputs, **layer.qnode_weights)`` calls the qnode and
            ``qml.draw(layer.qnode)(inputs, **layer.qnode_weights)`` draws it.

    Raises:
        TypeError: If it is not a QNode, or its function has no argument for the inputs, ``*args``,
            or positional-only arguments; when called, if the inputs are not one tensor.
        ValueError: If `weight_shapes` or `weight_specs` do not fit the function; when built, if
            the function takes neither one sample nor a batch of them, or only a batch whose samples
            it mixes, or `output_dim` does not fit what it returns; when saved, if the qnode could
            not be found again (see `register`).
        UnsupportedError: If Keras's backend is not TensorFlow.

    Example:
        >>> @qshift.qnode(qshift.device("simulator"))
        ... def circuit(inputs, weights):
        ...     qml.AngleEmbedding(inputs, wires=range(2))
        ...     qml.StronglyEntanglingLayers(weights, wires=range(2))
        ...     return [qml.expval(qml.Z(0)), qml.expval(qml.Z(1))]
        >>> layer = qshift.keras.QuantumLayer(circuit, {"weights": (3, 2, 3)})
        >>> model = keras.Sequential([keras.layers.Dense(2), layer, keras.layers.Dense(1)])
    """

    _input_arg = "inputs"

    def __init__(
        self,
        qnode: qml.QNode,
        weight_shapes: Mapping[str, int | Sequence[int]],
        output_dim: int | Sequence[int] | None = None,
        weight_specs: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        input_arg: str | None = None,
        **kwargs: Any,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise UnsupportedError(
                f"QuantumLayer is a TensorFlow op, but Keras uses {keras.backend.backend()!r} as "
                'its backend. Set the environment variable KERAS_BACKEND to "tensorflow" before '
                "Keras is imported."
            )
        if os.environ.get("TF_USE_LEGACY_KERAS") in ("1", "true", "True"):  # as TensorFlow reads it
            warnings.warn(
                "TF_USE_LEGACY_KERAS is set, so tf.keras is Keras 2, whose models do not take this "
                "layer of Keras 3. Unset it before TensorFlow is imported, or take models and "
                "layers from `import keras`, which is Keras 3.",
                QShiftWarning,
                stacklevel=2,
            )
        if not isinstance(qnode, qml.QNode):
            raise TypeError(
                f"QuantumLayer takes a qnode, got {type(qnode).__name__}. Decorate the quantum "
                "function with qshift.qnode(device)."
            )
        # Angles are not cast to half precision: they would lose more than circuits do.
        super().__init__(autocast=False, **kwargs)
        self.supports_jit = False
        self.input_arg = self._input_arg if input_arg is None else input_arg
        self.weight_shapes = {name: shape(size) for name, size in weight_shapes.items()}
        self.output_dim = _output_dim(output_dim)
        _check_signature(qnode, self.weight_shapes, self.input_arg)
        self.weight_specs = specs(weight_specs or {}, self.weight_shapes)
        self._registered = qnode
        self.qnode = from_qnode(qnode)
        self._angles = {
            name: self.add_weight(
                name=name, shape=shape, autocast=False, **self.weight_specs.get(name, {})
            )
            for name, shape in self.weight_shapes.items()
        }
        self._is_complex = False  # whether the inputs are
        self._reading: Reading | None = None
        self._readings: dict[tuple[int, tf.DType], Reading] = {}
        self._maps: dict[tuple[int, tf.DType, bool], Callable] = {}

    @property
    def qnode_weights(self) -> dict[str, tf.Variable]:
        """The weights by name."""
        return {name: weight.value for name, weight in self._angles.items()}

    @staticmethod
    def set_input_argument(input_name: str = "inputs") -> None:
        """Names the argument for the inputs of the layers made from now on, as `input_arg` does
        for one layer."""
        QuantumLayer._input_arg = input_name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        inputs = args[0] if args else kwargs.get("inputs")
        self._require_one_tensor(inputs)
        self._is_complex = "complex" in str(getattr(inputs, "dtype", ""))
        return super().__call__(*args, **kwargs)

    def build(self, input_shape: Any) -> None:
        self._read(input_shape)
        super().build(input_shape)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        batch = tuple(input_shape[:-1])
        return map_shapes(lambda shape: (*batch, *shape), self._read(input_shape).shape)

    def call(self, inputs: Any) -> Any:
        if isinstance(inputs, tf.SparseTensor):
            inputs = dense(inputs)
        if self._reading is not None and inputs.shape.rank and inputs.shape[-1] is None:
            inputs = tf.ensure_shape(inputs, [*inputs.shape[:-1], self._reading.features])
        self._is_complex = inputs.dtype.is_complex
        reading = self._read(inputs.shape)
        samples = tf.reshape(tf.cast(inputs, self._samples_dtype), [-1, reading.features])
        weights = {name: tf.convert_to_tensor(w) for name, w in self.qnode_weights.items()}
        run = partial(self._whole if reading.whole else self._map, reading)
        if not reading.whole and tf.executing_eagerly():
            run = partial(self._one_by_one, reading)
            if reading.traceable and not reading.own_gradients:
                run = self._compiled_map(reading, is_watched(samples))
        batch, known = tf.shape(inputs)[:-1], inputs.shape[:-1]

        def finish(shape: Sequence[int], output: tf.Tensor) -> tf.Tensor:
            output = tf.reshape(output, tf.concat([batch, tf.constant(shape, tf.int32)], 0))
            return tf.ensure_shape(tf.cast(output, self.compute_dtype), [*known, *shape])

        return map_shapes(finish, reading.shape, joined(run(samples, weights)))

    @property
    def _samples_dtype(self) -> tf.DType:
        """The dtype of the samples that the quantum function is given."""
        real = tf.as_dtype(self.variable_dtype)
        if not self._is_complex:
            return real
        return tf.complex128 if real == tf.float64 else tf.complex64

    def _whole(self, reading: Reading, samples: tf.Tensor, weights: Any) -> Any:
        """Calls the qnode for all samples, or one by one if the function needs their number, which
        is not known while `fit` is traced."""
        try:
            return self._quantum(samples, weights)
        except UnknownSizeError:
            return self._map(reading, samples, weights)

    def _quantum(self, inputs: tf.Tensor, weights: Any) -> Any:
        return self.qnode(**{self.input_arg: inputs}, **weights)

    def _map(self, reading: Reading, samples: tf.Tensor, weights: Any) -> Any:
        """Calls the qnode for each sample; TensorFlow vectorises that to one call for all."""

        def one(sample: tf.Tensor) -> Any:
            results = self._sample(reading, sample, weights)
            squeeze_samples_only(sample.graph)
            return results

        results = tf.vectorized_map(one, samples)
        return without_derivatives(results, self._name) if reading.own_gradients else results

    def _one_by_one(self, reading: Reading, samples: tf.Tensor, weights: Any) -> tf.Tensor:
        """Calls the qnode for each sample, where TensorFlow cannot trace or map its function."""
        reason = "it asks for the numbers in tensors, so it cannot be traced"
        if reading.own_gradients:
            reason = "it has a tf.custom_gradient, which TensorFlow drops in tf.vectorized_map"
        warn_slower(f"{self._name} runs one sample after another", reason)
        if not len(samples):
            return map_shapes(lambda shape: tf.zeros([0, *shape]), reading.shape)
        results = [self._sample(reading, sample, weights) for sample in samples]
        return tf.nest.map_structure(lambda *rows: tf.stack(rows), *results)

    def _sample(self, reading: Reading, sample: tf.Tensor, weights: Any) -> Any:
        """Calls the qnode for one sample."""
        if not reading.as_batch:
            return self._quantum(sample, weights)
        results = self._quantum(sample[None], weights)
        return tf.nest.map_structure(lambda result: result[0], results)

    def _compiled_map(self, reading: Reading, moving: bool) -> Any:
        """Returns `_map` for eager mode, traced once with known shapes. A `tf.function` would warn
        about retracing, as it counts the functions of all layers as one.

        Args:
            reading: How the quantum function reads samples.
            moving: Whether derivatives by the samples may be asked for. If not, they cost nothing.
        """
        key = reading.features, self._samples_dtype, moving
        if key not in self._maps:

            def function(samples: tf.Tensor, weights: Any) -> Any:
                samples = samples if moving else tf.stop_gradient(samples)
                return self._map(reading, samples, weights)

            samples = tf.TensorSpec([None, reading.features], self._samples_dtype)
            compiled = tf.function(function, autograph=False)
            self._maps[key] = compiled.get_concrete_function(samples, self._weight_specs())
        return self._maps[key]

    def _weight_specs(self) -> dict[str, tf.TensorSpec]:
        return {n: tf.TensorSpec(w.shape, w.dtype) for n, w in self.qnode_weights.items()}

    def _require_one_tensor(self, inputs: Any) -> None:
        several = isinstance(inputs, Mapping | list | tuple)
        if several or isinstance(inputs, tf.RaggedTensor):
            way_out = "Pad the samples to one length, with inputs.to_tensor()."
            if several:
                way_out = "Make one of it, with tf.concat, tf.stack or keras.layers.Concatenate."
            raise TypeError(
                f"Layer {self.name!r} takes one tensor or array of shape (..., features), got a "
                f"{type(inputs).__name__}. {way_out}"
            )

    def _read(self, input_shape: Any) -> Reading:
        if isinstance(input_shape, Mapping) or any(isinstance(n, Iterable) for n in input_shape):
            raise TypeError(
                f"Layer {self.name!r} takes one tensor of shape (..., features), got several, of "
                f"shapes {input_shape}. Join features with keras.layers.Concatenate."
            )
        features = input_shape[-1] if len(input_shape) else None
        if features is None:
            raise ValueError(
                f"Layer {self.name!r} takes inputs of shape (..., features) with a known number of "
                f"features, got {tuple(input_shape)}. Give keras.Input(shape=(features,)), or "
                "reshape the inputs; a single feature is (batch, 1)."
            )
        dtype = self._samples_dtype
        if (features, dtype) not in self._readings:
            specs = self._weight_specs()
            try:
                reading = read(self._quantum, self._name, features, dtype, specs)
            except (IndexError, tf.errors.InvalidArgumentError) as error:
                # Neither says which argument has too few axes, or entries.
                shapes = ", ".join(f"{name} {tuple(spec.shape)}" for name, spec in specs.items())
                raise ValueError(
                    f"Layer {self.name!r}: {self._name} fails for a sample of shape ({features},) "
                    f"and weights of the shapes {shapes or 'none'}: {said(error)}. Give "
                    "weight_shapes= and inputs that fit it."
                ) from error
            reading = replace(reading, shape=self._output_shape(reading.shape))
            self._readings[features, dtype] = reading
        self._reading = self._readings[features, dtype]
        return self._reading

    def _output_shape(self, shapes: Any) -> Any:
        if self.output_dim is None:
            return shapes
        wanted = self.output_dim if isinstance(self.output_dim, tuple) else (self.output_dim,)
        if isinstance(shapes, dict) or math.prod(shapes) != math.prod(wanted):
            raise ValueError(
                f"Layer {self.name!r} has output_dim={self.output_dim}, but {self._name} returns "
                f"{shapes} per sample. Leave output_dim out to have this shape."
            )
        return wanted

    @property
    def _name(self) -> str:
        return self.qnode.__name__

    def get_config(self) -> dict:
        """Returns the layer's settings; the qnode by the name it is found by (see `register`)."""
        return {
            **super().get_config(),
            "qnode": reference(self._registered),
            "weight_shapes": {name: list(shape) for name, shape in self.weight_shapes.items()},
            "output_dim": self.output_dim,
            "weight_specs": serialized(self.weight_specs),
            "input_arg": self.input_arg,
        }

    @classmethod
    def from_config(cls, config: dict) -> QuantumLayer:
        """Makes a layer from the settings that `get_config` returned."""
        qnode = found(config["qnode"], config.get("name"))
        return super().from_config({**config, "qnode": qnode})

    def __deepcopy__(self, memo: dict) -> QuantumLayer:
        """Returns a layer with the same qnode and a copy of the weights."""
        copied = memo[id(self)] = type(self).from_config(self.get_config())
        copied.set_weights(self.get_weights())
        return copied

    def __repr__(self) -> str:
        return f"<QuantumLayer name={self.name}, qnode={self._name}, built={self.built}>"


def _output_dim(given: Any) -> int | tuple[int, ...] | None:
    if isinstance(given, Iterable):
        given = tuple(int(n) for n in given)
        return given[0] if len(given) == 1 else given
    return None if given is None else int(given)


def _check_signature(qnode: qml.QNode, weight_shapes: Any, input_arg: str) -> None:
    """Checks that a quantum function has the arguments that a layer gives it."""
    parameters = inspect.signature(qnode.func).parameters
    kinds = {p.kind for p in parameters.values()}
    signature = f"{qnode.__name__}{inspect.signature(qnode.func)}"
    if {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY} & kinds:
        raise TypeError(
            f"{signature} has *args or positional-only arguments, but a layer passes inputs and "
            "weights by name."
        )
    if input_arg not in parameters:
        raise TypeError(
            f"{signature} has no argument named {input_arg!r} for the inputs. Rename one, or give "
            "QuantumLayer(..., input_arg=...)."
        )
    if input_arg in weight_shapes:
        raise ValueError(f"weight_shapes names {input_arg!r}, which is the argument for inputs.")
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return
    weights = {name: p for name, p in parameters.items() if name != input_arg}
    missing = [n for n, p in weights.items() if p.default is p.empty and n not in weight_shapes]
    unknown = [name for name in weight_shapes if name not in weights]
    if missing or unknown:
        problem = f"lacks {missing}" if missing else f"has {unknown}, which are no arguments of it"
        raise ValueError(
            f"weight_shapes must give a shape for every argument of {signature} but "
            f"{input_arg!r}; it {problem}."
        )
