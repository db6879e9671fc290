"""Reads a definition many times at once: arrays with a batch axis that the text does not see."""

from __future__ import annotations

from typing import Any

import numpy as np


class Batch(np.ndarray):
    """An array with one leading batch axis that a definition does not see.

    `.T`, `sum`, `mean`, `@` and broadcasting refer to the axes behind it.
    """

    @staticmethod
    def of(values: np.ndarray) -> Batch:
        return np.asarray(values).view(Batch)

    @property
    def T(self) -> Batch:
        return self.swapaxes(-1, -2) if self.ndim > 2 else self

    @property
    def mT(self) -> Batch:
        return self.T

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [np.asarray(x) for x in inputs]
        if method == "reduce":
            axis = kwargs.pop("axis", None)
            logical = self.ndim - 1
            axes = range(logical) if axis is None else np.atleast_1d(axis)
            kwargs["axis"] = tuple(int(a) % logical - logical for a in axes)
            return Batch.of(ufunc.reduce(plain[0], **kwargs))
        if method != "__call__":
            return NotImplemented
        ranks = [p.ndim - isinstance(x, Batch) for p, x in zip(plain, inputs, strict=True)]
        if ufunc is np.matmul:
            left, right = plain
            if ranks[0] == 1:
                left = left[..., None, :]
            if ranks[1] == 1:
                right = right[..., :, None]
            top = max(2, *ranks)
            left, right = (
                p.reshape(p.shape[0], *[1] * (top - max(r, 2)), *p.shape[1:])
                if isinstance(x, Batch)
                else p
                for p, x, r in zip((left, right), inputs, ranks, strict=True)
            )
            out = np.matmul(left, right, **kwargs)
            if ranks[1] == 1:
                out = out[..., 0]
            if ranks[0] == 1:
                out = out[..., 0, :] if ranks[1] == 2 else out[..., 0]
            return Batch.of(out)
        top = max(ranks)
        aligned = [
            p.reshape(p.shape[0], *[1] * (top - r), *p.shape[1:]) if isinstance(x, Batch) else p
            for p, x, r in zip(plain, inputs, ranks, strict=True)
        ]
        return Batch.of(ufunc(*aligned, **kwargs))

    def sum(self, axis: Any = None, keepdims: bool = False) -> Batch:  # type: ignore[override]
        return self.__array_ufunc__(np.add, "reduce", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Batch:  # type: ignore[override]
        total = self.sum(axis, keepdims)
        return Batch.of(total * (total.size / self.size))

    def max(self, axis: Any = None, keepdims: bool = False) -> Batch:  # type: ignore[override]
        return self.__array_ufunc__(np.maximum, "reduce", self, axis=axis, keepdims=keepdims)
