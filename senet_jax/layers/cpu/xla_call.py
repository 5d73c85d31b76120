"""Python functions that a compiled program calls on a CPU, with the addresses of its arrays.

`jax.pure_callback` copies what goes out and what comes back, which takes as long as a convolution
of few channels. Here nothing is copied. It is the part of XLA's interface for foreign functions
that this takes, as in the header of jaxlib, xla/ffi/api/c_api.h (version 0); a program whose
interface is another one fails with a sentence.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import jax

# The addresses of the arguments, then of the results.
Function = Callable[[list[int]], None]

INTERNAL = 13  # XLA_FFI_Error_Code_INTERNAL
METADATA = 1  # XLA_FFI_Extension_Metadata: asks for the version instead of a result
BUFFER = 1  # XLA_FFI_ArgType_BUFFER and XLA_FFI_RetType_BUFFER


class _Head(ctypes.Structure):
    """What every structure begins with."""

    _fields_ = [("struct_size", ctypes.c_size_t), ("extension", ctypes.c_void_p)]


class _Version(_Head):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int)]


class _Metadata(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("version", _Version),
        ("traits", ctypes.c_uint32),
    ]


class _Extension(ctypes.Structure):
    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    ]


class _Error(_Head):
    _fields_ = [("message", ctypes.c_char_p), ("code", ctypes.c_int)]


class _Api(_Head):
    _fields_ = [
        ("version", _Version),
        ("internal", ctypes.c_void_p),
        ("create_error", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))),
    ]


class _Buffer(_Head):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.c_void_p),
    ]


class _Buffers(_Head):
    _fields_ = [
        ("size", ctypes.c_int64),
        ("kinds", ctypes.POINTER(ctypes.c_int)),
        ("values", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    ]


class _Frame(_Head):
    _fields_ = [
        ("api", ctypes.POINTER(_Api)),
        ("context", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("arguments", _Buffers),
        ("results", _Buffers),
    ]


_HANDLER = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Frame))
_registered: dict[str, Any] = {}  # for good: programs have the addresses of the handlers


def register(name: str, function: Function) -> None:
    """Make a function known to programs by a name, once."""
    if name in _registered:
        return
    handler = _HANDLER(_handler(function))
    jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(handler), platform="cpu")
    _registered[name] = handler


def call(name: str, shape: tuple[int, ...], *arrays: jax.Array) -> jax.Array:
    """The array of a shape that a registered function makes of others, of their type."""
    result = jax.ShapeDtypeStruct(shape, arrays[0].dtype)
    return jax.ffi.ffi_call(name, result, vmap_method="sequential")(*arrays)


def _handler(function: Function) -> Callable[[Any], int | None]:
    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        try:
            if frame.extension:
                return _tell_version(frame)
            function([*_addresses(frame.arguments), *_addresses(frame.results)])
        except BaseException as error:  # which would be lost, and the result be anything
            message = f"{type(error).__name__}: {error}".encode()
            what = _Error(ctypes.sizeof(_Error), None, message, INTERNAL)
            return frame.api.contents.create_error(ctypes.byref(what))
        return None

    return handle


def _tell_version(frame: Any) -> None:
    """Answer which version of the interface a handler is made for. Raises: TypeError if none is."""
    extension = ctypes.cast(frame.extension, ctypes.POINTER(_Extension)).contents
    theirs = frame.api.contents.version
    if extension.kind != METADATA or theirs.major != 0:
        raise TypeError(f"XLA's interface {theirs.major}.{theirs.minor} is not 0")
    version = extension.metadata.contents.version
    version.major, version.minor = theirs.major, theirs.minor


def _addresses(buffers: Any) -> list[int]:
    if any(buffers.kinds[i] != BUFFER for i in range(buffers.size)):
        raise TypeError("XLA gives other things than arrays")
    return [buffers.values[i].contents.data or 0 for i in range(buffers.size)]
