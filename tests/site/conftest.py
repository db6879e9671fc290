"""A small site that the tests here read, made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_site import OWN

from derive.cli import main

MODELS = ("shaped_attention", "linear_closure", "gaussian_tracking")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("site")
    (home / "own.py").write_text(OWN, encoding="utf-8")
    drawn = home / "drawn"
    drawn.mkdir()
    picture = Path(__file__).parents[1] / "pictures" / "sentence_tokens.png"
    shutil.copyfile(picture, drawn / "densities.png")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    words = [*MODELS, str(home / "own.py"), "--to", str(home / "pages"), "--figures", str(drawn)]
    try:
        assert main(["report", *words]) == 0
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
    yield home / "pages"
