"""A kernel for TensorFlow's ops that call Python functions, registered by TensorFlow's C interface.

TensorFlow's own kernel for such ops takes several times as long around a function as this one,
which serves numbers only, on the CPU. The ops stay TensorFlow's: an attribute says which kernel
runs them.

What asks TensorFlow for inputs and hands results over is machine code: from Python, each of these
calls takes as long as many gates.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import re
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from ctypes import c_int, c_int64, c_size_t, c_void_p, string_at
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import tensorflow as tf

from qshift.forks import in_children
from qshift.machine_code import for_ever, machine_code
from qshift.thread_states import keep_thread_state

NUMBER = "_qshift_number"  # an attribute of ops: which function they call, from 1 on
_DONE, _FAILED = 1, 0
_PATIENCE = 10.0  # seconds for ops that are being run when Python ends
_ROW = 16  # numbers that say of an input where it is: address, dtype, rank, and the sizes of axes
_MOST_AXES = _ROW - 3
_LENGTH = 8 * (_ROW + 3)  # where the table has the first axis of the second input
_KINDS = tf.float64, tf.float32, tf.complex128, tf.complex64, tf.int64, tf.int32, tf.bool
_DTYPES = {each.as_datatype_enum: np.dtype(each.as_numpy_dtype) for each in _KINDS}
_NUMBERS = {dtype: number for number, dtype in _DTYPES.items()}
# TensorFlow's codes of errors for kinds of Python's, as its own kernel has them.
_CODES = (
    *((TypeError, 3), (ValueError, 3), (StopIteration, 11), (MemoryError, 8)),
    (NotImplementedError, 12),
)


# Instructions stay while somebody follows them, also if their graph is gone meanwhile.
_followed: deque[Followed] = deque(maxlen=256)
_Run = ctypes.CFUNCTYPE(None, c_void_p, c_void_p, c_void_p, c_int, c_int, c_void_p)
_Give = ctypes.PYFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p, c_size_t, c_void_p)

# create(construction): what TensorFlow calls first, for each op. It returns the op's number.
# compute(number, context): what TensorFlow calls to run the op. It writes a row of a table for each
# input, and calls run(number, context, table, inputs, 0, answer). The answer is `_DONE` if that has
# run the op; `_FAILED` if it has not come to an end; otherwise the address of instructions: a
# function, what it is given besides the table, a flag that is 1 while somebody follows them, how
# many results there are, and of each its dtype, rank, shape, size in bytes, and numbers. If the
# flag is 1 already, or the function does not return 0, run(number, context, table, inputs, 1,
# answer) has to run the op.
# give(context, place, dtype, rank, shape, size, numbers): copies numbers into a result; returns 0,
# -1 if the op has results of another dtype, or TensorFlow's code of an error.
# Once `ended` is 1, ops fail without Python; `running` counts those that are being run.
_CODE = f"""
@running = global i64 0
@ended = global i64 0
@message = constant [17 x i8] c"Python has ended\\00"
@interrupted = constant [28 x i8] c"Python code was interrupted\\00"
@attribute = constant [{len(NUMBER) + 1} x i8] c"{NUMBER}\\00"

define ptr @create(ptr %construction) {{
  %status = call ptr @TF_NewStatus()
  %number.at = alloca i64
  store i64 0, ptr %number.at
  call void @TF_OpKernelConstruction_GetAttrInt64(
    ptr %construction, ptr @attribute, ptr %number.at, ptr %status)
  call void @TF_DeleteStatus(ptr %status)
  %number = load i64, ptr %number.at
  %result = inttoptr i64 %number to ptr
  ret ptr %result
}}

