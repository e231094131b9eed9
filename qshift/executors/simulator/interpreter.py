"""The machine code that follows `instructions`: a small interpreter in LLVM's assembly language."""

from __future__ import annotations

import functools
from typing import Any

from qshift.machine_code import machine_code

END, COPY, ZERO, TAKE, PICK, COMBINE, SKIP, CALL = range(8)
_ROW = 16  # of the table of inputs; see `qshift.python_kernel`


def _case(name: str, count: int, body: str) -> str:
    """Returns the code of an instruction with `count` numbers, %name.0 and so on."""
    loads = "".join(
        f"  %{name}.at.{k} = getelementptr i64, ptr %pc.{name}, i64 {k + 1}\n"
        f"  %{name}.{k} = load i64, ptr %{name}.at.{k}\n"
        for k in range(count)
    )
    return f"""
{name}:
  %pc.{name} = load ptr, ptr %at
  %next.{name} = getelementptr i64, ptr %pc.{name}, i64 {count + 1}
  store ptr %next.{name}, ptr %at
{loads}{body}"""


def _pointers(name: str, *places: int) -> str:
    """Returns the code that makes addresses, %name.p.0 and so on, of an instruction's numbers."""
    each = (f"  %{name}.p.{k} = inttoptr i64 %{name}.{k} to ptr" for k in places)
    return "\n".join(each) + "\n"


_COPIES = """  call void @llvm.memcpy.p0.p0.i64(ptr %copy.p.0, ptr %copy.p.1, i64 %copy.2, i1 false)
  br label %loop
"""
_ZEROES = """  call void @llvm.memset.p0.i64(ptr %zero.p.0, i8 0, i64 %zero.1, i1 false)
  br label %loop
"""
_TAKES = f"""  %take.offset = mul i64 %take.0, {_ROW}
  %take.row = getelementptr i64, ptr %table, i64 %take.offset
  %take.low = bitcast i64 %take.6 to double
  %take.high = bitcast i64 %take.7 to double
  %take.ratio = bitcast i64 %take.8 to double
  %take.refused = call i64 @take(ptr %take.row, ptr %take.p.1, i64 %take.2, i64 %take.3,
    ptr %take.p.4, i64 %take.5, double %take.low, double %take.high, double %take.ratio)
  %take.is = icmp eq i64 %take.refused, 0
  br i1 %take.is, label %loop, label %refused
"""
_PICKS = """  call void @pick(ptr %pick.p.0, ptr %pick.p.1, i64 %pick.2, i64 %pick.3, ptr %pick.p.4,
    i64 %pick.5)
  br label %loop
"""
_COMBINES = """  %combine.shift = bitcast i64 %combine.11 to double
  call void @combine(ptr %combine.p.0, ptr %combine.p.1, ptr %combine.p.2, i64 %combine.3,
    i64 %combine.4, i64 %combine.5, i64 %combine.6, i64 %combine.7, i64 %combine.8,
    i64 %combine.9, i64 %combine.10, double %combine.shift)
  br label %loop
"""
_SKIPS = """  %skip.differs = call i32 @memcmp(ptr %skip.p.0, ptr %skip.p.1, i64 %skip.2)
  %skip.same = icmp eq i32 %skip.differs, 0
  br i1 %skip.same, label %skip.over, label %loop
skip.over:
  %skip.to = getelementptr i64, ptr %next.skip, i64 %skip.3
  store ptr %skip.to, ptr %at
  br label %loop
"""


_CALLS = """  %call.after = getelementptr i64, ptr %next.call, i64 %call.1
  store ptr %call.after, ptr %at
  call void %call.p.0(ptr %next.call)
  br label %loop
"""


