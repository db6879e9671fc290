"""What a method provides, found by its name.

A method NAME has `derive.methods.NAME`, an emitter, a report and a ladder, each under its name
unless a table says otherwise.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

REPORTS = {"covariance_sde": "derive.emit.report", "gaussian_closure": "derive.emit.closure_report"}
LADDERS = {"covariance_sde": "derive.verify.ladder"}


def method(name: str) -> ModuleType:
    return import_module(f"derive.methods.{name}")


def emitter(name: str) -> ModuleType:
    return import_module(f"derive.emit.{name}")


def report(name: str) -> ModuleType:
    return import_module(REPORTS.get(name, f"derive.emit.{name}_report"))


def ladder(name: str) -> ModuleType:
    return import_module(LADDERS.get(name, f"derive.verify.{name}"))