define void @compute(ptr %number, ptr %context) {{
enter:
  %status = call ptr @TF_NewStatus()
  %before = atomicrmw add ptr @running, i64 1 seq_cst
  %ended = load atomic i64, ptr @ended seq_cst, align 8
  %is.ended = icmp ne i64 %ended, 0
  br i1 %is.ended, label %fail, label %entry
fail:
  call void @TF_SetStatus(ptr %status, i32 1, ptr @message)
  call void @TF_OpKernelContext_Failure(ptr %context, ptr %status)
  br label %end
entry:
  %count = call i32 @TF_NumInputs(ptr %context)
  %rows = mul i32 %count, {_ROW}
  %table = alloca i64, i32 %rows
  %tensors = alloca ptr, i32 %count
  br label %next
next:
  %i = phi i32 [0, %entry], [%i.after, %row.end]
  %more = icmp slt i32 %i, %count
  br i1 %more, label %input, label %run
input:
  %slot = getelementptr ptr, ptr %tensors, i32 %i
  call void @TF_GetInput(ptr %context, i32 %i, ptr %slot, ptr %status)
  %tensor = load ptr, ptr %slot
  %at = mul i32 %i, {_ROW}
  %row = getelementptr i64, ptr %table, i32 %at
  %data = call ptr @TF_TensorData(ptr %tensor)
  %address = ptrtoint ptr %data to i64
  store i64 %address, ptr %row
  %type = call i32 @TF_TensorType(ptr %tensor)
  %type.wide = zext i32 %type to i64
  %second = getelementptr i64, ptr %row, i32 1
  store i64 %type.wide, ptr %second
  %rank = call i32 @TF_NumDims(ptr %tensor)
  %rank.wide = sext i32 %rank to i64
  %third = getelementptr i64, ptr %row, i32 2
  store i64 %rank.wide, ptr %third
  %is.long = icmp sgt i32 %rank, {_MOST_AXES}
  %axes = select i1 %is.long, i32 {_MOST_AXES}, i32 %rank
  br label %axis
axis:
  %d = phi i32 [0, %input], [%d.after, %size]
  %more.axes = icmp slt i32 %d, %axes
  br i1 %more.axes, label %size, label %row.end
size:
  %length = call i64 @TF_Dim(ptr %tensor, i32 %d)
  %place = add i32 %d, 3
  %field = getelementptr i64, ptr %row, i32 %place
  store i64 %length, ptr %field
  %d.after = add i32 %d, 1
  br label %axis
row.end:
  %i.after = add i32 %i, 1
  br label %next
run:
  %answer.at = alloca i64
  store i64 {_FAILED}, ptr %answer.at
  call void @run(ptr %number, ptr %context, ptr %table, i32 %count, i32 0, ptr %answer.at)
  %answer = load i64, ptr %answer.at
  %instructions = inttoptr i64 %answer to ptr
  switch i64 %answer, label %follow [i64 {_DONE}, label %release i64 {_FAILED}, label %failed]
follow:
  %flag.at = getelementptr i64, ptr %instructions, i32 2
  %flag = load ptr, ptr %flag.at
  %taken = cmpxchg ptr %flag, i64 0, i64 1 acquire monotonic
  %is.taken = extractvalue {{ i64, i1 }} %taken, 1
  br i1 %is.taken, label %call, label %again
call:
  %function = load ptr, ptr %instructions
  %given.at = getelementptr i64, ptr %instructions, i32 1
  %given = load ptr, ptr %given.at
  %refused = call i64 %function(ptr %given, ptr %table)
  %results.at = getelementptr i64, ptr %instructions, i32 3
  %results = load i64, ptr %results.at
  %is.refused = icmp ne i64 %refused, 0
  br i1 %is.refused, label %refuse, label %results.next
results.next:
  %k = phi i64 [0, %call], [%k.after, %result]
  %is.more = icmp slt i64 %k, %results
  br i1 %is.more, label %result, label %clear
result:
  %five = mul i64 %k, 5
  %begin = add i64 %five, 4
  %fields = getelementptr i64, ptr %instructions, i64 %begin
  %r.type = load i32, ptr %fields
  %r.rank.at = getelementptr i64, ptr %fields, i32 1
  %r.rank = load i32, ptr %r.rank.at
  %r.shape.at = getelementptr i64, ptr %fields, i32 2
  %r.shape = load ptr, ptr %r.shape.at
  %r.size.at = getelementptr i64, ptr %fields, i32 3
  %r.size = load i64, ptr %r.size.at
  %r.numbers.at = getelementptr i64, ptr %fields, i32 4
  %r.numbers = load ptr, ptr %r.numbers.at
  %r.place = trunc i64 %k to i32
  %r.code = call i32 @give(ptr %context, i32 %r.place, i32 %r.type, i32 %r.rank, ptr %r.shape,
    i64 %r.size, ptr %r.numbers)
  %k.after = add i64 %k, 1
  %is.given = icmp eq i32 %r.code, 0
  br i1 %is.given, label %results.next, label %refuse
clear:
  store atomic i64 0, ptr %flag release, align 8
  br label %release
refuse:
  store atomic i64 0, ptr %flag release, align 8
  br label %again
again:
  store i64 {_FAILED}, ptr %answer.at
  call void @run(ptr %number, ptr %context, ptr %table, i32 %count, i32 1, ptr %answer.at)
  %answer.again = load i64, ptr %answer.at
  %is.done = icmp eq i64 %answer.again, {_DONE}
  br i1 %is.done, label %release, label %failed
failed:
  call void @TF_SetStatus(ptr %status, i32 1, ptr @interrupted)
  call void @TF_OpKernelContext_Failure(ptr %context, ptr %status)
  br label %release
release:
  %j = phi i32 [0, %run], [0, %clear], [0, %again], [0, %failed], [%j.after, %let.go]
  %left = icmp slt i32 %j, %count
  br i1 %left, label %let.go, label %end
let.go:
  %held = getelementptr ptr, ptr %tensors, i32 %j
  %done = load ptr, ptr %held
  call void @TF_DeleteTensor(ptr %done)
  %j.after = add i32 %j, 1
  br label %release
end:
  %after = atomicrmw sub ptr @running, i64 1 seq_cst
  call void @TF_DeleteStatus(ptr %status)
  ret void
}}
define i32 @give(
  ptr %context, i32 %place, i32 %type, i32 %rank, ptr %shape, i64 %size, ptr %numbers
) {{
entry:
  %status = call ptr @TF_NewStatus()
  %tensor = call ptr @TF_AllocateOutput(
    ptr %context, i32 %place, i32 %type, ptr %shape, i32 %rank, i64 %size, ptr %status)
  %code = call i32 @TF_GetCode(ptr %status)
  %is.there = icmp eq i32 %code, 0
  br i1 %is.there, label %compare, label %end
compare:
  %expected = call i32 @TF_TensorType(ptr %tensor)
  %is.expected = icmp eq i32 %expected, %type
  br i1 %is.expected, label %copy, label %drop
copy:
  %data = call ptr @TF_TensorData(ptr %tensor)
  call void @llvm.memcpy.p0.p0.i64(ptr %data, ptr %numbers, i64 %size, i1 false)
  br label %drop
drop:
  %is.wrong = phi i32 [0, %copy], [-1, %compare]
  call void @TF_DeleteTensor(ptr %tensor)
  br label %end
end:
  %result = phi i32 [%code, %entry], [%is.wrong, %drop]
  call void @TF_DeleteStatus(ptr %status)
  ret i32 %result
}}
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @run(ptr, ptr, ptr, i32, i32, ptr)
declare void @TF_OpKernelConstruction_GetAttrInt64(ptr, ptr, ptr, ptr)
declare ptr @TF_NewStatus()
declare i32 @TF_NumInputs(ptr)
declare void @TF_GetInput(ptr, i32, ptr, ptr)
declare ptr @TF_TensorData(ptr)
declare i32 @TF_TensorType(ptr)
declare i32 @TF_NumDims(ptr)
declare i64 @TF_Dim(ptr, i32)
declare void @TF_DeleteTensor(ptr)
declare void @TF_DeleteStatus(ptr)
declare ptr @TF_AllocateOutput(ptr, i32, i32, ptr, i32, i64, ptr)
declare i32 @TF_GetCode(ptr)
declare void @TF_SetStatus(ptr, i32, ptr)
declare void @TF_OpKernelContext_Failure(ptr, ptr)
"""


class Followed:
    """Instructions that machine code follows in place of a call of a function.

    Args:
        code: The address of the machine code code(instructions, table); see `_CODE`.
        instructions: What it is given.
        results: The arrays in which it leaves the results.
        flag: int64[1], which is 1 while somebody follows these instructions, or others that use the
            same arrays.
        kept: Whatever else has to be there meanwhile.

    Attributes:
        address: Where all this is written down.
    """

    def __init__(
        self,
        code: int,
        instructions: np.ndarray,
        results: Sequence[np.ndarray],
        flag: np.ndarray,
        kept: Any,
    ) -> None:
        numbers = [code, instructions.ctypes.data, flag.ctypes.data, len(results)]
        shapes = [np.array(each.shape, np.int64) for each in results]
        for each, shape in zip(results, shapes, strict=True):
            numbers += [_NUMBERS[each.dtype], each.ndim, shape.ctypes.data]
            numbers += [each.nbytes, each.ctypes.data]
        written = np.array(numbers, np.int64)
        self.address = written.ctypes.data
        self._kept = instructions, results, flag, shapes, written, kept


class PythonKernel:
    """The kernel, registered for one type of op.

    Args:
        op_type: The type.
        label: What the attribute "_kernel" says of the ops that this kernel runs. Their attribute
            `NUMBER` says what they call.

    Raises:
        AttributeError: If TensorFlow's library lacks a function.
        ImportError: If there is no llvmlite.
        OSError: If there is no such library where TensorFlow says.
        RuntimeError: If TensorFlow refuses the kernel.
    """

    def __init__(self, op_type: str, label: str) -> None:
        self._library = library = ctypes.CDLL(_path())
        self._called: WeakValueDictionary[int, Callable] = WeakValueDictionary()
        for function in (library.TF_NewStatus, library.TF_NewKernelBuilder):
            function.restype = c_void_p
        # TensorFlow calls these, and the machine code, for as long as the process lives.
        self._callback = for_ever(_Run(self._run))
        called = {
            name: getattr(library, name) for name in re.findall(r"declare .*@(TF_\w+)", _CODE)
        }
        called["run"] = self._callback
        addresses = {name: _address(each) for name, each in called.items()}
        self._code = machine_code(_CODE, addresses)
        self._give = _Give(self._code.get_function_address("give"))
        create, compute = (
            c_void_p(self._code.get_function_address(name)) for name in ("create", "compute")
        )
        builder = c_void_p(
            library.TF_NewKernelBuilder(op_type.encode(), b"CPU", create, compute, None)
        )
        library.TF_KernelBuilder_Label(builder, label.encode())
        status = c_void_p(library.TF_NewStatus())
        library.TF_RegisterKernelBuilder(label.encode(), builder, status)
        code = library.TF_GetCode(status)
        library.TF_DeleteStatus(status)
        if code:
            raise RuntimeError(f"TensorFlow does not take a kernel for {op_type}")
        self._running, self._ended = (
            c_int64.from_address(self._code.get_global_value_address(name))
            for name in ("running", "ended")
        )
        _kernels.append(self)
        in_children(self)

    def inherit(self) -> None:
        """Forgets, in the child of a fork, the ops that the parent's other threads were running."""
        self._running.value = 0

    def add(self, number: int, function: Callable) -> None:
        """Has ops with a number call a function, as long as somebody keeps it."""
        self._called[number] = function

    def end(self) -> None:
        """Has all further ops fail, and waits for those that are being run."""
        self._ended.value, until = 1, time.monotonic() + _PATIENCE
        while self._running.value and time.monotonic() < until:
            time.sleep(1e-3)

    def _run(
        self,
        number: int | None,
        context: int,
        table: int,
        count: int,
        again: int,
        answer: int,
    ) -> None:
        """Runs an op, or answers with its instructions; see `_CODE`."""
        try:
            keep_thread_state()
            function: Any = self._called.get(number or 0)
            if function is None:
                raise RuntimeError("the graph whose op this is is gone, with what the op calls")
            if not again and count > 1 and hasattr(function, "instructions"):
                found = function.instructions(c_int64.from_address(table + _LENGTH).value)
                if found is not None:
                    _followed.append(found)
                    c_int64.from_address(answer).value = found.address
                    return
            rows = (c_int64 * (_ROW * count)).from_address(table)[:]
            inputs = [_array(rows, at) for at in range(0, _ROW * count, _ROW)]
            results = function(*inputs)
            if type(results) is not list:
                results = [results]
            for place, result in enumerate(results):
                shape, dtype = result.shape, result.dtype
                if not result.flags.c_contiguous:
                    result = np.ascontiguousarray(result)
                where = result.__array_interface__["data"][0]
                sizes = (c_int64 * len(shape))(*shape)
                of_result = _NUMBERS[dtype], len(shape), sizes, result.nbytes, where
                code = self._give(context, place, *of_result)
                if code < 0:
                    raise TypeError(f"result {place} has another dtype than {dtype}")
                if code:
                    raise MemoryError(f"TensorFlow has no room for a result of the shape {shape}")
        except BaseException as error:
            self._fail(context, error)
        c_int64.from_address(answer).value = _DONE

    def _fail(self, context: int, error: BaseException) -> None:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), 2)
        try:
            message = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
        except Exception:  # an error that does not say what it is
            message = type(error).__name__
        status = c_void_p(self._library.TF_NewStatus())
        self._library.TF_SetStatus(status, c_int(code), message.encode(errors="replace"))
        self._library.TF_OpKernelContext_Failure(c_void_p(context), status)
        self._library.TF_DeleteStatus(status)