def _source() -> str:
    """Returns the interpreter, in LLVM's assembly language."""
    cases = {
        "copy": _case("copy", 3, _pointers("copy", 0, 1) + _COPIES),
        "zero": _case("zero", 2, _pointers("zero", 0) + _ZEROES),
        "take": _case("take", 9, _pointers("take", 1, 4) + _TAKES),
        "pick": _case("pick", 6, _pointers("pick", 0, 1, 4) + _PICKS),
        "combine": _case("combine", 12, _pointers("combine", 0, 1, 2) + _COMBINES),
        "skip": _case("skip", 4, _pointers("skip", 0, 1) + _SKIPS),
        "call": _case("call", 2, _pointers("call", 0) + _CALLS),
    }
    switch = " ".join(f"i64 {code}, label %{name}" for code, name in enumerate(["end", *cases]))
    return f"""
define i64 @follow(ptr %instructions, ptr %table) {{
entry:
  %at = alloca ptr
  store ptr %instructions, ptr %at
  br label %loop
loop:
  %pc = load ptr, ptr %at
  %code = load i64, ptr %pc
  switch i64 %code, label %refused [{switch}]
end:
  ret i64 0
refused:
  ret i64 1
{"".join(cases.values())}}}
{_LOOPS}"""


# Where a number is in the array with more columns, and where the next one will be.
_AT = """
  %column.at = getelementptr i64, ptr %places, i64 %c
  %column = load i64, ptr %column.at
  %at = add i64 %start, %column
  %c.next = add i64 %c, 1
  %is.last = icmp eq i64 %c.next, %columns
  %c.after = select i1 %is.last, i64 0, i64 %c.next
  %start.next = add i64 %start, %stride
  %start.after = select i1 %is.last, i64 %start.next, i64 %start"""

