"""A loss of a layer and its gradient by the weights, alike for all on TensorFlow."""

import tensorflow as tf


def loss_and_gradient(circuit, inputs):
    """Returns weights -> (loss, gradient), where the loss is the mean square of all results."""
    inputs = tf.constant(inputs)

    def run(weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = tf.reduce_mean(tf.square(tf.stack(circuit(inputs, weights))))
        return loss, tape.gradient(loss, weights)

    return run