def _address(function: Any) -> int:
    address = ctypes.cast(function, c_void_p).value
    assert address is not None, "a function of a library is somewhere"
    return address


def _path() -> str:
    """Returns where TensorFlow's library is."""
    name = next(each[2:] for each in tf.sysconfig.get_link_flags() if each.startswith("-l"))
    name = name[1:] if name.startswith(":") else f"lib{name}.dylib"
    return os.path.join(tf.sysconfig.get_lib(), name)


def _array(rows: list[int], at: int) -> np.ndarray:
    """Returns an input, read-only, that does not depend on TensorFlow's memory."""
    address, kind, rank = rows[at : at + 3]
    if rank > _MOST_AXES:
        raise ValueError(f"an input has {rank} axes, and no more than {_MOST_AXES} are expected")
    shape, dtype = rows[at + 3 : at + 3 + rank], _DTYPES[kind]
    size = dtype.itemsize
    for length in shape:
        size *= length
    return np.ndarray(shape, dtype, string_at(address, size) if size else None)


_kernels: list[PythonKernel] = []  # of this process; hardly ever more than one


@atexit.register
def _end() -> None:
    """Ends the kernels. A thread that waits for Python while it ends would keep the process from
    ending."""
    for each in _kernels:
        each.end()


@functools.cache
def python_kernel(op_type: str, label: str) -> PythonKernel | None:
    """Returns the kernel for a type of op; None where there cannot be one."""
    try:
        return PythonKernel(op_type, label)
    except (AttributeError, ImportError, OSError, RuntimeError):
        return None
