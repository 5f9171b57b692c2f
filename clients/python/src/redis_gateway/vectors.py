"""Embeddings as bytes: 32-bit floats, the least significant byte first, as `GW.CACHESET` stores them for all
languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy
    from numpy.typing import ArrayLike, NDArray

__all__ = ["from_bytes", "to_bytes"]


def to_bytes(vector: ArrayLike) -> bytes:
    """For the cache: `gateway.cache("embed", encode=to_bytes, decode=from_bytes)`."""
    import numpy

    made: NDArray[Any] = numpy.asarray(vector, dtype="<f4")
    if made.ndim != 1:
        raise ValueError(f"not one vector: {made.ndim} dimensions")
    return made.tobytes()


def from_bytes(value: bytes) -> NDArray[numpy.float32]:
    """A vector of its own, which can be changed."""
    import numpy

    return numpy.frombuffer(value, dtype="<f4").astype(numpy.float32)
