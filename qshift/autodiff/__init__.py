"""The TensorFlow op, whose derivatives are the same op one order up."""
