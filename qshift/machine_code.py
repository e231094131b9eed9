"""Machine code, compiled from LLVM's assembly language."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any


def machine_code(source: str, addresses: Mapping[str, int] | None = None) -> Any:
    """Returns compiled functions, whose addresses ``get_function_address(name)`` returns. They are
    there as long as the process is: threads of TensorFlow's may still call them when Python ends.

    Args:
        source: The functions, in LLVM's assembly language.
        addresses: Where functions are that the source declares.
    """
    from llvmlite import binding  # Late: it takes a moment, and only graphs need it.

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(source)
    module.verify()
    machine = _machine(binding)
    # What is on the stack goes to registers; otherwise code stays as it is.
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options())
    passes = binding.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.run(module, builder)
    compiler = binding.create_mcjit_compiler(module, machine)
    for name, address in (addresses or {}).items():
        compiler.add_global_mapping(module.get_function(name), address)
    compiler.finalize_object()
    return for_ever(compiler)


def _machine(binding: Any) -> Any:
    """Returns LLVM's description of this machine, with all that its processor can do."""
    try:
        features = binding.get_host_cpu_features().flatten()
    except RuntimeError:  # of some processors LLVM only knows the name
        features = ""
    target = binding.Target.from_default_triple()
    return target.create_target_machine(cpu=binding.get_host_cpu_name(), features=features)


def for_ever(kept: Any) -> Any:
    """Returns an object that stays until the process ends, also while Python takes itself down."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
    return kept
