"""Figures of `derive figure`: each a request, a computation of arrays, and a drawing of them."""
