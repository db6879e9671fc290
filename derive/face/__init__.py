"""What `import derive` offers: equations, kernels and certificates from Python and notebooks.

`derive.derive(model)` gives `Equations`, `derive.compile(model)` a kernel, `derive.verify(model)` a
`Certificate`.  A model is a decorated function, a registered name or a path, as `registry.find`
takes it.  Nothing here knows a method: equations are index expressions, array graphs or scalars,
and what is done to them follows from that alone.
"""
