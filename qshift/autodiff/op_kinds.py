"""What is known of TensorFlow's ops, by their kind."""

from __future__ import annotations

from collections.abc import Sequence

ENTRIES = "qshift.Entries"  # of a tensor, as `qshift.autodiff.indexing` reads them
# Ops that pick or rearrange entries of their first input, which the others say.
PICKS = frozenset(
    "Cast ExpandDims GatherV2 Identity ReadVariableOp Reshape Squeeze StridedSlice Unpack".split()
) | {ENTRIES}
# Ops of one input that are smooth.
FUNCTIONS = frozenset("Acos Asin Atan Cos Exp Log Sigmoid Sin Sqrt Square Tan Tanh".split())
LINEAR = PICKS | frozenset(
    "AddN AddV2 ConcatV2 Imag Mean Neg Pack Real Slice Sub Sum Tile Transpose".split()
)
# Ops that rearrange or add up entries of floating-point inputs, where other inputs say how.
REARRANGE = frozenset(
    "BroadcastTo Complex Conj Cumsum DynamicStitch EnsureShape Fill GatherNd IdentityN "
    "MatrixBandPart MatrixDiagPartV3 MatrixDiagV3 MatrixSetDiagV3 Pad PadV2 ReverseV2 Roll "
    "ScatterNd SegmentSum SelectV2 Split SplitV TensorScatterAdd TensorScatterSub "
    "TensorScatterUpdate UnsortedSegmentSum".split()
)
SOLVE = frozenset("MatrixSolve MatrixTriangularSolve".split())  # for their second input
# Ops whose results do not depend on the numbers of their input.
SHAPES = frozenset("OnesLike Rank Shape ShapeN Size ZerosLike".split())
# Ops that are linear in each of their inputs.
BILINEAR = frozenset("BatchMatMulV2 Einsum MatMul Mul".split())
SMOOTH = LINEAR | FUNCTIONS | BILINEAR | {"RealDiv"}
# Other ops whose gradients are linear in the cotangent, with derivatives of every order.
DIFFERENTIABLE = SMOOTH | frozenset(
    "Abs Acosh Asinh Atan2 Atanh Cosh Cumsum Erf Erfc Expm1 Log1p Maximum Minimum Pow Prod "
    "Reciprocal Relu Rsqrt SelectV2 Sinh Softplus SquaredDifference".split()
)


def is_linear(kind: str, moves: Sequence[bool]) -> bool:
    """Whether an op is known to be linear in those of its inputs that move, up to a constant.

    Args:
        kind: Of the op.
        moves: Which of its inputs move.
    """
    if kind in BILINEAR:
        return sum(moves) == 1
    return kind in LINEAR or kind == "RealDiv" and not moves[1]