# take copies an input [rows, ...] with `columns` numbers in each row to columns of an array, and
# returns 1 unless all sizes are between two bounds and no more different than by a ratio.
# pick copies columns of an array to one with these columns only.
# combine writes products x[r, c] f[r], plus what is there already or else a shift, to places of an
# array; it rounds after each operation.
_LOOPS = f"""
define i64 @take(ptr %row, ptr %out, i64 %rows, i64 %columns, ptr %places, i64 %stride,
                 double %low, double %high, double %ratio) {{
entry:
  %rank.at = getelementptr i64, ptr %row, i64 2
  %rank = load i64, ptr %rank.at
  %is.usual = icmp ult i64 %rank, {_ROW - 2}
  br i1 %is.usual, label %axis, label %refuse
axis:
  %d = phi i64 [0, %entry], [%d.after, %size]
  %total = phi i64 [1, %entry], [%total.after, %size]
  %is.axis = icmp slt i64 %d, %rank
  br i1 %is.axis, label %size, label %sized
size:
  %place = add i64 %d, 3
  %length.at = getelementptr i64, ptr %row, i64 %place
  %length = load i64, ptr %length.at
  %total.after = mul i64 %total, %length
  %d.after = add i64 %d, 1
  br label %axis
sized:
  %wanted = mul i64 %rows, %columns
  %is.sized = icmp eq i64 %total, %wanted
  %first.at = getelementptr i64, ptr %row, i64 3
  %first = load i64, ptr %first.at
  %is.rows = icmp eq i64 %first, %rows
  %is.both = and i1 %is.sized, %is.rows
  br i1 %is.both, label %begin, label %refuse
begin:
  %in = load ptr, ptr %row
  br label %next
next:
  %k = phi i64 [0, %begin], [%k.after, %store]
  %c = phi i64 [0, %begin], [%c.after, %store]
  %start = phi i64 [0, %begin], [%start.after, %store]
  %least = phi double [%high, %begin], [%least.after, %store]
  %most = phi double [%low, %begin], [%most.after, %store]
  %is.next = icmp slt i64 %k, %wanted
  br i1 %is.next, label %number, label %compare
number:
  %x.at = getelementptr double, ptr %in, i64 %k
  %x = load double, ptr %x.at
  %x.size = call double @llvm.fabs.f64(double %x)
  %is.above = fcmp oge double %x.size, %low
  %is.below = fcmp ole double %x.size, %high
  %is.between = and i1 %is.above, %is.below
  br i1 %is.between, label %store, label %refuse
store:
{_AT}
  %y.at = getelementptr double, ptr %out, i64 %at
  store double %x, ptr %y.at
  %is.least = fcmp olt double %x.size, %least
  %least.after = select i1 %is.least, double %x.size, double %least
  %is.most = fcmp ogt double %x.size, %most
  %most.after = select i1 %is.most, double %x.size, double %most
  %k.after = add i64 %k, 1
  br label %next
compare:
  %bound = fmul double %least, %ratio
  %is.far = fcmp ogt double %most, %bound
  br i1 %is.far, label %refuse, label %done
done:
  ret i64 0
refuse:
  ret i64 1
}}
define void @pick(ptr %out, ptr %in, i64 %rows, i64 %columns, ptr %places, i64 %stride) {{
entry:
  %wanted = mul i64 %rows, %columns
  br label %next
next:
  %k = phi i64 [0, %entry], [%k.after, %number]
  %c = phi i64 [0, %entry], [%c.after, %number]
  %start = phi i64 [0, %entry], [%start.after, %number]
  %is.next = icmp slt i64 %k, %wanted
  br i1 %is.next, label %number, label %done
number:
{_AT}
  %x.at = getelementptr double, ptr %in, i64 %at
  %x = load double, ptr %x.at
  %y.at = getelementptr double, ptr %out, i64 %k
  store double %x, ptr %y.at
  %k.after = add i64 %k, 1
  br label %next
done:
  ret void
}}
define void @combine(ptr %out, ptr %in, ptr %factors, i64 %rows, i64 %columns, i64 %out.row,
  i64 %out.column, i64 %in.row, i64 %in.column, i64 %factor.row, i64 %adds, double %shift) {{
entry:
  %is.sum = icmp ne i64 %adds, 0
  br label %row
row:
  %r = phi i64 [0, %entry], [%r.after, %row.end]
  %out.start = phi ptr [%out, %entry], [%out.start.after, %row.end]
  %in.start = phi ptr [%in, %entry], [%in.start.after, %row.end]
  %factor.at = phi ptr [%factors, %entry], [%factor.after, %row.end]
  %is.row = icmp slt i64 %r, %rows
  br i1 %is.row, label %begin, label %done
begin:
  %factor = load double, ptr %factor.at
  br label %column
column:
  %c = phi i64 [0, %begin], [%c.after, %number]
  %out.at = phi ptr [%out.start, %begin], [%out.after, %number]
  %in.at = phi ptr [%in.start, %begin], [%in.after, %number]
  %is.column = icmp slt i64 %c, %columns
  br i1 %is.column, label %number, label %row.end
number:
  %x = load double, ptr %in.at
  %product = fmul double %x, %factor
  %there = load double, ptr %out.at
  %base = select i1 %is.sum, double %there, double %shift
  %sum = fadd double %base, %product
  store double %sum, ptr %out.at
  %c.after = add i64 %c, 1
  %out.after = getelementptr double, ptr %out.at, i64 %out.column
  %in.after = getelementptr double, ptr %in.at, i64 %in.column
  br label %column
row.end:
  %r.after = add i64 %r, 1
  %out.start.after = getelementptr double, ptr %out.start, i64 %out.row
  %in.start.after = getelementptr double, ptr %in.start, i64 %in.row
  %factor.after = getelementptr double, ptr %factor.at, i64 %factor.row
  br label %row
done:
  ret void
}}
declare double @llvm.fabs.f64(double)
declare i32 @memcmp(ptr, ptr, i64)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
"""


@functools.cache
def _code() -> Any:
    return machine_code(_source())


def follow() -> int:
    """Returns the address of the machine code follow(instructions, table), which returns 0, or 1 if
    it refuses an input; see `qshift.python_kernel`."""
    address: int = _code().get_function_address("follow")
    return address
