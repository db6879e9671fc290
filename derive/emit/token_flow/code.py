"""Expressions in tokens as statements: those of closures, where a length is read off the masses."""

from __future__ import annotations

from derive.calculus.index.factors import Index, Tensor
from derive.emit.gaussian_closure.code import Code
from derive.methods.token_flow.names import COUNT


class FlowCode(Code):
    """`mass` stands for the masses under the name that `names` gives it, one for each token."""

    def tensor(self, tensor: Tensor) -> str:
        if tensor.name.startswith("mask_"):
            self.words.add("mask")
            return self.assign(tensor.name, f'mask("{tensor.name[5:]}", {self._masses()})')
        if tensor.kind == "delta":
            self.words.add("identity")
            size = self._masses() if tensor.dims[0] == COUNT else self._tokens()
            return self.assign("one", f"identity({size})")
        return super().tensor(tensor)

    def _length(self, index: Index) -> str:
        if index.dim == COUNT:
            return self._masses()
        return self._tokens()

    def _masses(self) -> str:
        self.used.add("mass")
        return self.names.get("mass", "mass")

    def _tokens(self) -> str:
        self.used.add("x")
        return "x"
