"""Triton kernels compiled ahead of time, for a device that need not be there: what they take and what they are made of.

Runs where Triton is not interpreted; see the fixture `compiled`.
"""

import re
import subprocess
import tempfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler.compiler import make_backend

SHARED_LIMIT = {"sm_80": 166912, "sm_89": 101376, "sm_90": 232448, "sm_100": 232448, "gfx942": 65536}  # bytes a block
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def facts(
    kernel: str,
    signature: dict[str, str],
    tile: dict[str, Any],
    target: str,
    aligned: tuple[str, ...] = (),
) -> SimpleNamespace:
    """Facts about a kernel, compiled.

    kernel : "module:name"; signature : argument -> "*fp32", "i64", ...; tile : its constexpr arguments, and options
    of the compiler: num_warps, num_stages, enable_fp_fusion; aligned : arguments that are divisible by 16. target :
    "sm_90", ..., or "gfx942".

    Facts: registers a thread, spilled (bytes a thread, or registers on AMD), shared (bytes a block), instructions
    (opcode -> how often it occurs; on NVIDIA in SASS).
    """
    module, name = kernel.split(":")
    function = getattr(import_module(module), name)
    constants = {key: value for key, value in tile.items() if key in function.arg_names}
    options = {"num_warps": 4, "num_stages": 2} | {key: tile[key] for key in tile.keys() - constants.keys()}
    types = {argument: "constexpr" if argument in constants else signature[argument] for argument in function.arg_names}
    divisible = {(function.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in aligned}
    source = ASTSource(fn=function, signature=types, constexprs=constants, attrs=divisible)
    amd = target.startswith("gfx")
    gpu = GPUTarget("hip", target, 64) if amd else GPUTarget("cuda", int(target[3:]), 32)
    compiled = triton.compile(source, target=gpu, options=options)
    read = _amd(compiled.asm["amdgcn"]) if amd else _nvidia(compiled.asm["cubin"])
    shared = max(compiled.metadata.shared, read.pop("shared", 0))
    return SimpleNamespace(shared=shared, limit=SHARED_LIMIT[target], **read)


def with_ones(kernel: str, signature: dict[str, str], tile: dict[str, Any]) -> list[str]:
    """Integers of a kernel for which it is no program where they are 1, which makes them constants."""
    module, name = kernel.split(":")
    function = getattr(import_module(module), name)
    given = {key: value for key, value in tile.items() if key in function.arg_names}
    target = GPUTarget("cuda", 90, 32)
    backend, wrong = make_backend(target), []
    options = backend.parse_options({"num_warps": 4})
    for parameter in function.params:
        one = parameter.name
        if signature.get(one) not in ("i32", "i64") or one in given or parameter.do_not_specialize:
            continue
        constants = given | {one: 1}
        types = {key: "constexpr" if key in constants else signature[key] for key in function.arg_names}
        source = ASTSource(fn=function, signature=types, constexprs=constants, attrs={})
        context = ir.context()
        ir.load_dialects(context)
        backend.load_dialects(context)
        try:
            functions = backend.get_codegen_implementation(options)
            source.make_ir(target, options, functions, backend.get_module_map(), context)
        except triton.CompilationError as problem:
            wrong.append(f"{one}: {problem.__cause__ or problem}")
    return wrong


def _nvidia(cubin: bytes) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()

        def dump(flag: str) -> str:
            command = [str(TOOLS / "cuobjdump"), flag, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage, code = dump("-res-usage"), dump("-sass")
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    assert found, usage
    registers, stack, shared, local = map(int, found.groups())
    opcodes = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", code, re.MULTILINE)
    return {"registers": registers, "spilled": stack + local, "shared": shared, "instructions": _count(opcodes)}


def _amd(code: str) -> dict[str, Any]:
    def read(pattern: str) -> int:
        found = re.search(pattern, code)
        assert found, pattern
        return int(found[1])

    opcodes = re.findall(r"^\s+([sv]_\w+|ds_\w+|buffer_\w+|global_\w+)", code, re.MULTILINE)
    return {
        "registers": read(r"\.vgpr_count:\s+(\d+)"),
        "spilled": read(r"\.vgpr_spill_count:\s+(\d+)"),
        "instructions": _count(opcodes),
    }


def _count(opcodes: list[str]) -> dict[str, int]:
    """How often each opcode occurs, and each family of them (what stands before the first dot)."""
    counts: dict[str, int] = {}
    for opcode in opcodes:
        for name in {opcode, opcode.split(".")[0]}:
            counts[name] = counts.get(name, 0) + 1
    return counts
