"""The words on arrays: a file for a word or a few closely related ones, with all there is to say.

A file in this folder is found by itself; it makes its words known by `Word.register`.
"""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
