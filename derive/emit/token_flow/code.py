"""Expressions in tokens as statements: those of closures, where a length is read off the masses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sympy as sp

from derive.calculus.index.factors import Tensor
from derive.emit.gaussian_closure.code import Code
from derive.methods.token_flow.names import COUNT
from derive.notation.closures.words import Matrix


@dataclass
class FlowCode(Code):
    """`mass` stands for the masses under the name that `names` gives it, one for each token;
    `matrices`: arrays of the definition, of whose sizes the others are."""

    matrices: Sequence[Matrix] = ()

    def tensor(self, tensor: Tensor) -> str:
        if tensor.name.startswith("mask_"):
            self.words.add("mask")
            return self.assign(tensor.name, f'mask("{tensor.name[5:]}", {self._masses()})')
        if tensor.kind == "delta":
            self.words.add("identity")
            size = self._masses() if tensor.dims[0] == COUNT else self._tokens()
            return self.assign("one", f"identity({size})")
        return super().tensor(tensor)

    def _length(self, dim: sp.Symbol) -> str:
        if dim == COUNT:
            return self._masses()
        for matrix in self.matrices:
            if dim in matrix.shape:
                self.used.add(matrix.data)
                axis = matrix.shape.index(dim)
                at = ", ".join(":" if k == axis else "0" for k in range(len(matrix.shape)))
                return f"{matrix.data}[{at}]"
        return self._tokens()

    def _masses(self) -> str:
        self.used.add("mass")
        return self.names.get("mass", "mass")

    def _tokens(self) -> str:
        self.used.add("x")
        return self.names.get("x", "x")
