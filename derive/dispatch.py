"""What a method provides, found by its name.

A method NAME has a folder NAME in methods/, emit/ and verify/.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def method(name: str) -> ModuleType:
    return import_module(f"derive.methods.{name}.derivation")


def emitter(name: str) -> ModuleType:
    return import_module(f"derive.emit.{name}.module")


def report(name: str) -> ModuleType:
    return import_module(f"derive.emit.{name}.report")


def ladder(name: str) -> ModuleType:
    return import_module(f"derive.verify.{name}.ladder")
